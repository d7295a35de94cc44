"""Text tables: CSV and its relatives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cathode.data.features import JET_COLUMNS
from cathode.data.readers.table import Chunk, Table, as_column, energy_unit
from cathode.support.errors import UserError

__all__ = ["open_text", "read_label_list"]

_SEPARATORS = (",", ";", "\t")
_UNITS = re.compile(r"units\s*[:=]\s*(\w+)", re.IGNORECASE)


def _header(path: Path) -> tuple[list[str], str, str | None]:
    """Column names and separator from the first line that is not a comment; the unit of a comment ``# units: GeV``."""
    unit = None
    first = None
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for line in stream:
                if line.startswith("#"):
                    unit = energy_unit(declared[1]) if (declared := _UNITS.search(line)) else unit
                elif line.strip():
                    first = line.rstrip("\r\n")
                    break
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: neither a known binary format nor UTF-8 text") from error
    if first is None:
        raise UserError(f"{path}: the file is empty")
    separator = next((mark for mark in _SEPARATORS if mark in first), r"\s+")
    names = [name.strip().strip("\"'") for name in re.split(separator, first.strip())]
    if all(_is_number(name) for name in names):
        raise UserError(f"{path}: the first line has numbers instead of column names: add a header line")
    if len(set(names)) != len(names):
        raise UserError(f"{path}: a column name occurs twice in the header: make the names distinct")
    return names, separator, unit


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def open_text(path: Path) -> Table:
    """A text table with a header line, separated by comma, semicolon, tab or spaces; ``#`` starts a comment, and a
    comment ``# units: GeV`` before the header declares the unit of energies.

    Empty fields are NaN, so that they are counted rather than filled.

    Raises:
        UserError: No header, no columns of numbers, or lines of different lengths.
    """
    import pandas as pd

    names, separator, unit = _header(path)
    options: dict[str, Any] = {"sep": separator, "comment": "#", "skipinitialspace": True, "encoding": "utf-8-sig"}

    def damaged(error: Exception) -> UserError:
        return UserError(f"{path}: cannot read this text table ({str(error).strip()[:160]}): mend or remove that line")

    try:
        beginning = pd.read_csv(path, nrows=200, **options)
    except (pd.errors.ParserError, ValueError) as error:
        raise damaged(error) from error
    # A column of words is left out; a column with one broken number in a million is met, and named, while reading.
    columns = tuple(
        name
        for name, header in zip(names, beginning.columns, strict=False)
        if pd.to_numeric(beginning[header], errors="coerce").notna().any() or beginning[header].isna().all()
    )
    if len(beginning.columns) != len(names) or not columns or not len(beginning):
        raise UserError(f"{path}: no columns of numbers under a header line: is this a text table?")

    def read(wanted: Sequence[str], rows_per_chunk: int) -> Iterator[Chunk]:
        try:
            with pd.read_csv(
                path, names=names, header=0, usecols=list(wanted), chunksize=rows_per_chunk, low_memory=False, **options
            ) as chunks:
                for frame in chunks:
                    yield {name: _numbers(frame[name], name, path) for name in wanted}
        except (pd.errors.ParserError, UnicodeDecodeError) as error:
            raise damaged(error) from error

    is_lhco = set(JET_COLUMNS).issubset(columns)
    return Table(path, "lhco-features" if is_lhco else "csv", columns, None, read, {} if unit is None else {"*": unit})


def _numbers(series: Any, name: str, path: Path) -> np.ndarray:
    try:
        return as_column(series if series.dtype.kind in "iub" else series.to_numpy(dtype=np.float64))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path}: column {name!r} has a value that is not a number ({error}): mend that line"
        ) from error


def read_label_list(path: Path) -> np.ndarray | None:
    """Labels of a file with one whole number per line and no header (the black boxes' ``masterkey``), else ``None``."""
    try:
        with path.open(encoding="utf-8") as stream:
            if re.fullmatch(r"\s*\d+(\.0*)?\s*", stream.readline()) is None:
                return None
            stream.seek(0)
            return np.loadtxt(stream, dtype=np.float64, ndmin=1)
    except (UnicodeDecodeError, ValueError):
        return None
