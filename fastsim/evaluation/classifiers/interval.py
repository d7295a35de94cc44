"""Numbers of several folds as one number with an interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from fastsim.evaluation.classifiers.results import Interval, Roc

__all__ = ["LEVEL", "combined", "mean_roc"]

#: Confidence level of all intervals.
LEVEL = 0.95

_RATES = np.unique(np.concatenate([np.geomspace(1e-4, 1.0, 60), np.linspace(0.0, 1.0, 101)]))


def combined(
    values: Sequence[float], errors: Sequence[float], *, independent_showers: bool, low: float, high: float
) -> Interval:
    """Mean of the values of several folds or runs, with its interval.

    Folds test different showers (``independent_showers``), but their classifiers share training showers, so a
    fluctuation that they have in common raises all of their AUCs.  For samples of one distribution this doubles the
    variance of the mean of a linear smoother, whatever the number of folds (see
    :func:`cathode.comparison.c2st.c2st`); the factor two is included here.  Where the samples differ it is too much:
    the interval is then conservative.  Repeated runs on the same showers gain nothing: their error is their mean error.

    Args:
        values: One per fold or run.
        errors: Their standard errors.
        independent_showers: Whether they come from different test showers.
        low: Smallest possible value.
        high: Largest possible value.
    """
    value = float(np.mean(values))
    if independent_showers and len(values) > 1:
        error = float(np.sqrt(2.0 * np.sum(np.square(errors))) / len(values))
    else:
        error = float(np.mean(errors))
    half = float(norm.isf(0.5 * (1.0 - LEVEL))) * error
    return Interval(value, max(low, value - half), min(high, value + half), error)


def mean_roc(scores: Sequence[tuple[np.ndarray, np.ndarray]]) -> Roc:
    """Mean true-positive rate at equal false-positive rates.

    Args:
        scores: Per fold the scores of its reference ``(N,)`` and of its generated showers ``(M,)``.
    """
    curves = [_true_positive(positive, negative) for positive, negative in scores]
    return Roc(tuple(map(float, _RATES)), tuple(map(float, np.mean(curves, axis=0))))


def _true_positive(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]
    above_p = 1.0 - np.searchsorted(np.sort(positive), thresholds, side="left") / len(positive)
    above_n = 1.0 - np.searchsorted(np.sort(negative), thresholds, side="left") / len(negative)
    # Straight lines between the points of the curve, as ties count half in the AUC.
    fpr, tpr = np.concatenate([[0.0], above_n]), np.concatenate([[0.0], above_p])
    last = np.append(fpr[1:] > fpr[:-1], True)  # of several points at one false-positive rate the highest
    return np.interp(_RATES, fpr[last], tpr[last])
