"""Point clouds of the ShowerData library: hits (x, y, layer, E[, t]) of variable number.

The library's own conventions: positions in mm, energies in GeV, ``layer`` the index of the layer, directions as unit
vectors that are (0, 0, 1) when unknown.  Some published files hold hits in MeV beside incident energies in GeV; that is
recognised by the ratio of the first showers (above 5 no calorimeter can be) and logged.

Directions that differ from (0, 0, 1) become the conditions ``direction_x``, ``direction_y``, ``direction_z``; several
particles in one file the condition ``pdg``.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cathode.support.errors import UserError, require
from fastsim.data.formats.base import Contents, Rows, dataset, no_conditions, rows_of, same_lengths
from fastsim.data.points import points_to_voxels, voxels_to_points
from fastsim.data.showers import Showers
from fastsim.geometry import Geometry

__all__ = ["ShowerData"]

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]

_DIRECTIONS = ("direction_x", "direction_y", "direction_z")
_PDG = {"photon": 22, "pion": 211, "electron": 11}
_MEV_PER_GEV = np.float32(1000)
_RATIO_ROWS, _RATIO = 64, 5.0


class ShowerData:
    """Read and written by the library ``showerdata`` (extra ``showerdata``)."""

    name = "showerdata"

    def matches(self, stream: h5py.File) -> bool:
        return "showerdata_version" in stream.attrs or {"energies", "showers", "num_points"} <= set(stream)

    def describe(self, stream: h5py.File, geometry: Geometry) -> Contents:
        require("showerdata", "showerdata")
        shape = dataset(stream, "shape")[:]
        if len(shape) != 3 or shape[2] not in (4, 5):
            raise UserError(f"the dataset 'shape' of a ShowerData file is (N, P, 4 or 5), got {shape.tolist()}")
        if len(stream["showers"]) != len(dataset(stream, "energies")):
            raise UserError(
                f"datasets differ in length: showers {len(stream['showers'])}, energies {len(stream['energies'])}"
            )
        return Contents(same_lengths(stream, "energies", "directions", "pdg", "num_points"), _conditions(stream))

    def read(self, stream: h5py.File, geometry: Geometry, rows: slice) -> Rows:
        names = _conditions(stream)
        begin, end, _ = rows.indices(len(stream["energies"]))
        if begin >= end:
            empty = np.zeros((0, len(names)), np.float32) if names else None
            return Rows(np.zeros((0, 1), np.float32), np.zeros((0, geometry.n_voxels), np.float32), empty)
        loaded = _load(stream.filename, begin, end)
        points = loaded.points.copy()
        points[..., 3] *= _hit_scale(stream)
        columns = []
        if _DIRECTIONS[0] in names:
            columns.append(loaded.directions)
        if "pdg" in names:
            columns.append(loaded.pdg[:, None].astype(np.float32))
        return Rows(
            loaded.energies * _MEV_PER_GEV,
            points_to_voxels(points, geometry),
            np.concatenate(columns, 1) if columns else None,
        )

    def incident_energies(self, stream: h5py.File) -> Floats:
        return rows_of(stream, "energies", slice(None)).reshape(-1, 1) * _MEV_PER_GEV

    def create(self, path: Path, showers: Showers, *, compression: int) -> None:
        library = require("showerdata", "showerdata")
        names, conditions = showers.condition_names, showers.conditions
        if not set(names) <= {*_DIRECTIONS, "pdg"} or (0 < len(set(names) & set(_DIRECTIONS)) < 3):
            no_conditions(showers, self.name)
        directions: Any = None
        pdg: Any = _PDG.get(showers.geometry.particle or "photon", 22)
        if conditions is not None and _DIRECTIONS[0] in names:
            directions = conditions[:, [names.index(name) for name in _DIRECTIONS]]
        if conditions is not None and "pdg" in names:
            pdg = conditions[:, names.index("pdg")].astype(np.int32)
        points = voxels_to_points(showers)
        points[..., 3] /= _MEV_PER_GEV
        library.Showers(points, showers.incident_energy / _MEV_PER_GEV, pdg, directions).save(path, overwrite=True)


def _load(path: str, start: int, stop: int) -> Any:
    try:
        return require("showerdata", "showerdata").load(path, start, stop)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"the ShowerData library refuses the file: {error}") from error


def _hit_scale(stream: h5py.File) -> np.float32:
    """Factor from the unit of the hits to MeV."""
    loaded = _load(stream.filename, 0, _RATIO_ROWS)
    ratio = float(np.median(loaded.points[..., 3].sum(1) / np.maximum(loaded.energies[:, 0], 1e-12)))
    if ratio > _RATIO:
        logger.info("%s: hits are taken as MeV beside incident energies in GeV", stream.filename)
        return np.float32(1)
    return _MEV_PER_GEV


def _conditions(stream: h5py.File) -> tuple[str, ...]:
    names: tuple[str, ...] = ()
    if len(stream["directions"]) and (stream["directions"][:] != np.array([0, 0, 1])).any():
        names += _DIRECTIONS
    if len(stream["pdg"]) and len(np.unique(stream["pdg"][:])) > 1:
        names += ("pdg",)
    return names
