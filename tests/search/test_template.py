from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from cathode.data.regions import Regions
from cathode.density.analytic import LinearGaussian
from cathode.search.settings import SignificanceSettings, TemplateSettings
from cathode.search.template import conditional_template, mass_model, sample_template, spectrum_fit
from cathode.statistics.massmodels import FittedMass, KdeMass
from cathode.support.errors import UserError

REGIONS = Regions(signal=(3.3, 3.7), sideband=(2.3, 5.0))
SIGNIFICANCE = SignificanceSettings()


def dijet_mass(rows: int, seed: int = 0, *, turn_on: float | None = None) -> np.ndarray:
    """Masses of a dijet spectrum, by rejection; ``turn_on`` multiplies it with a threshold of width 0.1 TeV."""
    random = np.random.default_rng(seed)
    mass = 2.0 - np.log1p(-random.random(8 * rows)) / 1.4
    mass = mass[mass < 7]

    def shape(m):
        x = m / 13.0
        return (1 - x) ** 9 * x**-4.5 * np.exp(1.4 * m)

    grid = np.linspace(2.0, 7.0, 500)
    keep = random.random(len(mass)) < shape(mass) / shape(grid).max()
    if turn_on is not None:
        keep &= random.random(len(mass)) < 1 / (1 + np.exp(-(mass - turn_on) / 0.1))
    return mass[keep][:rows]


def test_features_follow_the_density_at_the_given_masses(make_background, make_gaussian, exact):
    background = make_background(exact)
    mass = np.random.default_rng(1).uniform(3.3, 3.7, 20_000)
    template = conditional_template(background, mass, seed=1)
    np.testing.assert_array_equal(template.mass, mass)
    z = (template.features - [-1.0, 0.5] - np.outer(mass, [0.6, -0.3])) @ np.linalg.inv([[0.5, 0.0], [0.3, 0.4]]).T
    for k in range(2):
        assert kstest(z[:, k], "norm").pvalue > 1e-3
    assert abs(np.corrcoef(z.T)[0, 1]) < 0.03
    again = conditional_template(background, mass, seed=1)
    np.testing.assert_array_equal(again.features, template.features)
    assert not np.array_equal(conditional_template(background, mass, seed=2).features, template.features)


@pytest.mark.parametrize("members", [1, 2, 3])
def test_members_take_equal_shares(make_background, members):
    densities = [LinearGaussian([float(10 * k), 0.0], [[0.1, 0.0], [0.0, 0.1]], [[0.0], [0.0]]) for k in range(members)]
    template = conditional_template(make_background(*densities), np.full(1000, 3.5), seed=3)
    shares = np.bincount(template.member, minlength=members)
    assert shares.max() - shares.min() <= 1
    np.testing.assert_array_equal(np.round(template.features[:, 0] / 10).astype(int), template.member)
    # Random order: the first events do not all come from the first member.
    assert len(np.unique(template.member[:50])) == members


def test_events_outside_the_range_are_counted_and_kept(make_background):
    wide = LinearGaussian([1.0, 0.0], [[100.0, 0.0], [0.0, 0.1]], [[0.0], [0.0]])
    background = make_background(wide)
    template = conditional_template(background, np.full(500, 3.5), seed=1)
    x = template.features
    expected = ((x < background.lowest) | (x > background.highest)).any(1).sum()
    assert template.outside == expected > 400
    assert len(template) == 500


@pytest.mark.parametrize("kind", ["fit", "kde"])
def test_template_masses_lie_inside_the_window(make_background, make_gaussian, exact, kind):
    events = make_gaussian(20_000, 2)
    model = mass_model(events, REGIONS, TemplateSettings(mass_model=kind), SIGNIFICANCE)
    assert isinstance(model, {"fit": FittedMass, "kde": KdeMass}[kind])
    template = sample_template(make_background(exact), model, 5000, seed=1)
    assert len(template) == 5000
    assert REGIONS.in_signal(template.mass).all()
    own = events.mass[REGIONS.in_signal(events.mass)]
    assert template.mass.mean() == pytest.approx(own.mean(), abs=4 * own.std() / np.sqrt(len(own)))


def test_only_the_kernel_model_follows_a_signal(make_gaussian):
    events = make_gaussian(20_000, 3)
    n = 2000
    mass = np.concatenate([events.mass[n:], np.random.default_rng(0).normal(3.5, 0.02, n)])
    with_signal = type(events)(events.features, events.names, mass, events.event_id)
    peak = np.array([3.5])
    change = {
        kind: mass_model(with_signal, REGIONS, TemplateSettings(mass_model=kind), SIGNIFICANCE).log_prob(peak)
        - mass_model(events, REGIONS, TemplateSettings(mass_model=kind), SIGNIFICANCE).log_prob(peak)
        for kind in ("fit", "kde")
    }
    assert change["kde"] > 1.0
    assert abs(change["fit"]) < 0.1


def test_fit_starts_past_the_turn_on():
    mass = dijet_mass(60_000, 4, turn_on=2.5)
    fit = spectrum_fit(mass, Regions(signal=(3.3, 3.7)), SIGNIFICANCE)
    # The threshold is felt where it is below 99 %, up to 0.45 TeV above its middle.
    assert 2.55 <= fit.edges[0] <= 3.0
    assert fit.p_value > 0.05
    expected, error = fit.expected_in(3.3, 3.7)
    truth = dijet_mass(600_000, 5, turn_on=2.5)
    assert expected == pytest.approx(len(mass) * ((truth > 3.3) & (truth < 3.7)).mean(), abs=4 * error)


def test_without_turn_on_the_fit_starts_at_the_peak():
    mass = dijet_mass(30_000, 6)
    fit = spectrum_fit(mass, Regions(signal=(3.3, 3.7)), SIGNIFICANCE)
    assert fit.edges[0] <= 2.2
    assert fit.p_value > 0.05


def test_the_choice_of_the_range_does_not_see_the_signal_region():
    mass = dijet_mass(40_000, 7, turn_on=2.5)
    signal = np.random.default_rng(1).normal(3.5, 0.04, 3000)
    signal = signal[(signal > 3.3) & (signal < 3.7)]
    alone = spectrum_fit(mass, Regions(), SIGNIFICANCE)
    together = spectrum_fit(np.concatenate([mass, signal]), Regions(), SIGNIFICANCE)
    assert together.edges[0] == alone.edges[0]
    assert together.expected_in(3.3, 3.7) == pytest.approx(alone.expected_in(3.3, 3.7))


@pytest.mark.parametrize(("option", "low"), [({"low": 2.7}, None), ({}, 2.7)])
def test_given_start_is_taken(option, low):
    mass = dijet_mass(20_000, 8)
    settings = SignificanceSettings(fit_range=(low, 4.9))
    fit = spectrum_fit(mass, Regions(), settings, **option)
    assert fit.edges[0] == pytest.approx(2.7, abs=0.11)
    assert fit.edges[-1] <= 5.0


def test_too_few_masses_are_an_error():
    with pytest.raises(UserError, match="no events on a side of the window"):
        spectrum_fit(np.array([2.5, 3.5, 4.5]), REGIONS, SIGNIFICANCE)


@pytest.mark.parametrize("low", [3.25, 3.15])
def test_a_sideband_narrower_than_a_few_bins_is_fitted_in_what_it_has(low):
    fit = spectrum_fit(dijet_mass(60_000, 9), Regions(signal=(3.3, 3.7), sideband=(low, None)), SIGNIFICANCE)
    assert 3.1 <= fit.edges[0] < 3.3
