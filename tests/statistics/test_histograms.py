from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cathode.statistics.histograms import compare, garwood_interval, histogram
from cathode.statistics.plain import plain
from cathode.support.errors import UserError

EDGES = np.linspace(0, 1, 11)


def test_garwood_intervals_of_the_tables():
    # PDG, table of Poisson limits: 95 % upper limit on 0 events is 3.00, 68.3 % interval of 1 event
    # 0.173-3.30.
    assert garwood_interval([0], coverage=0.9)[1][0] == pytest.approx(2.996, abs=1e-3)
    low, high = garwood_interval([0, 1, 100])
    assert low[0] == 0
    assert (low[1], high[1]) == (pytest.approx(0.173, abs=1e-3), pytest.approx(3.300, abs=1e-3))
    assert high[2] - low[2] == pytest.approx(2 * np.sqrt(100) + 1, rel=0.01)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-1, 2), st.floats(-2, 5)), min_size=1, max_size=50))
def test_no_weight_is_lost(rows):
    values, weight = (np.array(column) for column in zip(*rows, strict=True))
    h = histogram(values, EDGES, weight=weight)
    assert h.counts.sum() + h.underflow + h.overflow == pytest.approx(weight.sum(), abs=1e-9)
    inside = (values >= 0) & (values <= 1)
    assert (h.statistical_error**2).sum() == pytest.approx((weight[inside] ** 2).sum(), abs=1e-9)
    np.testing.assert_allclose(h.scaled(3.0).statistical_error, 3 * h.statistical_error)


def test_model_error_is_the_spread_beyond_statistics():
    generator = np.random.default_rng(1)
    member = np.repeat(np.arange(20), 5000)
    same = histogram(generator.random(100_000), EDGES, member=member)
    assert same.model_error.mean() < 0.5 * same.statistical_error.mean()
    # Members that differ by a slope of 10 % standard deviation: bin contents scatter by its integral over
    # the bin.
    slope = 0.1 * generator.standard_normal(20)[member]
    u = generator.random(100_000)
    values = (-(1 - slope / 2) + np.sqrt((1 - slope / 2) ** 2 + 2 * slope * u)) / slope
    different = histogram(values, EDGES, member=member)
    expected = np.std(slope[::5000], ddof=1) * 100_000 * 0.1 * np.abs(0.5 * (EDGES[1:] + EDGES[:-1]) - 0.5)
    np.testing.assert_allclose(different.model_error[[0, 9]], expected[[0, 9]], rtol=0.35)


def test_chi2_is_uniform_with_errors_of_both():
    generator = np.random.default_rng(2)
    p, pulls = [], []
    for _ in range(300):
        weight = generator.exponential(0.25, size=20_000)
        template = histogram(generator.random(20_000), EDGES, weight=weight)
        result = compare(histogram(generator.random(3000), EDGES), template, normalise=True)
        p.append(result.p_value)
        pulls.append(result.pulls)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.std(pulls) == pytest.approx(np.sqrt(0.9), rel=0.05)
    json.dumps(result.to_dict(), allow_nan=False)


def test_difference_is_seen_and_empty_bins_do_not_count():
    generator = np.random.default_rng(3)
    result = compare(
        histogram(generator.beta(1.2, 1, 5000), EDGES),
        histogram(generator.random(50_000), EDGES),
        normalise=True,
    )
    assert result.p_value < 1e-3
    half = histogram([0.05, 0.05], EDGES)
    assert compare(half, half).ndof == 1
    assert np.isnan(compare(half, half).pulls[1:]).all()


def test_bad_input():
    with pytest.raises(UserError, match="increasing"):
        histogram([1.0], [1, 0])
    with pytest.raises(UserError, match="finite"):
        histogram([np.nan], EDGES)
    with pytest.raises(UserError, match="do not fit"):
        histogram([1.0, 2.0], EDGES, weight=[1.0])
    with pytest.raises(UserError, match="different edges"):
        compare(histogram([0.5], EDGES), histogram([0.5], EDGES * 2))


def test_plain_values():
    assert plain({"a": np.float64(math.inf), 1: (np.int64(3), np.bool_(True), np.arange(2.0))}) == {
        "a": None, "1": [3, True, [0.0, 1.0]],
    }  # fmt: skip
    with pytest.raises(TypeError, match="no plain form"):
        plain(object())
