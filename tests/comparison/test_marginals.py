from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp, kstest

from cathode.comparison.marginals import correlation_pulls, marginals
from cathode.support.errors import UserError


def test_p_values_are_uniform_for_samples_of_one_distribution():
    p_values, ks = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        weight = rng.uniform(0.5, 1.5, 3000)
        for m in marginals(rng.standard_normal((4000, 2)), rng.standard_normal((3000, 2)), bins=20, y_weight=weight):
            p_values.append(m.p_value)
            ks.append(m.ks_p_value)
            assert m.ndof == 19
    assert kstest(p_values, "uniform").pvalue > 1e-3
    assert kstest(ks, "uniform").pvalue > 1e-3


def test_a_shift_is_seen_in_its_feature_with_the_right_size():
    rng = np.random.default_rng(0)
    x, y = 3.0 * rng.standard_normal((20_000, 2)), 3.0 * rng.standard_normal((20_000, 2))
    x[:, 1] += 0.3
    unmoved, moved = marginals(x, y, names=["a", "b"])
    assert moved.name == "b"
    assert moved.p_value < 1e-6
    assert moved.wasserstein == pytest.approx(0.1, abs=0.03)
    assert unmoved.p_value > 1e-4
    assert unmoved.wasserstein < 0.03
    assert moved.ks == pytest.approx(ks_2samp(x[:, 1], y[:, 1]).statistic, abs=1e-12)
    assert moved.x_fraction.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("values", [[5.0], [0.0, 1.0]])
def test_features_of_one_or_two_values(values):
    rng = np.random.default_rng(1)
    (result,) = marginals(rng.choice(values, (500, 1)), rng.choice(values, (500, 1)))
    assert result.chi2 < 12
    assert np.isfinite([result.p_value, result.wasserstein, result.ks]).all()


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_correlation_pulls_have_unit_width_for_long_tails(method):
    pulls = []
    for seed in range(200):
        rng = np.random.default_rng(seed)

        def sample(n, rng=rng):
            scale = rng.uniform(0.3, 2.0, (n, 1))  # a Gaussian formula for the error would fail here
            z = scale * rng.standard_normal((n, 2))
            return np.stack([z[:, 0], 0.5 * z[:, 0] + z[:, 1]], axis=1)

        weight = rng.uniform(0.2, 1.8, 800)
        result = correlation_pulls(sample(1000), sample(800), method=method, y_weight=weight)
        pulls.append(result.pulls[0, 1])
    assert abs(np.mean(pulls)) < 0.25
    assert 0.85 < np.std(pulls) < 1.15


def test_a_wrong_correlation_is_seen():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((5000, 3)), rng.standard_normal((5000, 3))
    x[:, 2] += 0.2 * x[:, 0]
    result = correlation_pulls(x, y)
    assert result.largest == abs(result.pulls[0, 2]) > 6
    assert abs(result.pulls[0, 1]) < 4
    assert np.all(np.diag(result.pulls) == 0)


def test_a_constant_feature_has_no_correlation_pull():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((50, 2)), rng.standard_normal((50, 2))
    x[:, 0] = y[:, 0] = 1.0
    assert correlation_pulls(x, y).largest == 0.0


def test_bad_input_is_refused():
    x = np.zeros((10, 2))
    with pytest.raises(UserError, match="one name per column"):
        marginals(x, x, names=["a"])
    with pytest.raises(UserError, match="at least 2 bins"):
        marginals(x, x, bins=1)
    with pytest.raises(UserError, match="unknown correlation"):
        correlation_pulls(x, x, method="kendall")
