from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from cathode.statistics.trials import global_from_correlation, global_from_toys, sidak
from cathode.support.errors import UserError


def test_sidak_by_hand_and_for_tiny_p():
    result = sidak([0.2, 0.01, 0.5])
    assert result.best == 1
    assert result.p_value == pytest.approx(1 - 0.99**3)
    assert sidak([1e-20, 0.5]).p_value == pytest.approx(2e-20)
    assert sidak([1e-20, 0.5]).trials_factor == pytest.approx(2)
    assert sidak([1.0]).p_value == 1


def test_all_methods_agree_for_independent_tests():
    generator = np.random.default_rng(1)
    local = [0.5, 0.004, 0.3, 0.7]
    toys = global_from_toys(local, generator.random((20_000, 4)))
    normal = global_from_correlation(local, np.eye(4))
    exact = sidak(local).p_value
    assert abs(toys.p_value - exact) < 4 * toys.p_value_error
    assert abs(normal.p_value - exact) < 4 * normal.p_value_error
    json.dumps(toys.to_dict(), allow_nan=False)


def test_correlated_tests_cost_less():
    local = np.full(10, 0.01)
    full = global_from_correlation(local, np.ones((10, 10)), toys=50_000)
    assert full.p_value == pytest.approx(0.01, abs=4 * full.p_value_error)
    assert full.trials_factor == pytest.approx(1, abs=0.2)
    half = global_from_correlation(local, np.full((10, 10), 0.5) + 0.5 * np.eye(10))
    assert full.p_value < half.p_value < sidak(local).p_value


def test_two_correlated_tests_against_the_bivariate_normal():
    rho, p = 0.7, 0.02
    z = stats.norm.isf(p)
    exact = 1 - stats.multivariate_normal([0, 0], [[1, rho], [rho, 1]]).cdf([z, z])
    result = global_from_correlation([p, 0.4], [[1, rho], [rho, 1]])
    assert abs(result.p_value - exact) < 4 * result.p_value_error


def test_global_p_values_from_toys_are_uniform():
    generator = np.random.default_rng(2)
    correlation = 0.6 * np.ones((5, 5)) + 0.4 * np.eye(5)
    factor = np.linalg.cholesky(correlation)
    toys = stats.norm.sf(generator.standard_normal((4000, 5)) @ factor.T)
    experiments = stats.norm.sf(generator.standard_normal((400, 5)) @ factor.T)
    p = [global_from_toys(row, toys).p_value for row in experiments]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_bad_input():
    with pytest.raises(UserError, match="between 0 and 1"):
        sidak([1.2])
    with pytest.raises(UserError, match="do not fit"):
        global_from_toys([0.1, 0.2], np.ones((5, 3)))
    with pytest.raises(UserError, match="negative eigenvalue"):
        global_from_correlation([0.1, 0.2], [[1, 2], [2, 1]])
    with pytest.raises(UserError, match="symmetric"):
        global_from_correlation([0.1, 0.2], [[1, 0.5], [0.2, 1]])
