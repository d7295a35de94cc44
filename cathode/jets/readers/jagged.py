"""Jets of variable length: ROOT trees, Parquet files and awkward arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cathode.data.expressions import near_matches
from cathode.jets.readers.columns import GEV, jet_types, jets_from_columns, padded
from cathode.jets.readers.layouts import JaggedLayout
from cathode.jets.readers.source import JetSource
from cathode.jets.schema import Jets
from cathode.support.errors import UserError, require

__all__ = ["common_layout", "jets_from_awkward", "open_parquet_jets", "open_root_jets"]

# One value per constituent as (values, number in each jet); one per jet as values.
Ragged = tuple[NDArray[Any], NDArray[np.int64]]

# Names by which constituents go in files that follow no data set.
_PREFIXES = ("part_", "constituent_", "constituents_", "")


def common_layout(names: list[str]) -> JaggedLayout | None:
    """The layout of columns of variable length with usual names (``part_pt``, ``px`` ...), None if there are none."""
    known = {name.lower(): name for name in names}
    for prefix in _PREFIXES:
        for coordinates, spelled in (
            (("pt", "eta", "phi"), ("pt", "eta", "phi")),
            (("px", "py", "pz", "energy"), ("px", "py", "pz", "energy")),
            (("px", "py", "pz", "energy"), ("px", "py", "pz", "e")),
        ):
            found = [known.get(prefix + name) for name in spelled]
            if all(found):
                return JaggedLayout(columns=dict(zip(coordinates, map(str, found), strict=True)))
    return None


def jets_from_awkward(array: Any, layout: JaggedLayout) -> Jets:
    """Jets from an awkward array of records, one record per jet.

    Args:
        array: Fields as ``layout`` names them: lists of numbers, or ``list.field`` for lists of records.
        layout: Which field is what.

    Raises:
        UserError: A field is missing or is not what it should be.
        MissingExtraError: awkward is not installed.
    """
    ak = require("awkward", "jets")

    def column(name: str) -> Any:
        node = array
        for part in name.split("."):
            if part not in ak.fields(node):
                raise UserError(f"no field {name!r} in the array{near_matches(part, ak.fields(node))}")
            node = node[part]
        return node

    return _jets(
        {name: _ragged(ak, column(name), name) for name in layout.constituent_columns},
        {name: np.asarray(ak.to_numpy(column(name))) for name in layout.jet_columns},
        layout,
    )


def open_root_jets(path: Path, layout: JaggedLayout | None, *, format: str = "root") -> JetSource:
    """Jets in a tree, one entry per jet.

    Args:
        path: The file.
        layout: Which branch is what; common names are tried if not given.
        format: Name of the format.

    Raises:
        UserError: Damaged, no such tree or branches.
        MissingExtraError: uproot is not installed.
    """
    uproot = require("uproot", "root")
    ak = require("awkward", "root")

    # uproot raises many kinds of errors on damaged bytes; all of them mean the same to the user.
    def guarded(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except UserError:
            raise
        except Exception as error:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise UserError(
                f"{path}: cannot read this ROOT file ({reason[:160]}): it may be truncated, copy it again"
            ) from error

    def describe() -> tuple[str, int, list[str]]:
        with uproot.open(path, handler=uproot.MemmapSource) as file:
            kinds = file.classnames(recursive=True, cycle=False)
            trees = [name for name, kind in kinds.items() if kind in ("TTree", "ROOT::RNTuple")]
            wanted = None if layout is None else layout.tree
            if not trees:
                raise UserError(f"{path}: has no trees: it may be truncated, copy it again")
            if wanted is None and len(trees) != 1:
                raise UserError(f"{path}: has the trees {', '.join(trees)}: say which one in the layout")
            name = trees[0] if wanted is None else wanted
            if name not in trees:
                raise UserError(f"{path}: no tree {name!r}{near_matches(name, trees)}")
            return name, int(file[name].num_entries), [str(key) for key in file[name].keys(recursive=False)]

    tree, rows, branches = guarded(describe)
    found = common_layout(branches) if layout is None else layout
    if found is None:
        raise UserError(
            f"{path}: branches with usual names (pt, eta, phi or px, py, pz, energy) are not among"
            f" {', '.join(branches[:12])}: describe the file with a JaggedLayout"
        )
    _require(path, branches, found)

    def read(start: int, stop: int) -> Jets:
        def work() -> Jets:
            wanted = [*found.constituent_columns, *found.jet_columns]
            # Branches of records: a dot in the name of a branch comes before the dot of a field.
            names = list(dict.fromkeys(name if name in branches else name.split(".")[0] for name in wanted))
            with uproot.open(path, handler=uproot.MemmapSource) as file:
                arrays = file[tree].arrays(names, entry_start=start, entry_stop=stop, library="ak", how=dict)
            columns = {name: arrays[name] if name in arrays else _field(ak, arrays, name) for name in wanted}
            ragged = {name: _ragged(ak, columns[name], name) for name in found.constituent_columns}
            return _jets(ragged, {name: ak.to_numpy(columns[name]) for name in found.jet_columns}, found)

        return guarded(work)

    return JetSource(path, format, rows, read)


def open_parquet_jets(path: Path, layout: JaggedLayout | None, *, format: str = "parquet") -> JetSource:
    """Jets in a Parquet file, one row per jet, constituents in columns of lists.

    A row group is the smallest piece that is read; the last one stays in memory.

    Args:
        path: The file.
        layout: Which column is what; common names are tried if not given.
        format: Name of the format.

    Raises:
        UserError: Damaged, or no such columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    def damaged(error: Exception) -> UserError:
        return UserError(f"{path}: cannot read this Parquet file ({str(error).splitlines()[0][:120]}): copy it again")

    try:
        with pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
            ends = np.cumsum([metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)])
    except (pa.ArrowException, OSError) as error:
        raise damaged(error) from error
    rows = metadata.num_rows
    found = common_layout(list(schema.names)) if layout is None else layout
    if found is None:
        raise UserError(
            f"{path}: columns with usual names (pt, eta, phi or px, py, pz, energy) are not among"
            f" {', '.join(schema.names[:12])}: describe the file with a JaggedLayout"
        )
    columns = list(dict.fromkeys(name.split(".")[0] for name in [*found.constituent_columns, *found.jet_columns]))
    for name in columns:
        if name not in schema.names:
            raise UserError(f"{path}: no column {name!r}{near_matches(name, schema.names)}")
    kept: dict[int, Any] = {}

    def group(index: int) -> Any:
        if index not in kept:
            kept.clear()
            with pq.ParquetFile(path) as file:
                kept[index] = file.read_row_group(index, columns=columns)
        return kept[index]

    def read(start: int, stop: int) -> Jets:
        try:
            pieces = []
            for index, end in enumerate(ends):
                begin = int(ends[index - 1]) if index else 0
                if begin < stop and end > start:
                    low = max(start, begin) - begin
                    pieces.append(group(index).slice(low, min(stop, int(end)) - begin - low))
            table = pa.concat_tables(pieces) if pieces else schema.empty_table().select(columns)
        except (pa.ArrowException, OSError) as error:
            raise damaged(error) from error
        return _jets(
            {name: _arrow_ragged(pa, table, name) for name in found.constituent_columns},
            {name: _arrow_flat(table, name) for name in found.jet_columns},
            found,
        )

    return JetSource(path, format, rows, read)


def _require(path: Path, names: list[str], layout: JaggedLayout) -> None:
    for name in [*layout.constituent_columns, *layout.jet_columns]:
        if name not in names and ("." not in name or name.split(".")[0] not in names):
            raise UserError(f"{path}: no branch {name!r}{near_matches(name, names)}")


def _field(ak: Any, arrays: Any, name: str) -> Any:
    branch, _, inside = name.partition(".")
    if inside not in ak.fields(arrays[branch]):
        raise UserError(
            f"the records of {branch!r} have no field {inside!r}{near_matches(inside, ak.fields(arrays[branch]))}"
        )
    return arrays[branch][inside]


def _ragged(ak: Any, array: Any, name: str) -> Ragged:
    if array.ndim != 2 or ak.fields(array):
        raise UserError(f"{name!r} is not one list of numbers per jet, but {str(ak.type(array))[:80]}")
    return ak.to_numpy(ak.flatten(array)), ak.to_numpy(ak.num(array, axis=1)).astype(np.int64)


def _arrow_ragged(pa: Any, table: Any, name: str) -> Ragged:
    column, _, inside = name.partition(".")
    array = table.column(column).combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        raise UserError(f"{name!r} is not one list of numbers per jet, but {array.type}")
    counts = np.asarray(array.value_lengths().fill_null(0)).astype(np.int64)
    values = array.flatten()
    if inside:
        if not pa.types.is_struct(values.type) or values.type.get_field_index(inside) < 0:
            raise UserError(f"the records of {column!r} have no field {inside!r}: they are {values.type}")
        values = values.field(inside)
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_boolean(values.type)):
        raise UserError(f"{name!r} is not one list of numbers per jet, but lists of {values.type}")
    if values.null_count:
        raise UserError(f"{name!r} has {values.null_count} empty values inside its lists: fill or remove them")
    return values.to_numpy(zero_copy_only=False), counts


def _arrow_flat(table: Any, name: str) -> NDArray[Any]:
    column = table.column(name)
    if column.null_count:
        raise UserError(f"{name!r} has {column.null_count} empty values: fill or remove them")
    return column.to_numpy()


def _jets(ragged: Mapping[str, Ragged], flat: Mapping[str, NDArray[Any]], layout: JaggedLayout) -> Jets:
    counts = next(iter(ragged.values()))[1]
    for name, (_, other) in ragged.items():
        if not np.array_equal(other, counts):
            row = int((other != counts).argmax()) if other.shape == counts.shape else 0
            raise UserError(f"{name!r} and {next(iter(ragged))!r} have lists of different lengths (first: row {row})")
    width = int(counts.max(initial=0)) or 1
    columns = {name: padded(values, counts, width) for name, (values, _) in ragged.items()}
    extras = {
        name: _whole(columns[source], name) if name in layout.integers else columns[source]
        for name, source in layout.extras.items()
    }
    if layout.flags:
        extras["pid"] = _identity([columns[name] for name in layout.flags], layout.flags)
    types = None
    if layout.type is not None:
        names = (layout.type,) if isinstance(layout.type, str) else layout.type
        types = jet_types(flat[names[0]] if len(names) == 1 else np.stack([flat[name] for name in names], axis=1))
    return jets_from_columns(
        {name: columns[source] for name, source in layout.columns.items()},
        mask=np.arange(width) < counts[:, None],
        axis={name: flat[source] for name, source in layout.axis.items()} or None,
        extras=extras,
        types=types,
        scale=GEV[layout.units],
    )


def _whole(values: NDArray[Any], name: str) -> NDArray[np.int8]:
    if not np.array_equal(values, np.clip(np.rint(values), -128, 127)):
        raise UserError(f"column {name!r} has values that are no small whole numbers: is it the right column?")
    return values.astype(np.int8)


def _identity(flags: list[NDArray[Any]], names: tuple[str, ...]) -> NDArray[np.int8]:
    stacked = np.stack([values != 0 for values in flags])
    several = stacked.sum(axis=0) > 1
    if several.any():
        raise UserError(f"{int(several.sum())} constituents have more than one of {', '.join(names)}")
    return np.where(stacked.any(axis=0), stacked.argmax(axis=0) + 1, 0).astype(np.int8)
