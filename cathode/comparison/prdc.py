"""Precision, recall, density and coverage: do balls around one sample's events hold the other's?

The ball of an event reaches to its k-th nearest neighbour in its own sample.  *Precision* is the fraction of generated
events inside any reference ball, *recall* the fraction of reference events inside any generated ball (Kynkaanniemi et
al., arXiv:1904.06991); *density* counts how many reference balls hold a generated event, over k, and *coverage* is the
fraction of reference balls that hold one (Naeem et al., arXiv:2002.09797).  For samples of one distribution density is
1 and coverage is 1 - 2^-k at equal, large sizes; precision and recall depend on the distribution and on the sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cathode.comparison.estimate import Estimate, jackknife
from cathode.comparison.neighbours import kth_neighbour, squared_distances
from cathode.support.errors import UserError
from cathode.support.seeding import numpy_generator

__all__ = ["PRDC", "expected_coverage", "prdc"]


# Groups of events that the errors' jackknife leaves out in turn.
_GROUPS = 20


@dataclass(frozen=True)
class PRDC:
    """Result of :func:`prdc`.

    Attributes:
        precision: Fraction of the sample inside the reference's balls.
        recall: Fraction of the reference inside the sample's balls.
        density: Mean number of reference balls around an event of the sample, over k.
        coverage: Fraction of the reference's balls that hold an event of the sample.
        neighbours: k.
        events: Number of events compared, ``(reference, sample)``.

    ``expected`` of density and coverage is exact for continuous samples of one distribution; that of precision and
    recall is unknown (NaN): compare two halves of the reference.  Errors have the fluctuations of both samples,
    but for those of the radii.
    """

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate
    neighbours: int
    events: tuple[int, int]


def prdc(
    reference: ArrayLike,
    sample: ArrayLike,
    *,
    neighbours: int = 5,
    closed: bool = True,
    max_events: int | None = 20_000,
    seed: int = 0,
) -> PRDC:
    """Precision, recall, density and coverage of ``sample`` ``(M, D)`` against ``reference`` ``(N, D)``.

    Args:
        reference: Events of the truth.
        sample: Events that are tested, in the same features.
        neighbours: k.
        closed: Count events exactly on a ball's surface.  The published code does not, so that events which occur many
            times, such as empty ones, are never covered; for continuous samples it makes no difference.
        max_events: Events used of each sample, as time grows with their square.
        seed: Of thinning and groups.

    Raises:
        UserError: Samples of different features, with values that are not finite, or with too few events.
    """
    # Shuffled, so that groups of neighbouring rows are random ones.
    first, second = (
        _checked(x, name, max_events, numpy_generator(seed, "prdc", name))
        for x, name in ((reference, "reference"), (sample, "sample"))
    )
    if first.shape[1] != second.shape[1]:
        raise UserError(f"samples have {first.shape[1]} and {second.shape[1]} features: compare the same columns")
    if neighbours < 1 or min(len(first), len(second)) <= neighbours:
        raise UserError(
            f"balls to the {neighbours}. neighbour need more events than that, got {len(first)} and {len(second)}"
        )
    inside = np.less_equal if closed else np.less
    radius_first, radius_second = kth_neighbour(first, neighbours), kth_neighbour(second, neighbours)
    n, m = len(first), len(second)
    groups = min(_GROUPS, n, m)
    starts = np.linspace(0, m, groups, endpoint=False).astype(np.int64)
    owner = np.arange(n) * groups // n
    holding = np.zeros((m, groups), dtype=np.int64)
    held, recalled = np.empty((2, n, groups), dtype=np.int64)
    for block, distance in squared_distances(first, second):
        recalled[block] = _sums(inside(distance, radius_second), starts)
        within = inside(distance, radius_first[block, None])
        held[block] = _sums(within, starts)
        for group in np.unique(owner[block]):
            holding[:, group] += within[owner[block] == group].sum(axis=0)
    total = holding.sum(axis=1), held.sum(axis=1)
    variance = np.var(total[0] / neighbours) / m + np.var(total[1] * (n / (neighbours * m))) / n
    return PRDC(
        precision=_fraction(holding),
        recall=_fraction(recalled),
        density=Estimate(float(total[0].mean() / neighbours), float(np.sqrt(variance)), 1.0),
        coverage=_fraction(held, expected_coverage(n, m, neighbours)),
        neighbours=neighbours,
        events=(n, m),
    )


def expected_coverage(reference: int, sample: int, neighbours: int) -> float:
    """Expectation of the coverage for continuous samples of one distribution (arXiv:2002.09797).

    A ball is empty if the nearest k of the ``reference - 1 + sample`` other events all belong to the reference.
    """
    k = np.arange(neighbours)
    return float(1.0 - np.prod((reference - 1 - k) / (reference + sample - 1 - k)))


def _fraction(counts: np.ndarray, expected: float = float("nan")) -> Estimate:
    """Fraction of rows with any count ``(N, G)``; binomial error, and a jackknife over the other sample's groups."""
    total = counts.sum(axis=1, keepdims=True)
    value = float((total > 0).mean())
    without = (total > counts).mean(axis=0)
    _, other = jackknife(value, without)
    return Estimate(value, float(np.sqrt(value * (1.0 - value) / len(counts) + other**2)), expected)


def _sums(flags: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Number of true columns in each group of columns."""
    return np.add.reduceat(flags, starts, axis=1, dtype=np.int64)


def _checked(x: ArrayLike, name: str, max_events: int | None, generator: np.random.Generator) -> np.ndarray:
    array = np.asarray(x)
    if array.ndim != 2:
        raise UserError(f"sample {name!r} has shape {array.shape}: give events as rows and features as columns")
    array = array[generator.permutation(len(array))[:max_events]]
    if not np.isfinite(array).all():
        raise UserError(f"sample {name!r} has NaN or infinite values: remove those events before comparing")
    return array
