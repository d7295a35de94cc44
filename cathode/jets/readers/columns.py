"""From columns of a file to :class:`~cathode.jets.schema.Jets`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cathode.jets.schema import Jets
from cathode.jets.schema.kinematics import momenta_axis
from cathode.support.errors import UserError

__all__ = ["GEV", "check_unit", "jet_types", "jets_from_columns", "padded"]

#: Size of a unit in GeV.
GEV = {"GeV": 1.0, "MeV": 1e-3, "TeV": 1e3}

# No collider makes jets of 20 TeV, and nothing below a few GeV is called a jet.
_LARGEST_PT, _SMALLEST_PT = 2e4, 2.0

Columns = Mapping[str, NDArray[Any]]


def padded(flat: NDArray[Any], counts: NDArray[np.int64], width: int) -> NDArray[Any]:
    """Values of variable length ``(sum(counts),)`` as ``(N, width)``, zeros behind them."""
    out = np.zeros((len(counts), width), flat.dtype)
    out[np.arange(width) < counts[:, None]] = flat
    return out


def jets_from_columns(
    points: Columns,
    *,
    mask: NDArray[Any] | None,
    axis: Columns | None,
    extras: Columns,
    types: NDArray[np.int64] | None,
    scale: float = 1.0,
) -> Jets:
    """Jets from named columns.

    Args:
        points: ``(N, P)`` each: ``pt, eta, phi``, or ``px, py, pz, energy``, or ``ptrel, etarel, phirel``.
        mask: ``(N, P)``; positive pT if not given.
        axis: ``(N,)`` each: ``pt, eta``, ``mass`` or ``energy``, and ``phi`` (0 if not given); the sum of the
            constituents if None.
        extras: ``(N, P)`` each.
        types: ``(N,)``.
        scale: Size of the unit of energies in GeV.

    Raises:
        UserError: What :class:`Jets` refuses, or constituents where the mask has none.
    """
    jets_axis = None if axis is None else _axis(axis, scale)
    if "ptrel" in points:
        if jets_axis is None:
            raise UserError("relative constituents need the axis of their jet")
        relative = np.stack([points[name] for name in ("ptrel", "etarel", "phirel")], axis=-1).astype(np.float64)
        present = _present(relative[..., 0], mask)
        return Jets.from_relative(relative, present, jets_axis, extras, types)
    if "px" in points:
        momenta = np.stack([points[name] for name in ("px", "py", "pz", "energy")], axis=-1).astype(np.float64) * scale
        present = _present(np.hypot(momenta[..., 0], momenta[..., 1]), mask)
        return Jets.from_four_momenta(momenta, present, jets_axis, extras, types)
    values = np.stack([points[name] for name in ("pt", "eta", "phi")], axis=-1)
    if scale != 1.0:
        values = values.astype(np.float64)
        values[..., 0] *= scale
    return Jets.from_points(values, _present(values[..., 0], mask), jets_axis, extras, types)


def jet_types(columns: NDArray[Any]) -> NDArray[np.int64]:
    """Classes ``(N,)`` from whole numbers ``(N,)`` or one-hot columns ``(N, classes)``.

    Raises:
        UserError: Not one-hot, or not whole numbers.
    """
    values = np.asarray(columns)
    if values.ndim == 1:
        if values.dtype.kind == "f" and not np.array_equal(values, np.floor(values)):
            raise UserError("types of jets must be whole numbers")
        return values.astype(np.int64)
    hot = values != 0
    wrong = hot.sum(axis=1) != 1
    if wrong.any():
        raise UserError(
            f"{int(wrong.sum())} of {len(wrong)} jets (first: row {int(wrong.argmax())}) do not have exactly one class"
        )
    return hot.argmax(axis=1)


def check_unit(jets: Jets) -> None:
    """Raise if the jets are plainly not in GeV."""
    if not len(jets) or not jets.mask.any():
        return
    median = float(np.median(jets.axis[jets.mask.any(axis=1), 0]))
    if median > _LARGEST_PT:
        raise UserError(f"the median pT of the jets is {median:.4g} GeV, which looks like MeV: declare the units")
    if median < _SMALLEST_PT:
        raise UserError(f"the median pT of the jets is {median:.4g} GeV, which looks like TeV: declare the units")


def _axis(axis: Columns, scale: float) -> NDArray[np.float64]:
    pt = np.asarray(axis["pt"], dtype=np.float64) * scale
    eta = np.asarray(axis["eta"], dtype=np.float64)
    phi = np.asarray(axis["phi"], dtype=np.float64) if "phi" in axis else np.zeros_like(pt)
    if "mass" in axis:
        return np.stack([pt, eta, phi, np.asarray(axis["mass"], dtype=np.float64) * scale], axis=-1)
    energy = np.asarray(axis["energy"], dtype=np.float64) * scale
    if not np.isfinite(eta).all() or np.abs(eta).max(initial=0) > 20:
        raise UserError("the eta of jets is not finite or beyond 20: are the columns of the axis in the right order?")
    momenta = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), energy], axis=-1)
    return np.concatenate([np.stack([pt, eta, phi], axis=-1), momenta_axis(momenta)[:, 3:]], axis=-1)


def _present(pt: NDArray[Any], mask: NDArray[Any] | None) -> NDArray[Any]:
    negative = (pt < 0).any(axis=1)
    if negative.any():
        raise UserError(
            f"{int(negative.sum())} of {len(pt)} jets (first: row {int(negative.argmax())}) have constituents of"
            " negative pT: are the columns in the right order?"
        )
    # NaN counts as present, so that it is refused and not dropped.
    positive = ~(pt <= 0)
    if mask is None:
        return positive
    given = np.asarray(mask)
    if given.shape != pt.shape:
        raise UserError(f"the mask has shape {given.shape}, the constituents {pt.shape}: they must agree")
    if given.dtype != bool and not np.isin(given, (0, 1)).all():
        raise UserError("the mask has values other than 0 and 1: is it the right column?")
    given = given.astype(bool)
    unlike = (given != positive).any(axis=1)
    if unlike.any():
        raise UserError(
            f"mask and pT disagree in {int(unlike.sum())} of {len(pt)} jets (first: row {int(unlike.argmax())}):"
            " a constituent must have a positive pT, padding must have none"
        )
    return given
