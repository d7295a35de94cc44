"""CaloGAN HDF5 (arXiv 1712.10321): ``energy`` (N, 1) in GeV, ``layer_0`` to ``layer_2`` (N, rows, columns) in MeV.

The files' ``overflow`` (N, 3), energy beside the grid, is not read; files written here have zeros there.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from cathode.support.errors import UserError
from fastsim.data.formats.base import Contents, Rows, dataset, no_conditions, rows_of, same_lengths
from fastsim.data.showers import Showers
from fastsim.geometry import Geometry

__all__ = ["CaloGAN"]

_MEV_PER_GEV = np.float32(1000)


class CaloGAN:
    """Any Cartesian geometry of several layers; the published one is called ``calogan``."""

    name = "calogan"

    def matches(self, stream: h5py.File) -> bool:
        return "energy" in stream and "layer_0" in stream

    def describe(self, stream: h5py.File, geometry: Geometry) -> Contents:
        names = _layers(geometry)
        extra = sorted(name for name in stream if name.startswith("layer_") and name not in names)
        if extra:
            raise UserError(f"the file has {', '.join(extra)} but geometry {geometry.name!r} has {len(names)} layers")
        for name, layer in zip(names, geometry.layers, strict=True):
            shape, expected = dataset(stream, name).shape[1:], (layer.n_slow, layer.n_fast)
            if tuple(shape) != expected:
                raise UserError(f"{name} has {tuple(shape)} cells but geometry {geometry.name!r} needs {expected}")
        return Contents(same_lengths(stream, "energy", *names))

    def read(self, stream: h5py.File, geometry: Geometry, rows: slice) -> Rows:
        parts = [rows_of(stream, name, rows) for name in _layers(geometry)]
        energies = np.concatenate([part.reshape(len(part), -1) for part in parts], 1)
        return Rows(rows_of(stream, "energy", rows).reshape(-1, 1) * _MEV_PER_GEV, energies)

    def incident_energies(self, stream: h5py.File) -> NDArray[np.float32]:
        return rows_of(stream, "energy", slice(None)).reshape(-1, 1) * _MEV_PER_GEV

    def create(self, path: Path, showers: Showers, *, compression: int) -> None:
        no_conditions(showers, self.name)
        names = _layers(showers.geometry)
        options = {"compression": "gzip", "compression_opts": compression, "shuffle": True}
        with h5py.File(path, "w") as stream:
            stream.create_dataset("energy", data=showers.incident_energy / _MEV_PER_GEV)
            for name, layer, part in zip(names, showers.geometry.layers, showers.geometry.slices, strict=True):
                cells = showers.energies[:, part].reshape(-1, layer.n_slow, layer.n_fast)
                stream.create_dataset(name, data=cells, **(options if len(showers) else {}))
            stream.create_dataset("overflow", data=np.zeros((len(showers), len(names)), dtype=np.float32))


def _layers(geometry: Geometry) -> list[str]:
    if geometry.kind != "cartesian":
        raise UserError(f"CaloGAN files hold Cartesian layers, but geometry {geometry.name!r} is {geometry.kind}")
    return [f"layer_{index}" for index in range(geometry.n_layers)]
