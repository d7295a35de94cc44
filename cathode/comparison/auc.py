"""Area under the ROC curve of two weighted samples, with DeLong's error."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["auc_with_error"]


def auc_with_error(
    positive: ArrayLike,
    negative: ArrayLike,
    *,
    positive_weight: ArrayLike | None = None,
    negative_weight: ArrayLike | None = None,
) -> tuple[float, float]:
    """Probability that a positive scores above a negative (ties count half), and its standard error.

    The error is that of DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988), here with weights: the placement
    value of each event is averaged with the weights, and the variance of that weighted mean is summed over both
    samples.  It holds for scores that do not depend on these events, as out-of-fold scores do.

    Args:
        positive: Scores ``(N,)``.
        negative: Scores ``(M,)``.
        positive_weight: Non-negative weights ``(N,)``.
        negative_weight: Non-negative weights ``(M,)``.
    """
    p, q = np.asarray(positive, dtype=np.float64), np.asarray(negative, dtype=np.float64)
    u = np.ones_like(p) if positive_weight is None else np.asarray(positive_weight, dtype=np.float64)
    v = np.ones_like(q) if negative_weight is None else np.asarray(negative_weight, dtype=np.float64)
    placed_p, placed_q = _fraction_below(p, q, v), 1.0 - _fraction_below(q, p, u)
    auc = float(np.average(placed_p, weights=u))
    variance = _variance_of_mean(placed_p, u, auc) + _variance_of_mean(placed_q, v, auc)
    return auc, float(np.sqrt(variance))


def _fraction_below(values: np.ndarray, others: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """For each value the weighted fraction of ``others`` below it, ties counted half."""
    order = np.argsort(others, kind="stable")
    ordered, cumulative = others[order], np.concatenate([[0.0], np.cumsum(weight[order])])
    below = cumulative[np.searchsorted(ordered, values, side="left")]
    up_to = cumulative[np.searchsorted(ordered, values, side="right")]
    return 0.5 * (below + up_to) / cumulative[-1]


def _variance_of_mean(values: np.ndarray, weight: np.ndarray, mean: float) -> float:
    small_sample = len(values) / max(len(values) - 1, 1)
    return float(small_sample * np.sum((weight * (values - mean)) ** 2) / weight.sum() ** 2)
