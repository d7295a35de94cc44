"""What simulated showers are on average, by quadrature over their fluctuations: known means for tests and fits.

The averages run over ln T and ln α (Gauss-Hermite), and for photons over the conversion depth and the sharing of the
energy.  They are those of :func:`fastsim.data.gflash.simulate` without threshold; the paper's own average profile, a
single gamma distribution, is :func:`fastsim.data.gflash.longitudinal.average_parameters`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastsim.data.gflash.calorimeter import Calorimeter
from fastsim.data.gflash.cascade import CONVERSION_X0, Cascades, Particle, check_particle
from fastsim.data.gflash.radial import radial_profile
from fastsim.data.gflash.simulator import STEP_X0, steps_of

__all__ = ["expected_containment", "expected_layer_energies", "expected_profile"]

Array = npt.NDArray[np.float64]


def _quadrature(calorimeter: Calorimeter, energy_mev: float, particle: Particle, nodes: int) -> tuple[Array, Cascades]:
    """Cascades and their weights (K,): weights sum to the number of cascades of a shower."""
    points, density = np.polynomial.hermite_e.hermegauss(nodes)
    density = density / density.sum()
    first, second = (axis.ravel() for axis in np.meshgrid(points, points, indexing="ij"))
    weight = np.outer(density, density).ravel()
    normals = np.stack([first, second], axis=1)
    if particle == "electron":
        return weight, Cascades.draw(calorimeter, np.full(len(weight), energy_mev), np.zeros(len(weight)), normals)
    # Midpoints in the cumulative distribution of the conversion depth: every layer boundary makes a kink there.
    quantile = (np.arange(5 * nodes) + 0.5) / (5 * nodes)
    start = -np.log1p(-quantile) * CONVERSION_X0 * calorimeter.tuning.conversion_scale
    share, share_weight = np.polynomial.legendre.leggauss(nodes)
    share, share_weight = (1 + share) / 2, share_weight / 2
    share_weight = share_weight * (9 / 7) * (1 - 4 / 3 * share * (1 - share))
    i, j, k = (a.ravel() for a in np.meshgrid(*(np.arange(len(v)) for v in (start, share, weight)), indexing="ij"))
    cascades = Cascades.draw(calorimeter, energy_mev * share[j], start[i], normals[k])
    return 2 * share_weight[j] * weight[k] / len(start), cascades


def expected_profile(
    calorimeter: Calorimeter,
    energy_mev: npt.ArrayLike,
    particle: str,
    edges: npt.ArrayLike,
    *,
    nodes: int = 8,
) -> Array:
    """Mean energy [MeV] deposited between depths ``edges`` (S + 1) [X0], (N, S), at normal incidence.

    Args:
        calorimeter: Calorimeter, whose responses are not applied.
        energy_mev: Incident energies [MeV], (N,).
        particle: ``"photon"`` or ``"electron"``.
        edges: Increasing depths.
        nodes: Quadrature nodes per fluctuating quantity.
    """
    kind = check_particle(particle)
    energies, inverse = np.unique(np.asarray(energy_mev, dtype=float).reshape(-1), return_inverse=True)
    rows = []
    for energy in energies:
        weight, cascades = _quadrature(calorimeter, float(energy), kind, nodes)
        rows.append((weight * cascades.energy_mev) @ cascades.energy_fractions(edges))
    return np.stack(rows)[inverse]


def expected_layer_energies(
    calorimeter: Calorimeter, energy_mev: npt.ArrayLike, particle: str, *, nodes: int = 8
) -> Array:
    """Mean visible energy [MeV] of each layer, (N, L), before any threshold and without transverse losses."""
    profile = expected_profile(calorimeter, energy_mev, particle, calorimeter.layer_edges, nodes=nodes)
    return profile * calorimeter.responses


def expected_containment(
    calorimeter: Calorimeter,
    energy_mev: float,
    particle: str,
    radii_mm: npt.ArrayLike,
    *,
    nodes: int = 6,
    step_x0: float = STEP_X0,
) -> Array:
    """Fraction of each layer's mean energy inside the radii ``radii_mm`` (R,) around the axis, (L, R).

    The steps must be those of the simulation to be exactly its mean, as the profile is evaluated in their middle.
    """
    weight, cascades = _quadrature(calorimeter, float(energy_mev), check_particle(particle), nodes)
    edges, layers = steps_of(calorimeter, longest=step_x0)
    deposit = (weight * cascades.energy_mev)[:, None] * cascades.energy_fractions(edges)
    tau = cascades.tau((edges[1:] + edges[:-1]) / 2)
    profile = radial_profile(calorimeter.medium, cascades.energy_mev[:, None], tau, calorimeter.tuning)
    radii = np.asarray(radii_mm, dtype=float) / calorimeter.medium.moliere_mm
    steps = np.stack([(deposit * profile.containment(radius)).sum(0) for radius in radii], axis=1)
    inside, total = np.zeros((calorimeter.n_layers, len(radii))), np.zeros(calorimeter.n_layers)
    np.add.at(inside, layers, steps)
    np.add.at(total, layers, deposit.sum(0))
    return inside / np.maximum(total, 1e-300)[:, None]
