"""Geant4 Par04 and LEMURS HDF5: axes (r, phi, z), the reverse of the CaloChallenge; energies in MeV.

* ``par04``: datasets ``incident_energy`` (N,) and ``showers`` (N, R, PHI, Z), optionally ``incident_theta`` and
  ``incident_phi`` [rad] (Geant4 11.4, examples/extended/parameterisations/Par04).
* ``lemurs``: one structured dataset ``events`` with these fields (arXiv 2509.05108).
* ``par04-vae``: one dataset (N, R, PHI, Z) per incident energy, named by the energy in GeV; the angle [deg] is in the
  name of the file, ``..._angle_90.h5`` (Zenodo 6082201).

Angles become the conditions ``incident_theta`` and ``incident_phi``, or ``angle``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cathode.support.errors import UserError
from fastsim.data.formats.base import Contents, Rows, dataset, no_conditions, rows_of, same_lengths
from fastsim.data.showers import Showers
from fastsim.geometry import Geometry

__all__ = ["Lemurs", "Par04", "Par04VAE"]

Floats = NDArray[np.float32]

_ANGLES = ("incident_theta", "incident_phi")
_MEV_PER_GEV = np.float32(1000)


class Par04:
    """What ``root2h5.py`` of the Par04 example writes."""

    name = "par04"

    def matches(self, stream: h5py.File) -> bool:
        return "incident_energy" in stream and "showers" in stream

    def describe(self, stream: h5py.File, geometry: Geometry) -> Contents:
        angles = tuple(name for name in _ANGLES if name in stream)
        length = same_lengths(stream, "incident_energy", "showers", *angles)
        _check(dataset(stream, "showers").shape, geometry)
        _one_number(dataset(stream, "incident_energy").shape)
        return Contents(length, angles)

    def read(self, stream: h5py.File, geometry: Geometry, rows: slice) -> Rows:
        angles = [rows_of(stream, name, rows).reshape(-1, 1) for name in _ANGLES if name in stream]
        return Rows(
            rows_of(stream, "incident_energy", rows).reshape(-1, 1),
            _reverse(rows_of(stream, "showers", rows)),
            np.concatenate(angles, 1) if angles else None,
        )

    def incident_energies(self, stream: h5py.File) -> Floats:
        return rows_of(stream, "incident_energy", slice(None)).reshape(-1, 1)

    def create(self, path: Path, showers: Showers, *, compression: int) -> None:
        angles = _angles(showers, self.name)
        cells = _reversed_cells(showers, showers.energies)
        options = {"compression": "gzip", "compression_opts": compression, "shuffle": True} if len(showers) else {}
        with h5py.File(path, "w") as stream:
            stream.create_dataset("incident_energy", data=showers.incident_energy[:, 0])
            for name, values in angles.items():
                stream.create_dataset(name, data=values)
            stream.create_dataset("showers", data=cells, **options)


class Lemurs:
    """The LEMURS datasets."""

    name = "lemurs"

    def matches(self, stream: h5py.File) -> bool:
        return "events" in stream and "showers" in (getattr(stream["events"].dtype, "names", None) or ())

    def describe(self, stream: h5py.File, geometry: Geometry) -> Contents:
        events = self._events(stream)
        _check((len(events), *events.dtype["showers"].shape), geometry)
        _one_number((len(events), *events.dtype["incident_energy"].shape))
        return Contents(len(events), tuple(name for name in _ANGLES if name in events.dtype.names))

    def read(self, stream: h5py.File, geometry: Geometry, rows: slice) -> Rows:
        records = self._events(stream)[rows]
        angles = [np.asarray(records[n], np.float32).reshape(-1, 1) for n in _ANGLES if n in records.dtype.names]
        return Rows(
            np.asarray(records["incident_energy"], np.float32).reshape(-1, 1),
            _reverse(np.asarray(records["showers"], np.float32)),
            np.concatenate(angles, 1) if angles else None,
        )

    def incident_energies(self, stream: h5py.File) -> Floats:
        return np.asarray(self._events(stream).fields("incident_energy")[:], np.float32).reshape(-1, 1)

    def create(self, path: Path, showers: Showers, *, compression: int) -> None:
        angles = _angles(showers, self.name)
        nz, n_alpha, n_r = _shape(showers.geometry)
        kind = [("incident_energy", np.float32), *((name, np.float32) for name in angles)]
        record = np.dtype([*kind, ("showers", np.float32, (n_r, n_alpha, nz))])
        chunk = max(1, min(len(showers), (1 << 20) // record.itemsize))
        options = {"compression": "gzip", "compression_opts": compression, "shuffle": True}
        with h5py.File(path, "w") as stream:
            events = stream.create_dataset("events", (len(showers),), record, chunks=(chunk,), **options)
            for first in range(0, len(showers), chunk):
                rows = slice(first, first + chunk)
                block = np.empty(len(showers.energies[rows]), record)
                block["incident_energy"] = showers.incident_energy[rows, 0]
                block["showers"] = _reversed_cells(showers, showers.energies[rows])
                for name, values in angles.items():
                    block[name] = values[rows]
                events[rows] = block

    @staticmethod
    def _events(stream: h5py.File) -> Any:
        events = stream.get("events")
        fields = getattr(getattr(events, "dtype", None), "names", None) or ()
        missing = [name for name in ("incident_energy", "showers") if name not in fields]
        if missing:
            raise UserError(f"dataset 'events' lacks {', '.join(missing)}; it has {', '.join(fields) or 'no fields'}")
        return events


class Par04VAE:
    """The training set of the Par04 variational autoencoder, one dataset per energy, in rising order."""

    name = "par04-vae"

    def matches(self, stream: h5py.File) -> bool:
        return len(stream) > 0 and all(_is_number(name) for name in stream)

    def describe(self, stream: h5py.File, geometry: Geometry) -> Contents:
        if not self.matches(stream):
            raise UserError("datasets of this format are named by the incident energy in GeV, such as '64'")
        for name in _names(stream):
            _check(dataset(stream, name).shape, geometry)
        return Contents(self._lengths(stream)[-1], () if _angle(stream.filename) is None else ("angle",))

    def read(self, stream: h5py.File, geometry: Geometry, rows: slice) -> Rows:
        begin, end, _ = rows.indices(self._lengths(stream)[-1])
        incident, cells = [np.zeros((0, 1), np.float32)], [np.zeros((0, geometry.n_voxels), np.float32)]
        for name, last in zip(_names(stream), self._lengths(stream), strict=True):
            first = last - len(dataset(stream, name))
            part = slice(max(begin - first, 0), max(min(end, last) - first, 0))
            if part.start < part.stop:
                cells.append(_reverse(rows_of(stream, name, part)))
                incident.append(np.full((len(cells[-1]), 1), float(name), np.float32) * _MEV_PER_GEV)
        energies = np.concatenate(cells)
        angle = _angle(stream.filename)
        conditions = None if angle is None else np.full((len(energies), 1), angle, np.float32)
        return Rows(np.concatenate(incident), energies, conditions)

    def incident_energies(self, stream: h5py.File) -> Floats:
        counts = [len(dataset(stream, name)) for name in _names(stream)]
        energies = np.array([float(name) for name in _names(stream)], np.float32) * _MEV_PER_GEV
        return np.repeat(energies, counts)[:, None]

    def create(self, path: Path, showers: Showers, *, compression: int) -> None:
        """Rows are sorted by energy.  The angle is not stored: it belongs into the name of the file."""
        if showers.condition_names != ("angle",):
            no_conditions(showers, self.name)
        energies = showers.incident_energy[:, 0] / _MEV_PER_GEV
        whole = np.round(energies)
        if (np.abs(energies - whole) > 1e-3 * energies).any():
            raise UserError(f"the format {self.name!r} needs incident energies of whole GeV")
        options = {"compression": "gzip", "compression_opts": compression, "shuffle": True}
        with h5py.File(path, "w") as stream:
            for value in np.unique(whole):
                cells = _reversed_cells(showers, showers.energies[whole == value])
                stream.create_dataset(str(int(value)), data=cells, **options)

    @staticmethod
    def _lengths(stream: h5py.File) -> list[int]:
        return np.cumsum([len(dataset(stream, name)) for name in _names(stream)]).tolist()


def _check(shape: tuple[int, ...], geometry: Geometry) -> None:
    expected = _shape(geometry)[::-1]
    if tuple(shape[1:]) == expected:
        return
    if tuple(shape[1:]) == expected[::-1]:
        raise UserError(
            f"showers have axes {tuple(shape[1:])}, the order (z, alpha, r) of the CaloChallenge, but this format "
            f"stores (r, alpha, z) {expected}: transpose them"
        )
    raise UserError(
        f"showers have axes {tuple(shape[1:])} but geometry {geometry.name!r} needs (r, alpha, z) = {expected}"
    )


def _shape(geometry: Geometry) -> tuple[int, int, int]:
    if geometry.shape is None:
        raise UserError(f"this format holds equal layers, but those of geometry {geometry.name!r} differ")
    return geometry.shape


def _one_number(shape: tuple[int, ...]) -> None:
    if tuple(shape[1:]) not in ((), (1,)):
        raise UserError(f"incident_energy must have shape (N,) or (N, 1), got {shape}")


def _reverse(cells: Floats) -> Floats:
    """(N, R, PHI, Z) to (N, V)."""
    return np.ascontiguousarray(cells.transpose(0, 3, 2, 1)).reshape(len(cells), -1)


def _reversed_cells(showers: Showers, energies: Floats) -> Floats:
    return energies.reshape(-1, *_shape(showers.geometry)).transpose(0, 3, 2, 1)


def _angles(showers: Showers, name: str) -> dict[str, Floats]:
    if showers.conditions is None:
        return {}
    if not set(showers.condition_names) <= set(_ANGLES):
        no_conditions(showers, name)
    # In the order of the format, whatever theirs is.
    return {
        angle: showers.conditions[:, showers.condition_names.index(angle)]
        for angle in _ANGLES
        if angle in showers.condition_names
    }


def _names(stream: h5py.File) -> list[str]:
    return sorted(stream, key=float)


def _is_number(name: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?", name) is not None


def _angle(path: str) -> float | None:
    found = re.search(r"angle_(\d+(?:\.\d+)?)", Path(path).stem)
    return float(found[1]) if found else None
