"""The layout of a calorimeter: which voxel of a flat vector sits where.

A shower is a vector of ``n_voxels`` energies.  Voxels of a layer are contiguous; within a layer the fast index runs
first: r, then alpha (CaloChallenge order), or the fast Cartesian axis, then the slow one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cathode.support.errors import UserError
from fastsim.geometry.layers import CartesianLayer, CellLayer, Layer, PolarLayer
from fastsim.geometry.neighbours import neighbour_pairs

__all__ = ["PARTICLES", "Geometry"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Particles that a geometry may be made for.
PARTICLES = ("photon", "pion", "electron")

_LAYERS = {"polar": PolarLayer, "cartesian": CartesianLayer, "cells": CellLayer}


@dataclass(frozen=True, eq=False)
class Geometry:
    """A calorimeter as a list of layers.  Two are equal when all but their names is.

    Args:
        name: What to call it.
        particle: ``photon``, ``pion`` or ``electron``; None when it serves any.
        layers: The layers that exist, in depth order, all of one kind.
        z_edges: Front and back of each layer [mm]; None when unknown, then a voxel's ``z`` is its layer's index.

    Raises:
        UserError: Unknown particle, no layers, mixed kinds, repeated layer ids, or depths that do not fit.
    """

    name: str
    particle: str | None
    layers: tuple[Layer, ...]
    z_edges: tuple[tuple[float, float], ...] | None = None

    def __post_init__(self) -> None:
        if self.particle is not None and self.particle not in PARTICLES:
            raise UserError(f"unknown particle {self.particle!r}; expected one of {', '.join(PARTICLES)}")
        if not self.layers:
            raise UserError(f"geometry {self.name!r} has no layers")
        if len({layer.kind for layer in self.layers}) > 1:
            raise UserError(f"geometry {self.name!r} mixes kinds of layers; they must all be of one kind")
        if len(set(self.layer_ids)) < len(self.layers):
            raise UserError(f"geometry {self.name!r} has the same layer id twice: {list(self.layer_ids)}")
        if self.z_edges is not None:
            if len(self.z_edges) != len(self.layers):
                raise UserError(f"geometry {self.name!r}: {len(self.z_edges)} depths for {len(self.layers)} layers")
            if any(not (math.isfinite(a) and math.isfinite(b) and a < b) for a, b in self.z_edges):
                raise UserError(f"geometry {self.name!r}: each depth must be (front, back) in mm with front < back")

    @classmethod
    def from_xml(cls, path: str | Path, particle: str | None = None, *, name: str | None = None) -> Geometry:
        """Read a CaloChallenge binning file; see :func:`fastsim.geometry.xml.read_xml`."""
        from fastsim.geometry.xml import read_xml

        return read_xml(path, particle, name=name)

    @classmethod
    def from_grid(
        cls,
        shape: Sequence[int],
        *,
        cell: float | Sequence[float] = 1.0,
        fast: str = "x",
        particle: str | None = None,
        name: str | None = None,
    ) -> Geometry:
        """A regular Cartesian grid, centred on the axis, that starts at z = 0.

        Args:
            shape: ``(nz, n_slow, n_fast)``, i.e. ``(nz, ny, nx)`` with ``fast="x"``, or a picture ``(n_slow, n_fast)``.
            cell: Side of a cubic cell, or the sides ``(dz, d_slow, d_fast)`` (``(d_slow, d_fast)`` for a picture) [mm].
            fast: Transverse axis whose index runs first in memory, ``"x"`` or ``"y"``.
            particle: Particle it is made for.
            name: Default ``grid-NZxNYxNX``.

        Raises:
            UserError: A shape or cell that is not positive.
        """
        counts = tuple(int(n) for n in shape)
        sides = tuple(float(c) for c in cell) if isinstance(cell, Sequence) else (float(cell),) * len(counts)
        if len(counts) not in (2, 3) or len(sides) != len(counts) or min(counts) < 1 or not min(sides) > 0:
            raise UserError(f"a grid needs 2 or 3 positive counts and as many sides, got shape {counts}, cell {sides}")
        name = name or "grid-" + "x".join(map(str, counts))
        picture = len(counts) == 2
        if picture:
            counts, sides = (1, *counts), (1.0, *sides)

        def edges(axis: int) -> tuple[float, ...]:
            return tuple(float(e) for e in (np.arange(counts[axis] + 1) - counts[axis] / 2) * sides[axis])

        x, y = (edges(2), edges(1)) if fast == "x" else (edges(1), edges(2))
        layers = tuple(CartesianLayer(i, x, y, fast) for i in range(counts[0]))
        depth = None if picture else tuple((i * sides[0], (i + 1) * sides[0]) for i in range(counts[0]))
        return cls(name, particle, layers, depth)

    @classmethod
    def from_cells(cls, table: Mapping[str, Any], *, particle: str | None = None, name: str = "cells") -> Geometry:
        """Cells from a table (dict of columns or DataFrame) with one row per voxel, in the order of the shower vector.

        Args:
            table: Columns ``layer`` (integers), ``x``, ``y`` [mm]; optional ``size`` [mm^2] (default 1) and
                ``z_front``, ``z_back`` [mm], which must be the same for all cells of a layer.
            particle: Particle it is made for.
            name: What to call it.

        Raises:
            UserError: A column is missing, columns differ in length, or cells of a layer are not consecutive.
        """
        columns = {str(key): np.asarray(table[key]) for key in table}
        missing = [c for c in ("layer", "x", "y") if c not in columns]
        if missing:
            raise UserError(f"the cell table lacks {', '.join(missing)}; it has {', '.join(columns) or 'no columns'}")
        lengths = {key: len(column) for key, column in columns.items()}
        if len(set(lengths.values())) > 1 or not lengths["layer"]:
            raise UserError(f"columns of the cell table need one equal, positive length, got {lengths}")
        numbers = columns["layer"]
        if not np.issubdtype(numbers.dtype, np.integer):
            raise UserError(f"the column 'layer' of the cell table must be integers, got {numbers.dtype}")
        starts = np.concatenate([[0], np.flatnonzero(np.diff(numbers)) + 1, [len(numbers)]])
        if len(np.unique(numbers)) < len(starts) - 1:
            raise UserError(
                "cells of a layer are not consecutive in the cell table: sort it (and the showers) by layer"
            )
        size = columns.get("size", np.ones(len(numbers)))
        parts = [slice(int(a), int(b)) for a, b in pairwise(starts)]
        layers = tuple(
            CellLayer(int(numbers[p.start]), _floats(columns["x"][p]), _floats(columns["y"][p]), _floats(size[p]))
            for p in parts
        )
        depth = None
        if "z_front" in columns and "z_back" in columns:
            depth = tuple((float(columns["z_front"][p.start]), float(columns["z_back"][p.start])) for p in parts)
        return cls(name, particle, layers, depth)

    @property
    def kind(self) -> str:
        """``polar``, ``cartesian`` or ``cells``."""
        return self.layers[0].kind

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    @cached_property
    def n_voxels(self) -> int:
        return sum(layer.n_slow * layer.n_fast for layer in self.layers)

    @property
    def layer_ids(self) -> tuple[int, ...]:
        """Ids of the layers in the detector, e.g. (0, 1, 2, 3, 12)."""
        return tuple(layer.id for layer in self.layers)

    @property
    def n_alpha(self) -> tuple[int, ...]:
        """Voxels of each layer along its slow axis (alpha; 1 for cells)."""
        return tuple(layer.n_slow for layer in self.layers)

    @property
    def n_r(self) -> tuple[int, ...]:
        """Voxels of each layer along its fast axis (r; all of them for cells)."""
        return tuple(layer.n_fast for layer in self.layers)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Voxels of each layer."""
        stops = np.cumsum([layer.n_slow * layer.n_fast for layer in self.layers]).tolist()
        return tuple(slice(a, b) for a, b in zip([0, *stops[:-1]], stops, strict=True))

    @cached_property
    def shape(self) -> tuple[int, int, int] | None:
        """``(n_z, n_alpha, n_r)`` (``(n_z, n_slow, n_fast)``) when all layers are divided alike, else None."""
        if self.kind == "cells" or len({_divisions(layer) for layer in self.layers}) > 1:
            return None
        return (self.n_layers, self.layers[0].n_slow, self.layers[0].n_fast)

    @cached_property
    def layer(self) -> Ints:
        """Index (0 to n_layers - 1) of each voxel's layer, ``(V,)``."""
        return _constant(np.repeat(np.arange(self.n_layers), [s.stop - s.start for s in self.slices]))

    @property
    def r(self) -> Floats:
        """Radius [mm] of each voxel's middle, ``(V,)``: the mean of the bin's edges."""
        return self._centres["r"]

    @property
    def alpha(self) -> Floats:
        """Angle [rad] of each voxel's middle, ``(V,)``; 0 in a layer of whole rings."""
        return self._centres["alpha"]

    @property
    def x(self) -> Floats:
        """x [mm] of each voxel's middle, ``(V,)``: r cos(alpha).  Meaningless in layers of whole rings (n_alpha 1)."""
        return self._centres["x"]

    @property
    def y(self) -> Floats:
        """y [mm] of each voxel's middle, ``(V,)``: r sin(alpha)."""
        return self._centres["y"]

    @property
    def size(self) -> Floats:
        """Transverse area [mm^2] of each voxel, ``(V,)``."""
        return self._centres["size"]

    @cached_property
    def z(self) -> Floats:
        """Depth [mm] of each voxel's middle, ``(V,)``, or the index of its layer when depths are unknown."""
        if self.z_edges is None:
            return _constant(self.layer.astype(np.float64))
        return _constant(np.array(self.z_edges).mean(1)[self.layer])

    @cached_property
    def neighbours(self) -> Ints:
        """Pairs ``(E, 2)`` of voxels that touch; see :func:`fastsim.geometry.neighbours.neighbour_pairs`."""
        return _constant(neighbour_pairs(self.layers))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all but the name."""
        content = {key: value for key, value in self.to_dict().items() if key != "name"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def find(self, layer: Ints, x: Floats, y: Floats) -> Ints:
        """Voxel at each point: ``layer`` index, ``x``, ``y`` [mm], all ``(M,)``; -1 outside."""
        found = np.full(len(layer), -1, dtype=np.int64)
        for index, (one, part) in enumerate(zip(self.layers, self.slices, strict=True)):
            rows = np.flatnonzero(layer == index)
            if len(rows):
                local = one.find(x[rows], y[rows])
                found[rows] = np.where(local < 0, -1, local + part.start)
        return found

    def with_depths(self, z_edges: Sequence[tuple[float, float]]) -> Geometry:
        """The same with the front and back of each layer [mm]."""
        return replace(self, z_edges=tuple((float(a), float(b)) for a, b in z_edges))

    def renamed(self, name: str) -> Geometry:
        """The same under another name."""
        return replace(self, name=name)

    def to_dict(self) -> dict[str, Any]:
        """Plain data (numbers, strings, lists) for a model folder."""
        return {
            "name": self.name,
            "particle": self.particle,
            "kind": self.kind,
            "layers": [layer.to_dict() for layer in self.layers],
            "z_edges": None if self.z_edges is None else [list(pair) for pair in self.z_edges],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Geometry:
        """Inverse of :meth:`to_dict`.

        Raises:
            UserError: Something is missing or of the wrong type.
        """
        try:
            kind = _LAYERS[content["kind"]]
            layers = tuple(
                kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in layer.items()})
                for layer in content["layers"]
            )
            depth = content.get("z_edges")
            edges = None if depth is None else tuple((float(a), float(b)) for a, b in depth)
            return cls(content["name"], content["particle"], layers, edges)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"this is no geometry: {type(error).__name__} {error}") from error

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Geometry) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Geometry({self.name!r}, {self.kind}, {self.n_layers} layers, {self.n_voxels} voxels)"

    @cached_property
    def _centres(self) -> dict[str, Floats]:
        parts = [layer.centres() for layer in self.layers]
        return {key: _constant(np.concatenate([part[key] for part in parts])) for key in parts[0]}


def _divisions(layer: Layer) -> str:
    return json.dumps({key: value for key, value in layer.to_dict().items() if key != "id"})


def _constant(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


def _floats(values: Any) -> tuple[float, ...]:
    try:
        return tuple(float(v) for v in values)
    except (TypeError, ValueError) as error:
        raise UserError(f"the cell table holds something that is no number: {error}") from error
