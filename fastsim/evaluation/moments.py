"""Sums over the voxels of each layer that all observables are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastsim.geometry import Geometry

if TYPE_CHECKING:
    from fastsim.data import Showers

__all__ = ["LayerMoments", "has_transverse_plane", "layer_moments"]

_BYTES = 64 * 2**20


@dataclass(frozen=True)
class LayerMoments:
    """Energy and energy-weighted moments of each layer, all float64 ``(N, L)``.

    Attributes:
        energy: Sum of the voxel energies [MeV].
        active: Number of voxels with energy.
        x, y, r: Energy times coordinate of the voxel's middle, summed [MeV mm].
        xx, yy, rr: The same with the square [MeV mm^2].
        x_sides, y_sides: Energy at positive minus energy at negative coordinate [MeV].
        hottest: Largest voxel energy [MeV].
    """

    energy: np.ndarray
    active: np.ndarray
    x: np.ndarray
    y: np.ndarray
    r: np.ndarray
    xx: np.ndarray
    yy: np.ndarray
    rr: np.ndarray
    x_sides: np.ndarray
    y_sides: np.ndarray
    hottest: np.ndarray


def layer_moments(showers: Showers, *, threshold: float = 0.0) -> LayerMoments:
    """Moments of all layers, voxels below ``threshold`` [MeV] taken as empty.  Sums are float64, memory is bounded."""
    geometry = showers.geometry
    events = len(showers)
    sums = np.empty((events, geometry.n_layers, 9))
    active, hottest = np.empty((events, geometry.n_layers)), np.empty((events, geometry.n_layers))
    for index, part in enumerate(geometry.slices):
        weights = _weights(geometry, part)
        rows = max(1, _BYTES // (8 * (part.stop - part.start)))
        for start in range(0, events, rows):
            block = showers.energies[start : start + rows, part].astype(np.float64)
            block[block < threshold] = 0.0
            chunk = slice(start, start + rows)
            sums[chunk, index] = block @ weights
            active[chunk, index] = np.count_nonzero(block > 0, axis=1)
            hottest[chunk, index] = block.max(axis=1)
    return LayerMoments(
        energy=sums[..., 0],
        active=active,
        x=sums[..., 1],
        y=sums[..., 2],
        r=sums[..., 3],
        xx=sums[..., 4],
        yy=sums[..., 5],
        rr=sums[..., 6],
        x_sides=sums[..., 7],
        y_sides=sums[..., 8],
        hottest=hottest,
    )


def has_transverse_plane(geometry: Geometry) -> np.ndarray:
    """Which layers ``(L,)`` are divided in both transverse directions, so that x and y mean something (not rings)."""
    return np.array([np.ptp(geometry.x[part]) > 0 and np.ptp(geometry.y[part]) > 0 for part in geometry.slices])


def _weights(geometry: Geometry, part: slice) -> np.ndarray:
    x, y, r = geometry.x[part], geometry.y[part], geometry.r[part]
    # Sectors whose middle lies on an axis belong to neither side; cos(pi/2) is not quite 0.
    side_x, side_y = (np.where(np.abs(v) > 1e-9 * max(np.abs(v).max(), 1e-300), np.sign(v), 0.0) for v in (x, y))
    return np.stack([np.ones_like(x), x, y, r, x * x, y * y, r * r, side_x, side_y], axis=1)
