"""What every reader returns: an open file as a table of named numeric columns, read in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cathode.data.expressions import near_matches
from cathode.support.errors import UserError

__all__ = ["CHUNK_ROWS", "ENERGY_UNITS", "Chunk", "Table", "as_column", "energy_unit", "split_location"]

#: Rows read at once: a few MB per ten columns.
CHUNK_ROWS = 65_536

#: Size of an energy unit in TeV.
ENERGY_UNITS: Mapping[str, float] = {"MeV": 1e-6, "GeV": 1e-3, "TeV": 1.0}

#: Columns of some rows: int64 where the file has whole numbers (ids can exceed what float64 holds), else float64.
Chunk = dict[str, NDArray[Any]]


def as_column(values: Any) -> NDArray[Any]:
    """A numeric array as int64 or float64."""
    array = np.asarray(values)
    return array.astype(np.int64 if array.dtype.kind in "iub" else np.float64)


def energy_unit(text: str) -> str | None:
    """``MeV``, ``GeV`` or ``TeV`` as written by anybody (``"gev"``, ``"GeV/c^2"``), else ``None``."""
    word = text.strip().lower().split("/")[0]
    return {unit.lower(): unit for unit in ENERGY_UNITS}.get(word)


def split_location(path: str | Path) -> tuple[Path, str | None]:
    """``file.root:events`` names a tree or group inside a file; a file whose name has a colon keeps it."""
    text = str(path)
    if not Path(text).exists() and ":" in text:
        file, _, inside = text.rpartition(":")
        if file and inside and Path(file).exists():
            return Path(file), inside.strip("/")
    return Path(text), None


@dataclass(frozen=True)
class Table:
    """Columns of a file. Nothing is read before :meth:`chunks` is iterated.

    Attributes:
        path: The file.
        format: What it is, in a word or two, for humans and for decisions (``lhco-features``, ``hdf5``, ``csv``, ...).
        columns: Names of its numeric columns.
        rows: Number of rows, where the format tells without reading everything.
        units: Energy unit of columns that declare one (``GeV``), by column; ``"*"`` is for all others.
        read: ``read(columns, rows_per_chunk)`` yields chunks of those columns in file order.
        notes: Remarks for ``describe_file``.
    """

    path: Path
    format: str
    columns: tuple[str, ...]
    rows: int | None
    read: Callable[[Sequence[str], int], Iterator[Chunk]]
    units: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def chunks(self, columns: Sequence[str], *, rows_per_chunk: int = CHUNK_ROWS) -> Iterator[Chunk]:
        """Chunks of these columns.

        Raises:
            UserError: A column that is not in the file (near matches are listed), or damage met while reading.
        """
        for name in columns:
            if name not in self.columns:
                raise UserError(f"{self.path}: no column {name!r}{near_matches(name, self.columns)}")
        return self.read(columns, rows_per_chunk)
