"""Birthday paradox: how many different events can a generator make? (Arora and Zhang, arXiv:1706.08224)

Among s independent draws from n equally likely events two coincide with probability 1/2 when ``s = sqrt(2 n ln 2)``, so
coincidences in a batch measure the size of the support.  Continuous events never coincide; two are called *alike* when
they are closer than a radius, and the fraction of alike pairs is one over the effective number of different events at
that resolution.  The radius is taken from the reference, where a given number of pairs is alike; a generator that
repeats itself has more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cathode.comparison.estimate import Estimate
from cathode.comparison.neighbours import squared_distances
from cathode.support.errors import UserError
from cathode.support.seeding import numpy_generator

__all__ = ["SupportSize", "support_size"]


@dataclass(frozen=True)
class SupportSize:
    """Result of :func:`support_size`.

    Attributes:
        reference: Effective number of different reference events, one over the fraction of alike pairs.
        sample: The same of the sample; its error is infinite if no pair is alike.
        ratio: ``sample / reference``; 1 for samples of one distribution, below 1 if the sample repeats itself.
        radius: Distance up to which events are alike, in the units of the features.
        alike: Number of alike pairs, ``(reference, sample)``.
        identical: Number of pairs that are the same event, ``(reference, sample)``.
        batch: Batch size with an even chance of one alike pair, ``(reference, sample)``.
        events: Number of events looked at, ``(reference, sample)``.
    """

    reference: Estimate
    sample: Estimate
    ratio: Estimate
    radius: float
    alike: tuple[int, int]
    identical: tuple[int, int]
    batch: tuple[float, float]
    events: tuple[int, int]


def support_size(
    reference: ArrayLike,
    sample: ArrayLike,
    *,
    alike: int = 400,
    max_events: int = 5000,
    seed: int = 0,
) -> SupportSize:
    """Effective number of different events of both samples, at the resolution that the reference sets.

    Events of the reference that are identical (empty ones, say) do not set the radius: it is chosen among the pairs
    with a distance, and identical pairs count as alike in both samples.  The error of the fraction of alike pairs is
    that of a U-statistic, as one event can be in many of them.

    Args:
        reference: Events of the truth ``(N, D)``.
        sample: Events that are tested ``(M, D)``, in the same features.
        alike: Number of different but alike pairs of the reference that sets the radius.
        max_events: Events used of each sample, as time grows with their square.
        seed: Of the thinning.

    Raises:
        UserError: Samples of different features, too few events, or a reference of identical events only.
    """
    first, second = (
        _thinned(x, max_events, numpy_generator(seed, "support", side)) for side, x in enumerate((reference, sample))
    )
    if first.ndim != 2 or first.shape[1:] != second.shape[1:]:
        raise UserError(f"samples have shapes {first.shape} and {second.shape}: compare the same columns")
    pairs = [len(x) * (len(x) - 1) // 2 for x in (first, second)]
    if alike < 1 or pairs[0] < 2 * alike or pairs[1] < 1:
        raise UserError(
            f"{alike} alike pairs need a few times more pairs, got {pairs[0]} of the reference and {pairs[1]}: "
            "lower 'alike' or give more events"
        )
    radius = _radius(first, alike)
    counts = [_alike(x, radius) for x in (first, second)]
    sizes = []
    for close, x in ((counts[0][0], first), (counts[1][0], second)):
        fraction, error = _fraction(close, len(x))
        sizes.append(
            Estimate(1.0 / fraction, error / fraction**2, float("nan"))
            if fraction > 0
            else Estimate(float("inf"), float("inf"), float("nan"))
        )
    ratio = sizes[1].value / sizes[0].value
    relative = math.hypot(*(s.error / s.value if math.isfinite(s.value) else math.inf for s in sizes))
    return SupportSize(
        reference=sizes[0],
        sample=sizes[1],
        ratio=Estimate(ratio, ratio * relative, 1.0),
        radius=float(np.sqrt(radius)),
        alike=(int(counts[0][0].sum()) // 2, int(counts[1][0].sum()) // 2),
        identical=(counts[0][1] // 2, counts[1][1] // 2),
        batch=(float(np.sqrt(2 * np.log(2) * sizes[0].value)), float(np.sqrt(2 * np.log(2) * sizes[1].value))),
        events=(len(first), len(second)),
    )


def _thinned(x: ArrayLike, max_events: int, generator: np.random.Generator) -> np.ndarray:
    array = np.asarray(x)
    if len(array) > max_events:
        array = array[np.sort(generator.choice(len(array), size=max_events, replace=False))]
    return array


def _radius(x: np.ndarray, alike: int) -> float:
    """Squared distance of the ``alike`` closest pairs of different events."""
    kept = 2 * alike  # every pair is seen from both its ends
    smallest = np.empty(0, dtype=np.float32)
    for _, distance in squared_distances(x, x):
        values = distance[distance > 0]
        if len(values) > kept:
            values = np.partition(values, kept - 1)[:kept]
        smallest = np.sort(np.concatenate([smallest, values]))[:kept]
    if len(smallest) < kept:
        raise UserError("almost all events of the reference are identical: there is no radius to call two alike")
    return float(smallest[-1])


def _alike(x: np.ndarray, radius: float) -> tuple[np.ndarray, int]:
    """Number of alike others of each event, and of ordered identical pairs."""
    close, identical = np.empty(len(x), dtype=np.int64), 0
    for block, distance in squared_distances(x, x):
        distance[np.arange(len(distance)), np.arange(block.start, block.stop)] = np.inf
        close[block] = (distance <= radius).sum(axis=1)
        identical += int((distance == 0).sum())
    return close, identical


def _fraction(close: np.ndarray, n: int) -> tuple[float, float]:
    """Fraction of alike pairs and its error: that of a U-statistic plus the counting of pairs."""
    share = close / (n - 1)
    fraction = float(share.mean())
    # 4 zeta_1 / n + 2 zeta_2 / n^2; the spread of the shares has a counting part that belongs to the second term.
    pairs = n * (n - 1) / 2
    between = max(float(np.var(share, ddof=1)) - fraction / (n - 1), 0.0)
    return fraction, float(np.sqrt(4.0 * between / n + fraction / pairs))
