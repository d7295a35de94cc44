r"""A density of symmetric events, learned in a frame that each event chooses for itself.

Where events are equally likely after any of n turns of their sectors (and after mirroring), every event is turned until
its brightest sector comes first, and mirrored until the brighter neighbour of that sector comes second.  What is left
to learn has one preferred direction in place of n: fluctuations that break the symmetry, which no Gaussian and hardly a
network sees in the average over all turns, become means.  A generated event is turned and mirrored at random, from two
numbers of the noise.

If :math:`p_0` is the density in the frame, the density of events is :math:`p(x) = p_0(\mathrm{frame}(x)) / 2n` as far
as events generated in the frame are in it; others only lose the benefit.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity, noise_shape
from cathode.density.registry import buildable

__all__ = ["Canonical", "sector_sources"]

#: Each further leader decides only where those before it have nothing to say.
_NEXT_LEADER = 1e-4


def sector_sources(features: int, turns: int, blocks: list[list[int]], *, mirror: bool) -> Tensor:
    """Where each feature comes from after each symmetry, ``(turns, features)`` or ``(2 turns, features)``.

    Row k moves sector j to sector ``j + k``; row ``turns + k`` mirrors first (sector j to ``-j``).
    """
    rows = []
    for reflected in (False, True) if mirror else (False,):
        for k in range(turns):
            row = torch.arange(features)
            for first, inner in blocks:
                target = torch.arange(turns)
                source = (target - k) % turns
                source = (-source) % turns if reflected else source
                cells = first + source.unsqueeze(1) * inner + torch.arange(inner)
                row[first : first + turns * inner] = cells.flatten()
            rows.append(row)
    return torch.stack(rows)


@buildable("canonical")
class Canonical(ConditionalDensity):
    """``density`` of events in their own frame, seen as a density of events; vectors that are not negative.

    Args:
        density: Of events ``(B, D)`` in the frame.
        turns: Number n of equal sectors.
        blocks: Parts of the vector that turn, ``[first feature, features within a sector]``, sector after sector.
        mirror: Whether reversing the sectors is a symmetry too.
        leaders: Blocks that choose the frame by the share that a sector has in them, the first with something in it
            decides; without it the sum over all blocks does.

    Raises:
        ValueError: Blocks that leave the vector or overlap, unknown leaders, or no sectors to turn.
    """

    sources: Tensor

    def __init__(
        self,
        density: ConditionalDensity,
        turns: int,
        blocks: list[list[int]],
        mirror: bool = True,
        leaders: list[int] | None = None,
    ) -> None:
        super().__init__()
        features = density.event_shape[0]
        spans = sorted((first, first + turns * inner) for first, inner in blocks)
        inside = all(0 <= a < b <= features for a, b in spans)
        if turns < 2 or not spans or not inside or any(b > c for (_, b), (c, _) in pairwise(spans)):
            raise ValueError(f"{turns} turns of blocks {blocks} do not fit {features} features")
        if leaders is not None and (not leaders or any(not 0 <= k < len(blocks) for k in leaders)):
            raise ValueError(f"leaders {leaders} are not among the {len(blocks)} blocks")
        self.density, self.turns, self.blocks, self.mirror = density, turns, blocks, mirror
        self.leaders = leaders
        self.event_shape = density.event_shape
        self.context_features = density.context_features
        self.measure_noise()
        self.register_buffer("sources", sector_sources(features, turns, blocks, mirror=mirror), persistent=False)

    def measure_noise(self) -> None:
        """Learn the shape of the noise of ``density``; needed again when that has changed."""
        self._inner_noise = noise_shape(self.density)

    @property
    def loss_is_nll(self) -> bool:
        """Whether :meth:`loss` is ``-log p(x | c)``."""
        return bool(getattr(self.density, "loss_is_nll", False))

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        """``(count, 2 + M)``: turn, mirror, and the M numbers of the noise of ``density``; all standard normal."""
        frame = torch.randn((count, 2), generator=generator, device=generator.device, dtype=dtype)
        return torch.cat([frame, self.density.noise(count, generator=generator, dtype=dtype).flatten(1)], dim=1)

    def _scores(self, x: Tensor) -> Tensor:
        """What the sectors are compared by, ``(B, turns)``."""
        sums = []
        for first, inner in self.blocks:
            sectors = x[:, first : first + self.turns * inner].unflatten(1, (self.turns, inner)).sum(2)
            sums.append(sectors)
        if self.leaders is None:
            return torch.stack(sums).sum(0)
        total = torch.zeros_like(sums[0])
        for place, leader in enumerate(self.leaders):
            share = sums[leader] / sums[leader].sum(1, keepdim=True).clamp(min=1e-12)
            total = total + _NEXT_LEADER**place * share
        return total

    def frame(self, x: Tensor) -> Tensor:
        """Events turned (and mirrored) into their own frame, ``(B, D)``."""
        scores = self._scores(x)
        brightest = scores.argmax(1)
        # Sector `brightest` moves to 0: a turn by -brightest; mirrored first, it sits at -brightest.
        choice = (-brightest) % self.turns
        if self.mirror:
            rows = torch.arange(len(x), device=x.device)
            swap = scores[rows, (brightest - 1) % self.turns] > scores[rows, (brightest + 1) % self.turns]
            choice = torch.where(swap, self.turns + brightest, choice)
        return x.gather(1, self.sources[choice])

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Loss of the event in its frame; the number of symmetries is added to a negative log-density."""
        losses = self.density.loss(self.frame(x), context, generator=generator)
        return losses + math.log(len(self.sources)) if self.loss_is_nll else losses

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        x = self.density.decode(noise[:, 2:].unflatten(1, self._inner_noise), context)
        uniform = 0.5 * torch.erfc(noise[:, 0] * -math.sqrt(0.5))
        choice = (uniform * self.turns).floor().clamp(0, self.turns - 1).long()
        if self.mirror:
            choice = choice + self.turns * (noise[:, 1] > 0).long()
        return x.gather(1, self.sources[choice])

    def before_evaluation(self, x: Tensor, context: Tensor | None = None) -> None:
        """Pass training events in their frame on to a density that keeps statistics of them."""
        hook = getattr(self.density, "before_evaluation", None)
        if hook is not None:
            hook(self.frame(x), context)
