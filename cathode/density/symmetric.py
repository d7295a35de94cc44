r"""A density of events that are equally likely after a turn or a mirroring.

Where the truth is invariant under a group, training on randomly transformed copies of the events loses nothing and
multiplies them (data augmentation; Shorten & Khoshgoftaar 2019, DOI 10.1186/s40537-019-0197-0): a round calorimeter hit
head-on does not know where its first sector is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity, Starting
from cathode.density.registry import buildable

__all__ = ["Symmetric"]


@buildable("symmetric")
class Symmetric(ConditionalDensity):
    """``density`` trained on events that are turned and mirrored at random; sampling is untouched.

    Args:
        density: Density of vectors ``(B, D)``.
        turns: Number n of equal sectors.
        blocks: Parts of the vector that turn, ``[first feature, features within a sector]``: from the first feature on,
            sector after sector, n of them.  All blocks turn together.
        mirror: Whether reversing the sectors is a symmetry too.

    Raises:
        ValueError: A block that leaves the vector, or no sectors to turn.
    """

    def __init__(self, density: ConditionalDensity, turns: int, blocks: list[list[int]], mirror: bool = True) -> None:
        super().__init__()
        if turns < 2 or any(first < 0 or first + turns * inner > density.event_shape[0] for first, inner in blocks):
            raise ValueError(f"{turns} turns of blocks {blocks} do not fit {density.event_shape[0]} features")
        self.density = density
        self.event_shape = density.event_shape
        self.context_features = density.context_features
        self.turns, self.mirror = turns, mirror
        source = torch.arange(density.event_shape[0]).repeat(turns * (2 if mirror else 1), 1)
        sector = torch.arange(turns)
        for row in range(len(source)):
            taken = (row + sector) % turns if row < turns else (row - sector) % turns
            for first, inner in blocks:
                moved = first + taken[:, None] * inner + torch.arange(inner)
                source[row, first : first + turns * inner] = moved.flatten()
        self.register_buffer("source", source, persistent=False)

    source: Tensor

    @property
    def loss_is_nll(self) -> bool:
        """Whether :meth:`loss` is ``-log p(x | c)`` (of the transformed event)."""
        return bool(getattr(self.density, "loss_is_nll", False))

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        return self.density.noise(count, mask=mask, generator=generator, dtype=dtype)

    def transform(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Each event under a random element of the group; ``(B, D)``."""
        device = x.device if generator is None else generator.device
        element = torch.randint(len(self.source), (len(x),), generator=generator, device=device)
        return x.gather(1, self.source[element.to(x.device)])

    def initialise(self, x: Tensor, context: Tensor | None = None) -> None:
        """Let the inner density start from training events ``(N, D)``, ``(N, C)``, where it can."""
        if isinstance(self.density, Starting):
            self.density.initialise(x, context)

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Loss of the inner density for the transformed events; the context is taken to be invariant."""
        return self.density.loss(self.transform(x, generator=generator), context, mask=mask, generator=generator)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        return self.density.decode(noise, context, mask=mask)
