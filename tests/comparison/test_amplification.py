from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from cathode.comparison.amplification import amplification, mixture_fit, quantile_mse
from cathode.support.errors import UserError


def camel(rng: np.random.Generator, n: int) -> np.ndarray:
    """The paper's one-dimensional truth: two Gaussians at +-4 of width 1."""
    return rng.choice([-4.0, 4.0], n) + rng.standard_normal(n)


def camel_cumulative(x: np.ndarray) -> np.ndarray:
    return 0.5 * (norm.cdf(x, -4) + norm.cdf(x, 4))


def test_quantile_error_of_a_true_sample_is_multinomial():
    """Its mean is (1 - 1/n) / N."""
    rng = np.random.default_rng(0)
    edges = norm.ppf(np.arange(1, 10) / 10)
    values = [quantile_mse(rng.standard_normal(100), edges) for _ in range(400)]
    assert np.mean(values) == pytest.approx(0.9 / 100, abs=4 * np.std(values) / 20)


def test_the_fit_finds_the_camel():
    rng = np.random.default_rng(1)
    points = np.linspace(-8, 8, 50)
    assert mixture_fit(camel(rng, 20000))(points) == pytest.approx(camel_cumulative(points), abs=0.01)
    assert mixture_fit(np.ones(5))(np.array([0.0, 2.0])) == pytest.approx([0.0, 1.0])


def test_a_perfect_generator_amplifies_and_a_copying_one_does_not():
    """The paper's setting: 100 training events.  Copies add nothing; a fit and what is drawn from it do."""
    copied, perfect, fitted = [], [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        truth, training = camel(rng, 50000), camel(rng, 100)
        copies = amplification(truth, training, rng.choice(training, 5000), quantiles=10)
        copied.append(copies.generated[-1].mse / copies.training.mse)
        good = amplification(truth, training, camel(rng, 10000), quantiles=10)
        perfect.append(good.generated[-1].mse)
        fitted.append(good.fit.mse / good.training.mse)
        assert [p.events for p in good.generated] == [100, 200, 500, 1000, 2000, 5000, 10000]
    assert np.mean(copied) == pytest.approx(1.0, abs=0.15)
    assert np.median(fitted) < 0.6
    # The truth's own noise is subtracted: 10,000 events are worth 10,000.
    assert np.mean(perfect) == pytest.approx(0.9 / 10000, rel=0.6)


def test_error_covers_the_scatter():
    rng = np.random.default_rng(3)
    points = [
        amplification(
            rng.standard_normal(2000),
            rng.standard_normal(500),
            rng.standard_normal(1000),
            quantiles=10,
            fit=lambda sample: norm.cdf,
        )
        for _ in range(100)
    ]
    values = np.array([p.training.mse for p in points])
    assert np.median([p.training.error for p in points]) == pytest.approx(values.std(), rel=0.4)
    assert values.mean() == pytest.approx(0.9 / 500, rel=0.2)
    assert np.mean([p.fit.mse for p in points]) == pytest.approx(0.0, abs=3e-5)


def test_bad_input_is_refused():
    x = np.linspace(0, 1, 500)
    with pytest.raises(UserError, match="10 true events in each"):
        amplification(x, x, x, quantiles=100)
    with pytest.raises(UserError, match="not between 1 and"):
        amplification(x, x, x, sizes=[600])
    with pytest.raises(UserError, match="'training' is empty"):
        amplification(x, x[:0], x)
