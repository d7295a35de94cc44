"""Averages of showers in bins of incident energy: what a calibration compares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsim.data.showers import Showers
from fastsim.geometry import Geometry

__all__ = ["Summary", "energy_bins", "radial_groups", "summarise"]

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Summary:
    """Averages over G bins of incident energy, L layers and R groups of radii."""

    layer_mean: Array
    """Mean E_layer / E_inc, (G, L)."""
    layer_width: Array
    """Standard deviation of E_layer / E_inc, (G, L)."""
    total_mean: Array
    """Mean E_total / E_inc, (G,)."""
    total_width: Array
    """Standard deviation of E_total / E_inc, (G,)."""
    radial: Array
    """Fraction of a layer's energy in each group of radii, (G, L, R)."""
    occupancy: Array
    """Mean fraction of voxels with energy, (G,)."""


def energy_bins(energy_mev: npt.ArrayLike, *, most: int = 8) -> Ints:
    """Bin of each shower (N,): the discrete energies if there are at most 2 ``most`` of them, else quantiles."""
    energy = np.asarray(energy_mev, dtype=float).reshape(-1)
    values, inverse = np.unique(energy, return_inverse=True)
    if len(values) <= 2 * most:
        return inverse.astype(np.int64)
    edges = np.quantile(energy, np.linspace(0, 1, most + 1)[1:-1])
    return np.searchsorted(edges, energy, side="right").astype(np.int64)


def radial_groups(geometry: Geometry, *, groups: int = 24) -> Ints:
    """Group of each voxel (V,): up to ``groups`` ranges of radius within its layer, of as many distinct radii each."""
    group = np.zeros(geometry.n_voxels, dtype=np.int64)
    for part in geometry.slices:
        radii, inverse = np.unique(np.round(geometry.r[part], 6), return_inverse=True)
        group[part] = np.minimum(inverse * groups // max(len(radii), groups), groups - 1)
    return group


def summarise(showers: Showers, bins: Ints, centre: Array | None = None) -> Summary:
    """Averages of ``showers`` in the energy ``bins`` (N,), 0 to G - 1.

    Args:
        showers: Showers.
        bins: Bin of each shower.
        centre: Groups of radii run around the axis; with impact points (N, 2) [mm] there are none, as the axis moves.
    """
    geometry = showers.geometry
    count = int(bins.max()) + 1
    incident = showers.incident_energy[:, 0].astype(float)
    layers = showers.layer_energies().astype(float) / incident[:, None]
    total = layers.sum(1)
    group = radial_groups(geometry)
    size = int(group.max()) + 1
    cell = geometry.layer * size + group
    radial = np.zeros((count, geometry.n_layers, size))
    occupancy, total_mean, total_width = (np.zeros(count) for _ in range(3))
    layer_mean, layer_width = np.zeros((count, geometry.n_layers)), np.zeros((count, geometry.n_layers))
    for index in range(count):
        rows = np.flatnonzero(bins == index)
        layer_mean[index], layer_width[index] = layers[rows].mean(0), layers[rows].std(0)
        total_mean[index], total_width[index] = total[rows].mean(), total[rows].std()
        occupancy[index] = (showers.energies[rows] > 0).mean()
        if centre is None:
            # Relative to the incident energy, so that no shower outweighs the others.
            mean = (showers.energies[rows] / showers.incident_energy[rows]).mean(0, dtype=np.float64)
            by_cell = np.bincount(cell, mean, geometry.n_layers * size).reshape(geometry.n_layers, size)
            radial[index] = by_cell / np.maximum(by_cell.sum(1, keepdims=True), 1e-12)
    return Summary(layer_mean, layer_width, total_mean, total_width, radial, occupancy)
