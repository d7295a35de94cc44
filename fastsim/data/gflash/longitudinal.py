"""Longitudinal profiles: gamma distributions in the depth t [X0], whose parameters fluctuate from shower to shower.

    (1/E) dE/dt = f(t) = (β t)^(α-1) β exp(-β t) / Γ(α),      <t> = α / β,      T = (α - 1) / β          (eq. 2-4)

For a single shower ln T and ln α are drawn from a correlated normal distribution, whose means, widths and correlation
depend on y = E/E_c, on Z and, in sampling media, on F_S and ê.  The means of single showers are not the parameters of
the average profile; both are given here.

Source: Grindhammer and Peters, hep-ex/0001020, appendix A.1.1-A.1.2 (homogeneous) and A.2.1-A.2.2 (sampling).
Deviations: below the energies of the fits (y of about 30) the parameters are kept from losing their meaning, by
ln y >= 1.6, T >= 0.1, α >= 1.1 and widths of at most 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammainc

from fastsim.data.gflash.calorimeter import Tuning
from fastsim.data.gflash.medium import Medium

__all__ = ["Fluctuations", "average_parameters", "fluctuations", "gamma_fractions"]

Array = npt.NDArray[np.float64]

_LN_Y_MIN = 1.6
_T_MIN = 0.1
_ALPHA_MIN = 1.1
_WIDTH_MAX = 0.5


def _ln_y(medium: Medium, energy_mev: npt.ArrayLike) -> Array:
    energy = np.asarray(energy_mev, dtype=float)
    return np.maximum(np.log(np.maximum(energy, 1e-30) / medium.critical_mev), _LN_Y_MIN)


def average_parameters(medium: Medium, energy_mev: npt.ArrayLike) -> tuple[Array, Array]:
    """T [X0] and α of the average profile of electrons of ``energy_mev`` [MeV] (A.1.1, A.2.1)."""
    ln_y = _ln_y(medium, energy_mev)
    t_max = ln_y - 0.858
    alpha = 0.21 + (0.492 + 2.38 / medium.z) * ln_y
    if medium.is_sampling:
        t_max = t_max - 0.59 * medium.inverse_frequency - 0.53 * (1 - medium.e_hat)
        alpha = alpha - 0.444 * medium.inverse_frequency
    return np.maximum(t_max, _T_MIN), np.maximum(alpha, _ALPHA_MIN)


@dataclass(frozen=True)
class Fluctuations:
    """Distribution of ln T and ln α over single showers; arrays of the shape of the energies."""

    ln_t: Array
    """<ln T>, T in X0."""
    ln_alpha: Array
    """<ln α>."""
    sigma_t: Array
    """σ(ln T)."""
    sigma_alpha: Array
    """σ(ln α)."""
    rho: Array
    """Correlation of ln T and ln α."""

    def parameters(self, first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[Array, Array]:
        """T [X0] and α for two independent standard normal numbers per shower.

        The symmetric square root of the correlation matrix: both numbers enter both parameters.
        """
        first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
        common, opposite = np.sqrt((1 + self.rho) / 2) * first, np.sqrt((1 - self.rho) / 2) * second
        t_max = np.exp(self.ln_t + self.sigma_t * (common + opposite))
        alpha = np.exp(self.ln_alpha + self.sigma_alpha * (common - opposite))
        return np.maximum(t_max, _T_MIN), np.maximum(alpha, _ALPHA_MIN)


def fluctuations(medium: Medium, energy_mev: npt.ArrayLike, tuning: Tuning | None = None) -> Fluctuations:
    """Distribution of the parameters of single electron showers of ``energy_mev`` [MeV] (A.1.2, A.2.2)."""
    tuning = tuning or Tuning()
    ln_y = _ln_y(medium, energy_mev)
    t_max = ln_y - 0.812
    alpha = 0.81 + (0.458 + 2.26 / medium.z) * ln_y
    if medium.is_sampling:
        t_max = t_max - 0.55 * medium.inverse_frequency - 0.69 * (1 - medium.e_hat)
        alpha = alpha - 0.476 * medium.inverse_frequency
        inverse_t, inverse_alpha = -2.5 + 1.25 * ln_y, -0.82 + 0.79 * ln_y
        rho = 0.784 - 0.023 * ln_y
    else:
        inverse_t, inverse_alpha = -1.4 + 1.26 * ln_y, -0.58 + 0.86 * ln_y
        rho = 0.705 - 0.023 * ln_y
    t_max = t_max + tuning.t_max_shift + tuning.t_max_slope * (ln_y - 6.0)
    alpha = 1 + (alpha - 1) * tuning.alpha_scale
    return Fluctuations(
        ln_t=np.log(np.maximum(t_max, _T_MIN)),
        ln_alpha=np.log(np.maximum(alpha, _ALPHA_MIN)),
        sigma_t=tuning.fluctuation_scale / np.maximum(inverse_t, 1 / _WIDTH_MAX),
        sigma_alpha=tuning.fluctuation_scale / np.maximum(inverse_alpha, 1 / _WIDTH_MAX),
        rho=rho,
    )


def gamma_fractions(t_max: Array, alpha: Array, start: Array, edges: npt.ArrayLike) -> Array:
    """Fractions of the profile's energy between ``edges`` (S + 1) [X0], shape (K, S).

    Args:
        t_max: T [X0], (K,).
        alpha: α, (K,).
        start: Depths [X0] where the showers begin, (K,).
        edges: Increasing depths [X0].
    """
    depth = np.maximum(np.asarray(edges, dtype=float)[None, :] - start[:, None], 0.0)
    beta = (alpha - 1) / t_max
    return np.asarray(np.diff(gammainc(np.broadcast_to(alpha[:, None], depth.shape), depth * beta[:, None]), axis=1))
