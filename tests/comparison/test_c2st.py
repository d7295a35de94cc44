from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm

from cathode.comparison.c2st import c2st
from cathode.support.errors import UserError


def gaussians(seed, n, shift=0.0, features=2):
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((n, features))
    x = rng.standard_normal((n, features))
    x[:, 0] += shift
    return x, y


def test_reaches_the_auc_of_the_likelihood_ratio():
    x, y = gaussians(0, 6000, shift=1.0)
    result = c2st(x, y, members=1, seed=1)
    optimum = norm.cdf(1.0 / np.sqrt(2.0))
    assert optimum - 0.012 - 3 * result.error < result.auc < optimum + 3 * result.error
    assert result.p_value < 1e-10


def test_is_calibrated_on_samples_of_one_distribution():
    results = [c2st(*gaussians(seed, 500), members=1, folds=3, seed=seed) for seed in range(14)]
    pulls = np.array([(r.auc - 0.5) / r.error for r in results])
    assert abs(pulls.mean()) < 3.0 / np.sqrt(len(pulls))
    assert 0.4 < pulls.std() < 1.5
    assert min(r.p_value for r in results) > 1e-3


def test_needs_weights_to_tell_that_samples_agree():
    rng = np.random.default_rng(5)
    x, y = rng.uniform(-1, 1, (6000, 1)), rng.uniform(-1, 1, (6000, 1))
    y = y[rng.random(6000) < 0.5 * (1 + 0.8 * y[:, 0])]
    weight = 1.0 / (1 + 0.8 * y[:, 0])
    assert c2st(x, y, members=1).p_value < 1e-10
    reweighted = c2st(x, y, y_weight=weight, members=1)
    assert abs(reweighted.auc - 0.5) < 3.5 * reweighted.error


def test_permutations_give_a_p_value():
    x, y = gaussians(3, 300, shift=1.5)
    assert c2st(x, y, folds=2, members=1, permutations=9).p_value == pytest.approx(0.1)
    same, other = gaussians(4, 300)
    assert c2st(same, other, folds=2, members=1, permutations=9).p_value > 0.1


def test_same_seed_same_bits_and_other_seed_other_folds():
    x, y = gaussians(6, 600)
    first = c2st(x, y, members=1, seed=1, max_events=500)
    assert dataclasses.asdict(first) == dataclasses.asdict(c2st(x, y, members=1, seed=1, max_events=500))
    assert first.auc != c2st(x, y, members=1, seed=2, max_events=500).auc
    assert first.events == (500, 500)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((100, 3))}, "3 and 2 features"),
        ({"x": np.full((100, 2), np.nan)}, "100 events with NaN"),
        ({"x": np.zeros((20, 2))}, "10 events of each sample per fold"),
        ({"folds": 1}, "at least 2 folds"),
        ({"members": 0}, "members >= 1"),
        ({"x_weight": np.ones(3)}, "one per event"),
        ({"x_weight": -np.ones(100)}, "non-negative"),
    ],
)
def test_bad_input_is_refused(change, message):
    arguments = {"x": np.zeros((100, 2)), "y": np.zeros((100, 2)), **change}
    with pytest.raises(UserError, match=message):
        c2st(**arguments)
