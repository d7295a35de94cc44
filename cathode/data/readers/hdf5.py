"""HDF5 files: pandas' fixed and table layouts, and plain named columns. Read with h5py; PyTables is not needed."""

from __future__ import annotations

import pickletools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cathode.data.expressions import near_matches
from cathode.data.features import JET_COLUMNS
from cathode.data.readers.table import Chunk, Table, as_column, energy_unit
from cathode.support.errors import UserError

__all__ = ["RAW_WIDTHS", "open_h5", "open_hdf5_table", "table_columns"]

#: Columns of an LHC Olympics raw file: 700 particles of (pT, eta, phi), with and without a label.
RAW_WIDTHS = (2100, 2101)

# A second dimension up to this becomes columns name_0, name_1, ...; more is an image or a set, not features.
_WIDEST_DATASET = 64


@contextmanager
def open_h5(path: Path) -> Iterator[Any]:
    """An ``h5py.File`` for reading, with the compression filters of ``hdf5plugin``; I/O errors become one line.

    Raises:
        UserError: The file is not HDF5, truncated, damaged or compressed with an unknown filter.
    """
    import h5py
    import hdf5plugin  # noqa: F401  (registers the filters)

    try:
        with h5py.File(path, "r", track_order=True) as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:
        reason = str(error)
        if "truncated" in reason:
            reason = "the file is truncated"
        elif "not an HDF5" in reason or "signature not found" in reason:
            reason = "not an HDF5 file, or its beginning is damaged"
        elif "filter" in reason and "registered" in reason:
            reason = "compressed with a filter that is not installed"
        elif "errno = 13" in reason or "Permission denied" in reason:
            raise UserError(f"{path}: cannot be read: permission denied") from error
        raise UserError(f"{path}: cannot read this HDF5 file ({reason}): download or copy it again") from error


def open_hdf5_table(path: Path, inside: str | None = None) -> Table:
    """The table in an HDF5 file.

    Recognised are pandas' ``fixed`` layout (LHC Olympics features and raw files), pandas' ``table`` layout, 1-D
    datasets of equal length and structured datasets (each with optional ``units`` attributes), and narrow 2-D datasets
    (``x`` becomes ``x_0``, ``x_1``, ...).

    Args:
        path: The file.
        inside: Name of the group or dataset to read when the file has several tables.

    Raises:
        UserError: No table, or several to choose from.
    """
    import h5py

    with open_h5(path) as file:
        node = file
        if inside is not None:
            if inside not in file:
                raise UserError(f"{path}: nothing called {inside!r} inside{near_matches(inside, list(file))}")
            node = file[inside]
        else:
            frames = [name for name, item in file.items() if isinstance(item, h5py.Group) and _is_pandas(item)]
            if len(frames) > 1 and "df" not in frames:
                raise UserError(
                    f"{path}: holds several tables ({', '.join(frames)}): choose one as '{path}:{frames[0]}'"
                )
            if frames:
                node = file["df" if "df" in frames else frames[0]]
        if isinstance(node, h5py.Group) and "axis0" in node:
            return _pandas_fixed(path, node)
        if isinstance(node, h5py.Group) and "table" in node and _is_pandas(node):
            return _pandas_table(path, node)
        return _named(path, node, inside)


def _is_pandas(group: Any) -> bool:
    return "pandas_type" in group.attrs or ("axis0" in group and "block0_values" in group)


def _texts(values: Any) -> list[str]:
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]


def _pandas_fixed(path: Path, group: Any) -> Table:
    columns = _texts(group["axis0"][:])
    rows = len(group["axis1"]) if "axis1" in group else 0
    sources: dict[str, tuple[str, int]] = {}
    index = 0
    while f"block{index}_values" in group:
        dataset = group[f"block{index}_values"]
        if dataset.dtype.kind in "fiub" and dataset.ndim == 2:
            for position, name in enumerate(_texts(group[f"block{index}_items"][:])):
                sources[name] = (dataset.name, position)
            rows = dataset.shape[0]
        index += 1
    numeric = tuple(name for name in columns if name in sources)
    if not numeric:
        raise UserError(f"{path}: the pandas table {group.name} has no numeric columns")

    def read(names: Sequence[str], rows_per_chunk: int) -> Iterator[Chunk]:
        with open_h5(path) as file:
            wanted: dict[str, list[str]] = {}
            for name in names:
                wanted.setdefault(sources[name][0], []).append(name)
            for start in range(0, rows, rows_per_chunk):
                chunk: Chunk = {}
                for dataset, held in wanted.items():
                    positions = [sources[name][1] for name in held]
                    low, high = min(positions), max(positions) + 1
                    block = file[dataset][start : start + rows_per_chunk, low:high]
                    for name, position in zip(held, positions, strict=True):
                        chunk[name] = as_column(block[:, position - low])
                yield chunk

    is_raw = len(columns) in RAW_WIDTHS and columns[0] == "0"
    is_lhco = set(JET_COLUMNS).issubset(numeric)
    return Table(
        path=path,
        format="lhco-raw" if is_raw else "lhco-features" if is_lhco else "pandas-fixed",
        columns=numeric,
        rows=rows,
        read=read,
    )


def _pickled_names(value: Any) -> list[str]:
    """The strings of a pickled list of strings, read from its opcodes: nothing is unpickled, nothing can run."""
    data = bytes(value) if isinstance(value, bytes) else np.asarray(value).tobytes()
    names = []
    for code, argument, _ in pickletools.genops(data):
        if code.name in ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"):
            names.append(str(argument))
    return names


def table_columns(dataset: Any) -> dict[str, tuple[str, int | None]]:
    """Numeric columns of the dataset of a pandas ``table``: field and position in it (None is the whole field)."""
    sources: dict[str, tuple[str, int | None]] = {}
    for name in dataset.dtype.names:
        if name == "index" or dataset.dtype[name].base.kind not in "fiub":
            continue
        kind = dataset.attrs.get(f"{name}_kind")
        held = _pickled_names(kind) if kind is not None else [name]
        if dataset.dtype[name].shape:
            sources |= {column: (name, position) for position, column in enumerate(held)}
        else:
            sources[held[0] if len(held) == 1 else name] = (name, None)
    return sources


def _pandas_table(path: Path, group: Any) -> Table:
    dataset = group["table"]
    sources = table_columns(dataset)
    if not sources:
        raise UserError(f"{path}: the pandas table {group.name} has no numeric columns")
    location, rows = dataset.name, dataset.shape[0]

    def read(names: Sequence[str], rows_per_chunk: int) -> Iterator[Chunk]:
        with open_h5(path) as file:
            for start in range(0, rows, rows_per_chunk):
                block = file[location][start : start + rows_per_chunk]
                chunk: Chunk = {}
                for name in names:
                    field, position = sources[name]
                    values = block[field] if position is None else block[field][:, position]
                    chunk[name] = as_column(values)
                yield chunk

    order = _pickled_axis(group, list(sources))
    is_lhco = set(JET_COLUMNS).issubset(order)
    return Table(path, "lhco-features" if is_lhco else "pandas-table", tuple(order), rows, read)


def _pickled_axis(group: Any, known: list[str]) -> list[str]:
    axes = group.attrs.get("non_index_axes")
    named = [name for name in _pickled_names(axes) if name in known] if axes is not None else []
    return named if sorted(named) == sorted(known) else known


def _unit_of(attributes: Any) -> str | None:
    for key in ("units", "unit"):
        if key in attributes:
            value = attributes[key]
            return energy_unit(value.decode() if isinstance(value, bytes) else str(value))
    return None


def _named(path: Path, node: Any, inside: str | None) -> Table:
    import h5py

    units: dict[str, str] = {}
    sources: dict[str, tuple[str, str | int | None]] = {}
    lengths: dict[str, int] = {}

    def add(dataset: Any, name: str) -> None:
        unit = _unit_of(dataset.attrs)
        if dataset.dtype.names:
            parts = [(field, field) for field in dataset.dtype.names if _is_column(dataset.dtype[field])]
            named: list[tuple[str, str | int | None]] = [(column, key) for column, key in parts]
        elif dataset.ndim == 2 and dataset.shape[1] <= _WIDEST_DATASET:
            named = [(f"{name}_{index}", index) for index in range(dataset.shape[1])]
        else:
            named = [(name, None)]
        for column, key in named:
            sources[column] = (dataset.name, key)
            lengths[column] = dataset.shape[0]
            if unit is not None:
                units[column] = unit

    if isinstance(node, h5py.Dataset):
        add(node, node.name.rsplit("/", 1)[-1])
    else:
        for name, item in node.items():
            if isinstance(item, h5py.Dataset) and _is_columnar(item):
                add(item, name)
        if not sources:
            groups = [name for name, item in node.items() if isinstance(item, h5py.Group)]
            if len(groups) == 1:
                return _named(path, node[groups[0]], inside)
            found = (
                f"it has the groups {', '.join(groups)}: choose one as '{path}:{groups[0]}'"
                if groups
                else "it is empty"
            )
            raise UserError(f"{path}: no one-dimensional numeric datasets to use as columns; {found}")
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in list(lengths.items())[:6])
        raise UserError(f"{path}: columns of different lengths ({shown}): a table needs one value per event in each")
    rows = next(iter(lengths.values()))
    file_unit = _unit_of(node.attrs)

    def read(names: Sequence[str], rows_per_chunk: int) -> Iterator[Chunk]:
        with open_h5(path) as file:
            for start in range(0, rows, rows_per_chunk):
                rows_here = slice(start, start + rows_per_chunk)
                blocks: dict[str, Any] = {}
                chunk: Chunk = {}
                for name in names:
                    location, key = sources[name]
                    if location not in blocks:
                        blocks[location] = file[location][rows_here]
                    block = blocks[location]
                    values = block if key is None else block[key] if isinstance(key, str) else block[:, key]
                    chunk[name] = as_column(values)
                yield chunk

    columns = tuple(sources)
    if file_unit is not None:
        units = {"*": file_unit} | units
    is_lhco = set(JET_COLUMNS).issubset(columns)
    return Table(
        path=path,
        format="lhco-features" if is_lhco else "hdf5",
        columns=columns,
        rows=rows,
        read=read,
        units=units,
    )


def _is_column(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "fiub" and not dtype.shape


def _is_columnar(dataset: Any) -> bool:
    if dataset.dtype.names:
        return bool(dataset.ndim == 1) and any(_is_column(dataset.dtype[name]) for name in dataset.dtype.names)
    narrow = dataset.ndim == 1 or (dataset.ndim == 2 and dataset.shape[1] <= _WIDEST_DATASET)
    return bool(narrow) and dataset.dtype.kind in "fiub"
