r"""Amounts and their sum: :math:`p(x \mid c) = p(S \mid c)\, p(x \mid S, c)` with :math:`S = \sum_i x_i`.

The sum is what physics fixes best (the energy of a shower, say), so it has a density of its own and the parts follow.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity, noise_shape
from cathode.density.registry import buildable

__all__ = ["TotalThenParts"]


@buildable("total-then-parts")
class TotalThenParts(ConditionalDensity):
    """Density of amounts ``(B, D)``, each 0 or at least ``threshold``, through their sum.

    Args:
        total: Density of ``(B, 1)``, positive sums, given the context ``(B, C)``.
        parts: Density of the amounts given ``(B, C + 1)``: the context and the sum.  What it decodes must add up to
            the sum, like :class:`~cathode.density.censored.CensoredAutoregressive` with the sum as its budget.
        threshold: Sums below it are 0, and so are then the amounts.  In ``total`` they count as half of it.

    Raises:
        ValueError: Densities that do not fit each other.
    """

    loss_is_nll = True

    def __init__(self, total: ConditionalDensity, parts: ConditionalDensity, threshold: float) -> None:
        super().__init__()
        if total.event_shape != (1,) or parts.context_features != total.context_features + 1:
            raise ValueError("total must be a density of one number, parts one given its context and that number")
        self.total, self.parts, self.threshold = total, parts, threshold
        self.event_shape = parts.event_shape
        self.context_features = total.context_features
        self._shapes = [noise_shape(total), noise_shape(parts)]
        self._widths = [math.prod(shape) for shape in self._shapes]

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Noise of ``total``, then that of ``parts``, flattened: ``(count, M)``."""
        draws = [d.noise(count, mask=mask, generator=generator, dtype=dtype) for d in (self.total, self.parts)]
        return torch.cat([d.flatten(1) for d in draws], 1)

    @staticmethod
    def _given(context: Tensor | None, total: Tensor) -> Tensor:
        return total if context is None else torch.cat([context, total], 1)

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Sum of the two losses."""
        total = x.double().sum(1, keepdim=True).to(x.dtype)
        first = self.total.loss(total.clamp_min(0.5 * self.threshold), context, mask=mask, generator=generator)
        return first + self.parts.loss(x, self._given(context, total), mask=mask, generator=generator)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Amounts ``(B, D)``."""
        first, second = noise.split(self._widths, 1)
        total = self.total.decode(first.unflatten(1, self._shapes[0]), context, mask=mask)
        total = torch.where(total >= self.threshold, total, torch.zeros_like(total))
        return self.parts.decode(second.unflatten(1, self._shapes[1]), self._given(context, total), mask=mask)
