"""Writing the LHC Olympics features layout: a pandas fixed HDF5 table, made with h5py.

The files have key ``df``, one float64 block and the attributes that ``pandas.read_hdf`` looks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cathode.data.features import JET_COLUMNS, LABEL_COLUMN, LHCO_COLUMNS
from cathode.support.errors import UserError
from cathode.support.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["write_lhco_features", "write_pandas_fixed"]

_GROUP = {"CLASS": b"GROUP", "TITLE": b"", "VERSION": b"1.0"}
_ARRAY = {"CLASS": b"CARRAY", "TITLE": b"", "VERSION": b"1.1", "transposed": np.uint8(1)}
_CHUNK_ROWS = 65_536


def write_lhco_features(
    frame: pd.DataFrame | Mapping[str, NDArray[Any]], path: str | Path, *, compression_level: int = 6
) -> None:
    """Write events in the layout of the LHC Olympics features files, whole or not at all.

    Args:
        frame: The 15 columns of :data:`~cathode.data.features.LHCO_COLUMNS` in any order, in GeV; others are an error,
            so that nothing is lost unnoticed. A missing ``label`` is left out of the file.
        path: File to write.
        compression_level: gzip level, 0 to 9.

    Raises:
        UserError: A column is missing or surplus, or the file cannot be written.
    """
    given = [str(name) for name in frame]
    missing = [name for name in JET_COLUMNS if name not in given]
    if missing:
        raise UserError(f"cannot write {path}: the LHC Olympics layout needs the column {missing[0]!r}")
    surplus = [name for name in given if name not in LHCO_COLUMNS]
    if surplus:
        raise UserError(f"cannot write {path}: the LHC Olympics layout has no column {surplus[0]!r}")
    columns = LHCO_COLUMNS if LABEL_COLUMN in given else JET_COLUMNS
    values = np.stack([np.asarray(frame[name], dtype=np.float64) for name in columns], axis=1)
    write_pandas_fixed(values, columns, path, compression_level=compression_level)


def write_pandas_fixed(
    values: NDArray[np.float64], columns: tuple[str, ...], path: str | Path, *, compression_level: int = 6
) -> None:
    """Write a table ``(N, D)`` as pandas fixed HDF5 under the key ``df``.

    Columns are compressed one by one (gzip with shuffle), so that reading a few of many columns is cheap.
    """
    import h5py

    rows = len(values)
    packed: dict[str, Any] = {"compression": "gzip", "compression_opts": compression_level, "shuffle": True}
    width = max(len(name.encode()) for name in columns)
    names = np.array([name.encode() for name in columns], dtype=f"S{width}")
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        _attributes(file, _GROUP | {"PYTABLES_FORMAT_VERSION": b"2.1"})
        group = file.create_group("df")
        _attributes(
            group,
            _GROUP
            | {
                "axis0_variety": b"regular",
                "axis1_variety": b"regular",
                "block0_items_variety": b"regular",
                "encoding": b"UTF-8",
                "errors": b"strict",
                "nblocks": np.int64(1),
                "ndim": np.int64(2),
                "pandas_type": b"frame",
            },
        )
        for axis in ("axis0", "block0_items"):
            items = group.create_dataset(axis, data=names, chunks=(len(names),))
            _attributes(items, _ARRAY | {"kind": b"string", "nan_rep": b""})
        # HDF5 cannot cut nothing into chunks.
        chunk = min(rows, _CHUNK_ROWS)
        whole: dict[str, Any] = packed | {"chunks": (chunk,)} if rows else {}
        columnwise: dict[str, Any] = packed | {"chunks": (chunk, 1)} if rows else {}
        index = group.create_dataset("axis1", data=np.arange(rows, dtype=np.int64), **whole)
        _attributes(index, _ARRAY | {"kind": b"integer"})
        block = group.create_dataset("block0_values", data=values, **columnwise)
        _attributes(block, _ARRAY)


def _attributes(item: Any, attributes: Mapping[str, Any]) -> None:
    import h5py

    for name, value in attributes.items():
        if value == b"":
            item.attrs[name] = h5py.Empty("S1")
        elif isinstance(value, bytes):
            # PyTables gives back str only for strings marked as UTF-8, and pandas wants str.
            item.attrs.create(name, value, dtype=h5py.string_dtype("utf-8", len(value)))
        else:
            item.attrs[name] = value
