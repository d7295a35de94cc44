"""Jets and events of constituents to HDF5 files.  Files appear whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


def write_jets(jets: Jets | Iterable[Jets], path: str | Path) -> int:
    """Write jets to HDF5, for :func:`cathode.jets.readers.read_jets`, which gives the same bits back.

    Datasets: ``points (N, P, 3)`` float32 pT [GeV], eta, phi; ``mask (N, P)``; ``axis (N, 4)`` float64 pT [GeV], eta,
    phi, mass [GeV]; further columns of the constituents in the group ``extras``; ``type (N,)`` if the jets have types.

    Args:
        jets: Jets, or pieces of them that are written one after the other and need not be in memory together; all with
            the same number of slots.
        path: File to write.

    Returns:
        The number of jets.

    Raises:
        UserError: The suffix is not that of HDF5, the file cannot be written, or pieces differ in slots or columns.
    """
    notes = {"points": {"columns": "pt [GeV],eta,phi"}, "axis": {"columns": "pt [GeV],eta,phi,mass [GeV]"}}
    pieces = [jets] if isinstance(jets, Jets) else jets
    return _write(path, (_jet_columns(piece) for piece in pieces), notes, JETS_FORMAT)


def write_constituent_events(events: ConstituentEvents | Iterable[ConstituentEvents], path: str | Path) -> int:
    """Write events to HDF5 in the layout of :mod:`cathode.jets.layouts`, for ``read_constituent_events``.

    Datasets: ``constituents (N, J, P, 3)`` float32 pT [GeV], eta, phi, zero-padded; ``event_id (N,)``; ``mass (N,)``
    [TeV]; ``weight (N,)`` if the events have weights.  There is no label.

    Args:
        events: Events, or pieces of them that are written one after the other and need not be in memory together; all
            with the same number of slots.
        path: File to write.

    Returns:
        The number of events.

    Raises:
        UserError: The suffix is not that of HDF5, the file cannot be written, or pieces differ in slots or columns.
    """
    axes = "event, jet, constituent (pT ordered, zero padded), (pT [GeV], eta, phi)"
    pieces = [events] if isinstance(events, ConstituentEvents) else events
    return _write(
        path, (_event_columns(piece) for piece in pieces), {"constituents": {"axes": axes}, "mass": {"units": "TeV"}}
    )


def _jet_columns(jets: Jets) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {"points": jets.points, "mask": jets.mask, "axis": jets.axis}
    columns |= {f"extras/{name}": values for name, values in jets.extras.items()}
    return columns if jets.type is None else columns | {"type": jets.type}


def _event_columns(events: ConstituentEvents) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {"constituents": events.points, "event_id": events.event_id, "mass": events.mass}
    return columns if events.weight is None else columns | {"weight": events.weight}


def _write(
    path: str | Path,
    pieces: Iterable[Mapping[str, np.ndarray]],
    notes: Mapping[str, Mapping[str, str]],
    format: str | None = None,
) -> int:
    import h5py

    path = Path(path)
    if path.suffix.lower() not in (".h5", ".hdf5"):
        raise UserError(f"cannot write {path}: jets are written to HDF5, the suffix must be .h5 or .hdf5")
    rows = 0
    with atomic_write(path) as temporary, h5py.File(temporary, "w", track_order=True) as file:
        datasets: dict[str, Any] = {}
        for columns in pieces:
            if not datasets:
                datasets = {name: _dataset(file, name, values) for name, values in columns.items()}
            if columns.keys() != datasets.keys() or any(
                values.shape[1:] != datasets[name].shape[1:] for name, values in columns.items()
            ):
                raise UserError(f"cannot write {path}: its pieces differ in their slots or columns")
            for name, values in columns.items():
                datasets[name].resize(rows + len(values), axis=0)
                datasets[name][rows:] = values
            rows += len(next(iter(columns.values())))
        if not datasets:
            raise UserError(f"cannot write {path}: nothing was given")
        if format is not None:
            file.attrs["format"] = format
        for name, attributes in notes.items():
            datasets[name].attrs.update(attributes)
    return rows


def _dataset(file: Any, name: str, values: np.ndarray) -> Any:
    shape = values.shape[1:]
    chunks = (_CHUNK_ROWS, *(max(size, 1) for size in shape))
    return file.create_dataset(name, (0, *shape), values.dtype, maxshape=(None, *shape), chunks=chunks, **_PACKED)
