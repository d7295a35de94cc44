from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from cathode.statistics.counting import counting_test
from cathode.statistics.significance import asimov_significance, p_to_z, signed_root_gamma, z_to_p
from cathode.support.errors import UserError


def test_p_and_z_are_inverse_and_one_sided():
    assert p_to_z(0.5) == pytest.approx(0)
    assert z_to_p(5.0) == pytest.approx(2.866515718791945e-7)
    assert z_to_p(-2.0) == pytest.approx(1 - z_to_p(2.0))
    z = np.linspace(-5, 30, 50)
    np.testing.assert_allclose(p_to_z(z_to_p(z)), z, atol=1e-9)
    with pytest.raises(UserError, match="outside"):
        p_to_z([0.5, np.nan])


def test_asimov_known_values():
    # Cowan et al. eq. 97 by hand: s=10, b=10: sqrt(2 (20 ln 2 - 10)) = 2.7794...
    assert asimov_significance(10, 10) == pytest.approx(np.sqrt(2 * (20 * np.log(2) - 10)))
    # Small s/b: s / sqrt(b + sigma^2).
    assert asimov_significance(1.0, 1e6, 1e3) == pytest.approx(1 / np.sqrt(2e6), rel=1e-3)
    assert asimov_significance(5.0, 50.0, 1e-9) == pytest.approx(asimov_significance(5.0, 50.0), rel=1e-6)
    assert asimov_significance(-5.0, 50.0) < 0
    with pytest.raises(UserError, match="background > 0"):
        asimov_significance(1, 0)


def test_known_on_off_significance():
    # Li & Ma eq. 17 in its own notation: N_on, N_off, alpha = 1 / tau.
    on, off, alpha = 140.0, 100.0, 1.0
    li_ma = np.sqrt(2) * np.sqrt(
        on * np.log((1 + alpha) / alpha * on / (on + off)) + off * np.log((1 + alpha) * off / (on + off))
    )
    assert counting_test(on, off * alpha, np.sqrt(off) * alpha).significance == pytest.approx(li_ma)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("observed", "expected", "error"), [(60, 50.0, 5.0), (12, 5.0, 1.5), (40, 50.0, 7.0), (130, 100.0, 2.0)]
)
def test_profile_agrees_with_pyhf(observed, expected, error):
    pyhf = pytest.importorskip("pyhf")
    pyhf.set_backend("numpy", "scipy")
    model = pyhf.simplemodels.uncorrelated_background(signal=[10.0], bkg=[expected], bkg_uncertainty=[error])
    data = [observed, *model.config.auxdata]
    p = float(pyhf.infer.hypotest(0.0, data, model, test_stat="q0", calctype="asymptotics"))
    ours = counting_test(observed, expected, error)
    # q0 is cut at zero for deficits, where pyhf stops at p = 0.5.
    assert min(ours.p_value, 0.5) == pytest.approx(p, rel=2e-3)


@pytest.mark.parametrize(
    ("observed", "expected", "error"), [(60, 50.0, 5.0), (12, 5.0, 1.5), (0, 3.0, 1.0), (9, 3.0, 0.0)]
)
def test_marginal_is_the_gamma_average_of_poisson_tails(observed, expected, error):
    if error == 0:
        reference = stats.poisson.sf(observed - 1, expected)
    else:
        gamma = stats.gamma((expected / error) ** 2, scale=error**2 / expected)
        reference = integrate.quad(
            lambda b: gamma.pdf(b) * stats.poisson.sf(observed - 1, b), 0, expected + 12 * error, epsabs=1e-12
        )[0]
    assert counting_test(observed, expected, error, method="marginal").p_value == pytest.approx(reference, rel=1e-6)


@pytest.mark.parametrize("constraint", ["gamma", "gaussian"])
@pytest.mark.parametrize(
    ("observed", "expected", "error"),
    [(120, 100.0, 0.0), (130, 100.0, 10.0), (90, 100.0, 5.0), (1060, 1000.0, 20.0), (35, 20.0, 4.0)],
)
def test_profile_agrees_with_toys(observed, expected, error, constraint):
    profile = counting_test(observed, expected, error, constraint=constraint)
    toys = counting_test(
        observed, expected, error, constraint=constraint, method="toys", mid_p=True, toys=200_000, seed=3
    )
    assert profile.significance == pytest.approx(toys.significance, abs=0.06)
    assert 0 < toys.p_value_error < 0.01


@pytest.mark.parametrize(("relative_error", "constraint"), [(0.0, "gamma"), (0.1, "gamma"), (0.1, "gaussian")])
def test_profile_p_values_are_uniform_without_signal(relative_error, constraint):
    generator = np.random.default_rng(11)
    truth, experiments = 400.0, 1500
    error = relative_error * truth
    if error == 0:
        estimates = np.full(experiments, truth)
    elif constraint == "gamma":
        tau = truth / error**2
        estimates = generator.poisson(truth * tau, experiments) / tau
    else:
        estimates = generator.normal(truth, error, experiments)
    errors = error * np.sqrt(estimates / truth) if constraint == "gamma" else np.full(experiments, error)
    counts = generator.poisson(truth, experiments)
    p = [
        counting_test(n, b, e, constraint=constraint).p_value for n, b, e in zip(counts, estimates, errors, strict=True)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_marginal_p_values_are_uniform_when_the_truth_fluctuates_and_conservative_at_low_counts():
    generator = np.random.default_rng(12)
    truth = generator.gamma(25.0, 400 / 25.0, size=1500)
    p = [counting_test(n, 400.0, 80.0, method="marginal", mid_p=True).p_value for n in generator.poisson(truth)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    low = np.array([counting_test(n, 2.0, method="marginal").p_value for n in generator.poisson(2.0, 2000)])
    for alpha in (0.01, 0.05, 0.3):
        assert (low <= alpha).mean() <= alpha + 3 * np.sqrt(alpha / 2000)


def test_deficits_have_large_p_values_and_negative_significance():
    for method in ("profile", "marginal", "toys"):
        result = counting_test(60, 100.0, 5.0, method=method, toys=2000)
        assert result.p_value > 0.99
        assert result.significance < -2
        assert result.excess == -40


def test_far_tail_is_not_zero():
    result = counting_test(1000, 300.0, 30.0, method="marginal")
    assert 0 < result.p_value < 1e-20
    assert counting_test(10_000, 100.0).significance > 50
    assert counting_test(500, 100.0, method="toys", toys=1000).p_value == pytest.approx(1 / 1001)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 100_000),
    b=st.floats(0.5, 1e5),
    relative=st.floats(0, 0.5),
    constraint=st.sampled_from(["gamma", "gaussian"]),
)
def test_more_events_are_more_significant_and_uncertainty_never_adds(n, b, relative, constraint):
    fewer = counting_test(n, b, relative * b, constraint=constraint)
    more = counting_test(n + 1, b, relative * b, constraint=constraint)
    certain = counting_test(n, b)
    assert more.significance >= fewer.significance - 1e-6
    assert abs(fewer.significance) <= abs(certain.significance) + 1e-6
    json.dumps(fewer.to_dict(), allow_nan=False)


def test_infinities_become_none():
    assert counting_test(0, 5.0, method="marginal").to_dict()["significance"] is None


def test_vectorised_root_equals_single_calls():
    n = np.array([0, 5, 50])
    np.testing.assert_allclose(
        signed_root_gamma(n, 10.0, 2.0), [counting_test(int(v), 10.0, 2.0).significance for v in n]
    )


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ((5, 0.0), {}, "must be positive"),
        ((-1, 2.0), {}, "must be >= 0"),
        ((1, 2.0, np.nan), {}, "not finite"),
        ((1.5, 2.0), {"method": "marginal"}, "whole number"),
        ((1, 2.0), {"method": "bayes"}, "unknown method"),
        ((1, 2.0), {"mid_p": True}, "continuous already"),
        ((1, 2.0), {"method": "toys", "toys": 5}, "too few"),
        ((1, 2.0), {"constraint": "cauchy"}, "unknown constraint"),
    ],
)
def test_bad_arguments(arguments, keywords, message):
    with pytest.raises(UserError, match=message):
        counting_test(*arguments, **keywords)
