from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cathode.data.events import Events
from cathode.data.injection import Truth
from cathode.data.writers import write_events
from cathode.search.composition import compose
from cathode.search.settings import (
    DataSettings,
    EvaluationSettings,
    InjectionSettings,
    RegionSettings,
    SearchSettings,
)
from cathode.support.errors import UserError

REGION = RegionSettings(signal=(3.3, 3.7), sideband=(2.3, 5.0))


@pytest.fixture
def background(make_gaussian):
    return make_gaussian(4000, 1)


@pytest.fixture
def signal_file(make_gaussian, tmp_path):
    random = np.random.default_rng(5)
    # Every event can be told from background, and from every other one, by its features.
    features = np.column_stack([1000.0 + random.random(500), 1000.0 + np.arange(500)])
    write_events(Events(features, ("a", "b"), random.normal(3.5, 0.15, 500), np.arange(500)), tmp_path / "signal.h5")
    return str(tmp_path / "signal.h5")


def settings(signal_file="", *, seed=1, reserve=0.0, test=True, **injection) -> SearchSettings:
    return SearchSettings(
        data=DataSettings(events=("unused",), mass="mass", features=("a", "b")),
        regions=REGION,
        injection=InjectionSettings(signal=(signal_file,), **injection) if signal_file else InjectionSettings(),
        evaluation=EvaluationSettings(reserve=reserve, signal=(signal_file,) if signal_file and test else ()),
        seed=seed,
    )


def rows(events: Events) -> set[tuple[float, ...]]:
    return set(map(tuple, np.column_stack([events.features, events.mass])))


def test_without_injection_the_data_are_the_events(background):
    inputs = compose(settings(), background)
    assert rows(inputs.data) == rows(background)
    assert (inputs.truth, inputs.test_background, inputs.test_signal) == (None, None, None)


def test_only_the_range_is_searched(background):
    narrow = dataclasses.replace(settings(), regions=RegionSettings(signal=(3.3, 3.7), sideband=(2.8, 4.5)))
    data = compose(narrow, background).data
    assert data.mass.min() > 2.8
    assert data.mass.max() < 4.5
    assert len(data) < len(background)


def test_reserved_events_are_not_in_the_data(background):
    inputs = compose(settings(reserve=0.3), background)
    assert not rows(inputs.data) & rows(inputs.test_background)
    assert rows(inputs.data) | rows(inputs.test_background) <= rows(background)
    inside = (background.mass > 3.3) & (background.mass < 3.7)
    assert len(inputs.test_background) == pytest.approx(0.3 * inside.sum(), abs=4 * np.sqrt(inside.sum() * 0.21))
    assert ((inputs.test_background.mass > 3.3) & (inputs.test_background.mass < 3.7)).all()
    assert not inputs.truth.is_signal.any()


def test_reserving_leaves_no_notch_in_the_spectrum(background):
    """The fraction of events in the window stays what it was."""
    data = compose(settings(reserve=0.5), background).data
    fraction = [((e.mass > 3.3) & (e.mass < 3.7)).mean() for e in (background, data)]
    assert fraction[1] == pytest.approx(fraction[0], abs=4 * np.sqrt(fraction[0] / len(data)))


def test_injected_truth_is_known_and_apart(background, signal_file):
    inputs = compose(settings(signal_file, count=60), background)
    is_signal = inputs.truth.of(inputs.data)
    np.testing.assert_array_equal(is_signal, inputs.data.features[:, 0] >= 1000.0)
    assert len(inputs.data) == 4060
    assert is_signal.sum() == 60
    assert inputs.data.names == ("a", "b")
    assert {f.name for f in dataclasses.fields(inputs.data)} == {"features", "names", "mass", "event_id", "weight"}
    # Neither position nor id betrays a signal event.
    for place in (np.arange(4060), inputs.data.event_id):
        assert abs(place[is_signal].mean() - 2029.5) < 5 * 1172 / np.sqrt(60)


def test_injection_is_by_seed(background, signal_file):
    first, same = (compose(settings(signal_file, count=60), background) for _ in range(2))
    other = compose(settings(signal_file, count=60, seed=2), background)
    np.testing.assert_array_equal(first.data.features, same.data.features)
    np.testing.assert_array_equal(first.truth.is_signal, same.truth.is_signal)

    def chosen(inputs):
        return set(inputs.data.features[inputs.truth.of(inputs.data), 1])

    assert chosen(first) != chosen(other)
    # Never the first ones of the file.
    assert chosen(first) != {1000.0 + k for k in range(60)}


def test_injected_signal_is_not_tested_on(background, signal_file):
    inputs = compose(settings(signal_file, count=60), background)
    used = set(inputs.data.features[inputs.truth.of(inputs.data), 1])
    assert not used & set(inputs.test_signal.features[:, 1])
    assert ((inputs.test_signal.mass > 3.3) & (inputs.test_signal.mass < 3.7)).all()


def test_strength_is_signal_over_root_background_in_the_window(background, signal_file):
    inputs = compose(settings(signal_file, strength=2.5), background)
    inside = (inputs.data.mass > 3.3) & (inputs.data.mass < 3.7)
    is_signal = inputs.truth.of(inputs.data)
    n_signal, n_background = (inside & is_signal).sum(), (inside & ~is_signal).sum()
    # The count is fixed for the whole range; how many fall into the window is binomial.
    assert n_signal / np.sqrt(n_background) == pytest.approx(2.5, abs=4 * np.sqrt(n_signal * 0.2 / n_background))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 501}, "injection: 501 signal events asked for, 500 are available"),
        ({"strength": 1000.0}, "signal events asked for, 500 are available"),
        ({"count": 500}, "no test signal events are left in the signal region"),
    ],
)
def test_impossible_injections_are_refused(background, signal_file, options, message):
    with pytest.raises(UserError, match=message):
        compose(settings(signal_file, **options), background)


@pytest.mark.parametrize("given", [{}, {"count": 3, "strength": 1.0}])
def test_exactly_one_of_count_and_strength(signal_file, given):
    with pytest.raises(UserError, match="given either count or strength"):
        settings(signal_file, **given)


def test_signal_outside_the_window_cannot_have_a_strength(background, make_gaussian, tmp_path):
    far = make_gaussian(200)
    far = far.select(far.mass < 3.0)
    write_events(far, tmp_path / "far.h5")
    with pytest.raises(UserError, match="no signal event lies in the signal region"):
        compose(settings(str(tmp_path / "far.h5"), strength=1.0), background)


@pytest.mark.parametrize(
    ("rows_kept", "message"),
    [
        (lambda m: m < 3.3, r"no events in the signal region \(3.3, 3.7\) TeV"),
        (lambda m: m > 3.3, "no events in the sideband below 3.3 TeV"),
        (lambda m: m < 3.7, "no events in the sideband above 3.7 TeV"),
        (lambda m: np.arange(len(m)) < 300, "at least 100 are needed"),
    ],
)
def test_missing_regions_are_refused(background, rows_kept, message):
    with pytest.raises(UserError, match=message):
        compose(settings(), background.select(rows_kept(background.mass)))


def test_reserving_nearly_everything_is_refused(background):
    with pytest.raises(UserError, match="needed"):
        compose(settings(reserve=0.99), background)


def test_truth_of_the_caller_is_kept(background):
    truth = Truth(background.event_id, background.event_id % 10 == 0)
    inputs = compose(settings(), background, truth)
    np.testing.assert_array_equal(inputs.truth.of(inputs.data), inputs.data.event_id % 10 == 0)


def test_known_signal_is_no_test_background(background):
    truth = Truth(background.event_id, background.event_id % 10 == 0)
    inputs = compose(settings(reserve=0.3), background, truth)
    assert len(inputs.test_background) > 50
    assert not (inputs.test_background.event_id % 10 == 0).any()


def test_injection_into_data_with_truth_is_refused(background, signal_file):
    """Injecting gives new labels to all events; the old ones would be lost without a word."""
    truth = Truth(background.event_id, background.event_id % 10 == 0)
    with pytest.raises(UserError, match="injection"):
        compose(settings(signal_file, count=10), background, truth)


def test_truth_of_other_events_is_refused_at_once(background):
    with pytest.raises(UserError, match="have no truth label"):
        compose(settings(), background, Truth(np.arange(10), np.zeros(10, dtype=bool)))
