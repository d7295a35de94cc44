"""One-dimensional Wasserstein distance with its error and with what chance alone gives."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cathode.comparison.estimate import Estimate, jackknife
from cathode.comparison.samples import checked_pair
from cathode.support.seeding import numpy_generator

__all__ = ["wasserstein"]


def wasserstein(
    sample: ArrayLike, reference: ArrayLike, *, standardise: bool = True, groups: int = 10, seed: int = 0
) -> Estimate:
    """1-Wasserstein distance ``integral |F - G|`` of two samples of one feature, ``(N,)`` and ``(M,)``.

    ``expected`` is that of two samples of one distribution: ``F - G`` is then normal with variance ``H (1 - H) (1/N +
    1/M)``, ``H`` being the distribution of both together.  The error is a grouped jackknife's.

    Args:
        sample: Values of the sample.
        reference: Values of the reference.
        standardise: In standard deviations of the reference (if it has any).
        groups: Of the jackknife.
        seed: Of the groups.

    Raises:
        UserError: Unusable samples.
    """
    first, second = (x[:, 0] for x in checked_pair(np.ravel(sample), np.ravel(reference)))
    spread = float(second.std()) if standardise else 1.0
    unit = spread if spread > 0 else 1.0
    values = np.concatenate([first, second])
    order = np.argsort(values, kind="stable")
    steps = np.diff(values[order]) / unit
    is_first = order < len(first)
    generator = numpy_generator(seed, "wasserstein")
    groups = min(groups, len(first), len(second))
    group = np.concatenate([generator.permutation(np.arange(len(x)) % groups) for x in (first, second)])[order]

    def distance(kept: np.ndarray) -> float:
        cumulative = [np.cumsum(kept & side) for side in (is_first, ~is_first)]
        difference = cumulative[0] / cumulative[0][-1] - cumulative[1] / cumulative[1][-1]
        return float(np.abs(difference[:-1]) @ steps)

    both = np.arange(1, len(values)) / len(values)
    chance = np.sqrt(2.0 / np.pi * (1.0 / len(first) + 1.0 / len(second)))
    value, error = jackknife(
        distance(np.ones(len(values), dtype=bool)), np.array([distance(group != g) for g in range(groups)])
    )
    return Estimate(value, error, float(chance * np.sqrt(both * (1.0 - both)) @ steps))
