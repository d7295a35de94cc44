"""Where two samples differ: per-feature histograms, distances and pulls, and pulls of the correlations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import kstwobign, rankdata, wasserstein_distance

from cathode.comparison.samples import checked_pair, checked_weights
from cathode.support.errors import UserError

__all__ = ["CorrelationPulls", "Marginal", "correlation_pulls", "marginals"]


@dataclass(frozen=True)
class Marginal:
    """Comparison of one feature of ``x`` with the same feature of ``y``.

    Attributes:
        name: Name of the feature.
        edges: Bin edges ``(bins + 1,)``, in units of the feature: quantiles of both samples together.
        x_fraction: Fraction of the weight of ``x`` per bin ``(bins,)``.
        y_fraction: The same for ``y``.
        pulls: ``(x_fraction - y_fraction) / error`` per bin; 0 in bins without events.
        chi2: Sum of the squared pulls.
        ndof: Bins with events minus one.
        p_value: Of ``chi2``.
        wasserstein: 1-Wasserstein distance in standard deviations of ``y``.
        ks: Largest distance of the cumulative distributions.
        ks_p_value: Of ``ks`` (Kolmogorov's asymptotic law with the effective numbers of events).
    """

    name: str
    edges: np.ndarray
    x_fraction: np.ndarray
    y_fraction: np.ndarray
    pulls: np.ndarray
    chi2: float
    ndof: int
    p_value: float
    wasserstein: float
    ks: float
    ks_p_value: float


@dataclass(frozen=True)
class CorrelationPulls:
    """Difference of the correlation matrices of two samples.

    Attributes:
        method: ``"pearson"`` or ``"spearman"``.
        x: Correlations of ``x``, ``(D, D)``.
        y: Correlations of ``y``, ``(D, D)``.
        error: Standard error of ``x - y``, ``(D, D)``; 0 on the diagonal.
        pulls: ``(x - y) / error``, ``(D, D)``; 0 where the error vanishes.
    """

    method: str
    x: np.ndarray
    y: np.ndarray
    error: np.ndarray
    pulls: np.ndarray

    @property
    def largest(self) -> float:
        """Largest absolute pull."""
        return float(np.abs(self.pulls).max())


def marginals(
    x: ArrayLike,
    y: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    bins: int = 40,
    x_weight: ArrayLike | None = None,
    y_weight: ArrayLike | None = None,
) -> list[Marginal]:
    """Compare each feature of ``x`` ``(N, D)`` with that of ``y`` ``(M, D)``; shapes only, not the total weights.

    The variance of a bin's fraction is the sum of its squared weights, of both samples scaled to the same total, with
    the multinomial constraint left to the number of degrees of freedom.  Bins of few events make the p-value
    approximate: keep at least some 20 effective events per bin.

    Raises:
        UserError: Unusable samples or weights, wrong number of names, fewer than two bins.
    """
    first, second, u, v = _checked(x, y, x_weight, y_weight)
    labels = [f"feature {k}" for k in range(first.shape[1])] if names is None else list(names)
    if len(labels) != first.shape[1]:
        raise UserError(f"{len(labels)} names for {first.shape[1]} features: give one name per column")
    if bins < 2:
        raise UserError(f"bins={bins}: comparing shapes needs at least 2 bins")
    return [_marginal(label, first[:, k], second[:, k], u, v, bins) for k, label in enumerate(labels)]


def correlation_pulls(
    x: ArrayLike,
    y: ArrayLike,
    *,
    method: str = "pearson",
    x_weight: ArrayLike | None = None,
    y_weight: ArrayLike | None = None,
) -> CorrelationPulls:
    """Compare the correlation matrices of ``x`` ``(N, D)`` and ``y`` ``(M, D)``.

    The error is that of the influence function ``z_a z_b - r (z_a^2 + z_b^2) / 2``, which holds for any distribution
    with fourth moments.  ``"spearman"`` is Pearson's correlation of the ranks within both samples together, so that
    one transformation serves both.

    Raises:
        UserError: Unusable samples or weights, or an unknown method.
    """
    first, second, u, v = _checked(x, y, x_weight, y_weight)
    if method == "spearman":
        ranks = rankdata(np.concatenate([first, second]), axis=0)
        first, second = ranks[: len(first)], ranks[len(first) :]
    elif method != "pearson":
        raise UserError(f"unknown correlation {method!r}: use 'pearson' or 'spearman'")
    r_x, variance_x = _correlation(first, u)
    r_y, variance_y = _correlation(second, v)
    error = np.sqrt(variance_x + variance_y)
    np.fill_diagonal(error, 0.0)
    pulls = np.divide(r_x - r_y, error, out=np.zeros_like(error), where=error > 0)
    return CorrelationPulls(method, r_x, r_y, error, pulls)


def _checked(
    x: ArrayLike, y: ArrayLike, x_weight: ArrayLike | None, y_weight: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    first, second = checked_pair(x, y)
    u = checked_weights(x_weight, len(first), name="x")
    v = checked_weights(y_weight, len(second), name="y")
    return first, second, u / u.sum(), v / v.sum()


def _marginal(name: str, a: np.ndarray, b: np.ndarray, u: np.ndarray, v: np.ndarray, bins: int) -> Marginal:
    edges = np.unique(np.quantile(np.concatenate([a, b]), np.linspace(0.0, 1.0, bins + 1)))
    if len(edges) < 3:  # one or two distinct values
        low, high = (edges[0], edges[-1]) if len(edges) == 2 else (edges[0] - 0.5, edges[0] + 0.5)
        edges = np.array([low, 0.5 * (low + high), high])
    fraction_a, variance_a = _fractions(a, u, edges)
    fraction_b, variance_b = _fractions(b, v, edges)
    variance = variance_a + variance_b
    used = variance > 0
    pulls = np.divide(fraction_a - fraction_b, np.sqrt(variance), out=np.zeros(len(variance)), where=used)
    chi2, ndof = float(np.sum(pulls**2)), max(int(used.sum()) - 1, 1)
    spread = float(np.sqrt(np.average((b - np.average(b, weights=v)) ** 2, weights=v)))
    ks = _largest_distance(a, b, u, v)
    effective = 1.0 / (np.sum(u**2) + np.sum(v**2))
    return Marginal(
        name=name,
        edges=edges,
        x_fraction=fraction_a,
        y_fraction=fraction_b,
        pulls=pulls,
        chi2=chi2,
        ndof=ndof,
        p_value=float(chi2_distribution.sf(chi2, ndof)),
        wasserstein=float(wasserstein_distance(a, b, u, v)) / (spread if spread > 0 else 1.0),
        ks=ks,
        ks_p_value=float(kstwobign.sf(ks * np.sqrt(effective))),
    )


def _fractions(values: np.ndarray, weight: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.histogram(values, edges, weights=weight)[0],
        np.histogram(values, edges, weights=weight**2)[0],
    )


def _largest_distance(a: np.ndarray, b: np.ndarray, u: np.ndarray, v: np.ndarray) -> float:
    values = np.concatenate([a, b])
    order = np.argsort(values, kind="stable")
    difference = np.cumsum(np.concatenate([u, -v])[order])
    last_of_ties = np.append(values[order][1:] > values[order][:-1], True)
    return float(np.abs(difference[last_of_ties]).max())


def _correlation(x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation matrix and the variance of each of its elements; ``weight`` sums to 1."""
    centred = x - weight @ x
    spread = np.sqrt(weight @ centred**2)
    varies = spread > 1e-12 * np.abs(x).max(axis=0)
    z = np.divide(centred, spread, out=np.zeros_like(centred), where=varies)
    r = (z * weight[:, None]).T @ z
    variance = np.zeros_like(r)
    for a in range(x.shape[1]):
        for b in range(a):
            influence = z[:, a] * z[:, b] - 0.5 * r[a, b] * (z[:, a] ** 2 + z[:, b] ** 2)
            variance[a, b] = variance[b, a] = np.sum((weight * influence) ** 2)
    return r, variance
