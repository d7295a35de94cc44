from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cathode.statistics.sic import argos, band, roc_curve
from cathode.support.errors import UserError


def gaussians(generator, n_background=20_000, n_signal=5_000, distance=2.0):
    scores = np.concatenate([generator.standard_normal(n_background), distance + generator.standard_normal(n_signal)])
    return scores, np.arange(len(scores)) >= n_background


def test_separated_gaussians_have_their_analytic_curve():
    curve = roc_curve(*gaussians(np.random.default_rng(1), 400_000, 50_000))
    assert abs(curve.auc - stats.norm.cdf(2 / np.sqrt(2))) < 4 * curve.auc_error
    for efficiency in (0.1, 1e-2, 1e-3):
        signal = stats.norm.sf(stats.norm.isf(efficiency) - 2)
        point = curve.sic_at(efficiency)
        assert abs(point.sic - signal / np.sqrt(efficiency)) < 4 * point.sic_error
        assert point.threshold == pytest.approx(stats.norm.isf(efficiency), abs=0.1)


def test_errors_are_the_scatter_over_repetitions():
    generator = np.random.default_rng(2)
    curves = [roc_curve(*gaussians(generator, 4000, 1000)) for _ in range(200)]
    points = [curve.sic_at(1e-2) for curve in curves]
    assert np.std([p.sic for p in points]) == pytest.approx(np.mean([p.sic_error for p in points]), rel=0.2)
    assert np.std([c.auc for c in curves]) == pytest.approx(np.mean([c.auc_error for c in curves]), rel=0.2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(1, 3)), min_size=4, max_size=40))
def test_ties_and_weights_equal_the_definition(rows):
    scores, truth, weight = (np.array(column) for column in zip(*rows, strict=True))
    if truth.all() or not truth.any():
        return
    curve = roc_curve(scores, truth, weight=weight)
    pairs = (scores[truth][:, None] > scores[~truth]) + 0.5 * (scores[truth][:, None] == scores[~truth])
    pair_weight = weight[truth][:, None] * weight[~truth]
    assert curve.auc == pytest.approx((pairs * pair_weight).sum() / pair_weight.sum())
    for b, s, t in zip(curve.background_efficiency, curve.signal_efficiency, curve.thresholds, strict=True):
        assert b == pytest.approx(weight[~truth & (scores >= t)].sum() / weight[~truth].sum())
        assert s == pytest.approx(weight[truth & (scores >= t)].sum() / weight[truth].sum())
    order = np.random.default_rng(0).permutation(len(scores))
    assert roc_curve(scores[order], truth[order], weight=weight[order]).auc == pytest.approx(curve.auc)


def test_constant_score_separates_nothing():
    curve = roc_curve(np.zeros(1000), np.arange(1000) < 300)
    assert curve.auc == 0.5
    assert curve.sic_at(0.25).sic == pytest.approx(0.5)
    assert curve.max_sic().sic == 1.0


def test_max_sic_respects_the_number_of_test_events():
    # One signal event above all background: an infinite SIC that no background event tested.
    scores, truth = gaussians(np.random.default_rng(3), 2000, 500)
    best = roc_curve(scores, truth).max_sic()
    assert best.background_relative_error < 0.2
    assert best.background_efficiency > 25 / 2000
    more = roc_curve(*gaussians(np.random.default_rng(3), 200_000, 500)).max_sic()
    assert more.background_efficiency < best.background_efficiency
    with pytest.raises(UserError, match="know no cut"):
        roc_curve(np.arange(20.0), np.arange(20) % 2 == 0).max_sic()


def test_band_covers_the_analytic_curve():
    generator = np.random.default_rng(4)
    curves = [roc_curve(*gaussians(generator, 20_000, 2000)) for _ in range(15)]
    result = band(curves, grid=np.array([0.3, 0.5, 0.8]))
    efficiency = stats.norm.sf(stats.norm.isf(result.x) + 2)
    np.testing.assert_allclose(result.median, result.x / np.sqrt(efficiency), rtol=0.1)
    assert (result.low < result.median).all()
    assert (result.high > result.median).all()
    roc = band(curves, x="background_efficiency", y="signal_efficiency")
    assert np.isfinite(roc.median).all()
    assert (np.diff(roc.median) >= 0).all()
    # Where the background is not known the band says so, and JSON too.
    low = band(curves, grid=[0.001]).to_dict()
    assert low["median"] == [None]
    json.dumps(curves[0].max_sic().to_dict(), allow_nan=False)


def test_argos_is_zero_for_equal_samples_and_grows_with_signal():
    generator = np.random.default_rng(5)
    template = generator.standard_normal(50_000)
    nothing = argos(generator.standard_normal(20_000), template)
    assert nothing.value < 0.1
    data = np.concatenate([generator.standard_normal(19_800), 3 + 0.5 * generator.standard_normal(200)])
    found = argos(data, template)
    assert found.value > nothing.value + 0.05
    root = np.sqrt(found.template_efficiency)
    assert found.value == pytest.approx((data >= found.threshold).mean() / root - root)
    doubled = argos(data, template, template_weight=np.full(50_000, 2.0))
    assert doubled.value == pytest.approx(found.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0], [True, True]), "both are needed"),
        (([1.0, np.nan], [True, False]), "finite"),
        (([1.0, 2.0, 3.0], [True, False]), "do not fit together"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(UserError, match=message):
        roc_curve(*arguments)


def test_bad_working_points():
    curve = roc_curve(*gaussians(np.random.default_rng(6), 100, 100))
    with pytest.raises(UserError, match="cannot test an efficiency"):
        curve.sic_at(1e-3)
    with pytest.raises(UserError, match="must be in"):
        curve.sic_at(0.0)
    with pytest.raises(UserError, match="at least one"):
        band([])
    with pytest.raises(UserError, match="cannot draw"):
        band([curve], x="sic")
