from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cathode.data.injection import Truth
from cathode.jets.readers import read_constituent_events
from cathode.jets.schema import ConstituentEvents
from cathode.search.constituents.composition import accepted, compose_constituents
from cathode.search.constituents.settings import ConstituentSettings, ReweightingSettings
from cathode.search.settings import (
    ClassifierSettings,
    DataSettings,
    EvaluationSettings,
    InjectionSettings,
    RegionSettings,
    SearchSettings,
    TransformerTrees,
)
from cathode.support.errors import UserError

SETTINGS = SearchSettings(
    inputs="constituents",
    data=DataSettings(events=("sample:lhco_constituents",)),
    injection=InjectionSettings(signal=("sample:lhco_constituents_signal",), count=60),
    regions=RegionSettings(signal=(3.2, 3.8), sideband=(2.3, 5.5)),
    evaluation=EvaluationSettings(reserve=0.2, signal=("sample:lhco_constituents_signal",)),
)


@pytest.fixture(scope="module")
def found():
    return compose_constituents(SETTINGS)


def _keys(events: ConstituentEvents) -> set[bytes]:
    return {row.tobytes() for row in events.points[:, 0, :4]}


def test_labels_fit_the_events(found):
    signal = read_constituent_events("sample:lhco_constituents_signal")
    background = read_constituent_events("sample:lhco_constituents")
    # Whichever jet came to lead: its leading constituents are in the file.
    known = {row.tobytes() for row in signal.points[:, :, :4].reshape(-1, 4, 3)}
    others = {row.tobytes() for row in background.points[:, :, :4].reshape(-1, 4, 3)}
    is_signal = found.truth.of(found.data)
    assert 0 < is_signal.sum() <= 60
    assert _keys(found.data.select(is_signal)) <= known
    assert _keys(found.data.select(~is_signal)) <= others
    assert _keys(found.test_signal) <= known
    assert _keys(found.test_background) <= others
    assert not _keys(found.test_signal) & _keys(found.data)
    assert not _keys(found.test_background) & _keys(found.data)
    # Neither position nor id says which events were injected.
    assert len(np.unique(found.data.event_id)) == len(found.data)
    assert np.abs(np.corrcoef(found.data.event_id, is_signal)[0, 1]) < 0.1


def test_everything_is_in_the_acceptance_and_its_mass_is_its_own(found):
    for events in (found.data, found.test_background, found.test_signal):
        np.testing.assert_allclose(ConstituentEvents.from_points(events.points).mass, events.mass, rtol=1e-12)
        again, outside = accepted(events, SETTINGS.constituents, what="again")
        assert outside == 0
        assert again is events
    assert found.dropped > 0
    assert ((found.test_signal.mass > 3.2) & (found.test_signal.mass < 3.8)).all()


def test_the_same_seed_gives_the_same_events(found):
    again = compose_constituents(SETTINGS)
    np.testing.assert_array_equal(again.data.points, found.data.points)
    np.testing.assert_array_equal(again.truth.is_signal, found.truth.is_signal)
    other = compose_constituents(replace(SETTINGS, seed=2))
    assert other.data.points.shape != found.data.points.shape or (other.data.points != found.data.points).any()


def test_given_events_keep_their_ids(make_events):
    events = make_events(3000, 0, first=1000)
    truth = Truth(events.event_id, np.arange(3000) % 50 == 0)
    settings = replace(SETTINGS, injection=InjectionSettings(), evaluation=EvaluationSettings())
    found = compose_constituents(settings, events, truth)
    assert np.isin(found.data.event_id, events.event_id).all()
    rows = found.data.event_id - 1000
    np.testing.assert_allclose(found.data.mass, events.mass[rows])
    np.testing.assert_array_equal(found.truth.of(found.data), rows % 50 == 0)
    assert found.dropped == accepted(events, settings.constituents, what="events")[1] > 0


def test_fewer_constituents_are_other_events(make_events):
    events = make_events(500, 0)
    few, _ = accepted(events, ConstituentSettings(particles=4), what="x")
    assert few.particles == 4
    assert few.mass.max() < events.mass.max()


def test_events_outside_can_be_an_error(make_events):
    with pytest.raises(UserError, match=r"x: \d+ of 500 events are outside the acceptance .*constituents.outside"):
        accepted(make_events(500, 0), ConstituentSettings(outside="fail", leading_pt=1.5), what="x")
    with pytest.raises(UserError, match=r"no event is in the acceptance .*GeV"):
        accepted(make_events(500, 0), ConstituentSettings(leading_pt=1200.0), what="x")


def test_events_need_two_jets(make_events):
    events = make_events(10, 0)
    single = ConstituentEvents.from_points(events.points[:, :1], events.mask[:, :1])
    with pytest.raises(UserError, match="needs two jets per event, these have 1"):
        accepted(single, ConstituentSettings(), what="x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": replace(SETTINGS.data, mass="m")}, "data.mass belongs to tables"),
        ({"data": replace(SETTINGS.data, where="label == 0")}, "data.where belongs to tables"),
        ({"evaluation": EvaluationSettings(truth="label")}, "evaluation.truth names a column"),
        ({"injection": replace(SETTINGS.injection, where="x > 1")}, "where: files of constituents have no columns"),
        ({"data": replace(SETTINGS.data, events=("missing.h5",))}, "missing.h5"),
    ],
)
def test_what_belongs_to_tables_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        compose_constituents(replace(SETTINGS, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"classifier": ClassifierSettings(model=TransformerTrees(pretrained="nowhere"))},
        {"constituents": ConstituentSettings(reweighting=ReweightingSettings(encoder="nowhere"))},
    ],
    ids=["classifier", "reweighting"],
)
def test_a_missing_encoder_is_found_before_anything_is_computed(change):
    with pytest.raises(UserError, match="nowhere"):
        compose_constituents(replace(SETTINGS, **change))
