r"""Densities with one whole-numbered column: how many points a cloud has.

In training a count ``n`` becomes a real number, so that a continuous density can learn it: uniform in ``[n - 1/2, n +
1/2)``.  Counts at the largest value are another matter where clouds were cut: half of all jets may have exactly as many
constituents as the file has room for, and an atom of that size is what continuous densities are worst at.  These are
spread over the half line ``n - 1/2 + spread |N(0, 1)|``, as the tail of a distribution that was never cut; what is
decoded there is rounded back.  The noise is known, so with a density ``p`` and the noise's distribution ``q``,
:math:`-\log P(n) \le E_q[-\log p + \log q]` (variational dequantisation; Ho et al., arXiv 1902.00275, eq. 12).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity
from cathode.density.registry import buildable
from cathode.support.errors import UserError

__all__ = ["DequantisedCount", "capped_spread"]


def capped_spread(counts: Tensor, largest: int) -> float:
    """Spread with which the density continues without a step beyond the largest count.

    The half normal starts at ``sqrt(2 / pi) / spread`` times the number of counts at the cap, which shall be the number
    of counts just below it (the mean over the two values below, or over the quarter of the range below where these are
    rare).

    Args:
        counts: ``(N,)`` whole numbers.
        largest: The cap.

    Returns:
        At least 1/2, at most the largest count.
    """
    at_cap = float((counts >= largest).sum())
    for width in (2, max(2, largest // 4)):
        below = float(((counts < largest) & (counts >= largest - width)).sum()) / width
        if below >= 0.001 * at_cap and below > 0:
            return min(max(math.sqrt(2 / math.pi) * at_cap / below, 0.5), float(largest))
    return float(largest)


@buildable("dequantised-count")
class DequantisedCount(ConditionalDensity):
    """``density`` of vectors with a real number in place of a count, seen as a density of vectors with the count.

    Args:
        density: Of vectors ``(B, D)``.
        column: Of the count.
        least: Smallest count, which is also the smallest that is decoded.
        largest: Largest count; counts at it are spread beyond it.
        spread: Scale of that spread, see :func:`capped_spread`.

    Raises:
        UserError: Counts or spread that make no sense, or a column that is not there.
    """

    def __init__(self, density: ConditionalDensity, column: int, least: int, largest: int, spread: float = 1.0) -> None:
        super().__init__()
        if not 0 <= least <= largest:
            raise UserError(f"counts from {least} to {largest}: give 0 or more, the smaller one first")
        if not (math.isfinite(spread) and spread > 0):
            raise UserError(f"spread of the largest count is {spread}: give a positive number")
        if len(density.event_shape) != 1 or not 0 <= column < density.event_shape[0]:
            raise UserError(f"count in column {column} of events of shape {density.event_shape}: there is none")
        self.density = density
        self.column, self.least, self.largest, self.spread = column, least, largest, spread
        self.event_shape = density.event_shape
        self.context_features = density.context_features

    @property
    def loss_is_nll(self) -> bool:
        """Whether :meth:`loss` bounds ``-log P(x | c)`` from above."""
        return bool(getattr(self.density, "loss_is_nll", False))

    def fill(self, x: Tensor, *, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """``x`` with a real number for each count, ``(B, D)``, and the log-density of the noise, ``(B,)``."""
        count = x[:, self.column]
        device = x.device if generator is None else generator.device
        # As random numbers of one kind and number for every event, whatever its count.
        draws = torch.rand((2, len(x)), generator=generator, device=device, dtype=x.dtype).to(x.device)
        capped = count >= self.largest
        # The half normal by its quantile; half a float32 ulp inside (0, 1), so that it stays finite.
        tail = torch.special.ndtri(0.5 + 0.5 * draws[1].clamp(6e-8, 1.0 - 6e-7))
        real = torch.where(capped, self.largest - 0.5 + self.spread * tail, count - 0.5 + draws[0])
        log_q = math.log(math.sqrt(2 / math.pi) / self.spread) - 0.5 * tail.square()
        filled = torch.cat([x[:, : self.column], real.unsqueeze(1), x[:, self.column + 1 :]], 1)
        return filled, torch.where(capped, log_q, 0.0)

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        return self.density.noise(count, mask=mask, generator=generator, dtype=dtype)

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        filled, log_q = self.fill(x, generator=generator)
        losses = self.density.loss(filled, context, mask=mask, generator=generator)
        return losses + log_q if self.loss_is_nll else losses

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        x = self.density.decode(noise, context, mask=mask)
        count = x[:, self.column].round().clamp(self.least, self.largest)
        return torch.cat([x[:, : self.column], count.unsqueeze(1), x[:, self.column + 1 :]], 1)
