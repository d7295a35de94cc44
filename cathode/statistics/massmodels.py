"""Where the template's masses come from: models of the mass spectrum inside the signal region.

Both have ``sample(n, generator)`` and ``log_prob(m)``, normalised inside their range.  :class:`FittedMass`
interpolates the sidebands and cannot learn from a signal; :class:`KdeMass` is what the CATHODE paper does
and follows the data of the signal region, its signal included.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, special

from cathode.statistics.massfit import SidebandFit
from cathode.support.errors import UserError

__all__ = ["FittedMass", "KdeMass", "MassModel", "sample_mass"]

Array = NDArray[np.float64]


class MassModel(Protocol):
    """A one-dimensional density of masses in TeV between ``low`` and ``high``."""

    low: float
    high: float

    def sample(self, n: int, generator: np.random.Generator) -> Array:
        """Masses (n,) in TeV, all strictly inside the range."""

    def log_prob(self, mass: ArrayLike) -> Array:
        """Log density (N,) per TeV at masses (N,) in TeV; -inf outside the range."""


class FittedMass:
    """The dijet function of a sideband fit, as a density inside ``(low, high)``.

    Sampling inverts the cumulative distribution on a fine grid.

    Args:
        fit: The sideband fit.
        low: Lower border, TeV; default: that of the fit's window.
        high: Upper border, TeV.
        cells: Cells of the grid; within a cell the density is constant.

    Raises:
        UserError: The range is missing or empty, or the fit is not valid.
    """

    def __init__(
        self, fit: SidebandFit, low: float | None = None, high: float | None = None, *, cells: int = 8192
    ) -> None:
        if not fit.valid:
            raise UserError(f"mass model: the sideband fit is not valid ({'; '.join(fit.problems)})")
        if fit.blind is None and (low is None or high is None):
            raise UserError("mass model: the fit blinded no window, so low and high must be given")
        window = fit.blind or (0.0, 0.0)
        self.low = float(window[0] if low is None else low)
        self.high = float(window[1] if high is None else high)
        self._log_total = float(np.log(fit.expected_in(self.low, self.high)[0]))
        self._fit = fit
        self._grid = np.linspace(self.low, self.high, cells + 1)
        cell = fit.bins(self._grid[:-1], self._grid[1:]).expected(fit.theta)
        self._cumulative = np.concatenate([[0.0], np.cumsum(cell)])
        self._cumulative /= self._cumulative[-1]

    def sample(self, n: int, generator: np.random.Generator) -> Array:
        """Masses (n,) in TeV, by the inverse of the cumulative distribution."""
        m = np.interp(generator.random(n), self._cumulative, self._grid)
        return _strictly_inside(m, self.low, self.high)

    def log_prob(self, mass: ArrayLike) -> Array:
        """Log density (N,) per TeV; -inf outside the range."""
        m = np.atleast_1d(np.asarray(mass, dtype=np.float64))
        inside = (m >= self.low) & (m <= self.high)
        density, _ = self._fit.density(np.where(inside, m, self.low))
        return np.where(inside, np.log(density) - self._log_total, -np.inf)


class KdeMass:
    """Gaussian kernel density of the signal region's masses in the variable logit((m - min) / (max - min)).

    As the CATHODE paper (arXiv:2109.00546, section III) and its code do: ``min`` and ``max`` are the
    extremes of the masses themselves, whose two events drop out, and the bandwidth is 0.01 in the
    transformed variable.

    Args:
        mass: Masses (N,) of the signal region, TeV.
        bandwidth: Standard deviation of the kernel in the transformed variable.

    Raises:
        UserError: Fewer than ten different masses, or not finite, or no positive bandwidth.
    """

    def __init__(self, mass: ArrayLike, *, bandwidth: float = 0.01) -> None:
        m = np.asarray(mass, dtype=np.float64).ravel()
        if not np.isfinite(m).all():
            raise UserError("mass model: masses must be finite")
        if len(np.unique(m)) < 10:
            raise UserError(
                f"mass model: {len(m)} masses are too few or all alike for a density; needs 10 different ones"
            )
        if not bandwidth > 0:
            raise UserError(f"mass model: bandwidth={bandwidth} must be positive")
        self.low, self.high = float(m.min()), float(m.max())
        self.bandwidth = bandwidth
        inside = m[(m > self.low) & (m < self.high)]
        self._centres = special.logit((inside - self.low) / (self.high - self.low))
        # The kernel sum on a grid of a twentieth of the bandwidth, each event shared between its two
        # neighbours.
        step = bandwidth / 20
        start, end = self._centres.min() - 10 * bandwidth, self._centres.max() + 10 * bandwidth
        position = (self._centres - start) / step
        index = position.astype(np.int64)
        share = position - index
        size = int((end - start) / step) + 2
        events = np.bincount(index, 1 - share, size) + np.bincount(index + 1, share, size)
        smooth = ndimage.gaussian_filter1d(events, 20.0, mode="constant", truncate=8.0)
        self._grid = start + step * np.arange(size)
        self._density = np.maximum(smooth, 0) / (len(self._centres) * step)

    def sample(self, n: int, generator: np.random.Generator) -> Array:
        """Masses (n,) in TeV: an event of the data each, moved by one kernel."""
        z = self._centres[generator.integers(len(self._centres), size=n)]
        z = z + self.bandwidth * generator.standard_normal(n)
        m = self.low + (self.high - self.low) * special.expit(z)
        return _strictly_inside(m, self.low, self.high)

    def log_prob(self, mass: ArrayLike) -> Array:
        """Log density (N,) per TeV; -inf outside the range and beyond eight bandwidths of any event."""
        m = np.atleast_1d(np.asarray(mass, dtype=np.float64))
        inside = (m > self.low) & (m < self.high)
        u = np.where(inside, (m - self.low) / (self.high - self.low), 0.5)
        density = np.interp(special.logit(u), self._grid, self._density, left=0.0, right=0.0)
        possible = inside & (density > 0)
        log_jacobian = -np.log(u) - np.log1p(-u) - np.log(self.high - self.low)
        return np.where(possible, np.log(np.where(possible, density, 1.0)) + log_jacobian, -np.inf)


def sample_mass(fit: SidebandFit, n: int, low: float, high: float, generator: np.random.Generator) -> Array:
    """Masses (n,) in TeV between ``low`` and ``high``, distributed as the interpolated sideband fit.

    Raises:
        UserError: See :class:`FittedMass`.
    """
    return FittedMass(fit, low, high).sample(n, generator)


def _strictly_inside(mass: Array, low: float, high: float) -> Array:
    # A mass that rounding puts on a border would lie outside the open signal region.
    return np.clip(mass, np.nextafter(low, high), np.nextafter(high, low))
