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
        radii: Distance up to which events are alike in each stratum, in the units of the features.
        alike: Number of alike pairs, ``(reference, sample)``.
        identical: Number of pairs that are the same event, to 2 per mille of its norm, ``(reference, sample)``.
        batch: Batch size with an even chance of one alike pair, ``(reference, sample)``.
        events: Number of events looked at, ``(reference, sample)``; strata that one sample lacks are left out.
    """

    reference: Estimate
    sample: Estimate
    ratio: Estimate
    radii: tuple[float, ...]
    alike: tuple[int, int]
    identical: tuple[int, int]
    batch: tuple[float, float]
    events: tuple[int, int]


def support_size(
    reference: ArrayLike,
    sample: ArrayLike,
    *,
    strata: tuple[ArrayLike, ArrayLike] | None = None,
    alike: int = 400,
    max_events: int = 5000,
    seed: int = 0,
) -> SupportSize:
    """Effective number of different events of both samples, at the resolution that the reference sets.

    Events of the reference that are identical (empty ones, say) do not set the radius: it is chosen among the pairs
    with a distance, and identical pairs count as alike in both samples.  With ``strata`` (intervals of a condition)
    only pairs within one stratum are looked at, each with a radius of its own, so that no region of dense events speaks
    for all.  The error of the fraction of alike pairs is that of a U-statistic, as one event can be in many of them.

    Args:
        reference: Events of the truth ``(N, D)``.
        sample: Events that are tested ``(M, D)``, in the same features.
        strata: Stratum of each event, integers ``(N,)`` and ``(M,)``.
        alike: Number of different but alike pairs of the reference that sets the radius (in all strata together).
        max_events: Events used of each sample, as time grows with their square.
        seed: Of the thinning.

    Raises:
        UserError: Samples of different features, too few events, or a reference of identical events only.
    """
    labels = (None, None) if strata is None else strata
    (first, in_first), (second, in_second) = (
        _thinned(x, label, max_events, numpy_generator(seed, "support", side))
        for side, (x, label) in enumerate(zip((reference, sample), labels, strict=True))
    )
    if first.ndim != 2 or first.shape[1:] != second.shape[1:]:
        raise UserError(f"samples have shapes {first.shape} and {second.shape}: compare the same columns")
    parts = [(first[in_first == s], second[in_second == s]) for s in np.unique(in_first)]
    parts = [(a, b) for a, b in parts if min(len(a), len(b)) > 1]
    pairs = [sum(len(part[k]) * (len(part[k]) - 1) // 2 for part in parts) for k in (0, 1)]
    if alike < 1 or pairs[0] < 2 * alike:
        raise UserError(
            f"{alike} alike pairs need a few times more pairs, got {pairs[0]} of the reference and {pairs[1]}: "
            "lower 'alike' or give more events"
        )
    tallies: tuple[list[_Tally], list[_Tally]] = ([], [])
    radii = []
    for a, b in parts:
        wanted = max(1, round(alike * len(a) * (len(a) - 1) / 2 / pairs[0]))
        radius = _radius(a, wanted)
        radii.append(float(np.sqrt(radius)))
        for tally, x in zip(tallies, (a, b), strict=True):
            tally.append(_alike(x, radius))
    sizes = [_size(tally) for tally in tallies]
    ratio = sizes[1].value / sizes[0].value
    relative = math.hypot(*(s.error / s.value if math.isfinite(s.value) else math.inf for s in sizes))
    return SupportSize(
        reference=sizes[0],
        sample=sizes[1],
        ratio=Estimate(ratio, ratio * relative, 1.0),
        radii=tuple(radii),
        alike=(_count(tallies[0]), _count(tallies[1])),
        identical=(sum(t.identical for t in tallies[0]), sum(t.identical for t in tallies[1])),
        batch=(float(np.sqrt(2 * np.log(2) * sizes[0].value)), float(np.sqrt(2 * np.log(2) * sizes[1].value))),
        events=(sum(len(a) for a, _ in parts), sum(len(b) for _, b in parts)),
    )


@dataclass(frozen=True)
class _Tally:
    """Alike others of each event of one stratum, and its number of identical pairs."""

    close: np.ndarray
    identical: int


def _thinned(
    x: ArrayLike, strata: ArrayLike | None, max_events: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    array = np.asarray(x)
    labels = np.zeros(len(array), dtype=np.int64) if strata is None else np.asarray(strata)
    if labels.shape != array.shape[:1]:
        raise UserError(f"{labels.shape} strata for {array.shape} events: give one integer per event")
    kept = np.sort(generator.permutation(len(array))[:max_events])
    return array[kept], labels[kept]


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


def _alike(x: np.ndarray, radius: float) -> _Tally:
    close, identical = np.empty(len(x), dtype=np.int64), 0
    for block, distance in squared_distances(x, x):
        distance[np.arange(len(distance)), np.arange(block.start, block.stop)] = np.inf
        close[block] = (distance <= radius).sum(axis=1)
        identical += int((distance == 0).sum())
    return _Tally(close, identical // 2)


def _count(tallies: list[_Tally]) -> int:
    return sum(int(t.close.sum()) for t in tallies) // 2


def _size(tallies: list[_Tally]) -> Estimate:
    """One over the fraction of alike pairs, with the error of a U-statistic and of the counting of pairs."""
    nan = float("nan")
    pairs, variance = 0.0, 0.0
    for tally in tallies:
        n = len(tally.close)
        share = tally.close / (n - 1)
        fraction = float(share.mean())
        # 4 zeta_1 / n + 2 zeta_2 / n^2; the spread of the shares has a counting part that belongs to the second term.
        between = max(float(np.var(share, ddof=1)) - fraction / (n - 1), 0.0)
        own = n * (n - 1) / 2
        pairs += own
        variance += own**2 * (4.0 * between / n + fraction / own)
    count = _count(tallies)
    if count == 0:
        return Estimate(float("inf"), float("inf"), nan)
    return Estimate(pairs / count, pairs / count**2 * math.sqrt(variance), nan)
