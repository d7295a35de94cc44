from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cathode.statistics.efficiency import efficiency, fold_thresholds
from cathode.support.errors import UserError


def test_efficiency_is_binomial():
    result = efficiency(np.arange(1000) < 100)
    assert result.value == 0.1
    assert result.error == pytest.approx(np.sqrt(0.1 * 0.9 / 1000))
    interval = stats.binomtest(100, 1000).proportion_ci(0.6826894921, method="exact")
    assert result.low == pytest.approx(interval.low)
    assert result.high == pytest.approx(interval.high)
    assert efficiency(np.zeros(50, bool)).low == 0
    assert efficiency(np.ones(50, bool)).high == 1


def test_weighted_error_is_the_scatter_over_repetitions():
    generator = np.random.default_rng(1)
    results = []
    for _ in range(400):
        weight = generator.exponential(size=500)
        results.append(efficiency(generator.random(500) < 0.2, weight=weight))
    assert np.std([r.value for r in results]) == pytest.approx(np.mean([r.error for r in results]), rel=0.12)
    assert results[0].effective_events == pytest.approx(250, rel=0.2)


def test_each_fold_passes_the_same_fraction_whatever_its_scale():
    generator = np.random.default_rng(2)
    fold = generator.integers(0, 5, 50_000)
    scores = generator.standard_normal(50_000) * (1 + fold) + 10 * fold
    cuts = fold_thresholds(scores, fold, 0.01)
    np.testing.assert_allclose(cuts.efficiencies, 0.01, atol=1e-4)
    assert cuts.combined.value == pytest.approx(0.01, abs=1e-4)
    fresh = generator.integers(0, 5, 200_000)
    passed = cuts.passed(generator.standard_normal(200_000) * (1 + fresh) + 10 * fresh, fresh)
    error = np.hypot(cuts.combined.error, efficiency(passed).error)
    assert abs(passed.mean() - 0.01) < 4 * error
    json.dumps(cuts.to_dict(), allow_nan=False)


def test_weights_count_as_repetitions():
    generator = np.random.default_rng(3)
    scores, weight = generator.standard_normal(3000), generator.integers(1, 4, 3000)
    weighted = fold_thresholds(scores, np.zeros(3000, int), 0.05, weight=weight)
    repeated = fold_thresholds(np.repeat(scores, weight), np.zeros(weight.sum(), int), 0.05)
    assert weighted.thresholds == pytest.approx(repeated.thresholds)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=20, max_size=100), st.floats(0.06, 0.9))
def test_ties_pass_together_and_the_nearest_cut_is_taken(values, target):
    scores = np.array(values, dtype=float)
    cuts = fold_thresholds(scores, np.zeros(len(scores), int), target)
    possible = [(scores > t).mean() for t in np.append(np.unique(scores), -1)]
    assert abs(cuts.efficiencies[0] - target) == pytest.approx(np.abs(np.array(possible) - target).min())
    assert cuts.passed(scores, np.zeros(len(scores), int)).mean() == cuts.efficiencies[0]


def test_bad_input():
    scores = np.random.default_rng(4).random(100)
    with pytest.raises(UserError, match="larger template"):
        fold_thresholds(scores, np.zeros(100, int), 1e-3)
    with pytest.raises(UserError, match="between 0 and 1"):
        fold_thresholds(scores, np.zeros(100, int), 1.0)
    with pytest.raises(UserError, match="finite"):
        fold_thresholds(np.append(scores, np.inf), np.zeros(101, int), 0.1)
    with pytest.raises(UserError, match="folds"):
        fold_thresholds(scores, np.zeros(100, int), 0.1).passed([0.5], [1])
    with pytest.raises(UserError, match="needs events"):
        efficiency([])
