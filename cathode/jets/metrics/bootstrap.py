"""1-Wasserstein distances of resampled jets, as the JetNet metrics quote them.

The JetNet library draws ``num_eval_samples`` jets of each sample *with replacement*, takes the distance, and repeats
that ``num_batches`` times; mean and standard deviation of these are the score [1].  Two samples of one distribution
therefore never reach zero: how far from it they stay depends on the numbers of jets, and has to be measured.

A draw only changes how often each jet counts, so the values are sorted once for all draws.

References:
    [1] R. Kansal et al., Particle cloud generation with message passing generative adversarial networks,
        https://arxiv.org/abs/2106.11535
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cathode.support.errors import UserError

__all__ = ["Bootstrapped", "Column", "resampled_w1"]

Floats = NDArray[np.float64]

#: Values ``(M,)`` of one feature of a sample, and the jet ``(M,)`` each belongs to.
Column = tuple[Floats, NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Bootstrapped:
    """Distances of the features named ``names`` in every batch.

    Attributes:
        names: Of the features.
        values: ``(num_batches, features)``.
    """

    names: tuple[str, ...]
    values: Floats

    @property
    def mean(self) -> Floats:
        """Mean over the batches, per feature ``(features,)``."""
        return np.asarray(self.values.mean(axis=0))

    @property
    def std(self) -> Floats:
        """Standard deviation over the batches (of N, not N - 1), per feature ``(features,)``."""
        return np.asarray(self.values.std(axis=0))

    @property
    def average(self) -> tuple[float, float]:
        """Mean over the features, as published tables quote it, and its standard deviation over the batches."""
        means = self.values.mean(axis=1)
        return float(means.mean()), float(means.std())


def resampled_w1(
    first: Sequence[Column],
    second: Sequence[Column],
    jets: tuple[int, int],
    names: Sequence[str],
    *,
    num_eval_samples: int = 50_000,
    num_batches: int = 5,
    seed: int = 0,
) -> Bootstrapped:
    """Distances of resampled jets.

    Args:
        first: Features of one sample.
        second: The same features of the other.
        jets: Numbers of jets of the two.
        names: Of the features.
        num_eval_samples: Jets drawn of each sample, with replacement.
        num_batches: Repetitions.
        seed: Of the draws: those of the library, if its generator is ``numpy.random.default_rng(seed)``.

    Raises:
        UserError: No jets, or settings below 1.
    """
    if min(jets) < 1:
        raise UserError(f"a distance needs jets on both sides, got {jets[0]} and {jets[1]}")
    if num_eval_samples < 1 or num_batches < 1:
        raise UserError(f"num_eval_samples and num_batches must be positive, got {num_eval_samples} and {num_batches}")
    generator = np.random.default_rng(seed)
    draws = []
    for _ in range(num_batches):
        rows = [generator.choice(count, size=num_eval_samples) for count in jets]
        draws.append([np.bincount(r, minlength=count) for r, count in zip(rows, jets, strict=True)])
    values = np.empty((num_batches, len(names)))
    for feature, (one, two) in enumerate(zip(first, second, strict=True)):
        pooled = np.concatenate([one[0], two[0]])
        order = np.argsort(pooled, kind="stable")
        steps = np.diff(pooled[order])
        is_first = order < len(one[0])
        # Where to look up how often the jet of each value was drawn: first all jets of one sample, then of the other.
        owner = np.concatenate([one[1], two[1] + jets[0]])[order]
        for batch, counts in enumerate(draws):
            times = np.concatenate(counts)[owner].astype(np.float64)
            totals = times[is_first].sum(), times[~is_first].sum()
            if min(totals) == 0:
                # As the library has it: a sample without constituents is infinitely far away.
                values[batch, feature] = np.inf
                continue
            times /= np.where(is_first, totals[0], -totals[1])
            values[batch, feature] = np.abs(np.cumsum(times)[:-1]) @ steps
    return Bootstrapped(tuple(names), values)
