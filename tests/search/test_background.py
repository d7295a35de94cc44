from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from cathode.data.events import Events
from cathode.data.regions import Regions
from cathode.density.base import log_prob
from cathode.density.folder import load_density
from cathode.search.background import fit_background, fit_member, gaussian_nll, held_out, split_sidebands
from cathode.search.settings import Autoregressive, DensitySettings
from cathode.support.errors import UserError
from cathode.training.config import FitConfig

REGIONS = Regions(signal=(3.3, 3.7), sideband=(2.3, 5.0))
SMALL = DensitySettings(
    model=Autoregressive(hidden=(32,), components=1),
    members=2,
    preprocessing="standardize",
    training=FitConfig(epochs=8, batch_size=512, learning_rate=1e-2, ema_halflife_events=5000.0),
)


def nll_of(density, events: Events) -> torch.Tensor:
    x, mass = torch.as_tensor(events.features).float(), torch.as_tensor(events.mass[:, None]).float()
    return -log_prob(density, x, mass)


def test_split_is_disjoint_complete_and_seeded(make_gaussian):
    events = make_gaussian(3000)
    splits = split_sidebands(events, REGIONS, SMALL, seed=1)
    sideband = events.event_id[REGIONS.in_sideband(events.mass)]
    for split in splits:
        ids = np.concatenate([p.event_id for p in (split.train, split.validation, split.test)])
        np.testing.assert_array_equal(np.sort(ids), sideband)
        assert len(split.validation) == round(0.1 * len(ids))
        assert len(split.test) == round(0.25 * len(ids))
    again = split_sidebands(events, REGIONS, SMALL, seed=1)[1]
    np.testing.assert_array_equal(again.train.event_id, splits[1].train.event_id)
    other = split_sidebands(events, REGIONS, SMALL, seed=2)[0]
    assert set(other.test.event_id) != set(splits[0].test.event_id)


def test_every_held_out_event_comes_with_the_member_that_never_saw_it(make_gaussian):
    settings = replace(SMALL, members=4)
    splits = split_sidebands(make_gaussian(3000), REGIONS, settings, seed=1)
    events, member = held_out(splits)
    assert len(np.unique(events.event_id)) == len(events)
    for k, split in enumerate(splits):
        seen = np.concatenate([split.train.event_id, split.validation.event_id])
        assert not np.isin(events.event_id[member == k], seen).any()
        # … and, taken together, the members leave hardly an event untested.
    assert len(events) > 0.99 * sum(len(part) for part in (splits[0].train, splits[0].validation, splits[0].test))


def test_test_parts_never_overlap_however_many_members(make_gaussian):
    splits = split_sidebands(make_gaussian(1000), REGIONS, replace(SMALL, members=7), seed=1)
    events, _ = held_out(splits)
    assert len(np.unique(events.event_id)) == len(events)


def test_split_never_contains_the_signal_region(make_gaussian):
    for split in split_sidebands(make_gaussian(3000), REGIONS, SMALL, seed=1):
        for part in (split.train, split.validation, split.test):
            assert not REGIONS.in_signal(part.mass).any()


def test_gaussian_baseline_is_the_likelihood_of_the_regression(make_gaussian):
    train, validation = make_gaussian(2000, 1), make_gaussian(500, 2)
    fits = [np.polyfit(train.mass, train.features[:, k], 1) for k in range(2)]
    rest = np.stack([train.features[:, k] - np.polyval(fits[k], train.mass) for k in range(2)], 1)
    mean = np.stack([np.polyval(fits[k], validation.mass) for k in range(2)], 1)
    expected = -multivariate_normal(np.zeros(2), np.cov(rest.T)).logpdf(validation.features - mean).mean()
    assert gaussian_nll(train, validation) == pytest.approx(expected, rel=1e-9)


def test_gaussian_baseline_works_in_one_dimension(make_gaussian):
    events = make_gaussian(5000).with_features(["a"])
    assert gaussian_nll(events, events) == pytest.approx(0.5 * np.log(2 * np.pi * np.e * 0.25), abs=0.03)


def test_linearly_dependent_features_are_refused(make_gaussian):
    events = make_gaussian(500)
    doubled = np.column_stack([events.features[:, 0], np.zeros(500)])
    dependent = Events(doubled, ("a", "b"), events.mass, events.event_id)
    with pytest.raises(UserError, match="a, b are linearly dependent in the sidebands"):
        gaussian_nll(dependent, dependent)


def test_fit_reaches_the_exact_density(make_gaussian, exact, runner):
    splits = split_sidebands(make_gaussian(12_000, 3), REGIONS, SMALL, seed=1)
    background = fit_background(splits, SMALL, runner, seed=1)
    fresh = make_gaussian(20_000, 4)
    per_event = nll_of(background.density, fresh) - nll_of(exact, fresh)
    # Over all masses, the signal region that no training event came from included.
    assert -0.002 < per_event.mean() < 0.02
    assert -0.005 < per_event[REGIONS.in_signal(fresh.mass)].mean() < 0.02

    summary = background.summary
    judged = zip(background.members, splits, strict=True)
    own = torch.cat([nll_of(member, split.validation) for member, split in judged]).double()
    assert summary.validation_nll == pytest.approx(float(own.mean()))
    assert summary.validation_nll_error == pytest.approx(float(own.std()) / np.sqrt(len(own)), rel=1e-2)
    assert summary.validation_nll == pytest.approx(summary.gaussian_nll, abs=0.03)
    assert len(background.members) == len(summary.histories) == 2
    # The losses of the history are in the units of the features as well.
    for history in summary.histories:
        assert history["validation_loss"].min() == pytest.approx(summary.validation_nll, abs=0.02)
    trained = np.concatenate([split.train.features for split in splits])
    np.testing.assert_array_equal(background.lowest, trained.min(0))
    np.testing.assert_array_equal(background.highest, trained.max(0))


@pytest.mark.parametrize("preprocessing", ["logit", "cathode", "standardize"])
def test_member_repeats_bit_by_bit(make_gaussian, tmp_path, preprocessing):
    train, validation = make_gaussian(1500, 5), make_gaussian(300, 6)
    settings = DensitySettings(
        model=Autoregressive(hidden=(8,), components=2), preprocessing=preprocessing, training=FitConfig(epochs=2)
    )
    weights = []
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        folder = tmp_path / name
        folder.mkdir()
        fit_member(
            folder,
            train_x=train.features, train_mass=train.mass, train_weight=None,
            validation_x=validation.features, validation_mass=validation.mass, validation_weight=None,
            settings=settings, seed=seed,
        )  # fmt: skip
        weights.append(load_density(folder / "model").state_dict())
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    assert any(not torch.equal(value, weights[2][key]) for key, value in weights[0].items())


def test_weights_of_events_are_used(make_gaussian, tmp_path):
    """Events of weight zero might as well not be there; here they lie five units away."""
    good, bad = make_gaussian(3000, 7), make_gaussian(3000, 8, shift=2.0)
    x, mass = np.concatenate([good.features, bad.features]), np.concatenate([good.mass, bad.mass])
    weight = np.repeat([1.0, 0.0], 3000)
    fit_member(
        tmp_path,
        train_x=x, train_mass=mass, train_weight=weight,
        validation_x=x, validation_mass=mass, validation_weight=weight, settings=SMALL, seed=1,
    )  # fmt: skip
    density = load_density(tmp_path / "model")
    fresh = make_gaussian(2000, 9)
    assert float(nll_of(density, fresh).mean()) == pytest.approx(gaussian_nll(good, fresh), abs=0.1)
