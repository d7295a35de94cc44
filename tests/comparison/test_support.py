from __future__ import annotations

import numpy as np
import pytest

from cathode.comparison.support import support_size
from cathode.support.errors import UserError


def test_a_finite_support_is_counted():
    """Draws from n patterns with a little noise: one over the fraction of alike pairs is n."""
    rng = np.random.default_rng(0)
    patterns = rng.standard_normal((200, 20))

    def drawn(n: int, events: int) -> np.ndarray:
        return patterns[rng.integers(0, n, events)] + 0.02 * rng.standard_normal((events, 20))

    result = support_size(drawn(200, 1500), drawn(50, 1500), alike=5600)
    assert abs(result.reference.value - 200) < 4 * result.reference.error
    assert abs(result.sample.value - 50) < 4 * result.sample.error < 20
    assert result.batch[1] == pytest.approx(np.sqrt(2 * np.log(2) * 50), rel=0.1)


def test_birthday_batch_has_an_even_chance():
    """What the batch size claims, tried: half of the batches from 365 days have two alike."""
    rng = np.random.default_rng(1)
    days = np.eye(365)
    year = days[rng.integers(0, 365, 3000)] + 1e-3 * rng.standard_normal((3000, 365))
    # Unequal birthdays are sqrt(2) apart: every pair of one day is alike.
    same = sum(c * (c - 1) // 2 for c in np.bincount(year.argmax(axis=1)))
    batch = support_size(year, year, alike=same).batch[0]
    assert batch == pytest.approx(np.sqrt(2 * np.log(2) * 365), rel=0.05)
    tries = [len(np.unique(rng.integers(0, 365, round(batch)))) < round(batch) for _ in range(2000)]
    assert np.mean(tries) == pytest.approx(0.5, abs=0.05)


def test_one_distribution_has_ratio_one():
    pulls = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        result = support_size(rng.standard_normal((400, 3)), rng.standard_normal((500, 3)), alike=300)
        assert result.alike[0] == 300
        pulls.append(result.ratio.pull)
    assert abs(np.mean(pulls)) < 0.7
    assert 0.4 < np.std(pulls) < 1.6


def test_strata_are_compared_on_their_own():
    """A dense stratum would take all alike pairs; with strata a collapse in the sparse one is seen."""
    rng = np.random.default_rng(2)
    label = np.repeat([0, 1], 300)
    scale = np.where(label == 0, 0.01, 1.0)[:, None]
    x, y = scale * rng.standard_normal((600, 6)), scale * rng.standard_normal((600, 6))
    y[300:] = y[rng.integers(300, 310, 300)] + 0.1 * rng.standard_normal((300, 6))
    together, apart = support_size(x, y, alike=200), support_size(x, y, alike=200, strata=(label, label))
    assert len(apart.radii) == 2
    assert apart.radii[0] < 0.1 < apart.radii[1]
    assert apart.ratio.value < 0.2
    assert together.ratio.value > 0.6


def test_identical_events_count_and_do_not_set_the_radius():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((300, 4)), rng.standard_normal((300, 4))
    x[:10] = 0.5
    result = support_size(x, y, alike=50)
    assert result.identical == (45, 0)
    assert result.alike[0] == 95
    assert result.radii[0] > 0


def test_no_alike_pair_is_an_infinite_support():
    rng = np.random.default_rng(4)
    result = support_size(1e-3 * rng.standard_normal((100, 5)), rng.standard_normal((100, 5)), alike=10)
    assert result.sample.value == np.inf
    assert result.alike == (10, 0)


def test_bad_input_is_refused():
    x = np.random.default_rng(5).standard_normal((50, 2))
    with pytest.raises(UserError, match="lower 'alike'"):
        support_size(x, x, alike=1000)
    with pytest.raises(UserError, match="compare the same columns"):
        support_size(x, x[:, :1], alike=10)
    with pytest.raises(UserError, match="identical"):
        support_size(np.zeros((50, 2)), x, alike=10)
    with pytest.raises(UserError, match="one integer per event"):
        support_size(x, x, alike=10, strata=(np.zeros(3), np.zeros(50)))
