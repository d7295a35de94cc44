"""Jets and events of constituents to HDF5 files.  Files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cathode.jets.schema import ConstituentEvents, Jets
from cathode.support.errors import UserError
from cathode.support.files import atomic_write

__all__ = ["JETS_FORMAT", "write_constituent_events", "write_jets"]

#: Attribute ``format`` of a file of jets.
JETS_FORMAT = "cathode-jets"

_PACKED = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
_CHUNK_ROWS = 1000


def write_jets(jets: Jets, path: str | Path) -> None:
    """Write jets to HDF5, for :func:`cathode.jets.readers.read_jets`, which gives the same bits back.

    Datasets: ``points (N, P, 3)`` float32 pT [GeV], eta, phi; ``mask (N, P)``; ``axis (N, 4)`` float64 pT [GeV], eta,
    phi, mass [GeV]; further columns of the constituents in the group ``extras``; ``type (N,)`` if the jets have types.

    Raises:
        UserError: The suffix is not that of HDF5, or the file cannot be written.
    """
    import h5py

    with atomic_write(_hdf5(path)) as temporary, h5py.File(temporary, "w", track_order=True) as file:
        file.attrs["format"] = JETS_FORMAT
        _dataset(file, "points", jets.points).attrs["columns"] = "pt [GeV],eta,phi"
        _dataset(file, "mask", jets.mask)
        _dataset(file, "axis", jets.axis).attrs["columns"] = "pt [GeV],eta,phi,mass [GeV]"
        for name, values in jets.extras.items():
            _dataset(file, f"extras/{name}", values)
        if jets.type is not None:
            _dataset(file, "type", jets.type)


def write_constituent_events(events: ConstituentEvents, path: str | Path) -> None:
    """Write events to HDF5 in the layout of :mod:`cathode.jets.layouts`, for ``read_constituent_events``.

    Datasets: ``constituents (N, J, P, 3)`` float32 pT [GeV], eta, phi, zero-padded; ``event_id (N,)``; ``mass (N,)``
    [TeV]; ``weight (N,)`` if the events have weights.  There is no label.

    Raises:
        UserError: The suffix is not that of HDF5, or the file cannot be written.
    """
    import h5py

    with atomic_write(_hdf5(path)) as temporary, h5py.File(temporary, "w", track_order=True) as file:
        pieces = _dataset(file, "constituents", events.points)
        pieces.attrs["axes"] = "event, jet, constituent (pT ordered, zero padded), (pT [GeV], eta, phi)"
        _dataset(file, "event_id", events.event_id)
        _dataset(file, "mass", events.mass).attrs["units"] = "TeV"
        if events.weight is not None:
            _dataset(file, "weight", events.weight)


def _hdf5(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix.lower() not in (".h5", ".hdf5"):
        raise UserError(f"cannot write {path}: jets are written to HDF5, the suffix must be .h5 or .hdf5")
    return path


def _dataset(file: Any, name: str, values: np.ndarray) -> Any:
    if not values.size:
        return file.create_dataset(name, data=values)
    chunks = (min(len(values), _CHUNK_ROWS), *values.shape[1:])
    return file.create_dataset(name, data=values, chunks=chunks, **_PACKED)
