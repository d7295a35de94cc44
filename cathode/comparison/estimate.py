"""A number with its error, and the grouped jackknife that many errors come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Estimate", "jackknife", "random_groups"]


@dataclass(frozen=True)
class Estimate:
    """A measured number.

    Attributes:
        value: The estimate.
        error: Its standard error.
        expected: What two samples of one distribution, of these sizes, give on average; 0 for an unbiased distance.
    """

    value: float
    error: float
    expected: float = 0.0

    @property
    def pull(self) -> float:
        """``(value - expected) / error``; 0 without an error."""
        return (self.value - self.expected) / self.error if self.error > 0 else 0.0


def random_groups(events: int, groups: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Rows ``0 ... events - 1`` shuffled and cut into ``groups`` groups whose sizes differ by one at most."""
    return [np.sort(rows) for rows in np.array_split(generator.permutation(events), groups)]


def jackknife(full: float, without: np.ndarray, *, extrapolate: bool = False) -> tuple[float, float]:
    """Value and standard error from a statistic of all events and of the events without each of ``G`` groups.

    With ``extrapolate`` the value is extrapolated linearly in one over the number of events to infinitely many, from
    the ``full`` sample and the mean of ``without``, which removes a bias that falls like 1/N (Quenouille 1956).

    Args:
        full: Statistic of all events.
        without: Statistics without one group each, ``(G,)``, groups of equal size.
        extrapolate: Remove the bias.
    """
    groups = len(without)
    spread = float(np.sqrt((groups - 1) / groups * np.sum((without - without.mean()) ** 2)))
    return (groups * full - (groups - 1) * float(without.mean()) if extrapolate else full), spread
