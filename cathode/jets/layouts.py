"""The LHC Olympics file layouts, written and read piece by piece.

All are pandas *fixed* HDF5 files with the key ``df`` and float64 values, readable with ``pandas.read_hdf``:

- raw: 700 x (pT [GeV], eta, phi) of massless particles, zero-padded, then a truth label in the last column (2101
  columns); files without truth have 2100;
- features: the 14 columns of :data:`cathode.jets.features.FEATURE_COLUMNS`, then ``label``.

The constituents layout is plain HDF5: ``constituents (N, 2, C, 3)`` float32 (jets and constituents by falling pT;
pT [GeV], eta, phi) and ``jet_features (N, 14)`` float32 of the same events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cathode.jets.features import FEATURE_COLUMNS
from cathode.support.errors import UserError
from cathode.support.files import atomic_write

__all__ = [
    "RAW_PARTICLES",
    "raw_size",
    "read_raw",
    "write_constituents",
    "write_features",
    "write_raw",
]

RAW_PARTICLES = 700

Floats = NDArray[np.float64]


@contextmanager
def _raw_values(path: str | Path) -> Iterator[Any]:
    """The dataset of values of a raw file, checked."""
    import h5py
    import hdf5plugin  # noqa: F401  (registers the Blosc filter of the public files)

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"cannot read {path} as HDF5 ({error}): give an LHC Olympics raw file") from error
    with file:
        values = file.get("df/block0_values")
        shape = getattr(values, "shape", None)
        if shape is None or len(shape) != 2 or shape[1] not in (3 * RAW_PARTICLES, 3 * RAW_PARTICLES + 1):
            raise UserError(
                f"{path} is not an LHC Olympics raw file: expected a table 'df' of 2101 (or 2100) columns, found"
                f" {'no such table' if shape is None else shape}"
            )
        yield values


def raw_size(path: str | Path) -> tuple[int, bool]:
    """Number of events of a raw file, and whether it carries truth labels.

    Raises:
        UserError: Not a readable raw file.
    """
    with _raw_values(path) as values:
        return int(values.shape[0]), values.shape[1] == 3 * RAW_PARTICLES + 1


def read_raw(path: str | Path, start: int, stop: int) -> tuple[Floats, Floats | None]:
    """Events ``start .. stop-1`` of a raw file: particles ``(n, 700, 3)`` and labels ``(n,)``, None without truth.

    Raises:
        UserError: Not a readable raw file, or damaged in this range.
    """
    with _raw_values(path) as values:
        try:
            rows = np.asarray(values[start:stop], dtype=np.float64)
        except OSError as error:
            raise UserError(f"{path} is damaged between rows {start} and {stop}: fetch it again ({error})") from error
    particles = rows[:, : 3 * RAW_PARTICLES].reshape(len(rows), RAW_PARTICLES, 3)
    return particles, rows[:, 3 * RAW_PARTICLES].copy() if rows.shape[1] > 3 * RAW_PARTICLES else None


def write_features(path: str | Path, features: Floats, label: Floats | None) -> None:
    """Write features ``(N, 14)`` [GeV] and truth labels ``(N,)`` in the features layout; no label column for None."""
    names = [*FEATURE_COLUMNS] + ([] if label is None else ["label"])
    columns = np.array(names, dtype="S6")
    values = features if label is None else np.concatenate([features, label[:, None]], axis=1)
    with _fixed_frame(path, columns, len(values)) as dataset:
        dataset[...] = values


def write_raw(path: str | Path, batches: Iterable[Floats], label: float, events: int) -> None:
    """Write ``batches`` of particles ``(n, 700, 3)``, ``events`` in all, with one truth label in the raw layout."""
    with _fixed_frame(path, np.arange(3 * RAW_PARTICLES + 1), events) as dataset:
        done = 0
        for batch in batches:
            rows = np.concatenate([batch.reshape(len(batch), -1), np.full((len(batch), 1), label)], axis=1)
            dataset[done : done + len(batch)] = rows
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
                table.attrs["columns"] = ",".join(FEATURE_COLUMNS)
                file.attrs["label"] = label
            pieces[done : done + len(features)] = constituents
            table[done : done + len(features)] = features
            done += len(features)


@contextmanager
def _fixed_frame(path: str | Path, columns: NDArray[Any], events: int) -> Iterator[Any]:
    """The dataset of values, to be filled, of a new pandas fixed file with the key ``df``; the file appears whole."""
    import h5py
    import hdf5plugin

    empty = h5py.Empty("S1")
    kind = "string" if columns.dtype.kind == "S" else "integer"
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
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
        axes = {"axis0": (columns, kind), "axis1": (np.arange(events), "integer"), "block0_items": (columns, kind)}
        for name, (content, variety) in axes.items():
            axis = frame.create_dataset(name, data=content)
            _text(axis, "kind", variety)
            # A pickled None, which is how PyTables stores one.
            axis.attrs["name"] = np.bytes_("N.")
            _array_attributes(axis, "ARRAY", "2.4")
        rows = max(1, min(events, (1 << 18) // (8 * len(columns))))
        values = frame.create_dataset(
            "block0_values", (events, len(columns)), "f8", chunks=(rows, len(columns)), **hdf5plugin.Blosc(clevel=5)
        )
        _array_attributes(values, "CARRAY", "1.1")
        yield values


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
