"""One layer of a calorimeter: rings cut in sectors, a rectangular grid, or a list of cells.

A layer knows where each of its voxels is, in the order in which voxels are stored: the *fast* index runs first (r, or
the fast Cartesian axis), then the *slow* one (alpha, or the other axis).  Lengths are mm, angles rad.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cathode.support.errors import UserError

__all__ = ["CartesianLayer", "CellLayer", "Layer", "PolarLayer"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PolarLayer:
    """Rings with edges ``r_edges`` [mm], each cut in ``n_alpha`` equal sectors between -pi and pi.

    Raises:
        UserError: Edges that do not increase from zero or more, or fewer than one sector.
    """

    id: int
    r_edges: tuple[float, ...]
    n_alpha: int

    kind: ClassVar[str] = "polar"

    def __post_init__(self) -> None:
        _as_floats(self, "r_edges")
        _increasing(self.r_edges, f"r_edges of layer {self.id}")
        if self.r_edges[0] < 0:
            raise UserError(f"r_edges of layer {self.id} start at {self.r_edges[0]:g}; a radius cannot be negative")
        if self.n_alpha < 1:
            raise UserError(f"n_bin_alpha of layer {self.id} is {self.n_alpha}; it must be at least 1")

    @property
    def n_slow(self) -> int:
        return self.n_alpha

    @property
    def n_fast(self) -> int:
        return len(self.r_edges) - 1

    @property
    def slow_edges(self) -> Floats:
        return np.linspace(-math.pi, math.pi, self.n_alpha + 1)

    @property
    def fast_edges(self) -> Floats:
        return np.array(self.r_edges)

    def centres(self) -> dict[str, Floats]:
        """``r``, ``alpha``, ``x``, ``y`` and ``size`` (area, mm^2) of each voxel."""
        radius, angle = (a.ravel() for a in np.meshgrid(_middle(self.fast_edges), _middle(self.slow_edges)))
        area = np.tile(math.pi * np.diff(self.fast_edges**2) / self.n_alpha, self.n_alpha)
        return {"r": radius, "alpha": angle, "x": radius * np.cos(angle), "y": radius * np.sin(angle), "size": area}

    def find(self, x: Floats, y: Floats) -> Ints:
        """Index within the layer of the voxel at each point ``(M,)``, -1 outside."""
        ring = _bin(np.hypot(x, y), self.fast_edges)
        sector = np.floor((np.arctan2(y, x) + math.pi) / (2 * math.pi) * self.n_alpha).astype(np.int64) % self.n_alpha
        return np.where(ring < 0, -1, sector * self.n_fast + ring)

    def to_dict(self) -> dict[str, Any]:
        return {"id": self.id, "r_edges": list(self.r_edges), "n_alpha": self.n_alpha}


@dataclass(frozen=True)
class CartesianLayer:
    """A grid with edges along x and y [mm]; ``fast`` is the axis whose index runs first in memory.

    Raises:
        UserError: Edges that do not increase.
    """

    id: int
    x_edges: tuple[float, ...]
    y_edges: tuple[float, ...]
    fast: str = "x"

    kind: ClassVar[str] = "cartesian"

    def __post_init__(self) -> None:
        _as_floats(self, "x_edges", "y_edges")
        _increasing(self.x_edges, f"x_edges of layer {self.id}")
        _increasing(self.y_edges, f"y_edges of layer {self.id}")
        if self.fast not in ("x", "y"):
            raise UserError(f"the fast axis of layer {self.id} is {self.fast!r}; it must be 'x' or 'y'")

    @property
    def n_slow(self) -> int:
        return len(self.slow_edges) - 1

    @property
    def n_fast(self) -> int:
        return len(self.fast_edges) - 1

    @property
    def slow_edges(self) -> Floats:
        return np.array(self.y_edges if self.fast == "x" else self.x_edges)

    @property
    def fast_edges(self) -> Floats:
        return np.array(self.x_edges if self.fast == "x" else self.y_edges)

    def centres(self) -> dict[str, Floats]:
        """``r``, ``alpha``, ``x``, ``y`` and ``size`` (area, mm^2) of each voxel."""
        fast, slow = (a.ravel() for a in np.meshgrid(_middle(self.fast_edges), _middle(self.slow_edges)))
        x, y = (fast, slow) if self.fast == "x" else (slow, fast)
        area = np.outer(np.diff(self.slow_edges), np.diff(self.fast_edges)).ravel()
        return {"r": np.hypot(x, y), "alpha": np.arctan2(y, x), "x": x, "y": y, "size": area}

    def find(self, x: Floats, y: Floats) -> Ints:
        """Index within the layer of the voxel at each point ``(M,)``, -1 outside."""
        fast, slow = (x, y) if self.fast == "x" else (y, x)
        i, j = _bin(fast, self.fast_edges), _bin(slow, self.slow_edges)
        return np.where((i < 0) | (j < 0), -1, j * self.n_fast + i)

    def to_dict(self) -> dict[str, Any]:
        return {"id": self.id, "x_edges": list(self.x_edges), "y_edges": list(self.y_edges), "fast": self.fast}


@dataclass(frozen=True)
class CellLayer:
    """Cells at ``x``, ``y`` [mm] with area ``size`` [mm^2].

    Raises:
        UserError: No cells, or columns of different lengths, or an area that is not positive.
    """

    id: int
    x: tuple[float, ...]
    y: tuple[float, ...]
    size: tuple[float, ...]

    kind: ClassVar[str] = "cells"

    def __post_init__(self) -> None:
        _as_floats(self, "x", "y", "size")
        if not self.x or not len(self.x) == len(self.y) == len(self.size):
            raise UserError(
                f"layer {self.id} needs as many x, y and sizes; got {len(self.x)}, {len(self.y)}, {len(self.size)}"
            )
        if not np.isfinite([*self.x, *self.y, *self.size]).all() or min(self.size) <= 0:
            raise UserError(f"cells of layer {self.id}: positions must be finite and sizes positive")

    @property
    def n_slow(self) -> int:
        return 1

    @property
    def n_fast(self) -> int:
        return len(self.x)

    def centres(self) -> dict[str, Floats]:
        """``r``, ``alpha``, ``x``, ``y`` and ``size`` (area, mm^2) of each voxel."""
        x, y = np.array(self.x), np.array(self.y)
        return {"r": np.hypot(x, y), "alpha": np.arctan2(y, x), "x": x, "y": y, "size": np.array(self.size)}

    def find(self, x: Floats, y: Floats) -> Ints:
        """Index within the layer of the nearest cell, -1 if the point is beyond a square of its size."""
        from scipy.spatial import cKDTree

        distance, index = cKDTree(np.stack([self.x, self.y], 1)).query(np.stack([x, y], 1))
        return np.where(distance > np.sqrt(np.array(self.size)[index] / 2) * 1.001, -1, index).astype(np.int64)

    def to_dict(self) -> dict[str, Any]:
        return {"id": self.id, "x": list(self.x), "y": list(self.y), "size": list(self.size)}


Layer = PolarLayer | CartesianLayer | CellLayer


def _as_floats(layer: object, *names: str) -> None:
    # 5 and 5.0 are one edge, and must give one digest.
    for name in names:
        object.__setattr__(layer, name, tuple(float(value) for value in getattr(layer, name)))


def _middle(edges: Floats) -> Floats:
    return (edges[1:] + edges[:-1]) / 2


def _bin(values: Floats, edges: Floats) -> Ints:
    index = np.searchsorted(edges, values, side="right") - 1
    return np.where((index < 0) | (index >= len(edges) - 1), -1, index).astype(np.int64)


def _increasing(edges: tuple[float, ...], what: str) -> None:
    if len(edges) < 2 or not all(math.isfinite(e) for e in edges) or any(np.diff(edges) <= 0):
        raise UserError(f"{what} must be at least two increasing numbers, got {', '.join(f'{e:g}' for e in edges)}")
