"""The other LHC Olympics-like layouts that generated events are written in, piece by piece.

- raw: a pandas *fixed* HDF5 file, key ``df``, ``(N, 2101)`` float64: 700 x (pT [GeV], eta, phi) of massless particles,
  zero-padded, then a truth label; read back by :mod:`cathode.data.readers.raw` and ``pandas.read_hdf``;
- constituents: plain HDF5, ``constituents (N, 2, C, 3)`` float32 (jets and constituents by falling pT; pT [GeV], eta,
  phi) and ``jet_features (N, 14)`` float32 of the same events.

The features layout is written by :func:`cathode.data.lhco.write_lhco_features`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cathode.data.features import JET_COLUMNS
from cathode.data.readers.raw import PARTICLES
from cathode.support.files import atomic_write

__all__ = ["write_constituents", "write_raw"]

Floats = NDArray[np.float64]


def write_raw(path: str | Path, batches: Iterable[Floats], label: float, events: int) -> None:
    """Write ``batches`` of particles ``(n, 700, 3)``, ``events`` in all, with one truth label in the raw layout."""
    import h5py

    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        values = _fixed_frame(file, columns=3 * PARTICLES + 1, events=events)
        done = 0
        for batch in batches:
            values[done : done + len(batch), : 3 * PARTICLES] = batch.reshape(len(batch), 3 * PARTICLES)
            values[done : done + len(batch), 3 * PARTICLES] = label
            done += len(batch)


def write_constituents(path: str | Path, batches: Iterable[tuple[Floats, Floats]], label: int, events: int) -> None:
    """Write ``batches`` of (constituents ``(n, 2, C, 3)``, features ``(n, 14)``), ``events`` in all."""
    import h5py

    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        done = 0
        for constituents, features in batches:
            if done == 0:
                shape = (events, *constituents.shape[1:])
                chunk = (min(events, 1000), *constituents.shape[1:])
                pieces = file.create_dataset(
                    "constituents", shape, "f4", chunks=chunk, compression="gzip", shuffle=True
                )
                pieces.attrs["axes"] = (
                    "event, jet (pT ordered), constituent (pT ordered, zero padded), (pT [GeV], eta, phi)"
                )
                table = file.create_dataset("jet_features", (events, 14), "f4")
                table.attrs["columns"] = ",".join(JET_COLUMNS)
                file.attrs["label"] = label
            pieces[done : done + len(features)] = constituents
            table[done : done + len(features)] = features
            done += len(features)


def _fixed_frame(file: Any, *, columns: int, events: int) -> Any:
    """The empty dataset of values of a pandas fixed frame ``df`` with numbered columns, in a new HDF5 file."""
    import h5py
    import hdf5plugin

    empty = h5py.Empty("S1")
    for name, text in {"CLASS": "GROUP", "VERSION": "1.0", "PYTABLES_FORMAT_VERSION": "2.1"}.items():
        _text(file, name, text)
    file.attrs["TITLE"] = empty
    frame = file.create_group("df")
    texts = {
        "CLASS": "GROUP", "VERSION": "1.0", "pandas_type": "frame", "pandas_version": "0.15.2",
        "encoding": "UTF-8", "errors": "strict",
        "axis0_variety": "regular", "axis1_variety": "regular", "block0_items_variety": "regular",
    }  # fmt: skip
    for name, text in texts.items():
        _text(frame, name, text)
    frame.attrs["TITLE"] = empty
    frame.attrs["ndim"] = np.int64(2)
    frame.attrs["nblocks"] = np.int64(1)
    for name, size in (("axis0", columns), ("axis1", events), ("block0_items", columns)):
        axis = frame.create_dataset(name, data=np.arange(size))
        _text(axis, "kind", "integer")
        # A pickled None, which is how PyTables stores one.
        axis.attrs["name"] = np.bytes_("N.")
        _array_attributes(axis, "ARRAY", "2.4")
    rows = max(1, min(events, (1 << 18) // (8 * columns)))
    values = frame.create_dataset(
        "block0_values", (events, columns), "f8", chunks=(rows, columns), **hdf5plugin.Blosc(clevel=5)
    )
    _array_attributes(values, "CARRAY", "1.1")
    return values


def _array_attributes(dataset: Any, kind: str, version: str) -> None:
    import h5py

    _text(dataset, "CLASS", kind)
    _text(dataset, "VERSION", version)
    dataset.attrs["TITLE"] = h5py.Empty("S1")
    _text(dataset, "FLAVOR", "numpy")
    dataset.attrs["transposed"] = np.uint8(1)


def _text(holder: Any, name: str, text: str) -> None:
    import h5py

    # PyTables gives fixed-length UTF-8 back as text, but ASCII as bytes, which pandas does not take.
    holder.attrs.create(name, text.encode(), dtype=h5py.string_dtype("utf-8", len(text)))
