"""Checks shared by all comparisons of two samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cathode.support.errors import UserError

__all__ = ["checked_pair", "checked_sample", "checked_weights", "thinned"]


def checked_sample(x: ArrayLike, *, name: str) -> np.ndarray:
    """``x`` as a finite float64 array ``(N, D)`` with at least two rows; ``(N,)`` becomes ``(N, 1)``.

    Raises:
        UserError: Wrong number of dimensions, too few rows, or values that are not finite.
    """
    array = np.asarray(x, dtype=np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise UserError(f"sample {name!r} has shape {array.shape}: give events as rows and features as columns")
    if len(array) < 2:
        raise UserError(f"sample {name!r} has {len(array)} events: comparing needs at least 2")
    bad = int((~np.isfinite(array)).any(axis=1).sum())
    if bad:
        raise UserError(f"sample {name!r} has {bad} events with NaN or infinite values: remove them before comparing")
    return array


def checked_weights(weight: ArrayLike | None, events: int, *, name: str) -> np.ndarray:
    """Weights ``(events,)`` as float64, ones if None.

    Raises:
        UserError: Wrong length, negative or non-finite values, or a vanishing sum.
    """
    if weight is None:
        return np.ones(events)
    array = np.asarray(weight, dtype=np.float64)
    if array.shape != (events,):
        raise UserError(f"weights of sample {name!r} have shape {array.shape} for {events} events: give one per event")
    if not np.isfinite(array).all() or (array < 0).any() or array.sum() <= 0:
        raise UserError(f"weights of sample {name!r} must be finite, non-negative and not all zero")
    return array


def checked_pair(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both samples checked, with the same number of columns.

    Raises:
        UserError: As :func:`checked_sample`, or differing numbers of columns.
    """
    first, second = checked_sample(x, name="x"), checked_sample(y, name="y")
    if first.shape[1] != second.shape[1]:
        raise UserError(
            f"samples have {first.shape[1]} and {second.shape[1]} features: compare the same columns in the same order"
        )
    return first, second


def thinned(
    x: np.ndarray, weight: np.ndarray, max_events: int | None, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """At most ``max_events`` rows and their weights, drawn without replacement."""
    if max_events is None or len(x) <= max_events:
        return x, weight
    kept = np.sort(generator.choice(len(x), size=max_events, replace=False))
    return x[kept], weight[kept]
