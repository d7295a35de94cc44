"""Kernel physics distance (KPD): unbiased squared maximum mean discrepancy with the kernel ``(x.y / D + 1)^4``.

Features are divided by the reference's largest magnitude (Kansal et al., arXiv:2211.10295).  Two protocols:

* ``jetnet``: that of the jetnet library, draw by draw: median of ten batches drawn *with replacement*, and half the
  range between 16 % and 84 % of them, which is the spread of one batch.  Events drawn twice bias each batch upwards.
* ``strict``: one estimate from all pairs of different events, unbiased, with its jackknife error.  For samples of one
  distribution that error is on the large side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cathode.comparison.estimate import Estimate, jackknife, random_groups
from cathode.comparison.frechet import Protocol, in_units_of_reference
from cathode.comparison.samples import checked_pair, thinned
from cathode.support.errors import UserError
from cathode.support.seeding import numpy_generator

__all__ = ["kpd"]

_DEGREE = 4
_BLOCK = 512  # rows: a block of the kernel stays in the processor's cache


def kpd(
    reference: ArrayLike,
    sample: ArrayLike,
    *,
    protocol: Protocol = "strict",
    seed: int = 42,
    groups: int = 20,
    max_events: int | None = 20_000,
    batches: int = 10,
    batch_size: int = 10_000,
) -> Estimate:
    """Kernel physics distance of two samples of features.

    Args:
        reference: Features of the truth ``(N, D)``.
        sample: Features of what is tested ``(M, D)``.
        protocol: ``strict`` or ``jetnet``; see the module.
        seed: Of thinning and groups, or of the draws.
        groups: Groups of the jackknife (``strict``).
        max_events: Events used of each sample, as time grows with their square (``strict``).
        batches: Number of batches (``jetnet``).
        batch_size: Events per batch (``jetnet``; the library's default is 5,000).

    Raises:
        UserError: Unusable samples, too few events for the groups, or an unknown protocol.
    """
    first, second = checked_pair(reference, sample)
    first, second = in_units_of_reference(first, second)
    if protocol == "jetnet":
        return _jetnet(first, second, batches, batch_size, seed)
    if protocol != "strict":
        raise UserError(f"unknown KPD protocol {protocol!r}: use 'strict' or 'jetnet'")
    thin = [
        thinned(x, np.ones(len(x)), max_events, numpy_generator(seed, "kpd", "thin", side))[0]
        for side, x in enumerate((first, second))
    ]
    return _strict(thin[0], thin[1], groups, seed)


def _strict(first: np.ndarray, second: np.ndarray, groups: int, seed: int) -> Estimate:
    if groups < 2 or min(len(first), len(second)) < 2 * groups:
        raise UserError(
            f"KPD with {groups} groups needs at least 2 groups and 2 events per group, "
            f"got {len(first)} and {len(second)} events"
        )
    x, y = (
        [sample[rows] for rows in random_groups(len(sample), groups, numpy_generator(seed, "kpd", side))]
        for side, sample in enumerate((first, second))
    )
    counts = np.array([[len(part) for part in parts] for parts in (x, y)], dtype=np.float64)
    within = [_group_sums(parts, parts, symmetric=True) for parts in (x, y)]
    for sums, parts in zip(within, (x, y), strict=True):
        sums[np.diag_indices(groups)] -= [_diagonal(part).sum() for part in parts]
    between = _group_sums(x, y, symmetric=False)
    full = _mmd(counts, within, between, np.ones(groups, dtype=bool))
    without = np.array([_mmd(counts, within, between, np.arange(groups) != g) for g in range(groups)])
    return Estimate(*jackknife(full, without))


def _group_sums(x: list[np.ndarray], y: list[np.ndarray], *, symmetric: bool) -> np.ndarray:
    """Sum of the kernel over all pairs of each pair of groups ``(G, G)``."""
    sums = np.zeros((len(x), len(y)))
    for a, first in enumerate(x):
        for b in range(a if symmetric else 0, len(y)):
            sums[a, b] = _weighted_sum(first, y[b], np.ones(len(first)), np.ones(len(y[b])))
            if symmetric:
                sums[b, a] = sums[a, b]
    return sums


def _mmd(counts: np.ndarray, within: list[np.ndarray], between: np.ndarray, kept: np.ndarray) -> float:
    m, n = counts[:, kept].sum(axis=1)
    inside = np.ix_(kept, kept)
    return float(
        within[0][inside].sum() / (m * (m - 1))
        + within[1][inside].sum() / (n * (n - 1))
        - 2.0 * between[inside].sum() / (m * n)
    )


def _jetnet(first: np.ndarray, second: np.ndarray, batches: int, batch_size: int, seed: int) -> Estimate:
    if batches < 1 or batch_size < 2:
        raise UserError(f"KPD needs a batch of at least 2 events, got {batches} batches of {batch_size}")
    values = []
    for k in range(batches):
        generator = np.random.default_rng(seed + 1000 * k)
        drawn = [generator.choice(len(x), size=batch_size) for x in (first, second)]
        # Events drawn several times enter with that weight: far fewer pairs, the same sums.
        (a, u), (b, v) = (
            (x[rows], times.astype(np.float64))
            for x, (rows, times) in zip((first, second), (np.unique(d, return_counts=True) for d in drawn), strict=True)
        )
        pairs = batch_size * (batch_size - 1)
        values.append(
            (_weighted_sum(a, a, u, u) - u @ _diagonal(a)) / pairs
            + (_weighted_sum(b, b, v, v) - v @ _diagonal(b)) / pairs
            - 2.0 * _weighted_sum(a, b, u, v) / batch_size**2
        )
    low, high = np.percentile(values, [16.275, 83.725])
    return Estimate(float(np.median(values)), float(high - low) / 2)


def _weighted_sum(x: np.ndarray, y: np.ndarray, u: np.ndarray, v: np.ndarray) -> float:
    """``sum_ij u_i v_j k(x_i, y_j)``; of one sample with itself only half of the blocks are computed."""
    total, same = 0.0, x is y
    for i in range(0, len(x), _BLOCK):
        rows, weight = x[i : i + _BLOCK], u[i : i + _BLOCK]
        for j in range(i if same else 0, len(y), _BLOCK):
            part = weight @ _kernel(rows, y[j : j + _BLOCK]) @ v[j : j + _BLOCK]
            total += float(part) * (2.0 if same and j > i else 1.0)
    return total


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    kernel = x @ y.T
    kernel /= x.shape[1]
    kernel += 1.0
    np.square(kernel, out=kernel)
    return np.square(kernel, out=kernel)


def _diagonal(x: np.ndarray) -> np.ndarray:
    return (np.einsum("ij,ij->i", x, x) / x.shape[1] + 1.0) ** _DEGREE
