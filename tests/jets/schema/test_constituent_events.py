from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.jets.schema import ConstituentEvents, Jets
from cathode.support.errors import UserError


def random_events(seed=0, events=5, slots=6):
    rng = np.random.default_rng(seed)
    points = np.empty((events, 2, slots, 3), np.float32)
    points[..., 0] = rng.lognormal(4, 1, points.shape[:-1])
    points[..., 1] = rng.normal(0, 1, points.shape[:-1])
    points[..., 2] = rng.uniform(-np.pi, np.pi, points.shape[:-1])
    points[rng.random(points.shape[:-1]) < 0.2] = 0
    points[:, :, 0] = [100.0, 0.5, 0.1]
    return ConstituentEvents.from_points(points)


def test_mass_is_that_of_all_constituents_in_tev():
    # Two massless particles: m^2 = 2 pT1 pT2 (cosh(d eta) - cos(d phi)).
    events = ConstituentEvents.from_points(
        [[[[1000.0, 0.5, 0.0], [0, 0, 0]], [[2000.0, -0.5, 2.0], [0, 0, 0]]]], event_id=[7], weight=[0.5]
    )
    expected = np.sqrt(2 * 1000 * 2000 * (np.cosh(1.0) - np.cos(2.0))) / 1e3
    assert events.mass[0] == pytest.approx(expected, rel=1e-7)
    assert events.event_id[0] == 7
    assert events.weight[0] == 0.5


def test_no_room_for_labels():
    assert [field.name for field in dataclasses.fields(ConstituentEvents)] == [
        "points", "mask", "mass", "event_id", "weight",
    ]  # fmt: skip
    jets = random_events().flat()
    labelled = Jets(jets.points, jets.mask, jets.axis, type=np.arange(len(jets)))
    events = ConstituentEvents.from_jets(labelled)
    assert events.jets(0).type is None
    assert events.flat().type is None


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_events_are_their_jets_side_by_side(seed):
    events = random_events(seed)
    flat = events.flat()
    assert len(flat) == 10
    for index in range(2):
        jets = events.jets(index)
        assert np.array_equal(jets.points, flat.points[index::2])
        np.testing.assert_allclose(jets.axis, flat.axis[index::2])
        np.testing.assert_allclose(jets.axis, jets.total())
    back = ConstituentEvents.from_jets(flat)
    assert np.array_equal(back.points, events.points)
    assert np.array_equal(back.mass, events.mass)
    momenta = flat.four_momenta().sum(axis=1).reshape(5, 2, 4).sum(axis=1)
    mass = np.sqrt(momenta[:, 3] ** 2 - (momenta[:, :3] ** 2).sum(axis=1)) / 1e3
    np.testing.assert_allclose(events.mass, mass, rtol=1e-9)


def test_leading_has_the_mass_of_what_is_left():
    events = random_events()
    few = events.leading(1)
    assert few.points.shape == (5, 2, 1, 3)
    assert (few.mass < events.mass).all()
    np.testing.assert_allclose(few.mass, ConstituentEvents.from_points(few.points).mass)
    assert np.array_equal(few.event_id, events.event_id)


def test_select_and_concatenate():
    events = random_events()
    picked = events.select([3, 0])
    assert np.array_equal(picked.event_id, [3, 0])
    assert np.array_equal(picked.mass, events.mass[[3, 0]])
    assert len(events.select(events.mass > 0)) == 5
    other = ConstituentEvents.from_points(random_events(1, slots=9).points, event_id=np.arange(10, 15))
    joined = ConstituentEvents.concatenate([events, other])
    assert joined.points.shape == (10, 2, 9, 3)
    assert np.array_equal(joined.select(slice(5, None)).points, other.points)
    np.testing.assert_allclose(joined.mass, np.concatenate([events.mass, other.mass]))


def test_unusable_events():
    events = random_events()
    with pytest.raises(UserError, match=r"\(events, jets, constituents, 3"):
        ConstituentEvents.from_points(events.points[0])
    with pytest.raises(UserError, match="unique"):
        ConstituentEvents.from_points(events.points, event_id=np.zeros(5, int))
    with pytest.raises(UserError, match="looks like GeV"):
        ConstituentEvents(events.points, events.mask, 1e3 * events.mass + 1e3, events.event_id)
    with pytest.raises(UserError, match=r"'weight' .1 NaN"):
        ConstituentEvents.from_points(events.points, weight=[1, 1, np.nan, 1, 1])
    with pytest.raises(UserError, match="cannot be events of 3 jets"):
        ConstituentEvents.from_jets(events.flat(), 3)
    with pytest.raises(UserError, match="no jet 2: these events have 2 jets"):
        events.jets(2)
    with pytest.raises(UserError, match="selected more than once"):
        events.select([1, -4])
    with pytest.raises(UserError, match="at least 1, got 0"):
        events.leading(0)
    with pytest.raises(UserError, match="repeat an earlier one"):
        ConstituentEvents.concatenate([events, events])
    with pytest.raises(UserError, match="no events were given"):
        ConstituentEvents.concatenate([])
    weighted = ConstituentEvents.from_points(events.points, event_id=np.arange(5, 10), weight=np.ones(5))
    with pytest.raises(UserError, match="weighted with unweighted"):
        ConstituentEvents.concatenate([events, weighted])
    with pytest.raises(UserError, match="different numbers of jets"):
        ConstituentEvents.concatenate([events, ConstituentEvents.from_points(events.points[:, :1])])
    with pytest.raises(UserError, match="NaN or infinite"):
        ConstituentEvents.from_points(np.where(events.points > 99, np.nan, events.points))
