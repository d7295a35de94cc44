r"""A monotone map of each feature onto a standard normal, read off its quantiles.

Knots :math:`(x_k, z_k)` lie at the fitted quantiles :math:`x_k = F^{-1}(\Phi(z_k))` of an even grid of :math:`z_k`;
between them runs the monotone rational-quadratic interpolant of Gregory & Delbourgo (1982; in the notation of Durkan
et al., arXiv:1906.04032, eqs. 4-8), with the geometric mean of the neighbouring slopes as derivative at each knot;
beyond the last knots the map is linear with the slope of the knot.  It is once continuously differentiable, and its
inverse and log-derivative are exact.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cathode.density.bijections.base import Elementwise
from cathode.density.registry import buildable
from cathode.support.errors import UserError

__all__ = ["Gaussianize"]


@buildable("gaussianize")
class Gaussianize(Elementwise):
    """Bring each feature close to a standard normal: for hard edges, spikes and long tails.

    A value that many rows share (a point mass) cannot be spread by a bijection; it becomes a steep, finite piece.

    Args:
        features: F.
        knots: Knots per feature, 4 or more.
    """

    x_knots: Tensor
    z_knots: Tensor
    slopes: Tensor

    def __init__(self, features: int, knots: int = 33) -> None:
        super().__init__(features)
        if knots < 4:
            raise UserError(f"Gaussianize needs at least 4 knots, got {knots}")
        self.knots = knots
        grid = torch.linspace(-3.0, 3.0, knots, dtype=torch.float64).repeat(features, 1)
        self.register_buffer("x_knots", grid.clone())
        self.register_buffer("z_knots", grid.clone())
        self.register_buffer("slopes", torch.ones_like(grid))

    def _learn(self, rows: Tensor, weight: Tensor) -> None:
        effective = float(weight.sum() ** 2 / weight.square().sum())
        if effective < 5 * self.knots:
            raise UserError(
                f"{effective:.0f} (effective) rows are too few for {self.knots} knots: give at least {5 * self.knots}, "
                "or fewer knots"
            )
        # About ten events remain beyond either end, so that the slope of the tails is measured.
        reach = min(3.5, -float(torch.special.ndtri(torch.tensor(10.0 / effective, dtype=torch.float64))))
        z = torch.linspace(-reach, reach, self.knots, dtype=torch.float64, device=rows.device)
        probability = torch.special.ndtr(z)
        for column in range(self.features):
            x = _quantiles(rows[:, column], weight, probability)
            width = float(x[-1] - x[0])
            if not width > 8 * torch.finfo(torch.float64).eps * float(x.abs().max()):
                raise UserError(f"feature column {column} has no spread ({float(x[0]):g} in most rows): leave it out")
            steps = x.diff().clamp(min=1e-4 * width / self.knots)
            x = torch.cat([x[:1], x[0] + steps.cumsum(0)])
            secant = z.diff() / x.diff()
            inner = (secant[1:] * secant[:-1]).sqrt()
            slopes = torch.cat([secant[:1], inner, secant[-1:]])
            self.x_knots[column], self.z_knots[column], self.slopes[column] = x, z, slopes

    def _value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        k, low, high = self._locate(x, self.x_knots)
        x0, x1, y0, y1, d0, d1 = self._piece(k)
        s = (y1 - y0) / (x1 - x0)
        theta = ((x - x0) / (x1 - x0)).clamp(0.0, 1.0)
        mixed = theta * (1 - theta)
        denominator = s + (d0 + d1 - 2 * s) * mixed
        y = y0 + (y1 - y0) * (s * theta**2 + d0 * mixed) / denominator  # eq. 4
        log_slope = _log_slope(s, d0, d1, theta)
        y = torch.where(low, y0 + d0 * (x - x0), torch.where(high, y1 + d1 * (x - x1), y))
        return y, torch.where(low, d0.log(), torch.where(high, d1.log(), log_slope))

    def _inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        k, low, high = self._locate(y, self.z_knots)
        x0, x1, y0, y1, d0, d1 = self._piece(k)
        s = (y1 - y0) / (x1 - x0)
        rise = (y - y0).clamp(min=0.0).minimum(y1 - y0)
        bend = d0 + d1 - 2 * s
        a = (y1 - y0) * (s - d0) + rise * bend  # eq. 7
        b = (y1 - y0) * d0 - rise * bend
        c = -s * rise  # eq. 8
        theta = 2 * c / (-b - (b * b - 4 * a * c).clamp(min=0.0).sqrt())
        theta = theta.clamp(0.0, 1.0)
        x = x0 + theta * (x1 - x0)
        log_slope = _log_slope(s, d0, d1, theta)
        x = torch.where(low, x0 + (y - y0) / d0, torch.where(high, x1 + (y - y1) / d1, x))
        return x, -torch.where(low, d0.log(), torch.where(high, d1.log(), log_slope))

    def _locate(self, value: Tensor, knots: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Index of the piece of each value ``(…, F)``, and whether it lies below the first or above the last knot."""
        knots = knots.double()
        columns = value.detach().reshape(-1, self.features).T.contiguous()
        index = torch.searchsorted(knots.contiguous(), columns, right=True) - 1
        index = index.clamp(0, self.knots - 2).T.reshape(value.shape)
        return index, value < knots[:, 0], value > knots[:, -1]

    def _piece(self, k: Tensor) -> tuple[Tensor, ...]:
        feature = torch.arange(self.features, device=k.device).expand_as(k)
        tables = (self.x_knots.double(), self.z_knots.double(), self.slopes.double())
        return tuple(table[feature, k + end] for table in tables for end in (0, 1))


def _log_slope(s: Tensor, d0: Tensor, d1: Tensor, theta: Tensor) -> Tensor:
    mixed = theta * (1 - theta)
    numerator = d1 * theta**2 + 2 * s * mixed + d0 * (1 - theta) ** 2
    return 2 * s.log() + numerator.log() - 2 * (s + (d0 + d1 - 2 * s) * mixed).log()  # eq. 5


def _quantiles(x: Tensor, weight: Tensor, probability: Tensor) -> Tensor:
    """Weighted quantiles, linear between the mid-points of the cumulative weight."""
    order = x.argsort()
    x, w = x[order], weight[order]
    position = (w.cumsum(0) - 0.5 * w) / w.sum()
    upper = torch.searchsorted(position, probability).clamp(1, len(x) - 1)
    p0, p1 = position[upper - 1], position[upper]
    fraction = ((probability - p0) / (p1 - p0)).clamp(0.0, 1.0)
    return x[upper - 1] + fraction * (x[upper] - x[upper - 1])
