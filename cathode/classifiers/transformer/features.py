"""Inputs of the transformer from constituents: arrays of (pT, eta, phi) to :class:`SetInputs`.

A point has the columns log pT, log(pT / pT of the jet), eta - eta of the jet, phi - phi of the jet and
log(Delta R + 0.001), then whatever the caller adds.  A jet has log pT, eta, log(m / pT) and the logarithm of its
multiplicity.  Units of pT are free, one for all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cathode.classifiers.transformer.inputs import SetInputs
from cathode.support.errors import UserError

__all__ = ["constituent_inputs", "event_inputs", "jet_axis"]

# Of the logarithm of distances and relative masses, which may be exactly 0.
_FLOOR = 1e-3


def jet_axis(points: ArrayLike, mask: ArrayLike) -> np.ndarray:
    """pT, eta, phi and mass of jets ``(..., 4)``: the sum of massless points ``(..., P, 3)``; 0 for an empty jet."""
    values, real = np.asarray(points, dtype=np.float64), np.asarray(mask)
    pt, eta, phi = np.moveaxis(np.where(real[..., None], values, 0.0), -1, 0)
    px, py = (pt * np.cos(phi)).sum(-1), (pt * np.sin(phi)).sum(-1)
    pz, energy = (pt * np.sinh(eta)).sum(-1), (pt * np.cosh(eta)).sum(-1)
    transverse = np.hypot(px, py)
    axis_eta = np.arcsinh(np.divide(pz, transverse, out=np.zeros_like(pz), where=transverse > 0))
    mass = np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0.0))
    return np.stack([transverse, axis_eta, np.arctan2(py, px), mass], axis=-1)


def constituent_inputs(
    points: ArrayLike,
    mask: ArrayLike | None = None,
    axis: ArrayLike | None = None,
    *,
    extras: ArrayLike | None = None,
    columns: ArrayLike | None = None,
) -> SetInputs:
    """Jets as sets of points.

    Args:
        points: ``(N, P, 3)``: pT, eta, phi of the constituents, which are taken as massless.
        mask: ``(N, P)`` boolean, True = real; None: where pT is positive.
        axis: ``(N, 4)``: pT, eta, phi, mass of the jets; None: the sum of their constituents.
        extras: ``(N, P, E)`` more features of the points: charge, flags of particle types, displacements.
        columns: ``(N, G)`` more columns of the jets.

    Raises:
        UserError: Arrays that do not fit, or values that are not finite.
    """
    values, real, jets = _checked(points, mask, axis, dimensions=3)
    return SetInputs(
        _point_features(values, real, jets, extras), real, None, values, _globals(_jet_columns(real, jets), columns)
    )


def event_inputs(
    points: ArrayLike,
    mask: ArrayLike | None = None,
    axis: ArrayLike | None = None,
    *,
    extras: ArrayLike | None = None,
    columns: ArrayLike | None = None,
) -> SetInputs:
    """Events of J jets as sets of the points of all jets, numbered by ``group``; points are relative to their own jet.

    Args:
        points: ``(N, J, P, 3)``: pT, eta, phi of the constituents.
        mask: ``(N, J, P)`` boolean; None: where pT is positive.
        axis: ``(N, J, 4)``: pT, eta, phi, mass of the jets; None: the sum of their constituents.
        extras: ``(N, J, P, E)`` more features of the points.
        columns: ``(N, G)`` more columns of the events.

    Raises:
        UserError: Arrays that do not fit, or values that are not finite.
    """
    values, real, jets = _checked(points, mask, axis, dimensions=4)
    events, number, size = real.shape
    features = _point_features(values, real, jets, extras).reshape(events, number * size, -1)
    group = np.broadcast_to(np.repeat(np.arange(number), size), (events, number * size))
    of_jets = _jet_columns(real, jets).reshape(events, -1)
    # How the jets lie to each other, which their own columns do not say.
    between = [_wrapped(jets[:, 0, 2] - jets[:, k, 2]) for k in range(1, number)]
    relative = np.abs(np.stack(between, axis=1)) if between else np.zeros((events, 0))
    return SetInputs(
        features,
        real.reshape(events, -1),
        group,
        values.reshape(events, number * size, 3),
        _globals(np.concatenate([of_jets, relative], axis=1), columns),
    )


def _checked(
    points: ArrayLike, mask: ArrayLike | None, axis: ArrayLike | None, *, dimensions: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values = np.asarray(points)
    expected = ", ".join(["events", "jets", "points"][-dimensions + 1 :] if dimensions == 4 else ["jets", "points"])
    if values.ndim != dimensions or values.shape[-1] != 3:
        raise UserError(f"constituents have shape {values.shape}: give ({expected}, 3) of pT, eta, phi")
    with np.errstate(invalid="ignore"):
        real = values[..., 0] > 0 if mask is None else np.asarray(mask)
    if real.shape != values.shape[:-1] or real.dtype != np.bool_:
        raise UserError(f"the mask of constituents is {real.dtype} {real.shape}: give booleans {values.shape[:-1]}")
    values = np.where(real[..., None], values, 0.0)
    with np.errstate(invalid="ignore"):
        bad = int((~(np.isfinite(values).all(-1) & ((values[..., 0] > 0) | ~real))).sum())
    if bad:
        raise UserError(f"{bad} constituents have a pT that is not positive, or values that are not finite: mask them")
    jets = jet_axis(values, real) if axis is None else np.asarray(axis, dtype=np.float64)
    if jets.shape != (*values.shape[:-2], 4):
        raise UserError(f"the axes of jets have shape {jets.shape}: give pT, eta, phi, mass, {(*values.shape[:-2], 4)}")
    return values.astype(np.float32), real, jets


def _point_features(values: np.ndarray, real: np.ndarray, jets: np.ndarray, extras: ArrayLike | None) -> np.ndarray:
    """``(..., P, 5 + E)`` float32."""
    log_pt = np.log(np.where(real, values[..., 0], 1.0))
    log_jet = np.log(np.maximum(jets[..., 0], np.finfo(np.float32).tiny))
    eta = np.where(real, values[..., 1] - jets[..., None, 1], 0.0)
    phi = np.where(real, _wrapped(values[..., 2] - jets[..., None, 2]), 0.0)
    distance = np.log(np.hypot(eta, phi) + _FLOOR)
    features = np.stack([log_pt, log_pt - log_jet[..., None], eta, phi, distance], axis=-1, dtype=np.float32)
    if extras is None:
        return features
    more = np.asarray(extras, dtype=np.float32)
    if more.shape[:-1] != real.shape or more.ndim != features.ndim:
        raise UserError(f"extras of constituents have shape {more.shape}: give {real.shape} points and their columns")
    return np.concatenate([features, more], axis=-1)


def _jet_columns(real: np.ndarray, jets: np.ndarray) -> np.ndarray:
    """log pT, eta, log(m / pT) and log(1 + multiplicity), ``(..., 4)``; zeros for an empty jet."""
    pt = np.where(jets[..., 0] > 0, jets[..., 0], 1.0)
    ratio = np.log(np.maximum(jets[..., 3] / pt, _FLOOR))
    return np.stack([np.log(pt), jets[..., 1], ratio, np.log1p(real.sum(-1))], axis=-1)


def _globals(own: np.ndarray, columns: ArrayLike | None) -> np.ndarray:
    if columns is None:
        return own
    more = np.asarray(columns, dtype=np.float64)
    if more.ndim != 2 or len(more) != len(own):
        raise UserError(f"columns of sets have shape {more.shape} for {len(own)} events: give one row per event")
    return np.concatenate([own, more], axis=1)


def _wrapped(angle: np.ndarray) -> np.ndarray:
    return (angle + np.pi) % (2 * np.pi) - np.pi
