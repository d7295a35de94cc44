"""Frechet physics distance (FPD): distance of the Gaussians with the samples' means and covariances.

``|mu_1 - mu_2|^2 + Tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2))`` of features divided by the reference's largest magnitude
(Kansal et al., arXiv:2211.10295).  Its estimate from N events is biased by a term that falls like 1/N; FPD is the value
extrapolated to infinitely many.  Two protocols:

* ``jetnet``: that of the jetnet library, draw by draw: ten sizes equally spaced in 1/N, twenty samples *with
  replacement* at each, a straight line with both coefficients >= 0.  The bias of the finite pool that is drawn from
  stays, the intercept cannot be negative, and the error is that of the fit alone.
* ``strict``: a straight line in 1/N through all events and through all but a twentieth of them, which is a jackknife;
  unbiased to order 1/N for any sample size, negative or positive for samples of one distribution, with the statistical
  error.  For samples of one distribution that error is on the large side.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh, svdvals
from scipy.optimize import OptimizeWarning, curve_fit

from cathode.comparison.estimate import Estimate, jackknife, random_groups
from cathode.comparison.samples import checked_pair
from cathode.support.errors import UserError
from cathode.support.seeding import numpy_generator

__all__ = ["Protocol", "fpd", "frechet_distance", "in_units_of_reference"]

Protocol = Literal["strict", "jetnet"]


def fpd(
    reference: ArrayLike,
    sample: ArrayLike,
    *,
    protocol: Protocol = "strict",
    seed: int = 42,
    groups: int = 20,
    min_samples: int = 10_000,
    max_samples: int = 50_000,
    draws: int = 20,
    points: int = 10,
) -> Estimate:
    """Frechet physics distance of two samples of features.

    Args:
        reference: Features of the truth ``(N, D)``.
        sample: Features of what is tested ``(M, D)``.
        protocol: ``strict`` or ``jetnet``; see the module.
        seed: Of groups or draws.
        groups: Groups of the jackknife (``strict``).
        min_samples: Smallest drawn sample (``jetnet``; the library's default is 20,000).
        max_samples: Largest drawn sample (``jetnet``).
        draws: Samples per size (``jetnet``).
        points: Number of sizes (``jetnet``).

    Raises:
        UserError: Unusable samples, too few events for the groups, or an unknown protocol.
    """
    first, second = checked_pair(reference, sample)
    first, second = in_units_of_reference(first, second)
    if protocol == "jetnet":
        return _jetnet(first, second, min_samples, max_samples, draws, points, seed)
    if protocol != "strict":
        raise UserError(f"unknown FPD protocol {protocol!r}: use 'strict' or 'jetnet'")
    return _strict(first, second, groups, seed)


def frechet_distance(mean_1: np.ndarray, cov_1: np.ndarray, mean_2: np.ndarray, cov_2: np.ndarray) -> float:
    """Squared 2-Wasserstein distance of two Gaussians (Dowson and Landau 1982); covariances may be singular.

    ``Tr (C_1 C_2)^(1/2)`` is the sum of the singular values of ``A_1^T A_2`` with ``C = A A^T``: no root of a product
    that is not symmetric, and no offset when a feature is constant.
    """
    roots = []
    for covariance in (cov_1, cov_2):
        values, vectors = eigh(covariance)
        roots.append(vectors * np.sqrt(np.clip(values, 0.0, None)))
    cross = float(svdvals(roots[0].T @ roots[1]).sum())
    shift = mean_1 - mean_2
    return float(shift @ shift + np.trace(cov_1) + np.trace(cov_2) - 2.0 * cross)


def in_units_of_reference(reference: np.ndarray, sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both samples divided by the largest magnitude of each feature in the reference; all-zero features stay."""
    largest = np.abs(reference).max(axis=0)
    largest[largest == 0] = 1.0
    return reference / largest, sample / largest


def _strict(first: np.ndarray, second: np.ndarray, groups: int, seed: int) -> Estimate:
    if groups < 2 or min(len(first), len(second)) < 2 * groups:
        raise UserError(
            f"FPD with {groups} groups needs at least 2 groups and 2 events per group, "
            f"got {len(first)} and {len(second)} events"
        )
    centre = first.mean(axis=0)
    sums = [
        _group_sums(x - centre, random_groups(len(x), groups, numpy_generator(seed, "fpd", side)))
        for side, x in enumerate((first, second))
    ]
    full = _distance_without(sums, None)
    without = np.array([_distance_without(sums, g) for g in range(groups)])
    return Estimate(*jackknife(full, without, extrapolate=True))


_Sums = tuple[np.ndarray, np.ndarray, np.ndarray]


def _group_sums(x: np.ndarray, groups: list[np.ndarray]) -> _Sums:
    """Counts, sums and sums of outer products of each group."""
    parts = [x[rows] for rows in groups]
    return (
        np.array([len(part) for part in parts], dtype=np.float64),
        np.array([part.sum(axis=0) for part in parts]),
        np.array([part.T @ part for part in parts]),
    )


def _distance_without(sums: list[_Sums], group: int | None) -> float:
    moments = []
    for count, total, outer in sums:
        kept = slice(None) if group is None else np.arange(len(count)) != group
        n = count[kept].sum()
        mean = total[kept].sum(axis=0) / n
        moments += [mean, (outer[kept].sum(axis=0) - n * np.outer(mean, mean)) / (n - 1)]
    return frechet_distance(*moments)


def _jetnet(
    first: np.ndarray, second: np.ndarray, min_samples: int, max_samples: int, draws: int, points: int, seed: int
) -> Estimate:
    if not 2 <= min_samples <= max_samples or draws < 1 or points < 3:
        raise UserError(
            f"FPD needs 2 <= min_samples <= max_samples, a draw and 3 points, got {min_samples} and {max_samples}, "
            f"{draws} and {points}"
        )
    sizes = (1 / np.linspace(1.0 / min_samples, 1.0 / max_samples, points)).astype(np.int32)
    generator = np.random.default_rng(seed)
    values = np.empty(points)
    for k, size in enumerate(sizes):
        distances = []
        for _ in range(draws):
            rows = [generator.choice(len(x), size=size) for x in (first, second)]
            distances.append(frechet_distance(*_drawn_moments(first, rows[0]), *_drawn_moments(second, rows[1])))
        values[k] = np.mean(distances)
    # The library's own optimiser: on the bound it stops some per cent of the error away from the least squares.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)  # values without any spread have no error
        line, covariance = curve_fit(_line, 1 / sizes, values, bounds=([0, 0], [np.inf, np.inf]))
    return Estimate(float(line[0]), float(np.sqrt(covariance[0, 0])))


def _line(x: np.ndarray, intercept: float, slope: float) -> np.ndarray:
    return intercept + slope * x


def _drawn_moments(x: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of rows drawn with replacement."""
    n = len(rows)
    if n < len(x):
        drawn = x[rows]
        mean = drawn.mean(axis=0)
        drawn -= mean
        return mean, drawn.T @ drawn / (n - 1)
    times = np.bincount(rows, minlength=len(x)).astype(np.float64)
    mean = times @ x / n
    centred = x - mean
    return mean, (centred * times[:, None]).T @ centred / (n - 1)
