"""What is in a file: format, rows, columns, ranges, missing values, a guess at the units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cathode.data.events import is_label_name
from cathode.data.features import DIJET_FEATURES, available_dijet_features, dijet_features
from cathode.data.readers.raw import PARTICLES, iterate_raw, raw_shape
from cathode.data.readers.read import ENERGY_COLUMNS, to_tev
from cathode.data.readers.sniff import open_table
from cathode.data.readers.table import Table

__all__ = ["ColumnSummary", "FileDescription", "describe_file"]

# A mean above this cannot be TeV, one below cannot be GeV, for the masses and momenta of a collider search.
_GEV_FROM = 20.0
_RAW_EVENTS = 5000


@dataclass(frozen=True)
class ColumnSummary:
    """One column.

    Attributes:
        name: Its name.
        minimum: Smallest finite value (NaN if there is none), in the file's unit; derived ones in their own.
        maximum: Largest finite value.
        mean: Mean of the finite values.
        nan: Number of NaN.
        infinite: Number of infinite values.
        unit: Declared or conventional unit, or empty.
        derived: Whether it is not in the file but made from it.
    """

    name: str
    minimum: float
    maximum: float
    mean: float
    nan: int
    infinite: int
    unit: str = ""
    derived: bool = False


@dataclass(frozen=True)
class FileDescription:
    """What :func:`describe_file` found.

    Attributes:
        path: The file.
        format: ``lhco-features``, ``lhco-raw``, ``pandas-fixed``, ``pandas-table``, ``hdf5``, ``parquet``, ``npz``,
            ``root`` or ``csv``.
        size_bytes: Size on disk.
        rows: Number of events.
        columns: Columns of the file, then derived ones.
        units: Unit of energies (``GeV``, ``TeV``, ``MeV``) or ``unknown``.
        units_reason: Where ``units`` is from.
        notes: Further remarks.
    """

    path: Path
    format: str
    size_bytes: int
    rows: int
    columns: tuple[ColumnSummary, ...]
    units: str
    units_reason: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"{self.path}",
            f"format   {self.format}, {self.size_bytes / 1e6:.2f} MB",
            f"events   {self.rows}",
            f"energies {self.units} ({self.units_reason})",
            "",
        ]
        width = max([6, *(len(column.name) for column in self.columns)])
        lines.append(f"{'column':<{width}}  {'minimum':>12}  {'mean':>12}  {'maximum':>12}  unit  remarks")
        for column in self.columns:
            remarks = [f"{column.nan} NaN"] if column.nan else []
            remarks += [f"{column.infinite} infinite"] if column.infinite else []
            remarks += ["constant"] if column.minimum == column.maximum and self.rows > 1 else []
            remarks += ["derived"] if column.derived else []
            remarks += ["truth label: never read as a feature"] if is_label_name(column.name) else []
            numbers = "  ".join(f"{value:>12.6g}" for value in (column.minimum, column.mean, column.maximum))
            lines.append(f"{column.name:<{width}}  {numbers}  {column.unit:<4}  {', '.join(remarks)}".rstrip())
        lines += ["", *self.notes] if self.notes else []
        return "\n".join(lines)


class _Running:
    """Range and mean of a column that arrives in pieces."""

    def __init__(self) -> None:
        self.minimum, self.maximum, self.total = math.inf, -math.inf, 0.0
        self.finite = self.nan = self.infinite = 0

    def add(self, values: NDArray[Any]) -> None:
        good = values[np.isfinite(values)]
        nan = int(np.isnan(values).sum())
        self.nan += nan
        self.infinite += len(values) - len(good) - nan
        if len(good):
            self.minimum = min(self.minimum, float(good.min()))
            self.maximum = max(self.maximum, float(good.max()))
            self.total += float(good.sum(dtype=np.float64))
            self.finite += len(good)

    def summary(self, name: str, unit: str, *, derived: bool = False) -> ColumnSummary:
        if not self.finite:
            return ColumnSummary(name, math.nan, math.nan, math.nan, self.nan, self.infinite, unit, derived)
        mean = self.total / self.finite
        return ColumnSummary(name, self.minimum, self.maximum, mean, self.nan, self.infinite, unit, derived)


def describe_file(path: str | Path) -> FileDescription:
    """Read a file through, in chunks, and describe it. Of raw LHC Olympics files only the first 5000 events are read.

    Raises:
        UserError: The file cannot be read; the message says why.
    """
    table = open_table(path)
    size = table.path.stat().st_size
    if table.format == "lhco-raw":
        return _describe_raw(table, size)
    running = {name: _Running() for name in table.columns}
    derived = available_dijet_features(table.columns)
    made = {name: _Running() for name in derived}
    scales = to_tev(table, "auto")
    rows = 0
    for chunk in table.chunks(table.columns):
        rows += len(next(iter(chunk.values())))
        # Columns are described as they are, whatever sums and formulas make of huge or infinite values in them.
        with np.errstate(all="ignore"):
            for name, values in chunk.items():
                running[name].add(values)
            in_gev = {name: values * (1e3 * scales.get(name, 1.0)) for name, values in chunk.items()} if derived else {}
            for name, values in dijet_features(in_gev, derived).items():
                made[name].add(values)
    units, reason = _guess_units(table, running)
    summaries = [running[name].summary(name, _unit_text(table, name, units)) for name in table.columns]
    summaries += [made[name].summary(name, DIJET_FEATURES[name].unit, derived=True) for name in derived]
    notes = list(table.notes)
    if derived and {"mj1", "mj2"} & set(table.columns):
        notes.append("as features, mj1 and mj2 mean the lighter and the heavier jet (the derived rows above)")
    return FileDescription(table.path, table.format, size, rows, tuple(summaries), units, reason, tuple(notes))


def _unit_text(table: Table, name: str, units: str) -> str:
    if name in table.units:
        return table.units[name]
    return units if name in ENERGY_COLUMNS and units != "unknown" else ""


def _guess_units(table: Table, running: dict[str, _Running]) -> tuple[str, str]:
    declared = set(table.units.values())
    if len(declared) == 1:
        return next(iter(declared)), "declared in the file"
    if declared:
        return "unknown", f"the file declares {' and '.join(sorted(declared))}, by column"
    if table.format == "lhco-features":
        return "GeV", "the LHC Olympics layout"
    for name in table.columns:
        is_mass = name in ENERGY_COLUMNS or "mass" in name.lower() or name.lower().startswith(("m_", "mjj", "pt"))
        if is_mass and running[name].finite:
            mean = running[name].total / running[name].finite
            return ("GeV" if mean > _GEV_FROM else "TeV"), f"a guess: {name} has mean {mean:.4g}"
    return "unknown", "no column that is known to be an energy"


def _describe_raw(table: Table, size: int) -> FileDescription:
    rows, width = raw_shape(table.path)
    running = {name: _Running() for name in ("pT", "eta", "phi")}
    particles = _Running()
    for block, _ in iterate_raw(table.path, chunk=500, stop=_RAW_EVENTS):
        present = block[:, :, 0] > 0
        particles.add(present.sum(axis=1))
        for index, name in enumerate(running):
            running[name].add(block[:, :, index][present])
    units = {"pT": "GeV"}
    summaries = [values.summary(name, units.get(name, "")) for name, values in running.items()]
    summaries.append(particles.summary("particles", "", derived=True))
    read = min(rows, _RAW_EVENTS)
    notes = [
        f"{PARTICLES} zero-padded, massless particles per event, not ordered; ranges of the first {read} events",
        "with a label column" if width > 3 * PARTICLES else "without labels",
        "cluster its jets to get features",
    ]
    return FileDescription(
        table.path, table.format, size, rows, tuple(summaries), "GeV", "the LHC Olympics layout", tuple(notes)
    )
