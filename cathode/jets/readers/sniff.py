"""Which data set a file of jets belongs to, by what is inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cathode.data.expressions import near_matches
from cathode.data.readers.hdf5 import RAW_WIDTHS, open_h5
from cathode.data.readers.sniff import sniff
from cathode.jets.readers.jagged import open_parquet_jets, open_root_jets
from cathode.jets.readers.jetclass import JETCLASS2_LAYOUT, JETCLASS_LAYOUT
from cathode.jets.readers.jetnet import JETNET_LAYOUT, jetnet_type
from cathode.jets.readers.layouts import JaggedLayout, PaddedLayout
from cathode.jets.readers.padded import open_cathode_jets, open_constituents, open_padded
from cathode.jets.readers.raw import open_raw
from cathode.jets.readers.source import JetSource
from cathode.jets.readers.toptagging import is_top_tagging, open_top_tagging
from cathode.jets.samples import resolve_sample
from cathode.jets.writers import JETS_FORMAT
from cathode.support.errors import UserError, require

__all__ = ["FORMATS", "Layout", "open_source"]

Layout = PaddedLayout | JaggedLayout

#: Formats by name: what kind of file each one is in.
FORMATS = {
    "cathode-jets": "hdf5",
    "constituents": "hdf5",
    "lhco-raw": "hdf5",
    "jetnet": "hdf5",
    "top-tagging": "hdf5",
    "padded": "hdf5",
    "jetclass": "root",
    "root": "root",
    "jetclass2": "parquet",
    "parquet": "parquet",
}


def open_source(
    path: str | Path, *, format: str = "auto", layout: Layout | None = None, radius: float = 1.0
) -> JetSource:
    """Open a file of jets.

    Args:
        path: A file, or ``sample:NAME``.
        format: One of :data:`FORMATS`, or ``auto`` to look inside.
        layout: What is what in a file of its own kind: a :class:`PaddedLayout` for HDF5, a :class:`JaggedLayout` for
            ROOT and Parquet.
        radius: Jet radius, for files of particles that are clustered.

    Raises:
        UserError: No such file, or one that is no file of jets.
    """
    file = resolve_sample(path)
    if format != "auto" and format not in FORMATS:
        raise UserError(f"no format {format!r} of jets{near_matches(format, FORMATS)}; auto looks inside the file")
    kind = sniff(file)
    if kind not in ("hdf5", "root", "parquet"):
        raise UserError(f"{file}: jets are read from HDF5, ROOT and Parquet files, this is {kind}: convert it first")
    if format != "auto" and FORMATS[format] != kind:
        raise UserError(f"{file}: is a {kind} file, but {format} files are {FORMATS[format]}: use format auto")
    if layout is not None and isinstance(layout, PaddedLayout) != (kind == "hdf5"):
        needed = "PaddedLayout" if kind == "hdf5" else "JaggedLayout"
        raise UserError(f"{file}: the layout of a {kind} file is a {needed}")
    if kind == "hdf5":
        return _open_hdf5(file, format, layout if isinstance(layout, PaddedLayout) else None, radius)
    jagged = layout if isinstance(layout, JaggedLayout) else None
    if kind == "root":
        if jagged is None and (format == "jetclass" or (format == "auto" and _has_jetclass_tree(file))):
            return open_root_jets(file, JETCLASS_LAYOUT, format="jetclass")
        return open_root_jets(file, jagged)
    if jagged is None and (format == "jetclass2" or (format == "auto" and _has_jetclass2_columns(file))):
        return open_parquet_jets(file, JETCLASS2_LAYOUT, format="jetclass2")
    return open_parquet_jets(file, jagged)


def _open_hdf5(path: Path, format: str, layout: PaddedLayout | None, radius: float) -> JetSource:
    if layout is not None:
        return open_padded(path, layout)
    if format == "auto":
        with open_h5(path) as file:
            format, layout = _inside(path, file)
    if format == "cathode-jets":
        return open_cathode_jets(path)
    if format == "constituents":
        return open_constituents(path)
    if format == "jetnet":
        return open_padded(path, JETNET_LAYOUT, format="jetnet", type=jetnet_type(path))
    if format == "top-tagging":
        return open_top_tagging(path)
    if format == "lhco-raw":
        return open_raw(path, radius=radius)
    if layout is None:
        raise UserError(f"{path}: padded files of no known data set need a layout: give a PaddedLayout")
    return open_padded(path, layout)


def _inside(path: Path, file: Any) -> tuple[str, PaddedLayout | None]:
    import h5py

    attribute = file.attrs.get("format", "")
    if (attribute.decode() if isinstance(attribute, bytes) else attribute) == JETS_FORMAT:
        return "cathode-jets", None
    arrays = {name: item.shape for name, item in file.items() if isinstance(item, h5py.Dataset)}
    if {"particle_features", "jet_features"} <= set(arrays):
        return "jetnet", None
    if len(arrays.get("constituents", ())) == 4:
        return "constituents", None
    if is_top_tagging(file):
        return "top-tagging", None
    for item in file.values():
        if isinstance(item, h5py.Group) and "block0_values" in item:
            shape = item["block0_values"].shape
            if len(shape) == 2 and shape[1] in RAW_WIDTHS:
                return "lhco-raw", None
    sets = [name for name, shape in arrays.items() if len(shape) in (3, 4)]
    if len(sets) == 1 and 3 in arrays[sets[0]][-2:]:
        return "padded", PaddedLayout(sets[0])
    found = ", ".join(f"{name} {shape}" for name, shape in arrays.items()) or "no arrays"
    raise UserError(
        f"{path}: not a known layout of jets (it has {found}): say with a PaddedLayout which dataset and columns are"
        " the constituents"
    )


def _has_jetclass_tree(path: Path) -> bool:
    uproot = require("uproot", "root")
    # Whatever is wrong with the file is said by the reader that opens it next.
    try:
        with uproot.open(path, handler=uproot.MemmapSource) as file:
            names = set(file["tree"].keys(recursive=False)) if "tree" in file else set()
    except Exception:
        return False
    return {*JETCLASS_LAYOUT.constituent_columns, *JETCLASS_LAYOUT.jet_columns} <= names


def _has_jetclass2_columns(path: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = set(file.schema_arrow.names)
    except (pa.ArrowException, OSError):
        return False
    return {*JETCLASS2_LAYOUT.constituent_columns, *JETCLASS2_LAYOUT.jet_columns} <= names
