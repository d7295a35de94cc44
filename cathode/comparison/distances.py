"""Distances between samples in all dimensions at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from cathode.comparison.samples import checked_pair, checked_weights, thinned
from cathode.support.errors import UserError
from cathode.support.seeding import numpy_generator

__all__ = ["energy_distance", "sliced_wasserstein"]


def sliced_wasserstein(
    x: ArrayLike,
    y: ArrayLike,
    *,
    x_weight: ArrayLike | None = None,
    y_weight: ArrayLike | None = None,
    projections: int = 64,
    standardise: bool = True,
    seed: int = 0,
) -> float:
    """Mean 1-Wasserstein distance of the samples' projections on random directions (Bonneel et al., JMIV 51, 2015).

    Args:
        x: Sample ``(N, D)``.
        y: Reference ``(M, D)``.
        x_weight: Non-negative weights ``(N,)``.
        y_weight: Non-negative weights ``(M,)``.
        projections: Number of directions, uniform on the sphere.
        standardise: Measure each feature in standard deviations of ``y``, so that units do not matter.
        seed: Of the directions.

    Raises:
        UserError: Unusable samples, weights or number of projections.
    """
    first, second = checked_pair(x, y)
    u = checked_weights(x_weight, len(first), name="x")
    v = checked_weights(y_weight, len(second), name="y")
    if projections < 1:
        raise UserError(f"projections={projections}: at least one direction is needed")
    if standardise:
        first, second = _in_units_of(first, second, v)
    directions = numpy_generator(seed, "sliced wasserstein").standard_normal((projections, first.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return float(np.mean([wasserstein_distance(first @ d, second @ d, u, v) for d in directions]))


def energy_distance(
    x: ArrayLike,
    y: ArrayLike,
    *,
    x_weight: ArrayLike | None = None,
    y_weight: ArrayLike | None = None,
    standardise: bool = True,
    max_events: int = 5000,
    seed: int = 0,
) -> float:
    """Unbiased estimate of ``2 E|X-Y| - E|X-X'| - E|Y-Y'|`` (Szekely and Rizzo, JSPI 143, 2013).

    Pairs of an event with itself are left out, so the expectation is 0 for samples of one distribution, and the
    estimate can be slightly negative.

    Args:
        x: Sample ``(N, D)``.
        y: Reference ``(M, D)``.
        x_weight: Non-negative weights ``(N,)``.
        y_weight: Non-negative weights ``(M,)``.
        standardise: Measure each feature in standard deviations of ``y``.
        max_events: Events drawn from each sample; time grows with its square.
        seed: Of the draw.

    Raises:
        UserError: Unusable samples or weights.
    """
    first, second = checked_pair(x, y)
    u = checked_weights(x_weight, len(first), name="x")
    v = checked_weights(y_weight, len(second), name="y")
    if standardise:
        first, second = _in_units_of(first, second, v)
    first, u = thinned(first, u, max_events, numpy_generator(seed, "energy distance", 0))
    second, v = thinned(second, v, max_events, numpy_generator(seed, "energy distance", 1))
    between = _sum_of_distances(first, second, u, v) / (u.sum() * v.sum())
    within_x = _sum_of_distances(first, first, u, u) / (u.sum() ** 2 - np.sum(u**2))
    within_y = _sum_of_distances(second, second, v, v) / (v.sum() ** 2 - np.sum(v**2))
    return float(2.0 * between - within_x - within_y)


def _in_units_of(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = np.average(y, axis=0, weights=weight)
    spread = np.sqrt(np.average((y - mean) ** 2, axis=0, weights=weight))
    spread[spread == 0] = 1.0
    return (x - mean) / spread, (y - mean) / spread


def _sum_of_distances(a: np.ndarray, b: np.ndarray, u: np.ndarray, v: np.ndarray, rows: int = 1000) -> float:
    """Weighted sum of all distances, by blocks of rows so that memory stays bounded."""
    return float(sum(u[k : k + rows] @ (cdist(a[k : k + rows], b) @ v) for k in range(0, len(a), rows)))
