"""From files to :class:`~cathode.data.events.Events`, and to truth, apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cathode.data.events import RESERVED_NAMES, Events, is_label_name
from cathode.data.expressions import Expression, column_expression, near_matches, parse_expression, split_definition
from cathode.data.features import (
    DEFAULT_FEATURES,
    DIJET_FEATURES,
    JET_COLUMNS,
    available_dijet_features,
    dijet_features,
)
from cathode.data.injection import Truth
from cathode.data.readers.raw import iterate_raw
from cathode.data.readers.sniff import open_table
from cathode.data.readers.table import CHUNK_ROWS, ENERGY_UNITS, Chunk, Table, energy_unit
from cathode.data.readers.text import read_label_list
from cathode.data.samples import resolve_sample
from cathode.support.errors import UserError

__all__ = ["ENERGY_COLUMNS", "ROW_NUMBERS", "Paths", "Units", "read_events", "read_truth", "to_tev"]

#: ``event_id`` that numbers the rows whatever columns there are.
ROW_NUMBERS = "row"

Paths = str | Path | Sequence[str | Path]
Units = str | Mapping[str, str]

#: Columns that are energies in any file, by name: ``units="GeV"`` applies to them and to the mass.
ENERGY_COLUMNS = frozenset(
    {*JET_COLUMNS, "mass", "m_jj"} | {name for name, feature in DIJET_FEATURES.items() if feature.unit == "TeV"}
)


def read_events(
    path: Paths,
    *,
    mass: str = "mjj",
    features: Sequence[str] | None = None,
    units: Units = "auto",
    weight: str | None = None,
    event_id: str | None = None,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
    allow_constant: bool = False,
    rows_per_chunk: int = CHUNK_ROWS,
) -> Events:
    """Read events from one file or several, of any known format, in chunks.

    Names in ``mass``, ``features`` and ``weight`` are, in this order: the ``columns`` given here, derived dijet
    features (:data:`~cathode.data.features.DIJET_FEATURES`, if the file has both jets' momenta and masses, as LHC
    Olympics files do), and the file's own columns. Each may also be an expression of them (``log(mj1 / mjj)``) or a
    definition (``ratio = mj1 / mjj``).

    Energies become TeV. Which columns are energies is known from their names (:data:`ENERGY_COLUMNS`) and from units
    that the file declares; the mass always is one. Other columns keep the unit they have.

    Args:
        path: A file, ``sample:NAME``, ``file.root:tree``, or several of these.
        mass: The resonant mass.
        features: The features; if not given, the four of the CATHODE paper for LHC Olympics files, else every numeric
            column that is neither mass, weight, id nor label.
        units: ``GeV``, ``TeV`` or ``MeV`` of the energies in the file; a mapping gives units of single columns (and
            ``"*"`` of the rest); ``auto`` takes what the file declares, GeV for the LHC Olympics layout, else TeV.
        weight: Column of event weights.
        event_id: Column of whole-number ids. If not given, the column ``event_id``, if the file has one, else row
            numbers, continued from file to file; ``"row"`` always numbers the rows.
        columns: Own names for columns or expressions of the file: ``{"mjj": "dijet_mass"}``.
        where: Expression of which rows to keep, those where it is not zero; it may use a truth column, to compose
            pseudo-data from simulation (``label == 0``).  Row numbers stay those of the file.
        allow_constant: Accept features that are the same in all events.
        rows_per_chunk: Rows held in memory at a time.

    Raises:
        UserError: A file that cannot be read, an unknown column, a label among the features, non-finite values, a
            constant feature, a mass that is plainly not in TeV.
    """
    paths = _path_list(path)
    features_of = list(features) if features is not None else None
    parts = []
    offset = 0
    for one in paths:
        table = open_table(one)
        plan = _Plan.make(table, mass, features_of, units, weight, event_id, columns or {}, where)
        features_of = plan.feature_texts
        part, offset = _read_one(table, plan, offset, rows_per_chunk)
        parts.append(part)
    events = parts[0] if len(parts) == 1 else Events.concatenate(parts)
    return events if allow_constant else events.require_varying()


def read_truth(
    path: Paths, column: str = "label", *, event_id: str | None = None, rows_per_chunk: int = CHUNK_ROWS
) -> Truth:
    """Read truth labels, which no function that reads events ever returns.

    Args:
        path: The files that the events were read from, in the same order, or label files made beside them: any known
            format, or plain text with one label per line (the black boxes' ``masterkey``).
        column: Column of labels: 0 is background, any other whole number is signal.
        event_id: As for :func:`read_events`, so that the ids agree.
        rows_per_chunk: Rows held in memory at a time.

    Raises:
        UserError: No such column, or values that are not whole numbers from 0.
    """
    ids, labels = [], []
    offset = 0
    for one in _path_list(path):
        file_labels, file_ids = _labels_of(one, column, event_id, rows_per_chunk)
        wrong = int((~np.isfinite(file_labels) | (file_labels < 0) | (file_labels != np.floor(file_labels))).sum())
        if wrong:
            raise UserError(f"{one}: {wrong} values of {column!r} are not labels (0 background, 1, 2, ... signal)")
        ids.append(np.arange(offset, offset + len(file_labels)) if file_ids is None else file_ids)
        labels.append(file_labels != 0)
        offset += len(file_labels)
    return Truth(event_id=np.concatenate(ids), is_signal=np.concatenate(labels))


def _path_list(path: Paths) -> list[str | Path]:
    paths = [path] if isinstance(path, str | Path) else list(path)
    if not paths:
        raise UserError("no files to read: give at least one path")
    return paths


def _labels_of(
    path: str | Path, column: str, event_id: str | None, rows_per_chunk: int
) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
    file = resolve_sample(path)
    if file.is_file() and (listed := read_label_list(file)) is not None:
        return listed, None
    table = open_table(path)
    if table.format == "lhco-raw" and column == "label":
        parts = [labels for _, labels in iterate_raw(file)]
        if not parts or parts[0] is None:
            raise UserError(f"{path}: this raw file has no labels (2100 columns); give its masterkey file as truth")
        return np.concatenate([part for part in parts if part is not None]).astype(np.float64), None
    id_column = _id_column(table, event_id)
    names = [column] if id_column is None else [column, id_column]
    chunks = list(table.chunks(names, rows_per_chunk=rows_per_chunk))
    labels = np.concatenate([chunk[column] for chunk in chunks]) if chunks else np.empty(0)
    if id_column is None:
        return labels, None
    return labels, np.concatenate([chunk[id_column] for chunk in chunks]).astype(np.int64)


def _id_column(table: Table, event_id: str | None) -> str | None:
    """The column of ids, or ``None`` to number the rows."""
    if event_id is None:
        return "event_id" if "event_id" in table.columns else None
    if event_id == ROW_NUMBERS:
        return None
    if event_id not in table.columns:
        raise UserError(f"{table.path}: no column {event_id!r}{near_matches(event_id, table.columns)}")
    return event_id


@dataclass(frozen=True)
class _Source:
    """How one output column is made from the chunk of file columns."""

    text: str
    expression: Expression
    needs: frozenset[str]
    rescale: float


@dataclass(frozen=True)
class _Plan:
    """What to read from one file and what to make of it."""

    mass: _Source
    features: dict[str, _Source]
    feature_texts: list[str]
    weight: _Source | None
    where: _Source | None
    event_id: str | None
    aliases: dict[str, Expression]
    derived: tuple[str, ...]
    scales: dict[str, float]

    @staticmethod
    def make(
        table: Table,
        mass: str,
        features: list[str] | None,
        units: Units,
        weight: str | None,
        event_id: str | None,
        columns: Mapping[str, str],
        where: str | None,
    ) -> _Plan:
        if table.format == "lhco-raw":
            raise UserError(
                f"{table.path}: has raw particles, not features: cluster its jets first (see cathode.jets), "
                "or use the LHC Olympics features file"
            )
        aliases = {name: parse_expression(text) for name, text in columns.items()}
        derived = available_dijet_features(table.columns)
        names = _Names(table, aliases, derived, to_tev(table, units))
        if mass == "mjj" and "mjj" not in names.known and "mass" in names.known:
            mass = "mass"
        # A column that serves as the mass, or is given the name of an energy, is an energy wherever it is used.
        for name, text in {**columns, mass: columns.get(mass, mass)}.items():
            if text in table.columns and text not in derived and (name == mass or name in ENERGY_COLUMNS):
                names.scales.setdefault(text, ENERGY_UNITS[_default_unit(table, units)])
        if features is None:
            features = _default_features(table, derived, mass, weight, event_id)
        sources: dict[str, _Source] = {}
        for text in features:
            name, expression = split_definition(text)
            if is_label_name(name):
                raise UserError(
                    f"{name!r} looks like a truth label and cannot be a feature: a search that sees it finds what it "
                    "was told; remove it from the features and give it to the evaluation as truth"
                )
            if name in sources:
                raise UserError(f"feature {name!r} is listed more than once: list every feature once")
            sources[name] = names.source(expression)
        return _Plan(
            mass=names.source(split_definition(mass)[1], unit=_default_unit(table, units)),
            features=sources,
            feature_texts=features,
            weight=None if weight is None else names.source(weight),
            where=None if where is None else names.source(where, labels=True),
            event_id=_id_column(table, event_id),
            aliases=aliases,
            derived=derived,
            scales=names.scales,
        )

    def file_columns(self) -> list[str]:
        """Columns of the file that have to be read."""
        sources = [self.mass, *self.features.values(), *(s for s in (self.weight, self.where) if s is not None)]
        needed = frozenset().union(*(source.needs for source in sources))
        return sorted(needed | ({self.event_id} if self.event_id else set()))


class _Names:
    """Looks up what a name means: an alias, a derived feature or a column of the file."""

    def __init__(
        self, table: Table, aliases: dict[str, Expression], derived: tuple[str, ...], scales: dict[str, float]
    ) -> None:
        self.table = table
        self.aliases = aliases
        self.derived = derived
        self.scales = scales
        self.known = list(dict.fromkeys([*aliases, *derived, *table.columns]))

    def source(self, text: str, *, unit: str | None = None, labels: bool = False) -> _Source:
        """How to make ``text``; with ``unit`` the whole is in that unit unless its parts have been converted."""
        if text in self.table.columns and not text.isidentifier():
            expression = column_expression(text)
        else:
            expression = parse_expression(text)
        needs: set[str] = set()
        converted = False
        for name in expression.names:
            found, energies = self._needs(name, text, depth=0)
            needs |= found
            converted |= energies
        for name in needs | expression.names:
            if is_label_name(name) and not labels:
                raise UserError(
                    f"{text!r} uses {name!r}, which looks like a truth label: a search that sees it finds what it was "
                    "told; leave it to the evaluation"
                )
        rescale = 1.0 if unit is None or converted else ENERGY_UNITS[unit]
        return _Source(text, expression, frozenset(needs), rescale)

    def _needs(self, name: str, text: str, depth: int) -> tuple[set[str], bool]:
        if name in self.aliases and depth == 0:
            needs: set[str] = set()
            converted = False
            for inner in self.aliases[name].names:
                found, energies = self._needs(inner, self.aliases[name].text, depth=1)
                needs |= found
                converted |= energies
            return needs, converted
        if name in self.derived:
            return set(DIJET_FEATURES[name].needs), True
        if name in self.table.columns:
            return {name}, name in self.scales
        where = f" in {text!r}" if text != name else ""
        raise UserError(f"{self.table.path}: no column {name!r}{where}{near_matches(name, self.known)}")


def _default_features(
    table: Table, derived: tuple[str, ...], mass: str, weight: str | None, event_id: str | None
) -> list[str]:
    if set(DEFAULT_FEATURES).issubset(derived):
        return list(DEFAULT_FEATURES)
    left_out = {mass, weight, event_id, *RESERVED_NAMES}
    return [name for name in table.columns if name not in left_out and not is_label_name(name)]


def _unit(text: str) -> str:
    unit = energy_unit(text)
    if unit is None:
        raise UserError(f"unknown unit {text!r}: energies are in GeV, TeV or MeV (or units: auto)")
    return unit


def _default_unit(table: Table, units: Units) -> str:
    """The unit of energies that have no unit of their own."""
    if isinstance(units, Mapping):
        if "*" in units:
            return _unit(units["*"])
    elif units != "auto":
        return _unit(units)
    if "*" in table.units:
        return table.units["*"]
    return "GeV" if table.format == "lhco-features" else "TeV"


def to_tev(table: Table, units: Units) -> dict[str, float]:
    """Factor to TeV of every column of the file that is known to be an energy with a known unit."""
    default = _default_unit(table, units)
    explicit = isinstance(units, str) and units != "auto"
    chosen: dict[str, str] = {name: default for name in table.columns if name in ENERGY_COLUMNS}
    if not explicit:
        chosen |= {name: unit for name, unit in table.units.items() if name in table.columns}
    if isinstance(units, Mapping):
        for name in units:
            if name != "*" and name not in table.columns:
                raise UserError(
                    f"{table.path}: units given for {name!r}, no such column{near_matches(name, table.columns)}"
                )
        chosen |= {name: _unit(unit) for name, unit in units.items() if name != "*"}
    return {name: ENERGY_UNITS[unit] for name, unit in chosen.items()}


def _read_one(table: Table, plan: _Plan, offset: int, rows_per_chunk: int) -> tuple[Events, int]:
    """The events of a file whose first row has the number ``offset``, and the number after its last row."""
    masses, features, weights, ids = [], [], [], []
    start = offset
    for chunk in table.chunks(plan.file_columns(), rows_per_chunk=rows_per_chunk):
        rows = len(next(iter(chunk.values())))
        values = _Values(chunk, plan)
        keep = slice(None) if plan.where is None else values.of(plan.where, rows) != 0
        masses.append(values.of(plan.mass, rows)[keep])
        made = [values.of(source, rows)[keep] for source in plan.features.values()]
        features.append(np.stack(made, axis=1) if made else np.empty((len(masses[-1]), 0)))
        if plan.weight is not None:
            weights.append(values.of(plan.weight, rows)[keep])
        ids.append((np.arange(start, start + rows) if plan.event_id is None else chunk[plan.event_id])[keep])
        start += rows
    if not masses:
        raise UserError(f"{table.path}: there are no events in this file")
    mass = np.concatenate(masses)
    try:
        events = Events(
            features=np.concatenate(features),
            names=tuple(plan.features),
            mass=mass,
            event_id=np.concatenate(ids),
            weight=np.concatenate(weights) if weights else None,
        )
    except UserError as error:
        raise UserError(f"{table.path}: {error}") from error
    return events, start


class _Values:
    """Values of one chunk, converted to TeV, with aliases and derived features made when first needed."""

    def __init__(self, chunk: Chunk, plan: _Plan) -> None:
        self.chunk = chunk
        self.plan = plan
        self.in_gev: dict[str, NDArray[np.float64]] = {}

    def of(self, source: _Source, rows: int) -> NDArray[np.float64]:
        # Damaged files hold NaN that signal when touched; they are counted once the events are together.
        with np.errstate(all="ignore"):
            columns = {name: self._named(name, rows, aliases=True) for name in source.expression.names}
            return source.expression(columns, rows=rows) * source.rescale

    def _named(self, name: str, rows: int, *, aliases: bool) -> NDArray[np.float64]:
        if aliases and name in self.plan.aliases:
            alias = self.plan.aliases[name]
            return alias({inner: self._named(inner, rows, aliases=False) for inner in alias.names}, rows=rows)
        if name in self.plan.derived:
            # The definitions are in GeV; the constant 1e-5 of the tau ratios makes that matter.
            needs = DIJET_FEATURES[name].needs
            for column in needs:
                if column not in self.in_gev:
                    self.in_gev[column] = self.chunk[column] * (1e3 * self.plan.scales.get(column, 1.0))
            return dijet_features(self.in_gev, [name])[name]
        return self.chunk[name] * self.plan.scales.get(name, 1.0)
