"""Which voxel of a geometry an energy spot falls into."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fastsim.geometry import Geometry
from fastsim.geometry.layers import PolarLayer

__all__ = ["VoxelMap"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class VoxelMap:
    """Look-up tables of one geometry, so that the spots of many showers are placed in a few array operations."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self._starts = np.array([part.start for part in geometry.slices], dtype=np.int64)
        if geometry.kind == "polar":
            rings = [layer.fast_edges for layer in geometry.layers if isinstance(layer, PolarLayer)]
            self._alike = geometry.shape is not None
            self._n_r = np.array(geometry.n_r, dtype=np.int64)
            self._n_alpha = np.array(geometry.n_alpha, dtype=np.int64)
            self._far = max(edges[-1] for edges in rings) + 1.0
            # One sorted list for all layers: layer l occupies [l far, (l + 1) far).
            kept = rings[:1] if self._alike else rings
            self._edges = np.concatenate([edges + i * self._far for i, edges in enumerate(kept)])
            self._first = np.concatenate([[0], np.cumsum([len(edges) for edges in kept])])[:-1].astype(np.int64)

    def around_axis(self, layer: Ints, radius: Floats, turn: Floats) -> Ints:
        """Voxels of spots at ``radius`` [mm] from the axis, turned by ``turn`` (0 to 1 of a full turn); -1 outside."""
        if self.geometry.kind != "polar":
            angle = (2 * math.pi) * turn
            return self.at(layer, radius * np.cos(angle), radius * np.sin(angle))
        near = np.minimum(radius, self._far - 0.5)
        if self._alike:
            n_r, n_alpha = int(self._n_r[0]), int(self._n_alpha[0])
            ring = np.searchsorted(self._edges, near, side="right") - 1
            voxel = self._starts[layer] + (turn * n_alpha).astype(np.int64) * n_r + ring
        else:
            n_r, n_alpha = self._n_r[layer], self._n_alpha[layer]  # type: ignore[assignment]
            ring = np.searchsorted(self._edges, near + layer * self._far, side="right") - 1 - self._first[layer]
            voxel = self._starts[layer] + (turn * n_alpha).astype(np.int64) * n_r + ring
        return np.where((ring < 0) | (ring >= n_r), -1, voxel)

    def at(self, layer: Ints, x: Floats, y: Floats) -> Ints:
        """Voxels of spots at ``x``, ``y`` [mm]; -1 outside."""
        geometry = self.geometry
        if geometry.shape is not None:
            cell = geometry.layers[0].find(x, y)
            return np.where(cell < 0, -1, self._starts[layer] + cell)
        return geometry.find(layer, x, y)
