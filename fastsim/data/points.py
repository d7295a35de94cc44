"""Showers as lists of hits (x, y, layer, energy), and back into voxels."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from cathode.support.errors import UserError
from fastsim.data.showers import Showers
from fastsim.geometry import Geometry

__all__ = ["points_to_voxels", "voxels_to_points"]

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]


def points_to_voxels(points: Floats, geometry: Geometry) -> Floats:
    """Sum hits into voxels.

    Args:
        points: ``(N, P, 4)`` or ``(N, P, 5)``: x, y [mm], index of the layer, energy [MeV] (and time, not used); hits
            with energy 0 are padding.
        geometry: Layout of the voxels.

    Returns:
        ``(N, V)`` energies [MeV].  Hits outside all voxels are left out; what they carry is logged.

    Raises:
        UserError: Another shape, or energies that are negative or not finite.
    """
    if points.ndim != 3 or points.shape[2] not in (4, 5):
        raise UserError(f"points must have shape (N, P, 4) or (N, P, 5), got {points.shape}")
    if not np.isfinite(points[..., :4]).all() or (points[..., 3] < 0).any():
        raise UserError("points must be finite, with energies of at least 0")
    shower, hit = np.nonzero(points[..., 3])
    x, y, layer, energy = points[shower, hit, :4].astype(np.float64).T
    voxel = geometry.find(np.round(layer).astype(np.int64), x, y)
    inside = voxel >= 0
    if not inside.all():
        lost = energy[~inside].sum() / energy.sum()
        logger.warning(
            "%d of %d hits, with %.2g of the energy, are outside geometry %s and left out",
            (~inside).sum(),
            len(inside),
            lost,
            geometry.name,
        )
    flat = np.bincount(
        shower[inside] * geometry.n_voxels + voxel[inside],
        weights=energy[inside],
        minlength=len(points) * geometry.n_voxels,
    )
    return flat.reshape(len(points), geometry.n_voxels).astype(np.float32)


def voxels_to_points(showers: Showers) -> Floats:
    """Each voxel with energy as one hit at its middle, in the order of the voxels.

    Returns:
        ``(N, P, 4)``: x, y [mm], index of the layer, energy [MeV], padded at the end with zeros; ``P`` is the largest
        number of hits.  :func:`points_to_voxels` gives the same energies back.
    """
    counts = (showers.energies > 0).sum(1)
    points = np.zeros((len(showers), int(counts.max(initial=0)), 4), dtype=np.float32)
    shower, voxel = np.nonzero(showers.energies > 0)
    place = np.arange(len(shower)) - np.repeat(np.cumsum(counts) - counts, counts)
    geometry = showers.geometry
    for column, values in enumerate((geometry.x, geometry.y, geometry.layer)):
        points[shower, place, column] = values[voxel]
    points[shower, place, 3] = showers.energies[shower, voxel]
    return points
