"""Separation power of two histograms: ``1/2 sum (p - q)^2 / (p + q)``, the triangular discrimination.

0 for equal histograms, 1 for histograms without a common bin (Topsoe 2000; arXiv:2009.03796, eq. 15).  Fluctuations
always make it larger: of two samples of one distribution it is a chi-squared over four times the number of events.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from cathode.comparison.estimate import Estimate
from cathode.support.errors import UserError

__all__ = ["grouped_separation", "separation"]


def separation(first: ArrayLike, second: ArrayLike) -> Estimate:
    """Separation power of two histograms of independent entries.

    ``expected`` is ``(1/N + 1/M) (K - 1) / 4`` with ``K`` the bins that have entries.  The error adds the
    spread of that chi-squared to the propagated multinomial fluctuations, which vanish for one distribution.

    Args:
        first: Numbers of entries per bin ``(bins,)``.
        second: The same of the other sample, in the same bins.

    Raises:
        UserError: Different numbers of bins, negative counts, or an empty histogram.
    """
    counts = [np.asarray(h, dtype=np.float64) for h in (first, second)]
    _check(counts)
    totals = [c.sum() for c in counts]
    p, q = (c / t for c, t in zip(counts, totals, strict=True))
    value, slopes = _value_and_slopes(p, q)
    chance = sum(1.0 / t for t in totals) / 4.0
    freedom = max(int((p + q > 0).sum()) - 1, 0)
    linear = sum(
        (float(fraction @ slope**2) - float(fraction @ slope) ** 2) / float(total)
        for fraction, slope, total in zip((p, q), slopes, totals, strict=True)
    )
    return Estimate(value, _error(linear, 2.0 * freedom * float(chance) ** 2), freedom * float(chance))


def grouped_separation(first: ArrayLike, second: ArrayLike) -> Estimate:
    """Separation power of two histograms whose entries come in correlated bunches, as the parts of one event do.

    ``expected`` is ``1/2 sum (V_p + V_q) / (p + q)`` with the variances ``V`` of the fractions, which the scatter of
    the groups gives; the error propagates that scatter, and adds the spread that is left for one distribution.

    Args:
        first: Entries per group and bin ``(G, bins)``, groups of equally many bunches.
        second: The same of the other sample ``(H, bins)``.

    Raises:
        UserError: As :func:`separation`, or fewer than two groups.
    """
    counts = [np.asarray(h, dtype=np.float64) for h in (first, second)]
    if any(c.ndim != 2 or len(c) < 2 for c in counts):
        raise UserError("a grouped separation power needs at least two groups of each sample, as rows of counts")
    _check([c.sum(axis=0) for c in counts])
    fractions = [c.sum(axis=0) / c.sum() for c in counts]
    value, slopes = _value_and_slopes(*fractions)
    total = fractions[0] + fractions[1]
    weight = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    covariances = []
    linear = 0.0
    for c, fraction, slope in zip(counts, fractions, slopes, strict=True):
        groups = len(c)
        # Ratio estimator: what each group adds to the fractions beyond its share of all entries.
        influence = (c - c.sum(axis=1, keepdims=True) * fraction) * (groups / c.sum())
        covariances.append(influence.T @ influence / (groups * (groups - 1)))
        linear += float(np.sum((influence @ slope) ** 2)) / (groups * (groups - 1))
    noise = covariances[0] + covariances[1]
    expected = 0.5 * float(np.diag(noise) @ weight)
    scaled = noise * np.sqrt(np.outer(weight, weight))
    return Estimate(value, _error(linear, 0.5 * float(np.sum(scaled**2))), expected)


def _error(linear: float, quadratic: float) -> float:
    """Root of the variance: propagated fluctuations, and those that are left where the slopes vanish.

    The slopes are themselves measured: fluctuations alone make ``linear`` twice ``quadratic``, which is taken off.
    """
    return math.sqrt(max(linear - quadratic, quadratic))


def _value_and_slopes(p: np.ndarray, q: np.ndarray) -> tuple[float, tuple[np.ndarray, np.ndarray]]:
    total = p + q
    ratio = np.divide(p - q, total, out=np.zeros_like(total), where=total > 0)
    return 0.5 * float(np.sum(ratio**2 * total)), (ratio - 0.5 * ratio**2, -ratio - 0.5 * ratio**2)


def _check(counts: list[np.ndarray]) -> None:
    if counts[0].ndim != 1 or counts[0].shape != counts[1].shape:
        raise UserError(f"histograms have shapes {counts[0].shape} and {counts[1].shape}: use the same bins for both")
    if any((c < 0).any() or not np.isfinite(c).all() for c in counts):
        raise UserError("histograms have negative or infinite bins: a separation power needs counts")
    if any(c.sum() <= 0 for c in counts):
        raise UserError("a histogram has no entries: widen the bins, or keep under- and overflow")
