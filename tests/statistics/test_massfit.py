from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from cathode.statistics.binning import good_binning
from cathode.statistics.dijet import BinnedDijet, dijet_basis, orthonormal_transform
from cathode.statistics.massfit import deviance_moments, fit_sidebands, goodness_of_fit
from cathode.statistics.window import spurious_signal, window_test
from cathode.support.errors import UserError

EDGES = np.linspace(2.4, 5.0, 27)
TRUTH = np.array([0.0, 9.0, 4.5])  # ln p0, p1, p2


def shape(coefficients=TRUTH, edges=EDGES, sqrt_s=13.0):
    """Probabilities per bin of the dijet function by adaptive quadrature, independent of the package."""
    p = np.append(coefficients, np.zeros(5 - len(coefficients)))

    def f(m):
        x = m / sqrt_s
        return (1 - x) ** p[1] * x ** -(p[2] + p[3] * np.log(x) + p[4] * np.log(x) ** 2)

    content = np.array([integrate.quad(f, a, b)[0] for a, b in pairwise(edges)])
    return content / content.sum()


SHAPE = shape()
WINDOW = SHAPE[9:13].sum()


def test_bins_are_integrals():
    bins = BinnedDijet(EDGES[:-1], EDGES[1:], np.eye(3), sqrt_s=13.0)
    content = bins.expected(TRUTH)
    np.testing.assert_allclose(content / content.sum(), SHAPE, rtol=1e-9)


def test_transform_is_orthonormal():
    mass = np.linspace(2.4, 5, 50)
    probability = np.exp(-mass)
    basis = dijet_basis(mass, 5, 13.0) @ orthonormal_transform(mass, probability, 5, 13.0)
    gram = (basis * (probability / probability.sum())[:, None]).T @ basis
    np.testing.assert_allclose(gram, np.eye(5), atol=1e-6)


def test_jacobian_against_finite_differences():
    transform = orthonormal_transform(np.linspace(2.4, 5, 20), np.ones(20), 4, 13.0)
    bins = BinnedDijet(EDGES[:-1], EDGES[1:], transform, sqrt_s=13.0)
    theta = np.array([[5.0, -0.7, 0.1, -0.05]])
    _, jacobian = bins.expected_and_jacobian(theta)
    for k in range(4):
        step = 1e-5 * np.eye(4)[k]
        numeric = (bins.expected(theta + step) - bins.expected(theta - step)) / 2e-5
        np.testing.assert_allclose(jacobian[0, :, k], numeric[0], rtol=1e-6)


@pytest.mark.parametrize("events", [30, 1000, 1_000_000])
def test_asimov_spectrum_returns_the_truth(events):
    fit = fit_sidebands(events * SHAPE, EDGES, blind=(3.3, 3.7), parameters=3)
    assert fit.valid
    assert fit.chi2 == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(fit.coefficients[1:], TRUTH[1:], rtol=1e-3)
    value, error = fit.expected_in(3.3, 3.7)
    assert value == pytest.approx(events * WINDOW, rel=1e-4)
    assert value == pytest.approx(fit.expected[9:13].sum(), rel=1e-9)
    assert error == pytest.approx(np.sqrt(fit.expected_covariance[9:13, 9:13].sum()), rel=1e-9)


def test_density_integrates_to_the_expectation():
    fit = fit_sidebands(1000 * SHAPE, EDGES, parameters=4)
    total = integrate.quad(lambda m: fit.density(np.array([m]))[0][0], 3.3, 3.7)[0]
    assert total == pytest.approx(fit.expected_in(3.3, 3.7)[0], rel=1e-9)


@pytest.mark.parametrize("events", [50, 3000, 300_000])
def test_interpolation_is_unbiased_with_honest_errors(events):
    generator = np.random.default_rng(1)
    pulls, p_values = [], []
    for spectrum in generator.poisson(events * SHAPE, size=(150, len(SHAPE))):
        fit = fit_sidebands(spectrum, EDGES, parameters=3)
        assert fit.valid, fit.problems
        value, error = fit.expected_in(3.3, 3.7)
        # In the logarithm the estimate is close to normal even for few events.
        pulls.append(np.log(value / (events * WINDOW)) * value / error)
        p_values.append(fit.p_value)
    assert abs(np.mean(pulls)) < 0.35
    assert 0.8 < np.std(pulls) < 1.2
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


def test_window_is_blind():
    generator = np.random.default_rng(2)
    spectrum = generator.poisson(5000 * SHAPE).astype(float)
    with_signal = spectrum.copy()
    with_signal[9:13] += 1000
    first, second = fit_sidebands(spectrum, EDGES), fit_sidebands(with_signal, EDGES)
    np.testing.assert_array_equal(first.expected, second.expected)
    assert second.pulls[9:13].min() > 5
    assert np.abs(second.pulls[second.fitted]).max() < 4


def test_f_test_chooses_the_right_number_of_parameters():
    generator = np.random.default_rng(3)
    richer = shape(np.array([0.0, 9.0, 4.5, 1.2]))
    for truth, events, parameters in [(SHAPE, 100_000, 3), (richer, 3_000_000, 4)]:
        chosen = [fit_sidebands(generator.poisson(events * truth), EDGES, alpha=0.01).parameters for _ in range(20)]
        assert np.median(chosen) == parameters
        assert np.mean(np.array(chosen) == parameters) > 0.8
    fit = fit_sidebands(generator.poisson(100_000 * SHAPE), EDGES)
    assert [(t.parameters, t.larger) for t in fit.f_tests][:2] == [(2, 3), (2, 4)]
    json.dumps(fit.to_dict(), allow_nan=False)
    assert "theta" not in fit.to_dict()


def test_f_test_level_is_right_without_need():
    generator = np.random.default_rng(4)
    p = [
        fit_sidebands(s, EDGES, max_parameters=3).f_tests[0].p_value
        for s in generator.poisson(2000 * shape(TRUTH[:2] * 2), size=(150, 26))
    ]
    assert stats.kstest(p, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("mu", [0.3, 2.0, 20.0, 99.0])
def test_deviance_moments_by_simulation(mu):
    mean, variance = deviance_moments([mu])
    n = np.random.default_rng(5).poisson(mu, 200_000)
    deviance = 2 * (np.where(n > 0, n * np.log(np.maximum(n, 1) / mu), 0) - n + mu)
    assert mean[0] == pytest.approx(deviance.mean(), rel=0.02)
    assert variance[0] == pytest.approx(deviance.var(), rel=0.05)


def test_goodness_of_fit_is_chi2_for_many_events():
    assert goodness_of_fit(30.0, np.full(23, 1e5), 3) == pytest.approx(stats.chi2.sf(30.0, 20), rel=1e-6)
    assert np.isnan(goodness_of_fit(1.0, np.ones(3), 3))


def test_counting_and_profile_likelihood_agree_with_each_other_and_with_toys():
    generator = np.random.default_rng(6)
    for events, signal in [(60, 3), (2000, 40), (50_000, 150)]:
        spectrum = generator.poisson(events * SHAPE).astype(float)
        spectrum[10:12] += signal
        fit = fit_sidebands(spectrum, EDGES, parameters=3)
        test = window_test(fit, toys=1500, seed=7)
        assert test.counting.significance == pytest.approx(test.significance, abs=0.15)
        assert test.toys > 1400
        difference = abs(stats.norm.isf(test.toy_p_value) - test.significance)
        assert difference < 0.1 + 3 * test.toy_p_value_error / stats.norm.pdf(test.significance)


def test_window_p_values_are_uniform_without_signal_and_small_with_it():
    generator = np.random.default_rng(8)
    p = [
        window_test(fit_sidebands(s, EDGES, parameters=3)).p_value
        for s in generator.poisson(3000 * SHAPE, size=(200, 26))
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    spectrum = np.round(3000 * SHAPE)
    spectrum[9:13] += 60
    fit = fit_sidebands(spectrum, EDGES, parameters=3)
    test = window_test(fit)
    assert test.significance > 2
    assert window_test(fit, observed=spectrum[9:13].sum() - 280).p_value > 0.5
    json.dumps(test.to_dict(), allow_nan=False)


def test_spurious_signal_sees_a_wrong_function_and_passes_the_right_one():
    right = spurious_signal(1e7 * SHAPE, EDGES, data_events=10_000, parameters=3)
    assert right.passed
    assert abs(right.ratio) < 0.02
    kinked = 1e7 * SHAPE * (1 + 0.2 * np.tanh(8 * (0.5 * (EDGES[1:] + EDGES[:-1]) - 3.4)))
    wrong = spurious_signal(kinked, EDGES, data_events=1_000_000, parameters=2)
    assert not wrong.passed
    # The ratio grows with the square root of the data.
    more = spurious_signal(kinked, EDGES, data_events=4_000_000, parameters=2)
    assert more.ratio == pytest.approx(2 * wrong.ratio, rel=1e-6)


def test_binning_meets_the_window_and_merges_thin_tails():
    generator = np.random.default_rng(9)
    mass = 2.35 + generator.exponential(0.5, 3000)
    edges = good_binning(mass, blind=(3.3, 3.7))
    for border in (3.3, 3.7):
        assert np.abs(edges - border).min() < 1e-12
    assert edges[0] == pytest.approx(2.4)
    counts = np.histogram(mass, edges)[0]
    outside = (edges[1:] < 3.31) | (edges[:-1] > 3.69)
    assert counts[outside].min() >= 5
    fit = fit_sidebands(counts, edges)
    assert fit.valid


def test_binning_starts_after_a_turn_on():
    generator = np.random.default_rng(10)
    mass = 2.0 + generator.exponential(0.6, 50_000)
    passes = generator.random(50_000) < 1 / (1 + np.exp(-(mass - 2.5) / 0.05))
    assert 2.45 < good_binning(mass[passes])[0] < 2.75
    assert good_binning(mass[passes], low=2.2)[0] == pytest.approx(2.2)
    assert good_binning(mass, high=4.65)[-1] == pytest.approx(4.65)


@pytest.mark.parametrize(
    ("counts", "edges", "keywords", "message"),
    [
        (SHAPE[:-1], EDGES, {}, "edges"),
        (SHAPE * np.nan, EDGES, {}, "finite"),
        (SHAPE * 100, EDGES[::-1], {}, "increasing"),
        (SHAPE * 100, EDGES * 1000, {}, "in TeV"),
        (SHAPE * 100, EDGES, {"blind": (3.33, 3.7)}, "not a bin edge"),
        (SHAPE * 100, EDGES, {"blind": (2.4, 3.7)}, "no bins below"),
        (SHAPE * 100, EDGES, {"blind": (3.3, 5.5)}, "no bins above"),
        (SHAPE * 5, EDGES, {}, "too few"),
        (SHAPE * 500 * (EDGES[:-1] > 3.3), EDGES, {}, "no events below"),
        (SHAPE * 100, EDGES, {"parameters": 7}, "must be 'auto' or 2 to 5"),
        (SHAPE * 100, EDGES, {"alpha": 0}, "between 0 and 1"),
        (
            np.array([50.0, 30, 20, 10, 5]),
            np.array([2.9, 3.1, 3.3, 3.7, 3.9, 4.1]),
            {"parameters": 4},
            "cannot determine",
        ),
    ],
)
def test_bad_input(counts, edges, keywords, message):
    with pytest.raises(UserError, match=message):
        fit_sidebands(counts, edges, **keywords)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 400), min_size=26, max_size=26),
    parameters=st.sampled_from(["auto", 2, 3, 5]),
    thinning=st.sampled_from([1, 20, 300]),
)
def test_any_spectrum_ends_in_finite_numbers_or_a_user_error(counts, parameters, thinning):
    spectrum = np.array(counts) // thinning
    try:
        fit = fit_sidebands(spectrum, EDGES, parameters=parameters)
    except UserError:
        return
    for values in (fit.expected, fit.expected_error, fit.pulls, fit.coefficients, fit.chi2):
        assert np.isfinite(values).all()
    assert fit.valid or fit.problems
    if fit.valid:
        assert 0 <= window_test(fit).p_value <= 1


def test_bad_window_and_binning():
    with pytest.raises(UserError, match="blinded no window"):
        window_test(fit_sidebands(1000 * SHAPE, EDGES, blind=None))
    with pytest.raises(UserError, match="no events on a side"):
        good_binning([3.4, 3.5, 4.0])
    with pytest.raises(UserError, match="narrower than one bin"):
        good_binning([3.25, 3.5, 4.0])
