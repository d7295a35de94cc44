"""Histograms with statistical and model uncertainties, and their comparison."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from cathode.statistics.plain import Plain
from cathode.support.errors import UserError

__all__ = ["Comparison", "Histogram", "compare", "garwood_interval", "histogram"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Histogram(Plain):
    """Weighted counts.

    Attributes:
        edges: Bin edges (B + 1,).
        counts: Sum of weights (B,).
        statistical_error: sqrt of the sum of squared weights (B,).
        low: Lower end (B,) of the 68.3 % interval: Garwood for unweighted events, counts - error otherwise.
        high: Its upper end (B,).
        model_error: Spread (B,) of the members of an ensemble; zero without members.
        underflow: Sum of weights below the first edge.
        overflow: Sum of weights above the last edge.
        events: Number of events, those outside included.
    """

    edges: Array
    counts: Array
    statistical_error: Array
    low: Array
    high: Array
    model_error: Array
    underflow: float
    overflow: float
    events: int

    @property
    def total_error(self) -> Array:
        """Statistical and model error in quadrature (B,)."""
        return np.hypot(self.statistical_error, self.model_error)

    def scaled(self, factor: float) -> Histogram:
        """The histogram times a constant, errors included."""
        return Histogram(
            edges=self.edges,
            counts=self.counts * factor,
            statistical_error=self.statistical_error * abs(factor),
            low=self.low * factor,
            high=self.high * factor,
            model_error=self.model_error * abs(factor),
            underflow=self.underflow * factor,
            overflow=self.overflow * factor,
            events=self.events,
        )


def garwood_interval(counts: ArrayLike, *, coverage: float = 0.682689492137) -> tuple[Array, Array]:
    """Central Poisson confidence interval of observed counts (..., ) (Garwood, Biometrika 28 (1936) 437)."""
    n = np.asarray(counts, dtype=np.float64)
    tail = (1 - coverage) / 2
    low = np.where(n > 0, stats.gamma.ppf(tail, np.maximum(n, 1e-9)), 0.0)
    return low, stats.gamma.isf(tail, n + 1)


def histogram(
    values: ArrayLike,
    edges: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    member: ArrayLike | None = None,
) -> Histogram:
    """Histogram of a sample.

    Args:
        values: Values (N,).
        edges: Increasing bin edges (B + 1,); the last bin includes its upper edge.
        weight: Weights (N,).
        member: Number (N,) of the ensemble's member that made each event.  The model error of a bin is then
            the standard deviation of the members' normalised contents, each scaled to the total, with the
            part that their statistics alone explains subtracted.

    Raises:
        UserError: Shapes that do not fit, values that are not finite, or edges that do not increase.
    """
    v, e = np.asarray(values, dtype=np.float64), np.asarray(edges, dtype=np.float64)
    w = np.ones(v.shape) if weight is None else np.asarray(weight, dtype=np.float64)
    if e.ndim != 1 or len(e) < 2 or not (np.isfinite(e).all() and (np.diff(e) > 0).all()):
        raise UserError("histogram: edges must be at least two, finite and increasing")
    if v.ndim != 1 or w.shape != v.shape:
        raise UserError(f"histogram: {v.shape} values and {w.shape} weights do not fit together")
    if not (np.isfinite(v).all() and np.isfinite(w).all()):
        raise UserError("histogram: values and weights must be finite")
    counts, squares = (np.histogram(v, e, weights=a)[0] for a in (w, w**2))
    error = np.sqrt(squares)
    low, high = garwood_interval(counts) if weight is None else (counts - error, counts + error)
    model = np.zeros(len(counts))
    if member is not None:
        m = np.asarray(member)
        if m.shape != v.shape:
            raise UserError(f"histogram: {m.shape} member numbers for {v.shape} values")
        model = _spread(v, e, w, m)
    return Histogram(
        edges=e,
        counts=counts.astype(np.float64),
        statistical_error=error,
        low=low,
        high=high,
        model_error=model,
        underflow=float(w[v < e[0]].sum()),
        overflow=float(w[v > e[-1]].sum()),
        events=len(v),
    )


def _spread(values: Array, edges: Array, weight: Array, member: NDArray[np.int64]) -> Array:
    numbers = np.unique(member)
    if len(numbers) < 2:
        return np.zeros(len(edges) - 1)
    total = weight.sum()
    contents, variances = [], []
    for number in numbers:
        mine = member == number
        scale = total / weight[mine].sum()
        contents.append(np.histogram(values[mine], edges, weights=weight[mine])[0] * scale)
        variances.append(np.histogram(values[mine], edges, weights=weight[mine] ** 2)[0] * scale**2)
    excess = np.var(contents, axis=0, ddof=1) - np.mean(variances, axis=0)
    return np.sqrt(np.maximum(excess, 0))


@dataclass(frozen=True)
class Comparison(Plain):
    """Two histograms, bin by bin.

    Attributes:
        pulls: (first - second) / error (B,), with all errors of both in quadrature; NaN where both are empty.
        chi2: Sum of the squared pulls.
        ndof: Bins with content, minus one if the second was scaled to the first.
        p_value: Probability of this chi2 or more.
        scale: Factor that was applied to the second.
    """

    pulls: Array
    chi2: float
    ndof: int
    p_value: float
    scale: float


def compare(first: Histogram, second: Histogram, *, normalise: bool = False) -> Comparison:
    """chi2 and pulls of two histograms with the errors of both, statistical and model.

    Args:
        first: One histogram, e.g. of data.
        second: Another with the same edges, e.g. of the template.
        normalise: Scale the second to the sum of the first.

    Raises:
        UserError: Different edges, or an empty histogram to be scaled.
    """
    if not np.array_equal(first.edges, second.edges):
        raise UserError("histogram: cannot compare histograms with different edges")
    scale = 1.0
    if normalise:
        if second.counts.sum() == 0 or first.counts.sum() == 0:
            raise UserError("histogram: cannot scale an empty histogram")
        scale = float(first.counts.sum() / second.counts.sum())
        second = second.scaled(scale)
    variance = first.total_error**2 + second.total_error**2
    filled = variance > 0
    pulls = np.full(len(variance), math.nan)
    pulls[filled] = (first.counts - second.counts)[filled] / np.sqrt(variance[filled])
    chi2 = float((pulls[filled] ** 2).sum())
    ndof = int(filled.sum()) - int(normalise)
    p_value = float(stats.chi2.sf(chi2, ndof)) if ndof > 0 else math.nan
    return Comparison(pulls=pulls, chi2=chi2, ndof=ndof, p_value=p_value, scale=scale)
