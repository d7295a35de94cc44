"""Rings of voxels, in which order an autoregressive generator makes them, and which symmetry the layers have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cathode.support.errors import UserError
from fastsim.geometry import Geometry

__all__ = ["Rings", "earlier_neighbours", "generation_order", "rings", "rotation_blocks"]

# Cells without rings or rows are cut into so many at a time, from the axis outwards.
_CELLS_PER_RING = 12


@dataclass(frozen=True)
class Rings:
    """Each layer cut into rings (polar), rows (Cartesian) or cells of about equal radius.

    Attributes:
        of_voxel: Ring of each voxel, ``(V,)``; rings are numbered layer after layer, from the axis outwards.
        place: Place of each voxel within its ring, ``(V,)``: by alpha, or along the row.
        layer: Layer of each ring.
        radius: Radius of each ring (or offset of a row) [mm].
    """

    of_voxel: list[int]
    place: list[int]
    layer: list[int]
    radius: list[float]

    def voxel(self, ring: int, place: int) -> int | None:
        """The voxel at a place of a ring, counted around it; None where there is no such ring."""
        if not 0 <= ring < len(self.layer):
            return None
        members = self._members[ring]
        return members[place % len(members)]

    @cached_property
    def _members(self) -> list[list[int]]:
        members: list[list[int]] = [[] for _ in self.layer]
        for voxel in sorted(range(len(self.place)), key=self.place.__getitem__):
            members[self.of_voxel[voxel]].append(voxel)
        return members

    def beside(self, ring: int) -> list[int]:
        """Rings that touch a ring in its layer, and the nearest ones of the layers before and behind."""
        found = [r for r in (ring - 1, ring + 1) if 0 <= r < len(self.layer) and self.layer[r] == self.layer[ring]]
        for layer in (self.layer[ring] - 1, self.layer[ring] + 1):
            others = [r for r, at in enumerate(self.layer) if at == layer]
            if others:
                found.append(min(others, key=lambda r: abs(self.radius[r] - self.radius[ring])))
        return found


def rings(geometry: Geometry) -> Rings:
    """The rings of all layers."""
    of_voxel = np.zeros(geometry.n_voxels, dtype=int)
    place = np.zeros(geometry.n_voxels, dtype=int)
    layer: list[int] = []
    radius: list[float] = []
    for index, part in enumerate(geometry.slices):
        voxels = np.arange(part.start, part.stop)
        key, along = _coordinates(geometry, part)
        for value in np.unique(key):
            ring = voxels[key == value]
            ring = ring[np.argsort(along[key == value], kind="stable")]
            of_voxel[ring] = len(layer)
            place[ring] = np.arange(len(ring))
            layer.append(index)
            radius.append(float(value))
    return Rings(of_voxel.tolist(), place.tolist(), layer, radius)


def _coordinates(geometry: Geometry, part: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r = geometry.r[part]
    if geometry.kind == "polar":
        return np.round(r, 6), geometry.alpha[part]
    if geometry.kind == "cartesian":
        return np.round(geometry.y[part], 6), geometry.x[part]
    rank = np.argsort(np.argsort(r, kind="stable"), kind="stable")
    return (rank // _CELLS_PER_RING).astype(float), geometry.alpha[part]


def generation_order(ring: list[int], place: list[int], *, interleave: int = 2) -> tuple[list[int], list[int]]:
    """All rings at once, one voxel of each after the other, in steps that neighbouring rings do not share.

    Given the energies of all rings and the voxels at earlier places, voxels of rings ``interleave`` apart hardly know
    of each other, so they are made together.

    Args:
        ring: Ring of each voxel.
        place: Place of each voxel in its ring.
        interleave: Steps per place; 1 is fastest, as many as there are rings leaves nothing out.

    Returns:
        Permutation of the voxels, and the group number of each, in the order of generation.

    Raises:
        UserError: ``interleave`` below 1.
    """
    if interleave < 1:
        raise UserError(f"interleave is {interleave}; give 1 or more")
    sizes = np.bincount(ring)
    # A ring of one voxel is its own sum: nothing is left to decide, and it takes no step of its own.
    rank = np.cumsum(sizes > 1) - 1
    keys = [
        (-1, 0, voxel) if sizes[r] == 1 else (p, int(rank[r]) % interleave, voxel)
        for voxel, (r, p) in enumerate(zip(ring, place, strict=True))
    ]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    groups: list[int] = []
    for before, voxel in zip([None, *order], order, strict=False):
        new = before is not None and keys[before][:2] != keys[voxel][:2]
        groups.append((groups[-1] if groups else 0) + int(new))
    return order, groups


def earlier_neighbours(found: Rings, order: list[int], groups: list[int]) -> list[list[int]]:
    """For each voxel the ones around it that are generated in earlier steps, nearest places first."""
    step = dict(zip(order, groups, strict=True))
    neighbours: list[list[int]] = []
    for voxel, (ring, place) in enumerate(zip(found.of_voxel, found.place, strict=True)):
        around = [found.voxel(ring, place + shift) for shift in (-1, 1, -2)]
        for other in found.beside(ring):
            around += [found.voxel(other, place + shift) for shift in (0, -1, 1)]
        earlier = [v for v in dict.fromkeys(around) if v is not None and step[v] < step[voxel]]
        neighbours.append(earlier)
    return neighbours


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
