"""In which order an autoregressive generator makes the voxels of a layer, and which symmetry the layers have."""

from __future__ import annotations

import numpy as np

from cathode.support.errors import UserError
from fastsim.geometry import Geometry

__all__ = ["generation_order", "rotation_blocks"]


def generation_order(geometry: Geometry, *, group_size: int = 1) -> tuple[list[int], list[int]]:
    """Voxels of the layers one after the other, each from the axis outwards, and the groups that are made together.

    The core of a shower decides most about the rest, so it comes first.  Voxels of a group are taken from the same ring,
    as far apart in alpha as possible: given the core and what the layer has left they hardly know of each other.

    Args:
        geometry: Any.
        group_size: Most voxels in a group; 1 makes every voxel its own step.

    Returns:
        Permutation of the voxels and the group number of each, in the order of generation.

    Raises:
        UserError: ``group_size`` below 1.
    """
    if group_size < 1:
        raise UserError(f"group_size is {group_size}; give 1 or more voxels per step")
    order: list[int] = []
    groups: list[int] = []
    number = 0
    for part in geometry.slices:
        voxels = np.arange(part.start, part.stop)
        radius = np.round(geometry.r[part], 6)
        for r in np.unique(radius):
            ring = voxels[radius == r]
            ring = ring[np.argsort(geometry.alpha[ring], kind="stable")]
            steps = -(-len(ring) // group_size)
            for step in range(steps):
                members = ring[step::steps]
                order.extend(int(v) for v in members)
                groups.extend([number] * len(members))
                number += 1
    return order, groups


def rotation_blocks(geometry: Geometry) -> tuple[int, list[list[int]]]:
    """Number of sectors and the blocks that turn with them (see :class:`cathode.density.symmetric.Symmetric`).

    Raises:
        UserError: The geometry has no layers with sectors, or different numbers of them.
    """
    counts = {n for n in geometry.n_alpha if n > 1} if geometry.kind == "polar" else set()
    if len(counts) != 1:
        raise UserError(
            f"geometry {geometry.name!r} cannot be turned: its layers need one and the same number of alpha sectors"
        )
    turns = counts.pop()
    blocks = [
        [part.start, n_r]
        for part, n_alpha, n_r in zip(geometry.slices, geometry.n_alpha, geometry.n_r, strict=True)
        if n_alpha == turns
    ]
    return turns, blocks
