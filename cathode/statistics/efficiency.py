"""Score thresholds from a background sample, fold by fold, and the efficiency they really have.

Each fold has its own classifier, whose scores live on their own scale: a common cut would select different
fractions of each fold.  A quantile per fold selects the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from cathode.statistics.plain import Plain
from cathode.support.errors import UserError

__all__ = ["Efficiency", "FoldThresholds", "efficiency", "fold_thresholds"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Efficiency(Plain):
    """Fraction of a sample that passes a cut.

    Attributes:
        value: Sum of passing weights over sum of weights.
        error: Standard error; for weighted events by linear propagation.
        low: Lower end of the 68.3 % interval (Clopper-Pearson, on the effective number of events).
        high: Its upper end.
        effective_events: (sum of weights)^2 / sum of squared weights; the number of events without weights.
    """

    value: float
    error: float
    low: float
    high: float
    effective_events: float


def efficiency(passed: ArrayLike, *, weight: ArrayLike | None = None) -> Efficiency:
    """Efficiency of a cut with its uncertainty.

    Args:
        passed: Whether each event passes (N,).
        weight: Weights (N,), >= 0.

    Raises:
        UserError: No events, or unusable weights.
    """
    mask = np.asarray(passed, dtype=bool)
    w = np.ones(len(mask)) if weight is None else np.asarray(weight, dtype=np.float64)
    if w.shape != mask.shape or not (np.isfinite(w).all() and (w >= 0).all()) or w.sum() == 0:
        raise UserError(f"efficiency: {mask.size} events with {w.size} weights; needs events with weights >= 0")
    total, squares = w.sum(), (w**2).sum()
    value = float(w[mask].sum() / total)
    error = math.sqrt(float(((w * (mask - value)) ** 2).sum())) / total
    events = float(total**2 / squares)
    tail = stats.norm.sf(1)
    below, above = value * events, (1 - value) * events
    return Efficiency(
        value=value,
        error=error,
        low=0.0 if below == 0 else float(stats.beta.ppf(tail, below, above + 1)),
        high=1.0 if above <= 0 else float(stats.beta.isf(tail, below + 1, above)),
        effective_events=events,
    )


@dataclass(frozen=True)
class FoldThresholds(Plain):
    """Cuts of one background efficiency.

    Attributes:
        background_efficiency: The efficiency that was asked for.
        folds: Fold numbers (F,), increasing.
        thresholds: Cut (F,) of each: an event passes when its score is above.
        efficiencies: Efficiency (F,) of the background sample that set the cut; ties and its size keep it
            from being exactly the one asked for.
        errors: Standard error (F,) of the true efficiency of each cut, from the size of that sample.
        combined: The same for all folds' events together.
    """

    background_efficiency: float
    folds: NDArray[np.int64]
    thresholds: Array
    efficiencies: Array
    errors: Array
    combined: Efficiency

    def passed(self, scores: ArrayLike, fold: ArrayLike) -> NDArray[np.bool_]:
        """Which events (N,) pass the cut of their own fold.

        Raises:
            UserError: An event belongs to a fold without a cut.
        """
        s, f = np.asarray(scores, dtype=np.float64), np.asarray(fold)
        index = np.minimum(np.searchsorted(self.folds, f), len(self.folds) - 1)
        if not np.array_equal(self.folds[index], f):
            raise UserError(f"thresholds: there are cuts for the folds {self.folds.tolist()} only")
        return s > self.thresholds[index]


def fold_thresholds(
    scores: ArrayLike,
    fold: ArrayLike,
    background_efficiency: float,
    *,
    weight: ArrayLike | None = None,
    minimum_events: int = 1,
) -> FoldThresholds:
    """Per fold, the cut that the fraction ``background_efficiency`` of a background sample passes.

    The cut is put halfway between two scores where the sample's efficiency first exceeds the one asked for,
    on the side that is nearer to it; events of equal score pass or fail together.

    Args:
        scores: Scores of background events (N,); large is signal-like.
        fold: Fold (N,) of the model that gave each score.
        background_efficiency: Between 0 and 1.
        weight: Weights (N,), >= 0.
        minimum_events: Each fold needs that many passing events on average.

    Raises:
        UserError: Unusable input, or a fold too small for this efficiency.
    """
    s, f = np.asarray(scores, dtype=np.float64), np.asarray(fold)
    w = np.ones(len(s)) if weight is None else np.asarray(weight, dtype=np.float64)
    if s.ndim != 1 or f.shape != s.shape or w.shape != s.shape or len(s) == 0:
        raise UserError(f"thresholds: {s.shape} scores, {f.shape} folds and {w.shape} weights do not fit together")
    if not np.isfinite(s).all():
        raise UserError("thresholds: scores must be finite")
    if not 0 < background_efficiency < 1:
        raise UserError(f"thresholds: background_efficiency={background_efficiency} must be between 0 and 1")
    if not (np.isfinite(w).all() and (w >= 0).all()):
        raise UserError("thresholds: weights must be finite and >= 0")
    folds = np.unique(f)
    cuts, values, errors = [], [], []
    for number in folds:
        mine = f == number
        events = w[mine].sum() ** 2 / max((w[mine] ** 2).sum(), 1e-300)
        if events * background_efficiency < minimum_events:
            raise UserError(
                f"thresholds: {events:.0f} background events of fold {number} leave "
                f"{events * background_efficiency:.2g} at efficiency {background_efficiency:g}; "
                "use a larger template or a looser cut"
            )
        cut = _weighted_cut(s[mine], w[mine], background_efficiency)
        result = efficiency(s[mine] > cut, weight=w[mine])
        cuts.append(cut)
        values.append(result.value)
        errors.append(result.error)
    thresholds = np.array(cuts)
    return FoldThresholds(
        background_efficiency=background_efficiency,
        folds=folds.astype(np.int64),
        thresholds=thresholds,
        efficiencies=np.array(values),
        errors=np.array(errors),
        combined=efficiency(s > thresholds[np.searchsorted(folds, f)], weight=w),
    )


def _weighted_cut(scores: Array, weight: Array, target: float) -> float:
    values, inverse = np.unique(scores, return_inverse=True)
    per_value = np.bincount(inverse, weight)
    # passing[i]: weight strictly above values[i]; a cut below all scores passes everything.
    passing = np.append(per_value.sum(), per_value.sum() - np.cumsum(per_value)) / per_value.sum()
    best = int(np.abs(passing - target).argmin())
    if best == 0:
        return float(np.nextafter(values[0], -np.inf))
    if best == len(values):
        return float(values[-1])
    middle = 0.5 * (values[best - 1] + values[best])
    # Between neighbouring floats the middle rounds to the upper one, which would then fail.
    return float(values[best - 1] if middle >= values[best] else middle)
