"""What jets must be, and how constituents are put in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cathode.jets.schema.kinematics import wrap_phi
from cathode.support.errors import UserError

__all__ = [
    "canonical_points",
    "check_axis",
    "check_canonical",
    "check_extras",
    "check_rows",
    "check_types",
    "presence",
]

Mask = NDArray[np.bool_]

# No detector sees beyond; columns in another order do.
_LARGEST_ETA = 20.0
# Tolerance for angles that were rounded to single or half precision.
_LARGEST_PHI = 2 * np.pi + 1e-2


def presence(points: NDArray[Any], mask: ArrayLike | None) -> Mask:
    """The mask ``(..., P)`` of ``points (..., P, 3)``; positive pT if none is given.

    Raises:
        UserError: Not ``(..., P, 3)``, another shape of mask, or a mask that is neither boolean nor 0 and 1.
    """
    if points.ndim < 3 or points.shape[-1] != 3 or points.dtype.kind not in "fiu":
        hint = ": the axes look swapped, transpose to it" if points.ndim == 3 and points.shape[1] == 3 else ""
        raise UserError(
            f"constituents must be numbers of shape (jets, constituents, 3: pT, eta, phi), got {points.dtype}"
            f" {points.shape}{hint}"
        )
    if mask is None:
        return ~(points[..., 0] <= 0) if not (points[..., 0] < 0).any() else _refuse_negative(points[..., 0])
    given = np.asarray(mask)
    if given.shape != points.shape[:-1]:
        raise UserError(
            f"mask has shape {given.shape} beside constituents {points.shape}: it must be {points.shape[:-1]}"
        )
    if given.dtype != bool:
        if given.dtype.kind not in "fiu" or not np.isin(given, (0, 1)).all():
            raise UserError("the mask has values other than 0 and 1: give the column that says which slots are filled")
        given = given.astype(bool)
    return given


def canonical_points(points: NDArray[Any], mask: Mask) -> tuple[NDArray[np.float32], Mask, NDArray[np.int64]]:
    """Constituents by falling pT, padding zero and last, phi wrapped; with their mask and the order ``(N, P)``.

    Raises:
        UserError: Constituents that are not finite, have no positive pT, or angles that cannot be angles.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        values = points.astype(np.float32)
    values[~mask] = 0.0
    _check_constituents(values, mask)
    if points.dtype == np.float64:
        values[..., 2] = wrap_phi(np.where(mask, points[..., 2], 0.0))
    # Once more after rounding to float32: the nearest float32 to pi lies outside.
    values[..., 2] = wrap_phi(values[..., 2])
    if _ordered(values[..., 0]):
        return values, mask, np.broadcast_to(np.arange(mask.shape[1]), mask.shape)
    order = np.argsort(np.where(mask, -values[..., 0], np.float32(np.inf)), axis=1, kind="stable")
    return np.take_along_axis(values, order[..., None], axis=1), np.take_along_axis(mask, order, axis=1), order


def check_canonical(points: NDArray[np.float32], mask: Mask) -> None:
    """Raise unless the constituents are finite, by falling pT, with padding zero and last and phi in [-pi, pi)."""
    if points.ndim != 3:
        raise UserError(f"constituents must have the shape (jets, constituents, 3: pT, eta, phi), got {points.shape}")
    if np.any(points[~mask]):
        raise UserError(
            "mask and constituents do not agree: values that are not zero where the mask says padding"
            " (Jets.from_points ignores what is masked)"
        )
    _check_constituents(points, mask)
    if not _ordered(points[..., 0]):
        ordered = (points[:, 1:, 0] <= points[:, :-1, 0]).all(axis=1)
        raise UserError(
            f"{int((~ordered).sum())} of {len(points)} jets are not ordered by falling pT with padding last:"
            " use Jets.from_points"
        )
    if points.size and not (points[..., 2].min() >= -np.pi and points[..., 2].max() < np.pi):
        raise UserError("phi of constituents is outside [-pi, pi): use Jets.from_points, which wraps it")


def check_axis(axis: NDArray[np.float64], mask: Mask) -> None:
    """Raise unless ``axis (N, 4)`` is finite and every jet with constituents has a positive pT."""
    if axis.shape != (len(mask), 4):
        raise UserError(f"axis has shape {axis.shape}: it must be ({len(mask)}, 4: pT, eta, phi, mass)")
    broken = ~np.isfinite(axis).all(axis=1)
    if broken.any():
        raise UserError(f"{_some(broken)} have an axis that is NaN or infinite: remove these jets")
    # A jet without constituents has no direction; its axis may be zero.
    broken = (axis[:, 0] < 0) | ((axis[:, 0] == 0) & mask.any(axis=1))
    if broken.any():
        raise UserError(
            f"{_some(broken)} have constituents but no positive pT: is the axis (pT, eta, phi, mass) in GeV?"
        )
    broken = (np.abs(axis[:, 1]) > _LARGEST_ETA) | (np.abs(axis[:, 2]) > _LARGEST_PHI)
    if broken.any():
        raise UserError(f"{_some(broken)} have an impossible eta or phi: is the order of the axis pT, eta, phi, mass?")
    if (axis[:, 3] < 0).any():
        raise UserError(f"{_some(axis[:, 3] < 0)} have a negative mass: is the order of the axis pT, eta, phi, mass?")


def check_extras(extras: Mapping[str, Any], mask: Mask) -> dict[str, NDArray[Any]]:
    """Columns ``(N, P)`` as arrays; raise unless they fit the mask and are finite where it is True."""
    columns: dict[str, NDArray[Any]] = {}
    for name, given in extras.items():
        values = np.asarray(given)
        if values.shape != mask.shape:
            raise UserError(f"column {name!r} of the constituents has shape {values.shape}: it must be {mask.shape}")
        if values.dtype.kind not in "fiub":
            raise UserError(f"column {name!r} of the constituents is not numeric ({values.dtype})")
        if values.dtype.kind == "f" and not np.isfinite(values[mask]).all():
            broken = (~np.isfinite(values) & mask).any(axis=1)
            raise UserError(
                f"{_some(broken)} have NaN or infinite values of {name!r}: remove these jets or that column"
            )
        columns[str(name)] = values
    return columns


def check_types(types: ArrayLike, rows: int) -> NDArray[np.int64]:
    """Types ``(N,)`` as integers; raise unless they are."""
    given = np.asarray(types)
    if given.shape != (rows,):
        raise UserError(f"type has shape {given.shape}: it must be ({rows},)")
    with np.errstate(invalid="ignore"):
        whole = given.astype(np.int64)
    if given.dtype.kind not in "fiub" or not np.array_equal(whole, given):
        raise UserError("types of jets must be whole numbers")
    return whole


def check_rows(rows: ArrayLike | slice, length: int, what: str) -> NDArray[Any] | slice:
    """A selection of rows; raise unless it fits ``length`` rows."""
    if isinstance(rows, slice):
        return rows
    chosen = np.asarray(rows)
    if chosen.dtype == bool:
        if chosen.shape != (length,):
            raise UserError(f"a mask of shape {chosen.shape} cannot select among {length} {what}")
        return chosen
    if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
        raise UserError(
            f"rows must be a one-dimensional array of integers or booleans, got {chosen.dtype} {chosen.shape}"
        )
    chosen = chosen.astype(np.int64)
    if chosen.size and (chosen.max() >= length or chosen.min() < -length):
        raise UserError(f"row {int(chosen[np.abs(chosen).argmax()])} is out of range: there are {length} {what}")
    return chosen


def _ordered(pt: NDArray[np.float32]) -> bool:
    """Whether all jets are by falling pT; padding, whose pT is 0, then comes last."""
    return bool((pt[:, 1:] <= pt[:, :-1]).all())


def _check_constituents(points: NDArray[np.float32], mask: Mask) -> None:
    pt, eta, phi = points[..., 0], points[..., 1], points[..., 2]
    if not np.isfinite(points).all():
        broken = (~np.isfinite(points)).any(axis=(1, 2))
        raise UserError(f"{_some(broken)} have constituents that are NaN or infinite: remove these jets")
    if (pt < 0).any():
        _refuse_negative(pt)
    empty = mask & (pt == 0)
    if empty.any():
        raise UserError(
            f"{_some(empty.any(axis=1))} have constituents of pT 0 where the mask says there is one: mask and"
            " constituents do not agree"
        )
    if points.size and (np.abs(eta).max() > _LARGEST_ETA or np.abs(phi).max() > _LARGEST_PHI):
        broken = ((np.abs(eta) > _LARGEST_ETA) | (np.abs(phi) > _LARGEST_PHI)).any(axis=1)
        raise UserError(
            f"{_some(broken)} have |eta| > {_LARGEST_ETA:g} or |phi| > 2 pi: are the columns in the order pT, eta, phi?"
        )


def _refuse_negative(pt: NDArray[Any]) -> Mask:
    broken = (pt < 0).reshape(len(pt), -1).any(axis=1)
    raise UserError(
        f"{_some(broken)} have constituents of negative pT: are the columns in the order pT [GeV], eta, phi?"
    )


def _some(broken: Any) -> str:
    return f"{int(broken.sum())} of {len(broken)} jets (first: row {int(broken.argmax())})"
