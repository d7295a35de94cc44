"""ROOT trees, through uproot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cathode.data.expressions import near_matches
from cathode.data.features import JET_COLUMNS
from cathode.data.readers.table import Chunk, Table, as_column, energy_unit
from cathode.support.errors import UserError, require

__all__ = ["open_root"]


def open_root(path: Path, inside: str | None = None) -> Table:
    """The flat numeric branches of a tree; jagged and object branches are left out.

    A string called ``units`` beside the tree declares the unit of energies.

    Args:
        path: The file.
        inside: Name of the tree, needed when the file has several.

    Raises:
        MissingExtraError: uproot is not installed.
        UserError: Truncated or damaged, no tree, several trees, or no flat numeric branches.
    """
    uproot = require("uproot", "root")

    def damaged(error: Exception) -> UserError:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        return UserError(f"{path}: cannot read this ROOT file ({reason[:160]}): it may be truncated, copy it again")

    # uproot raises many kinds of errors on damaged bytes; all of them mean the same to the user.
    try:
        with uproot.open(path, handler=uproot.MemmapSource) as file:
            trees = [
                name for name, kind in file.classnames(recursive=True, cycle=False).items()
                if kind in ("TTree", "TNtuple", "TNtupleD", "ROOT::RNTuple")
            ]  # fmt: skip
            tree_name = _choose(path, trees, inside)
            tree = file[tree_name]
            rows = int(tree.num_entries)
            unit = energy_unit(str(file["units"])) if "units" in file else None
            columns = tuple(name for name in tree.keys(recursive=False) if _is_flat(tree, name))
            for name in columns:
                # With a damaged count uproot would walk through billions of entries that are not there.
                if getattr(tree[name], "num_entries", rows) != rows:
                    raise ValueError(f"the tree has {rows} entries, its branch {name!r} {tree[name].num_entries}")
    except UserError:
        raise
    except Exception as error:
        raise damaged(error) from error
    if not columns:
        raise UserError(f"{path}: the tree {tree_name!r} has no flat numeric branches")

    def read(names: Sequence[str], rows_per_chunk: int) -> Iterator[Chunk]:
        try:
            with uproot.open(path, handler=uproot.MemmapSource) as file:
                for block in file[tree_name].iterate(list(names), step_size=rows_per_chunk, library="np"):
                    yield {name: as_column(block[name]) for name in names}
        except Exception as error:
            raise damaged(error) from error

    is_lhco = set(JET_COLUMNS).issubset(columns)
    return Table(
        path=path,
        format="lhco-features" if is_lhco else "root",
        columns=columns,
        rows=rows,
        read=read,
        units={} if unit is None else {"*": unit},
        notes=(f"tree {tree_name}",),
    )


def _choose(path: Path, trees: list[str], inside: str | None) -> str:
    if not trees:
        raise UserError(f"{path}: no trees in this ROOT file")
    if inside is not None:
        if inside not in trees:
            raise UserError(f"{path}: no tree {inside!r}{near_matches(inside, trees)}")
        return inside
    if len(trees) > 1:
        raise UserError(f"{path}: holds several trees ({', '.join(trees)}): choose one as '{path}:{trees[0]}'")
    return trees[0]


def _is_flat(tree: Any, name: str) -> bool:
    kind = getattr(tree[name], "typename", "")
    return kind in {
        "bool", "char", "unsigned char", "short", "unsigned short", "int", "unsigned int", "long", "unsigned long",
        "float", "double", "int8_t", "uint8_t", "int16_t", "uint16_t", "int32_t", "uint32_t", "int64_t", "uint64_t",
        "std::int8_t", "std::uint8_t", "std::int16_t", "std::uint16_t", "std::int32_t", "std::uint32_t",
        "std::int64_t", "std::uint64_t",
    }  # fmt: skip
