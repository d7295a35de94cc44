"""Radial profiles: a core and a tail whose radii and weight follow the relative depth τ.

    f(r) = p 2 r R_C² / (r² + R_C²)² + (1 - p) 2 r R_T² / (r² + R_T²)²                                   (eq. 24)

in Molière radii, so the energy inside r is p r²/(r² + R_C²) + (1 - p) r²/(r² + R_T²), and a radius is drawn as
R √(u / (1 - u)).  For a single shower τ = (t / <t>) exp<ln α> / (exp<ln α> - 1), with its own <t>.

Source: Grindhammer and Peters, hep-ex/0001020, appendix A.1.3 (homogeneous) and A.2.3 (sampling).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsim.data.gflash.calorimeter import Tuning
from fastsim.data.gflash.medium import Medium

__all__ = ["RadialProfile", "radial_profile"]

Array = npt.NDArray[np.float64]

# The functions of τ were fitted within the shower; far behind it R_T grows exponentially and means nothing.
_TAU_MAX = 4.0
_RADIUS_MIN, _RADIUS_MAX = 1e-3, 50.0


@dataclass(frozen=True)
class RadialProfile:
    """Core and tail; three arrays of one shape."""

    weight: Array
    """p, the weight of the core."""
    core: Array
    """R_C in Molière radii."""
    tail: Array
    """R_T in Molière radii."""

    def containment(self, radius: npt.ArrayLike) -> Array:
        """Fraction of the energy inside ``radius`` [Molière radii]; broadcasts."""
        square = np.square(np.asarray(radius, dtype=float))
        return self.weight * square / (square + self.core**2) + (1 - self.weight) * square / (square + self.tail**2)

    def at(self, index: npt.NDArray[np.int64]) -> RadialProfile:
        """The profiles with the flat indices ``index`` (M,)."""
        return RadialProfile(self.weight.ravel()[index], self.core.ravel()[index], self.tail.ravel()[index])

    def sample(self, uniform: Array) -> Array:
        """Radii [Molière radii], one per uniform number in [0, 1), of the shape of the profile.

        One number serves twice: below p it chooses the core, and its position inside [0, p) or [p, 1) gives the radius.
        """
        in_core = uniform < self.weight
        within = np.where(in_core, uniform, uniform - self.weight)
        rest = within / np.maximum(np.where(in_core, self.weight, 1 - self.weight), 1e-300)
        rest = np.minimum(rest, 1 - 1e-15)
        return np.asarray(np.where(in_core, self.core, self.tail) * np.sqrt(rest / (1 - rest)))


def radial_profile(
    medium: Medium, energy_mev: npt.ArrayLike, relative_depth: npt.ArrayLike, tuning: Tuning | None = None
) -> RadialProfile:
    """Profile of a shower of ``energy_mev`` [MeV] at the relative depth τ; energy and depth broadcast."""
    tuning = tuning or Tuning()
    tau: Array = np.minimum(np.asarray(relative_depth, dtype=float), _TAU_MAX)
    # ln E enters linearly: below 10 MeV the published lines are extrapolated no further.
    ln_e = np.log(np.maximum(np.asarray(energy_mev, dtype=float), 10.0) / 1000.0)
    z = medium.z
    core = 0.0251 + 0.00319 * ln_e + (0.1162 - 0.000381 * z) * tau
    k1, k2, k3, k4 = 0.659 - 0.00309 * z, 0.645, -2.59, 0.3585 + 0.0421 * ln_e
    tail = k1 * (np.exp(k3 * (tau - k2)) + np.exp(k4 * (tau - k2)))
    p1, p2, p3 = 2.632 - 0.00094 * z, 0.401 + 0.00187 * z, 1.313 - 0.0686 * ln_e
    scaled = (p2 - tau) / p3
    weight = p1 * np.exp(scaled - np.exp(scaled))
    if medium.is_sampling:
        lost, spacing = 1 - medium.e_hat, medium.inverse_frequency
        decay = np.exp(-tau)
        core = core - 0.0203 * lost + 0.0397 * spacing * decay
        tail = tail - 0.14 * lost - 0.495 * spacing * decay
        weight = weight + lost * (0.348 - 0.642 * spacing * np.exp(-np.square(tau - 1)))
    weight = np.clip(weight, 1e-6, 1 - 1e-6)
    if tuning.core_weight:
        weight = 1 / (1 + (1 / weight - 1) * np.exp(-tuning.core_weight))
    return RadialProfile(
        weight=weight,
        core=np.clip(core * tuning.core_scale, _RADIUS_MIN, _RADIUS_MAX),
        tail=np.clip(tail * tuning.tail_scale, _RADIUS_MIN, _RADIUS_MAX),
    )
