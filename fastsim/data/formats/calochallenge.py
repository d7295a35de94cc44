"""CaloChallenge HDF5 (arXiv 2410.21611): ``incident_energies`` (N, 1) and ``showers`` (N, V), MeV, r fastest.

An optional dataset ``conditions`` (N, K), with the names in its attribute ``names``, holds what else is known of the
incident particle.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from cathode.support.errors import UserError
from fastsim.data.formats.base import Contents, Rows, dataset, rows_of, same_lengths, unnamed
from fastsim.data.showers import Showers, voxel_mismatch
from fastsim.geometry import Geometry

__all__ = ["CaloChallenge"]

# Bytes of a chunk of showers: large enough to compress, small enough to be read in part.
_CHUNK_BYTES = 1 << 20


class CaloChallenge:
    """Also any grid or list of cells stored like this."""

    name = "calochallenge"

    def matches(self, stream: h5py.File) -> bool:
        return "incident_energies" in stream and "showers" in stream

    def describe(self, stream: h5py.File, geometry: Geometry) -> Contents:
        showers, incident = dataset(stream, "showers"), dataset(stream, "incident_energies")
        names = ["incident_energies", "showers"] + ["conditions"] * ("conditions" in stream)
        if not _fits(showers.shape, geometry):
            raise UserError(_mismatch(showers.shape, geometry))
        if incident.ndim not in (1, 2) or (incident.ndim == 2 and incident.shape[1] != 1):
            raise UserError(f"incident_energies must have shape (N, 1), got {incident.shape}")
        length = same_lengths(stream, *names)
        if "conditions" not in stream:
            return Contents(length)
        conditions = dataset(stream, "conditions")
        if conditions.ndim != 2:
            raise UserError(f"conditions must have shape (N, K), got {conditions.shape}")
        given = conditions.attrs.get("names")
        columns = conditions.shape[1]
        labels = unnamed(columns) if given is None else tuple(str(n) for n in given)
        if len(labels) != columns:
            raise UserError(f"{columns} conditions but {len(labels)} names in the attribute 'names'")
        return Contents(length, labels)

    def read(self, stream: h5py.File, geometry: Geometry, rows: slice) -> Rows:
        energies = rows_of(stream, "showers", rows)
        conditions = rows_of(stream, "conditions", rows) if "conditions" in stream else None
        incident = rows_of(stream, "incident_energies", rows).reshape(-1, 1)
        return Rows(incident, energies.reshape(len(energies), geometry.n_voxels), conditions)

    def incident_energies(self, stream: h5py.File) -> NDArray[np.float32]:
        return rows_of(stream, "incident_energies", slice(None)).reshape(-1, 1)

    def create(self, path: Path, showers: Showers, *, compression: int) -> None:
        with h5py.File(path, "w") as stream:
            allocate(stream, showers.geometry, showers.condition_names, compression=compression)
            append(stream, showers)


def allocate(stream: h5py.File, geometry: Geometry, condition_names: tuple[str, ...], *, compression: int) -> None:
    """Empty datasets that can grow."""
    rows = max(1, min(1000, _CHUNK_BYTES // (4 * geometry.n_voxels)))
    options = {"dtype": np.float32, "compression": "gzip", "compression_opts": compression, "shuffle": True}
    for name, width, chunk in (("incident_energies", 1, 1000), ("showers", geometry.n_voxels, rows)):
        stream.create_dataset(name, (0, width), maxshape=(None, width), chunks=(chunk, width), **options)
    if condition_names:
        width = len(condition_names)
        made = stream.create_dataset("conditions", (0, width), maxshape=(None, width), chunks=(1000, width), **options)
        made.attrs["names"] = list(condition_names)
    stream.attrs["geometry"] = geometry.name
    stream.attrs["units"] = "MeV"


def append(stream: h5py.File, showers: Showers) -> None:
    """Append showers to datasets made by :func:`allocate`."""
    for name, values in (
        ("incident_energies", showers.incident_energy),
        ("showers", showers.energies),
        ("conditions", showers.conditions),
    ):
        if values is not None:
            first = stream[name].shape[0]
            stream[name].resize(first + len(values), axis=0)
            stream[name][first:] = values


def _fits(shape: tuple[int, ...], geometry: Geometry) -> bool:
    return tuple(shape[1:]) in {(geometry.n_voxels,), geometry.shape} and len(shape) > 1


def _mismatch(shape: tuple[int, ...], geometry: Geometry) -> str:
    if len(shape) == 4 and geometry.shape is not None and sorted(shape[1:]) == sorted(geometry.shape):
        return (
            f"showers have axes {tuple(shape[1:])} but geometry {geometry.name!r} needs {geometry.shape} "
            "(layer, alpha, r): transpose them, or give the file's format if it has another axis order"
        )
    return voxel_mismatch(shape, geometry)
