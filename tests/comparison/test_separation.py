from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cathode.comparison.separation import grouped_separation, separation
from cathode.support.errors import UserError

counts = st.lists(st.integers(0, 1000), min_size=5, max_size=5).filter(any)


@given(counts, counts)
def test_it_is_symmetric_bounded_and_zero_for_proportional_histograms(a, b):
    value = separation(a, b).value
    assert 0 <= value <= 1 + 1e-12
    assert value == pytest.approx(separation(b, a).value, abs=1e-12)
    assert separation(a, 3 * np.array(a)).value == pytest.approx(0.0, abs=1e-12)


def test_known_values():
    assert separation([1, 0], [0, 5]).value == pytest.approx(1.0)
    assert separation([3, 1], [1, 3]).value == pytest.approx(0.25)
    # The published formula with its epsilon.
    p, q = np.array([0.1, 0.4, 0.5, 0.0]), np.array([0.3, 0.3, 0.4, 0.0])
    published = 0.5 * np.sum((p - q) ** 2 / (p + q + 1e-16))
    assert separation(10 * p, 20 * q).value == pytest.approx(published)


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.3])
def test_expectation_and_error_cover_repetitions(shift):
    p = np.exp(-np.linspace(0, 3, 30))
    q = p * np.exp(shift * np.linspace(-1, 1, 30))
    p, q = p / p.sum(), q / q.sum()
    rng = np.random.default_rng(0)
    results = [separation(rng.multinomial(2000, p), rng.multinomial(3000, q)) for _ in range(300)]
    values = np.array([r.value for r in results])
    assert np.median([r.error for r in results]) == pytest.approx(values.std(), rel=0.25)
    truth = 0.5 * np.sum((p - q) ** 2 / (p + q))
    assert values.mean() == pytest.approx(truth + results[0].expected, rel=0.05)


def test_grouped_agrees_with_independent_entries_and_knows_correlated_ones():
    rng = np.random.default_rng(1)
    p = np.array([0.4, 0.3, 0.2, 0.1])

    def sample(bunch: int) -> np.ndarray:
        """50 groups of 40 bunches of equal entries."""
        return bunch * rng.multinomial(40, p, size=50)

    for bunch in (1, 10):
        results = [grouped_separation(sample(bunch), sample(bunch)) for _ in range(200)]
        values = np.array([r.value for r in results])
        # Bunches of equal entries fluctuate as their number does, whatever their size.
        assert np.mean([r.expected for r in results]) == pytest.approx(3 / 4 * 2 / 2000, rel=0.05)
        assert values.mean() == pytest.approx(np.mean([r.expected for r in results]), rel=0.15)
        assert np.median([r.error for r in results]) == pytest.approx(values.std(), rel=0.35)
    naive = separation(sample(10).sum(axis=0), sample(10).sum(axis=0))
    assert naive.expected < 0.2 * results[0].expected


def test_bad_input_is_refused():
    with pytest.raises(UserError, match="same bins"):
        separation([1, 2], [1, 2, 3])
    with pytest.raises(UserError, match="no entries"):
        separation([0, 0], [1, 2])
    with pytest.raises(UserError, match="negative"):
        separation([-1, 2], [1, 2])
    with pytest.raises(UserError, match="at least two groups"):
        grouped_separation([[1, 2]], [[1, 2], [2, 1]])
