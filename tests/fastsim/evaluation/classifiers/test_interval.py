"""Intervals of several folds."""

import numpy as np
import pytest
from scipy.stats import norm

from cathode.comparison.auc import auc_with_error
from fastsim.evaluation.classifiers.interval import combined, mean_roc


def test_folds_count_twice_the_variance_of_independent_ones():
    found = combined([0.6, 0.7], [0.01, 0.01], independent_showers=True, low=0.0, high=1.0)
    assert found.value == pytest.approx(0.65)
    assert found.error == pytest.approx(0.01)
    assert (found.low, found.high) == pytest.approx((0.65 - 0.0196, 0.65 + 0.0196), abs=1e-4)


def test_runs_on_the_same_showers_gain_nothing():
    found = combined([0.6, 0.62, 0.64], [0.01, 0.01, 0.01], independent_showers=False, low=0.0, high=1.0)
    assert found.error == pytest.approx(0.01)


def test_interval_stays_in_range():
    found = combined([0.999], [0.01], independent_showers=False, low=0.0, high=1.0)
    assert found.high == 1.0
    assert found.low < 0.999


def test_roc_is_the_analytic_one_and_encloses_the_auc():
    generator = np.random.default_rng(0)
    folds = [(generator.normal(1.0, 1.0, 5000), generator.normal(0.0, 1.0, 5000)) for _ in range(3)]
    roc = mean_roc(folds)
    rates = np.array(roc.false_positive)
    exact = norm.cdf(1.0 + norm.ppf(rates[1:-1]))
    assert np.allclose(np.array(roc.true_positive)[1:-1], exact, atol=0.03)
    area = np.trapezoid(roc.true_positive, rates)
    assert area == pytest.approx(np.mean([auc_with_error(*f)[0] for f in folds]), abs=2e-3)
    assert (np.diff(roc.true_positive) >= 0).all()


def test_roc_of_tied_scores_is_the_diagonal():
    roc = mean_roc([(np.zeros(10), np.zeros(20))])
    assert np.allclose(roc.true_positive, roc.false_positive)
