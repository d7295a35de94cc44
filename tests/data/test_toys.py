from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import integrate, stats

from cathode.data.toys import ResonanceToy, toy_events
from cathode.support.errors import UserError


@pytest.mark.parametrize(
    ("k", "region", "nll"), [(0.0, "sideband", 5.243), (1.0, "sideband", 4.80), (1.0, "signal", 5.229)]
)
def test_entropy_is_the_documented_one_and_the_samples_agree(k, region, nll):
    toy = ResonanceToy(k=k)
    assert toy.expected_nll(region) == pytest.approx(nll, abs=0.005)
    x, m = toy.sample_background(100_000, np.random.default_rng(1), region)
    per_event = -toy.log_prob_background(x, m)
    error = per_event.std() / np.sqrt(len(per_event))
    assert abs(per_event.mean() - toy.expected_nll(region)) < 4 * error


def test_density_is_the_multivariate_normal_of_scipy():
    toy = ResonanceToy(k=1.0)
    x, m = toy.sample_background(5, np.random.default_rng(2))
    columns = toy.from_latent(np.eye(4), np.full(4, 3.5)).T  # L at m = 3.5, where shift = 0 and width = 1
    for row, mass in zip(x, m, strict=True):
        width = 1 + 0.15 * (mass - 3.5)
        mean = np.array([0.6, -0.4, 0.3, 0.0]) * (mass - 3.5)
        expected = stats.multivariate_normal(mean, width**2 * columns @ columns.T).logpdf(row)
        assert toy.log_prob_background(row[None], np.array([mass]))[0] == pytest.approx(expected)


@pytest.mark.parametrize("region", [None, "signal", "sideband", (2.5, 3.0)])
def test_mass_density_integrates_to_one_and_matches_its_samples(region):
    toy = ResonanceToy()
    total = sum(
        integrate.quad(lambda m: np.exp(toy.log_prob_mass(np.array([m]), region=region)[0]), a, b)[0]
        for a, b in [(2.3, 2.5), (2.5, 3.0), (3.0, 3.3), (3.3, 3.7), (3.7, 5.0)]
    )
    assert total == pytest.approx(1, abs=1e-6)
    m = toy.sample_mass(20_000, np.random.default_rng(3), region=region)
    assert np.isfinite(toy.log_prob_mass(m, region=region)).all()
    edges = np.linspace(2.3, 5.0, 28)
    grid = np.linspace(2.3, 5.0, 27_001)
    cumulative = integrate.cumulative_trapezoid(np.exp(toy.log_prob_mass(grid, region=region)), grid, initial=0)
    expected = len(m) * np.diff(np.interp(edges, grid, cumulative))
    filled = expected > 5
    chi2 = ((np.histogram(m, edges)[0] - expected)[filled] ** 2 / expected[filled]).sum()
    assert stats.chi2.sf(chi2, filled.sum() - 1) > 1e-3


def test_latent_is_standard_normal_and_independent_of_mass():
    toy = ResonanceToy(k=2.0)
    x, m = toy.sample_background(20_000, np.random.default_rng(4))
    z = toy.latent(x, m)
    np.testing.assert_allclose(toy.from_latent(z, m), x, atol=1e-12)
    for column in z.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
        assert abs(stats.spearmanr(column, m).statistic) < 4 / np.sqrt(len(m))
        assert abs(stats.spearmanr(column**2, m).statistic) < 4 / np.sqrt(len(m))


def test_optimum_is_like_lhc_olympics():
    optimum = ResonanceToy(k=0.0).optimum(n=200_000)
    assert optimum.sic[0] == pytest.approx(8.46, rel=0.02)
    assert optimum.sic[1] == pytest.approx(15.3, rel=0.03)
    assert 17 < optimum.sic[2] < 19.5
    assert optimum.auc == pytest.approx(0.994, abs=0.001)
    assert max(optimum.sic_errors[:2]) < 0.1
    json.dumps(optimum.to_dict(), allow_nan=False)


@pytest.mark.parametrize(("k", "use_mass"), [(0.0, False), (1.0, False), (1.0, True)])
def test_optimum_agrees_with_counting_background_events(k, use_mass):
    toy = ResonanceToy(k=k)
    optimum = toy.optimum((1e-2, 1e-3), n=100_000, use_mass=use_mass)
    background = toy.neyman_pearson(
        *toy.sample_background(200_000, np.random.default_rng(5), "signal"), use_mass=use_mass
    )
    signal = toy.neyman_pearson(*toy.sample_signal(40_000, np.random.default_rng(6), "signal"), use_mass=use_mass)
    for efficiency, sic in zip(optimum.background_efficiencies, optimum.sic, strict=True):
        counted = (signal > np.quantile(background, 1 - efficiency)).mean() / np.sqrt(efficiency)
        # 200 to 2000 background events pass; SIC moves by half their relative error, and less.
        assert counted == pytest.approx(sic, rel=2.5 / np.sqrt(efficiency * 200_000))
    auc = 1 - np.searchsorted(np.sort(signal), background).mean() / len(signal)
    assert auc == pytest.approx(optimum.auc, abs=5e-4)


def test_using_the_mass_can_only_help():
    toy = ResonanceToy(k=1.0)
    assert toy.optimum(n=40_000, use_mass=True).sic[0] > toy.optimum(n=40_000).sic[0]


def test_same_seed_same_bits():
    toy = ResonanceToy(k=1.0)
    first, second = (toy.sample_background(100, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_signal_stays_in_its_region():
    x, m = ResonanceToy().sample_signal(1000, np.random.default_rng(8), "sideband")
    assert x.shape == (1000, 4)
    assert ((m <= 3.3) | (m >= 3.7)).all()


def test_bad_arguments():
    with pytest.raises(UserError, match="width of the features negative"):
        ResonanceToy(k=6.0)
    with pytest.raises(UserError, match="unknown region"):
        ResonanceToy().sample_background(3, np.random.default_rng(0), "nowhere")
    with pytest.raises(UserError, match="background efficiencies"):
        ResonanceToy().optimum((0.5,))
    with pytest.raises(UserError, match="next to no signal"):
        ResonanceToy().sample_signal(3, np.random.default_rng(0), (4.5, 5.0))


def test_events_carry_no_label_and_truth_is_aligned():
    events, is_signal = toy_events(5000, 500, k=1.0, seed=9)
    assert len(events) == 5500
    assert events.names == ("x1", "x2", "x3", "x4")
    assert is_signal.sum() == 500
    # Signal sits at the mean of its density, background elsewhere; events are shuffled together.
    np.testing.assert_allclose(events.features[is_signal].mean(axis=0), [1.5, 0.9, -0.8, 1.1], atol=0.1)
    assert np.abs(events.mass[is_signal] - 3.5).max() < 0.35
    assert 20 < is_signal[:500].sum() < 80
    again, _ = toy_events(5000, 500, k=1.0, seed=9)
    np.testing.assert_array_equal(again.features, events.features)
