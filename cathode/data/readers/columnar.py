"""Parquet and npz files as tables of columns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cathode.data.features import JET_COLUMNS
from cathode.data.readers.table import Chunk, Table, as_column, energy_unit
from cathode.support.errors import UserError

__all__ = ["open_npz", "open_parquet"]

_WIDEST_ARRAY = 64


def _format_of(columns: Sequence[str], plain: str) -> str:
    return "lhco-features" if set(JET_COLUMNS).issubset(columns) else plain


def _declared_units(texts: Any) -> dict[str, str]:
    units = {str(name): energy_unit(str(text)) for name, text in texts.items()}
    return {name: unit for name, unit in units.items() if unit is not None}


def open_parquet(path: Path) -> Table:
    """The numeric columns of a Parquet file; a ``units`` entry in its metadata (JSON, by column) is honoured.

    Raises:
        UserError: Truncated, damaged or without numeric columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    def damaged(error: Exception) -> UserError:
        return UserError(f"{path}: cannot read this Parquet file ({str(error).splitlines()[0][:120]}): copy it again")

    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise damaged(error) from error
    columns = tuple(
        field.name
        for field in schema
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_boolean(field.type)
    )
    if not columns:
        raise UserError(f"{path}: no numeric columns in this Parquet file")
    metadata = schema.metadata or {}
    units = _declared_units(json.loads(metadata.get(b"units", b"{}")))

    def read(names: Sequence[str], rows_per_chunk: int) -> Iterator[Chunk]:
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=rows_per_chunk, columns=list(names)):
                    yield {name: as_column(batch.column(name).to_numpy(zero_copy_only=False)) for name in names}
        except (pa.ArrowException, OSError) as error:
            raise damaged(error) from error

    return Table(path, _format_of(columns, "parquet"), columns, rows, read, units=units)


def open_npz(path: Path) -> Table:
    """The arrays of an npz file: 1-D arrays are columns, narrow 2-D ones become ``x_0``, ``x_1``, ...

    Pickled arrays are refused.

    Raises:
        UserError: Truncated, pickled, without columns, or with columns of different lengths.
    """
    arrays = _load_npz(path)
    units = _declared_units(json.loads(str(arrays["__units__"]))) if "__units__" in arrays else {}
    columns = {}
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            continue
        if array.ndim == 1:
            columns[name] = array
        elif array.ndim == 2 and array.shape[1] <= _WIDEST_ARRAY:
            columns |= {f"{name}_{index}": array[:, index] for index in range(array.shape[1])}
    if not columns:
        raise UserError(f"{path}: no one-dimensional numeric arrays to use as columns")
    if len({len(array) for array in columns.values()}) > 1:
        shown = ", ".join(f"{name} {len(array)}" for name, array in list(columns.items())[:6])
        raise UserError(f"{path}: columns of different lengths ({shown}): a table needs one value per event in each")
    rows = len(next(iter(columns.values())))

    def read(names: Sequence[str], rows_per_chunk: int) -> Iterator[Chunk]:
        for start in range(0, rows, rows_per_chunk):
            yield {name: as_column(columns[name][start : start + rows_per_chunk]) for name in names}

    return Table(
        path=path,
        format=_format_of(tuple(columns), "npz"),
        columns=tuple(columns),
        rows=rows,
        read=read,
        units=units,
    )


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except ValueError as error:
        raise UserError(
            f"{path}: holds pickled objects or damaged arrays, which are never loaded: save plain numeric arrays"
        ) from error
    # Damaged bytes raise whatever zipfile, zlib or the parser of array headers stumbles over.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{path}: cannot read this npz file ({reason}): the file is truncated or damaged") from error
