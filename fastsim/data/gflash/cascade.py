"""Single showers as parameters: one cascade for an electron, two for a photon.

An electron showers from the face of the calorimeter on.  A photon converts at an exponential depth of mean 9/7 X0 into
an electron pair that shares its energy as dσ/dx ∝ 1 - (4/3) x (1 - x) (Bethe-Heitler, complete screening; Rossi 1952),
and each half showers as an electron from there.

Source: Grindhammer and Peters, hep-ex/0001020; appendix A.1.4 and A.2.4 for the spots.
Deviation: the paper treats electrons; the treatment of photons is the usual one of its users.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from cathode.support.errors import UserError
from fastsim.data.gflash.calorimeter import Calorimeter
from fastsim.data.gflash.longitudinal import fluctuations, gamma_fractions

__all__ = ["CONVERSION_X0", "Cascades", "Particle", "check_particle", "pair_fraction", "spot_number"]

Array = npt.NDArray[np.float64]
Particle = Literal["photon", "electron"]

CONVERSION_X0 = 9.0 / 7.0


def check_particle(particle: str) -> Particle:
    """``particle`` if it can be simulated.

    Raises:
        UserError: It cannot.
    """
    for known in get_args(Particle):
        if particle == known:
            return known  # type: ignore[no-any-return]
    raise UserError(f"the parametrised simulation knows photon and electron, not {particle!r}")


def pair_fraction(choice: npt.ArrayLike, position: npt.ArrayLike) -> Array:
    """Energy fraction x of one lepton of a pair, pdf (9/7) (1 - (4/3) x (1 - x)), from two uniform numbers.

    With u = 2x - 1 the density is 6/7 of a uniform and 1/7 of one proportional to u².
    """
    u = 2 * np.asarray(position, dtype=float) - 1
    u = np.where(np.asarray(choice) < 6 / 7, u, np.cbrt(u))
    return np.clip((1 + u) / 2, 1e-6, 1 - 1e-6)


@dataclass(frozen=True)
class Cascades:
    """K cascades: arrays of shape (K,)."""

    calorimeter: Calorimeter
    energy_mev: Array
    start: Array
    """Depth [X0] where the cascade begins."""
    t_max: Array
    """T [X0], from the start on."""
    alpha: Array
    ln_alpha_mean: Array
    """<ln α> of showers of this energy."""

    @classmethod
    def draw(
        cls, calorimeter: Calorimeter, energy_mev: npt.ArrayLike, start: npt.ArrayLike, normals: npt.ArrayLike
    ) -> Cascades:
        """Cascades of ``energy_mev`` (K,) from the depths ``start`` (K,), for standard normal numbers (K, 2)."""
        energy, normal = np.asarray(energy_mev, dtype=float), np.asarray(normals, dtype=float)
        spread = fluctuations(calorimeter.medium, energy, calorimeter.tuning)
        t_max, alpha = spread.parameters(normal[:, 0], normal[:, 1])
        return cls(calorimeter, energy, np.asarray(start, dtype=float), t_max, alpha, spread.ln_alpha)

    def energy_fractions(self, edges: npt.ArrayLike) -> Array:
        """Fractions of the energy between the depths ``edges`` (S + 1), shape (K, S)."""
        return gamma_fractions(self.t_max, self.alpha, self.start, edges)

    def spot_fractions(self, edges: npt.ArrayLike) -> Array:
        """Fractions of the spots between ``edges``: a gamma distribution with T_spot, α_spot (A.1.4, A.2.4)."""
        medium = self.calorimeter.medium
        if medium.is_sampling:
            t_factor, alpha_factor = 0.813 + 0.0019 * medium.z, 0.844 + 0.0026 * medium.z
        else:
            t_factor, alpha_factor = 0.698 + 0.00212 * medium.z, 0.639 + 0.00334 * medium.z
        alpha = np.maximum(self.alpha * alpha_factor, 1.1)
        return gamma_fractions(self.t_max * t_factor, alpha, self.start, edges)

    def tau(self, depth: npt.ArrayLike) -> Array:
        """Relative depth τ at the depths ``depth`` (S,), shape (K, S)."""
        mean = self.t_max * self.alpha / (self.alpha - 1)
        factor = 1 / (mean * (1 - np.exp(-self.ln_alpha_mean)))
        return np.maximum(np.asarray(depth, dtype=float)[None, :] - self.start[:, None], 0.0) * factor[:, None]


def spot_number(calorimeter: Calorimeter, energy_mev: npt.ArrayLike) -> Array:
    """Mean number of spots of an electron shower: 93 ln(Z) E^0.876, in sampling media 10.3/c E^0.959 (E in GeV)."""
    energy_gev = np.asarray(energy_mev, dtype=float) / 1000.0
    medium = calorimeter.medium
    if medium.is_sampling:
        number = 10.3 / (calorimeter.sampling_fluctuation or 0.1) * energy_gev**0.959
    else:
        number = 93.0 * np.log(medium.z) * energy_gev**0.876
    return number * calorimeter.tuning.spot_scale
