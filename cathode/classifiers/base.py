"""What every classifier is: the interface, the checks of its input, and the balance of the classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from cathode.classifiers.transformer.inputs import SetInputs
from cathode.support.errors import UserError

__all__ = [
    "Classifier",
    "Inputs",
    "balanced_weights",
    "check_features",
    "check_inputs",
    "check_labels",
    "check_training",
    "join_inputs",
    "load_arrays",
    "logit",
    "save_arrays",
    "stratified_split",
]


# Events as classifiers take them: rows of features, or sets of points.  Both are sliced alike.
Inputs = np.ndarray | SetInputs


@runtime_checkable
class Classifier(Protocol):
    """A binary classifier with scikit-learn's conventions; class 1 is data, class 0 the template.

    Events are rows of features ``(N, D)``, or :class:`~cathode.classifiers.transformer.inputs.SetInputs` for
    classifiers of sets.

    ``history_`` holds the training curves: name -> array ``(members, steps)``, padded with NaN where a member stopped
    earlier than others.
    """

    history_: dict[str, np.ndarray]

    def fit(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None, *, progress: bool = False
    ) -> Classifier:
        """Train on events ``(N, D)`` with labels 0 and 1 ``(N,)``; the classes are balanced whatever their weights."""

    def predict_proba(self, X: Any) -> np.ndarray:
        """Mean probability of both classes over the members, ``(N, 2)``."""

    def decision_function(self, X: Any) -> np.ndarray:
        """Logarithm of the odds of class 1, ``(N,)``: the estimated log-likelihood ratio, as classes are balanced."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments."""

    def save(self, folder: str | Path) -> None:
        """Write the trained classifier to a folder, without pickle."""


def check_features(X: ArrayLike, *, features: int | None = None) -> np.ndarray:
    """``X`` as a finite float64 array ``(N, D)``.

    Raises:
        UserError: Not two-dimensional, not of ``features`` columns, or with values that are not finite.
    """
    if isinstance(X, SetInputs):
        raise UserError("this classifier takes columns of features, not sets of points: use the kind transformer")
    array = np.ascontiguousarray(X, dtype=np.float64)
    if array.ndim != 2:
        raise UserError(f"classifier input has shape {array.shape}: give events as rows and features as columns")
    if features is not None and array.shape[1] != features:
        raise UserError(f"classifier input has {array.shape[1]} features, but it was trained on {features}")
    bad = int((~np.isfinite(array)).any(axis=1).sum())
    if bad:
        raise UserError(f"classifier input has {bad} events with NaN or infinite values: remove them first")
    return array


def check_inputs(X: ArrayLike | SetInputs, *, like: Inputs | None = None) -> Inputs:
    """Events of either form: sets as they are, anything else by :func:`check_features`.

    Raises:
        UserError: Unusable events, or events of another form than those of ``like``.
    """
    if like is not None and isinstance(X, SetInputs) != isinstance(like, SetInputs):
        raise UserError("some events are columns of features and others sets of points: give one form for all")
    if not isinstance(X, SetInputs):
        return check_features(X, features=None if like is None else like.shape[1])  # type: ignore[union-attr]
    if isinstance(like, SetInputs) and X.kind != like.kind:
        raise UserError(f"sets of points differ: {X.kind} here, {like.kind} there")
    return X


def join_inputs(first: Inputs, second: Inputs) -> Inputs:
    """The events of both, one after the other."""
    if isinstance(first, SetInputs) and isinstance(second, SetInputs):
        return SetInputs.concatenate([first, second])
    return np.concatenate([first, second])  # type: ignore[list-item]


def check_training(
    X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features ``(N, D)`` float64, labels ``(N,)`` int64 and weights ``(N,)`` float64, all checked.

    Raises:
        UserError: Unusable features, labels other than 0 and 1, a class of fewer than two events or of no weight.
    """
    features = check_features(X)
    return features, *check_labels(len(features), y, sample_weight)


def check_labels(events: int, y: ArrayLike, sample_weight: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """Labels ``(N,)`` int64 and weights ``(N,)`` float64 of so many events, checked.

    Raises:
        UserError: Labels other than 0 and 1, a class of fewer than two events or of no weight.
    """
    labels = np.asarray(y)
    if labels.shape != (events,):
        raise UserError(f"labels have shape {labels.shape} for {events} events: give one per event")
    if not np.isin(labels, (0, 1)).all():
        raise UserError("labels must be 0 (template) or 1 (data)")
    labels = labels.astype(np.int64)
    weight = np.ones(events) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != labels.shape:
        raise UserError(f"weights have shape {weight.shape} for {events} events: give one per event")
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise UserError("weights must be finite and non-negative")
    for label, name in ((1, "data"), (0, "template")):
        of_class = labels == label
        if of_class.sum() < 2 or weight[of_class].sum() <= 0:
            raise UserError(
                f"class {label} ({name}) has {int(of_class.sum())} events and total weight "
                f"{weight[of_class].sum():g}: training needs at least 2 events with weight"
            )
    return labels, weight


def balanced_weights(y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weights scaled per class so that each class sums to half the number of events, and all of them to that number."""
    scale = np.array([0.5 * len(y) / weight[y == label].sum() for label in (0, 1)])
    return weight * scale[y]


def stratified_split(y: np.ndarray, fraction: float, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random indices of training and validation events; of each class ``fraction`` goes to validation.

    Both parts hold at least one event of each class.
    """
    train, validation = [], []
    for label in (0, 1):
        rows = generator.permutation(np.flatnonzero(y == label))
        held = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        validation.append(rows[:held])
        train.append(rows[held:])
    return np.concatenate(train), np.concatenate(validation)


def logit(probability: np.ndarray) -> np.ndarray:
    """``log(p / (1 - p))``, finite for p = 0 and 1."""
    tiny = np.finfo(np.float64).tiny
    return np.log(np.maximum(probability, tiny)) - np.log(np.maximum(1.0 - probability, tiny))


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays as npz."""
    np.savez(path, **arrays)  # type: ignore[arg-type]


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Named arrays of an npz file; nothing is unpickled."""
    # Opened here because numpy leaves a file that turns out not to be a zip archive open.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
