"""Events to files, and one format to another. Files appear whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cathode.data.events import Events
from cathode.data.features import LABEL_COLUMN, LHCO_COLUMNS, available_dijet_features
from cathode.data.injection import Truth
from cathode.data.lhco import write_lhco_features
from cathode.data.readers.read import ENERGY_COLUMNS, Units, read_events, read_truth, to_tev
from cathode.data.readers.sniff import open_table
from cathode.support.errors import UserError, require
from cathode.support.files import atomic_write

__all__ = ["FORMATS", "Conversion", "convert", "write_columns", "write_events", "write_truth"]

Columns = Mapping[str, NDArray[Any]]

#: Format by suffix.
FORMATS = {
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".npz": "npz",
    ".root": "root",
}


def write_events(events: Events, path: str | Path) -> None:
    """Write events as columns ``event_id``, ``mass`` [TeV], the features and, if there are weights, ``weight``.

    The suffix chooses the format (:data:`FORMATS`). HDF5 has one dataset per column with a ``units`` attribute, ROOT a
    tree ``events``. :func:`~cathode.data.readers.read_events` reads all of them back to the same events (CSV and ROOT
    included, bit for bit).

    Raises:
        UserError: Unknown suffix, or the file cannot be written.
        MissingExtraError: ROOT without uproot.
    """
    columns: dict[str, NDArray[Any]] = {"event_id": events.event_id, "mass": events.mass}
    columns |= {name: events.features[:, index] for index, name in enumerate(events.names)}
    if events.weight is not None:
        columns["weight"] = events.weight
    energies = [name for name in columns if name in ENERGY_COLUMNS]
    write_columns(columns, path, units=dict.fromkeys(energies, "TeV"))


def write_truth(truth: Truth, path: str | Path) -> None:
    """Write truth as columns ``event_id`` and ``label`` (1 is signal), for :func:`~cathode.data.readers.read_truth`."""
    write_columns({"event_id": truth.event_id, LABEL_COLUMN: truth.is_signal.astype(np.int64)}, path)


def write_columns(
    columns: Columns, path: str | Path, *, units: Mapping[str, str] | None = None, tree: str = "events"
) -> None:
    """Write named columns of equal length in the format of the suffix.

    Args:
        columns: Values ``(N,)`` by name.
        path: File to write.
        units: Energy unit by column. CSV and ROOT have room for one unit for all energies.
        tree: Name of the tree in a ROOT file.

    Raises:
        UserError: Unknown suffix, columns of different lengths, several units where there is room for one, or the file
            cannot be written.
    """
    path = Path(path)
    units = units or {}
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"cannot write {path}: the suffix must be one of {', '.join(FORMATS)}")
    if len({len(values) for values in columns.values()}) > 1:
        raise UserError(f"cannot write {path}: the columns have different lengths")
    kind = FORMATS[path.suffix.lower()]
    if kind in ("csv", "root") and len(set(units.values())) > 1:
        raise UserError(f"cannot write {path}: {kind} files hold one unit for all energies; convert to one unit first")
    with atomic_write(path) as temporary:
        if kind == "hdf5":
            _write_hdf5(columns, temporary, units)
        elif kind == "parquet":
            _write_parquet(columns, temporary, units)
        elif kind == "csv":
            _write_csv(columns, temporary, units)
        elif kind == "npz":
            _write_npz(columns, temporary, units)
        else:
            _write_root(columns, temporary, units, tree)


def _write_hdf5(columns: Columns, path: Path, units: Mapping[str, str]) -> None:
    import h5py

    with h5py.File(path, "w", track_order=True) as file:
        file.attrs["format"] = "cathode-events"
        for name, values in columns.items():
            packed = {"compression": "gzip", "compression_opts": 4, "shuffle": True} if len(values) else {}
            dataset = file.create_dataset(name, data=values, **packed)
            if name in units:
                dataset.attrs["units"] = units[name]


def _write_parquet(columns: Columns, path: Path, units: Mapping[str, str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: np.ascontiguousarray(values) for name, values in columns.items()})
    table = table.replace_schema_metadata({"format": "cathode-events", "units": json.dumps(dict(units))})
    pq.write_table(table, path, compression="zstd")


def _write_csv(columns: Columns, path: Path, units: Mapping[str, str]) -> None:
    import pandas as pd

    with path.open("w", encoding="utf-8", newline="") as stream:
        if units:
            stream.write(f"# units: {next(iter(units.values()))}\n")
        # pandas writes the shortest decimal that reads back to the same float64.
        pd.DataFrame(dict(columns)).to_csv(stream, index=False)


def _write_npz(columns: Columns, path: Path, units: Mapping[str, str]) -> None:
    with path.open("wb") as stream:
        np.savez_compressed(stream, __units__=np.array(json.dumps(dict(units))), **dict(columns))  # type: ignore[arg-type]


def _write_root(columns: Columns, path: Path, units: Mapping[str, str], tree: str) -> None:
    uproot = require("uproot", "root")
    with uproot.recreate(path) as file:
        if units:
            file["units"] = next(iter(units.values()))
        arrays = {name: np.ascontiguousarray(values) for name, values in columns.items()}
        file.mktree(tree, {name: values.dtype for name, values in arrays.items()})
        file[tree].extend(arrays)


@dataclass(frozen=True)
class Conversion:
    """What a conversion wrote.

    Attributes:
        output: The file.
        rows: Events in it.
        columns: Its columns.
        truth: File of truth labels, if one was written.
    """

    output: Path
    rows: int
    columns: tuple[str, ...]
    truth: Path | None = None

    def __str__(self) -> str:
        text = f"{self.output}: {self.rows} events, columns {', '.join(self.columns)}"
        return text if self.truth is None else f"{text}; truth in {self.truth}"


def convert(
    path: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    mass: str = "mjj",
    features: Sequence[str] | None = None,
    units: Units = "auto",
    weight: str | None = None,
    event_id: str | None = None,
    columns: Mapping[str, str] | None = None,
    layout: str = "events",
    truth: str | Path | None = None,
) -> Conversion:
    """Read events in any known format and write them in another.

    Args:
        path: Input, as for :func:`~cathode.data.readers.read_events`, whose other arguments these are too.
        output: File to write; its suffix chooses the format.
        mass: See ``read_events``.
        features: Columns or expressions to write; every derived dijet feature or numeric column if not given.
        units: See ``read_events``.
        weight: Column of weights; the column ``weight``, if there is one, if not given.
        event_id: See ``read_events``.
        columns: See ``read_events``.
        layout: ``events`` for named columns in TeV, or ``lhco`` for the LHC Olympics features file (GeV, with the label
            column if the input has one).
        truth: Write the input's ``label`` column there, apart from the events.

    Raises:
        UserError: Unreadable input, unknown layout or suffix, missing columns, or an output that is also an input.
    """
    inputs = [path] if isinstance(path, str | Path) else list(path)
    output = Path(output)
    if any(Path(str(one)).exists() and output.exists() and output.samefile(str(one)) for one in inputs):
        raise UserError(f"{output} is also the input: write to another file")
    if layout == "lhco":
        return _convert_to_lhco(inputs, output, units)
    if layout != "events":
        raise UserError(f"unknown layout {layout!r}: choose events or lhco")
    if output.suffix.lower() not in FORMATS:
        raise UserError(f"cannot write {output}: the suffix must be one of {', '.join(FORMATS)}")
    table = open_table(inputs[0])
    if features is None and (derived := available_dijet_features(table.columns)):
        features = [name for name in derived if name != mass]
    if weight is None and "weight" in table.columns:
        weight = "weight"
    events = read_events(
        inputs,
        mass=mass,
        features=features,
        units=units,
        weight=weight,
        event_id=event_id,
        columns=columns,
        allow_constant=True,
    )
    labels = None if truth is None else read_truth(inputs, event_id=event_id)
    write_events(events, output)
    if labels is not None and truth is not None:
        write_truth(labels, truth)
    written = ("event_id", "mass", *events.names, *(["weight"] if events.weight is not None else []))
    return Conversion(output, len(events), written, None if truth is None else Path(truth))


def _convert_to_lhco(inputs: Sequence[str | Path], output: Path, units: Units) -> Conversion:
    if output.suffix.lower() not in (".h5", ".hdf5"):
        raise UserError(f"cannot write {output}: the LHC Olympics layout is an HDF5 file, its suffix must be .h5")
    parts: dict[str, list[NDArray[Any]]] = {}
    for one in inputs:
        table = open_table(one)
        names = [name for name in LHCO_COLUMNS if name != LABEL_COLUMN or name in table.columns]
        scales = to_tev(table, units)
        for chunk in table.chunks(names):
            for name, values in chunk.items():
                parts.setdefault(name, []).append(values * (1e3 * scales[name] if name in scales else 1.0))
    if len({len(chunks) for chunks in parts.values()}) > 1:
        raise UserError(f"cannot write {output}: only some of the inputs have a label column")
    frame = {name: np.concatenate(chunks) for name, chunks in parts.items()}
    write_lhco_features(frame, output)
    return Conversion(output, len(next(iter(frame.values()))), tuple(frame))
