"""Calibration and the Jensen-Shannon divergence."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from fastsim.evaluation.classifiers.calibration import isotonic, jsd_with_error, logistic


def gaussians(n, shift, seed):
    generator = np.random.default_rng(seed)
    x = np.concatenate([generator.normal(shift, 1.0, n), generator.normal(0.0, 1.0, n)])
    return x, np.repeat([1, 0], n)


def exact_jsd(shift):
    def integrand(x):
        p, q = norm.pdf(x, shift), norm.pdf(x)
        return 0.5 * (p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q)))

    return quad(integrand, -10, 10 + shift)[0] / np.log(2.0)


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_jsd_of_the_exact_posterior_is_the_analytic_divergence(shift):
    x, label = gaussians(20_000, shift, 1)
    posterior = expit(shift * (x - 0.5 * shift))
    value, error = jsd_with_error(posterior[label == 1], posterior[label == 0])
    assert abs(value - exact_jsd(shift)) <= 4 * error + 1e-12
    assert error < 0.01


def test_jsd_error_is_the_spread_over_samples():
    found = []
    for seed in range(60):
        x, label = gaussians(500, 1.0, seed)
        posterior = expit(x - 0.5)
        found.append(jsd_with_error(posterior[label == 1], posterior[label == 0]))
    values, errors = np.array(found).T
    assert values.std(ddof=1) == pytest.approx(errors.mean(), rel=0.35)


@pytest.mark.parametrize("calibrate", [isotonic, logistic])
def test_calibration_recovers_the_posterior_from_stretched_scores(calibrate):
    x, label = gaussians(20_000, 1.0, 2)
    probability = calibrate(7.0 * (x - 0.5) + 3.0, label)
    grid = np.linspace(-1.0, 2.0, 20)
    assert np.allclose(probability(7.0 * (grid - 0.5) + 3.0), expit(grid - 0.5), atol=0.06)


def test_isotonic_is_clipped_as_published():
    probability = isotonic(np.array([-1.0, -0.5, 0.5, 1.0]), np.array([0, 0, 1, 1]))
    assert probability(np.array([-9.0, 9.0])) == pytest.approx([1e-6, 1 - 1e-6])


def test_logistic_ignores_a_classifier_of_noise_and_never_turns_one_round():
    x, label = gaussians(5_000, 1.0, 3)
    noise = np.random.default_rng(4).normal(size=len(x))
    both = logistic(np.stack([x, noise], axis=1), label)
    steps = both(np.array([[0.0, 5.0]])) - both(np.array([[0.0, -5.0]]))
    assert abs(steps[0]) < 0.2
    turned = logistic(-x, label)
    assert np.allclose(turned(x), 0.5, atol=0.01)


def test_logistic_survives_perfect_separation():
    score = np.concatenate([np.full(50, 10.0), np.full(50, -10.0)])
    probability = logistic(score, np.repeat([1, 0], 50))
    assert probability(np.array([10.0]))[0] > 0.95
    assert np.isfinite(probability(np.array([1e6, -1e6]))).all()
