"""Padded arrays in HDF5: the package's own files, events of constituents, JetNet, and what a layout describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cathode.data.expressions import near_matches
from cathode.data.readers.hdf5 import open_h5
from cathode.jets.readers.columns import GEV, jet_types, jets_from_columns
from cathode.jets.readers.layouts import PaddedLayout
from cathode.jets.readers.source import JetSource
from cathode.jets.schema import Jets
from cathode.jets.schema.kinematics import momenta_axis
from cathode.support.errors import UserError

__all__ = ["open_cathode_jets", "open_constituents", "open_padded"]

# Columns of a layout that are no extras.
_COORDINATES = {"pt", "eta", "phi", "px", "py", "pz", "energy", "ptrel", "etarel", "phirel", "mask", ""}


def open_padded(path: Path, layout: PaddedLayout, *, format: str = "padded", type: int | None = None) -> JetSource:
    """Jets in arrays of fixed size.

    Args:
        path: HDF5 file.
        layout: Which dataset is what.
        format: Name of the format.
        type: Type of all jets, for files of one type.

    Raises:
        UserError: Datasets are missing or their shapes do not fit.
    """
    with open_h5(path) as file:
        shape = _shape(path, file, layout.points)
        if len(shape) not in (3, 4) or shape[-1] != len(layout.columns):
            swapped = len(shape) >= 3 and shape[-2] == len(layout.columns)
            hint = ": the axes look swapped, transpose the last two" if swapped else ""
            raise UserError(
                f"{path}: {layout.points!r} has shape {shape}; it must be (jets, constituents, {len(layout.columns)})"
                f" for the columns {', '.join(name or '(unused)' for name in layout.columns)}{hint}"
            )
        rows, jets_per_row = shape[0], shape[1] if len(shape) == 4 else 1
        for name, wanted in (
            (layout.mask, shape[:-1]),
            (layout.axis, (*shape[:-2], len(layout.axis_columns))),
        ):
            if name is not None and _shape(path, file, name) != wanted:
                raise UserError(f"{path}: {name!r} has shape {_shape(path, file, name)}; it must be {wanted}")
        if layout.type is not None and _shape(path, file, layout.type)[0] != rows:
            raise UserError(f"{path}: {layout.type!r} has {_shape(path, file, layout.type)[0]} rows, not {rows}")

    def read(start: int, stop: int) -> Jets:
        with open_h5(path) as file:
            block = file[layout.points][start:stop]
            block = block.reshape(-1, *block.shape[-2:])
            values = {name: block[..., index] for index, name in enumerate(layout.columns)}
            mask = values.get("mask")
            if layout.mask is not None:
                mask = file[layout.mask][start:stop].reshape(len(block), -1)
            axis = None
            if layout.axis is not None:
                axes = file[layout.axis][start:stop].reshape(len(block), -1)
                axis = {name: axes[:, index] for index, name in enumerate(layout.axis_columns) if name}
            types = None if type is None else np.full(len(block), type)
            if layout.type is not None:
                types = np.repeat(jet_types(file[layout.type][start:stop]), jets_per_row)
        points = {name: column for name, column in values.items() if name in _COORDINATES}
        extras = {name: column for name, column in values.items() if name not in _COORDINATES}
        return jets_from_columns(points, mask=mask, axis=axis, extras=extras, types=types, scale=GEV[layout.units])

    return JetSource(path, format, rows, read, jets_per_row, shape[-2])


def open_constituents(path: Path) -> JetSource:
    """Events of constituents: ``constituents (N, J, P, 3)`` pT [GeV], eta, phi, and maybe ``jet_features``.

    ``jet_features (N, A)`` has the names of its columns in the attribute ``columns``; with ``pxj1, pyj1, pzj1, mj1``
    and so on for every jet, these give the axes of the jets, else the constituents do.  ``event_id`` and ``weight``
    are read if there are any.  The attribute ``label`` of the file, or its dataset, is truth.

    Raises:
        UserError: Other shapes.
    """
    with open_h5(path) as file:
        shape = _shape(path, file, "constituents")
        if len(shape) != 4 or shape[-1] != 3:
            swapped = len(shape) == 4 and shape[-2] == 3
            raise UserError(
                f"{path}: 'constituents' has shape {shape}; it must be (events, jets, constituents, 3: pT, eta, phi)"
                + (": the axes look swapped, transpose the last two" if swapped else "")
            )
        rows, jets_per_row, slots, _ = shape
        features = _feature_columns(file, rows, jets_per_row)
        for name in ("event_id", "weight", "label"):
            if name in file and file[name].shape != (rows,):
                raise UserError(f"{path}: {name!r} has shape {file[name].shape}; it must be ({rows},)")
        has_label = "label" in file or "label" in file.attrs
        has_numbers = "event_id" in file or "weight" in file

    def read(start: int, stop: int) -> Jets:
        with open_h5(path) as file:
            points = file["constituents"][start:stop].reshape(-1, slots, 3)
            axis = None
            if features is not None:
                block = np.asarray(file["jet_features"][start:stop], dtype=np.float64)[:, features]
                axis = _axis(block.reshape(-1, 4))
        types = np.repeat(labels(start, stop), jets_per_row) if has_label else None
        return Jets.from_points(points, axis=axis, type=types)

    def numbers(start: int, stop: int) -> tuple[NDArray[np.int64] | None, NDArray[np.float64] | None]:
        with open_h5(path) as file:
            ids = file["event_id"][start:stop] if "event_id" in file else None
            weight = np.asarray(file["weight"][start:stop], dtype=np.float64) if "weight" in file else None
        return ids, weight

    def labels(start: int, stop: int) -> NDArray[np.int64]:
        with open_h5(path) as file:
            if "label" in file:
                return np.asarray(file["label"][start:stop]).astype(np.int64)
            return np.full(stop - start, int(file.attrs["label"]), dtype=np.int64)

    return JetSource(
        path,
        "constituents",
        rows,
        read,
        jets_per_row,
        slots,
        numbers if has_numbers else None,
        labels if has_label else None,
    )


def open_cathode_jets(path: Path) -> JetSource:
    """Jets written by :func:`cathode.jets.writers.write_jets`: points, mask, axis, extras and types.

    Raises:
        UserError: A dataset is missing or has another shape.
    """
    with open_h5(path) as file:
        shape = _shape(path, file, "points")
        for name, wanted in (("mask", shape[:2]), ("axis", (shape[0], 4))):
            if _shape(path, file, name) != wanted:
                raise UserError(f"{path}: {name!r} has shape {_shape(path, file, name)}; it must be {wanted}")
        extras = tuple(file["extras"]) if "extras" in file else ()

    def read(start: int, stop: int) -> Jets:
        with open_h5(path) as file:
            return Jets(
                file["points"][start:stop],
                file["mask"][start:stop],
                file["axis"][start:stop],
                {name: file["extras"][name][start:stop] for name in extras},
                file["type"][start:stop] if "type" in file else None,
            )

    return JetSource(path, "cathode-jets", shape[0], read, 1, shape[1])


def _shape(path: Path, file: Any, name: str) -> tuple[int, ...]:
    import h5py

    if name not in file or not isinstance(file[name], h5py.Dataset):
        raise UserError(f"{path}: no dataset {name!r}{near_matches(name, list(file))}")
    if file[name].dtype.kind not in "fiub":
        raise UserError(f"{path}: the dataset {name!r} is not numeric")
    return tuple(int(size) for size in file[name].shape)


def _feature_columns(file: Any, rows: int, jets: int) -> list[int] | None:
    if "jet_features" not in file or "columns" not in file["jet_features"].attrs:
        return None
    text = file["jet_features"].attrs["columns"]
    names = (text.decode() if isinstance(text, bytes) else str(text)).split(",")
    wanted = [f"{name}j{jet + 1}" for jet in range(jets) for name in ("px", "py", "pz", "m")]
    if file["jet_features"].shape != (rows, len(names)) or not set(wanted) <= set(names):
        return None
    return [names.index(name) for name in wanted]


def _axis(momenta: NDArray[np.float64]) -> NDArray[np.float64]:
    """pT, eta, phi, mass of ``(M, 4)`` px, py, pz, mass."""
    mass = np.maximum(momenta[:, 3], 0.0)
    energy = np.sqrt((momenta**2).sum(axis=1))
    axis = momenta_axis(np.concatenate([momenta[:, :3], energy[:, None]], axis=1))
    axis[:, 3] = mass
    return axis
