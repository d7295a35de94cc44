r"""Amounts through the sums of their blocks: :math:`p(x \mid c) = p(S \mid c)\, p(x \mid S, c)`.

Sums are what physics fixes best and what correlates over the largest distances (the energy of a shower, of a layer, of
a ring), so they come first and have a density of their own; the parts follow and only have to share them out.  Nested,
this is a hierarchy: shower, layers, rings, cells.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity, Starting, noise_shape
from cathode.density.registry import buildable

__all__ = ["SumsThenParts"]


@buildable("sums-then-parts")
class SumsThenParts(ConditionalDensity):
    """Density of amounts ``(B, D)``, each 0 or at least ``threshold``.

    Args:
        sums: Density of the sums of the blocks ``(B, N)`` given the context ``(B, C)``.
        parts: Density of the amounts given ``(B, C + N)``: the context and the sums.  What it decodes must add up to
            the sums, like :class:`~cathode.density.censored.CensoredAutoregressive` with these as its totals.
        blocks: Block of each of the D amounts, numbered from 0 to N - 1.
        threshold: Sums below it are 0.
        positive: ``sums`` knows no zeros: a sum of 0 counts as half of the threshold in training.

    Raises:
        ValueError: Densities and blocks that do not fit each other.
    """

    member: Tensor

    def __init__(
        self,
        sums: ConditionalDensity,
        parts: ConditionalDensity,
        blocks: list[int],
        threshold: float,
        positive: bool = False,
    ) -> None:
        super().__init__()
        count = sums.event_shape[0]
        if parts.event_shape != (len(blocks),) or set(blocks) != set(range(count)):
            raise ValueError(f"{len(blocks)} features in blocks {sorted(set(blocks))} do not fit the densities")
        if parts.context_features != sums.context_features + count:
            raise ValueError(f"parts must be given the context of the sums and the {count} sums")
        self.sums, self.parts, self.threshold, self.positive = sums, parts, threshold, positive
        self.event_shape = parts.event_shape
        self.context_features = sums.context_features
        self._shapes = [noise_shape(sums), noise_shape(parts)]
        self._widths = [math.prod(shape) for shape in self._shapes]
        self.register_buffer("member", torch.tensor(blocks), persistent=False)

    @property
    def loss_is_nll(self) -> bool:
        """Whether :meth:`loss` is ``-log p(x | c)``."""
        return all(bool(getattr(density, "loss_is_nll", False)) for density in (self.sums, self.parts))

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Noise of ``sums``, then that of ``parts``, flattened: ``(count, M)``."""
        draws = [d.noise(count, mask=mask, generator=generator, dtype=dtype) for d in (self.sums, self.parts)]
        return torch.cat([d.flatten(1) for d in draws], 1)

    def block_sums(self, x: Tensor) -> Tensor:
        """``(B, N)``, added in float64."""
        zeros = torch.zeros((len(x), self.sums.event_shape[0]), dtype=torch.float64, device=x.device)
        return zeros.index_add(1, self.member, x.double()).to(x.dtype)

    def initialise(self, x: Tensor, context: Tensor | None = None) -> None:
        """Let both densities start from training events ``(N, D)``, ``(N, C)``, where they can."""
        sums = self.block_sums(x)
        for density, values, given in ((self.sums, sums, context), (self.parts, x, self._given(context, sums))):
            if isinstance(density, Starting):
                density.initialise(values, given)

    @staticmethod
    def _given(context: Tensor | None, sums: Tensor) -> Tensor:
        return sums if context is None else torch.cat([context, sums], 1)

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Sum of the two losses."""
        sums = self.block_sums(x)
        target = sums.clamp_min(0.5 * self.threshold) if self.positive else sums
        first = self.sums.loss(target, context, mask=mask, generator=generator)
        return first + self.parts.loss(x, self._given(context, sums), mask=mask, generator=generator)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Amounts ``(B, D)``."""
        first, second = noise.split(self._widths, 1)
        sums = self.sums.decode(first.unflatten(1, self._shapes[0]), context, mask=mask)
        # NaN stays NaN: it must show, not become an event without amounts.
        sums = torch.where(sums < self.threshold, torch.zeros_like(sums), sums)
        return self.parts.decode(second.unflatten(1, self._shapes[1]), self._given(context, sums), mask=mask)
