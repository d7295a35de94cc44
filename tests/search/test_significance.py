from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from cathode.data.regions import Regions
from cathode.search.classify import Scores
from cathode.search.settings import SignificanceSettings
from cathode.search.significance import expectation, mass_spectrum, working_point
from cathode.statistics.counting import counting_test

REGIONS = Regions(signal=(3.3, 3.7), sideband=(2.3, 5.0))


def one_fold(**samples: np.ndarray) -> Scores:
    fold = {name: np.zeros(len(score), dtype=np.int64) for name, score in samples.items()}
    return Scores(samples, fold, 1, [])


def ladder(size: int, passing: int) -> np.ndarray:
    """Scores of which exactly ``passing`` lie above zero."""
    return np.repeat([1.0, -1.0], [passing, size - passing])


def test_value_and_statistical_error_by_hand():
    scores = one_fold(
        data=ladder(500, 70), template=ladder(2000, 100), closure_data=ladder(400, 20), closure_template=ladder(800, 40)
    )
    arguments = {"data_weight": None, "member": np.zeros(2000, dtype=int), "closure_weight": None}
    found = expectation(scores, np.zeros(1), **arguments, fold_correlation=0.0)
    assert found.value == pytest.approx(500 * 100 / 2000)
    smoothed = 101 / 2002
    template = 500 * np.sqrt(smoothed * (1 - smoothed) / 2000)
    assert found.statistical == pytest.approx(template)
    correlated = expectation(scores, np.zeros(1), **arguments, fold_correlation=0.5)
    assert correlated.statistical == pytest.approx(np.hypot(template, np.sqrt(0.5 * 25)))
    assert found.closure == pytest.approx(0.0)
    assert found.closure_error == pytest.approx(np.sqrt(1 / 20 + (1 - 0.05) / 40))
    assert found.systematic == 0.0


def test_folds_add_up():
    random = np.random.default_rng(0)
    fold = {"data": np.repeat([0, 1], [300, 700]), "template": np.repeat([0, 1], [1000, 3000])}
    fold |= {"closure_data": np.repeat([0, 1], 50), "closure_template": np.repeat([0, 1], 50)}
    score = {name: random.normal(size=len(f)) for name, f in fold.items()}
    score["template"] = np.concatenate([ladder(1000, 10), ladder(3000, 300)])
    found = expectation(
        Scores(score, fold, 2, []),
        np.zeros(2),
        data_weight=None,
        member=np.zeros(4000, dtype=int),
        closure_weight=None,
        fold_correlation=0.0,
    )
    assert found.value == pytest.approx(300 * 0.01 + 700 * 0.1)
    variance = 300**2 * (11 / 1002) * (991 / 1002) / 1000 + 700**2 * (301 / 3002) * (2701 / 3002) / 3000
    assert found.statistical == pytest.approx(np.sqrt(variance))


@pytest.mark.parametrize(("passing", "closure"), [(40, 1.0), (80, 3.0), (20, 0.0), (10, -0.5)])
def test_closure_is_observed_over_expected(passing, closure):
    scores = one_fold(
        data=ladder(500, 70), template=ladder(2000, 100), closure_data=ladder(400, passing),
        closure_template=ladder(80_000, 4000),
    )  # fmt: skip
    found = expectation(scores, np.zeros(1), data_weight=None, member=np.zeros(2000, dtype=int), closure_weight=None)
    assert found.closure == pytest.approx(closure)
    beyond = np.sqrt(max(found.closure**2 - found.closure_error**2, 0))
    assert found.systematic == pytest.approx(beyond * found.value)


def test_spread_between_members_beyond_counting():
    # 1000 template events each, of which 40 and 160 pass: mean 0.1.
    template = np.concatenate([ladder(1000, 40), ladder(1000, 160)])
    member = np.repeat([0, 1], 1000)
    scores = one_fold(
        data=ladder(500, 50), template=template, closure_data=ladder(1000, 100), closure_template=ladder(1000, 100)
    )
    found = expectation(scores, np.zeros(1), data_weight=None, member=member, closure_weight=None)
    variance = np.var([0.04, 0.16], ddof=1) - 0.1 * 0.9 / 1000
    assert found.systematic == pytest.approx(found.value * np.sqrt(variance / 2) / 0.1)


def test_identical_distributions_have_no_systematic_error_and_a_mismatch_has(make_scores):
    relative = []
    for shift in (0.0, 0.2, 0.5):
        of_seeds = []
        for seed in range(5):
            scores = make_scores(seed, shift=shift)
            found = expectation(
                scores, scores.thresholds(0.1), data_weight=None, member=np.arange(16_000) % 2, closure_weight=None
            )
            of_seeds.append(found.systematic / found.value)
        relative.append(np.mean(of_seeds))
    assert relative[0] < 0.03
    assert relative[0] + 0.1 < relative[1] < relative[2]


@pytest.mark.parametrize(("passing", "closure"), [(40, 1.0), (20, 0.0)])
def test_the_error_of_the_closure_can_be_counted(passing, closure):
    scores = one_fold(
        data=ladder(500, 70), template=ladder(2000, 100), closure_data=ladder(400, passing),
        closure_template=ladder(80_000, 4000),
    )  # fmt: skip
    arguments = {"data_weight": None, "member": np.zeros(2000, dtype=int), "closure_weight": None}
    plain = expectation(scores, np.zeros(1), **arguments)
    found = expectation(scores, np.zeros(1), **arguments, closure_error=True)
    assert found.systematic == pytest.approx(np.hypot(plain.systematic, found.closure_error * found.value))
    assert found.systematic / found.value == pytest.approx(max(closure, found.closure_error), rel=1e-6)
    one, other = (working_point(scores, 0.05, **arguments, closure_error=counted).p_value for counted in (False, True))
    assert one < other


def test_where_no_held_out_event_passes_nothing_is_known():
    scores = one_fold(
        data=ladder(500, 30), template=ladder(2000, 20), closure_data=ladder(50, 0), closure_template=ladder(50, 1)
    )
    found = expectation(
        scores, np.zeros(1), data_weight=None, member=np.zeros(2000, dtype=int), closure_weight=None,
        closure_error=True,
    )  # fmt: skip
    assert found.systematic == pytest.approx(found.value)


def test_nothing_above_the_cut_in_the_sidebands_is_no_closure():
    scores = one_fold(
        data=ladder(500, 3), template=ladder(2000, 2), closure_data=ladder(50, 0), closure_template=ladder(50, 1)
    )
    found = expectation(scores, np.zeros(1), data_weight=None, member=np.zeros(2000, dtype=int), closure_weight=None)
    assert (found.closure, found.systematic) == (0.0, 0.0)
    assert found.closure_error == np.inf


def test_working_point_is_the_counting_test(make_scores):
    scores = make_scores(3)
    member = np.arange(16_000) % 2
    point = working_point(scores, 0.01, data_weight=None, member=member, closure_weight=None)
    assert point.observed == scores.passing("data", scores.thresholds(0.01)).sum()
    assert point.expected == pytest.approx(4000 * 0.01, rel=0.03)
    assert point.expected_error == pytest.approx(np.hypot(point.statistical_error, point.systematic_error))
    test = counting_test(point.observed, point.expected, point.expected_error)
    assert (point.p_value, point.significance) == (test.p_value, test.significance)


def null_p_values(make_scores, closure, weight=None, toys=300):
    p = []
    for seed in range(toys):
        scores = make_scores(seed, data=3000, template=12_000, closure=closure or 400, folds=2)
        if closure is None:
            for values in (scores.score, scores.fold):
                values["closure_data"] = values["closure_template"]
        data_weight = None if weight is None else np.full(3000, weight)
        member = np.zeros(12_000, dtype=int)
        # These scores come from no classifier: their folds are independent.
        point = working_point(
            scores, 0.05, data_weight=data_weight, member=member, closure_weight=None, fold_correlation=0.0
        )
        p.append(point.p_value)
    return np.array(p)


@pytest.mark.parametrize("weight", [None, 0.25])
def test_p_values_are_uniform_without_signal(make_scores, weight):
    """A common weight changes nothing: it is undone by the effective number of events."""
    p = null_p_values(make_scores, None, weight)
    assert kstest(p, "uniform").pvalue > 0.01


def test_small_closure_samples_make_p_values_conservative(make_scores):
    """Fluctuations of the closure beyond their own error are taken for a systematic error: never too many small p."""
    p = null_p_values(make_scores, 400)
    assert (p < 0.05).mean() < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)
    assert p.mean() == pytest.approx(0.5, abs=0.06)


def test_signal_is_found(make_scores):
    scores = make_scores(5)
    scores.score["data"][:80] = 100.0
    point = working_point(scores, 0.01, data_weight=None, member=np.zeros(16_000, dtype=int), closure_weight=None)
    assert point.significance > 5
    assert point.p_value < 1e-6


def test_weighted_events_count_by_their_effective_number():
    scores = one_fold(
        data=ladder(1000, 60),
        template=ladder(20_000, 800),
        closure_data=ladder(500, 20),
        closure_template=ladder(500, 20),
    )
    weight = np.random.default_rng(0).uniform(0.5, 1.5, 1000)
    found = working_point(scores, 0.05, data_weight=weight, member=np.zeros(20_000, dtype=int), closure_weight=None)
    passing = weight[:60]
    assert found.observed == pytest.approx(passing.sum())
    assert found.expected == pytest.approx(weight.sum() * 800 / 20_000)
    scale = passing.sum() / (passing**2).sum()
    test = counting_test(found.observed * scale, found.expected * scale, found.expected_error * scale)
    assert found.p_value == test.p_value


def test_weights_of_the_closure_sample_count():
    scores = one_fold(
        data=ladder(500, 70), template=ladder(2000, 100), closure_data=ladder(400, 40), closure_template=ladder(800, 40)
    )
    weight = np.concatenate([np.full(40, 0.5), np.full(360, 380 / 360)])
    found = expectation(scores, np.zeros(1), data_weight=None, member=np.zeros(2000, dtype=int), closure_weight=weight)
    assert found.closure == pytest.approx(0.0)


def test_spectrum_with_fit(make_gaussian):
    mass = make_gaussian(20_000).mass
    spectrum = mass_spectrum(mass, REGIONS, SignificanceSettings(), efficiency=0.1, low=None)
    assert spectrum.background_efficiency == 0.1
    assert spectrum.fit_problem == ""
    fit = spectrum.fit
    assert len(fit.expectation) == len(fit.pulls) == len(spectrum.counts) == len(spectrum.edges) - 1
    assert fit.window_observed == REGIONS.in_signal(mass).sum()
    assert abs(fit.significance) < 4
    assert fit.window_expected == pytest.approx(fit.window_observed, rel=0.2)


@pytest.mark.parametrize(
    ("mass", "problem"),
    [
        ([], "binning"),
        ([3.5, 3.55], "no events on a side"),
        ([2.5, 3.5, 4.5, 4.6], ""),
    ],
)
def test_a_spectrum_that_cannot_be_fitted_says_why(mass, problem):
    spectrum = mass_spectrum(np.array(mass), REGIONS, SignificanceSettings(), efficiency=1e-3, low=None)
    assert spectrum.fit is None
    assert spectrum.fit_problem
    assert problem in spectrum.fit_problem
    assert spectrum.counts.sum() == len(mass)
    assert len(spectrum.edges) == len(spectrum.counts) + 1
