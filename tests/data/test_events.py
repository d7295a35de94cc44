from __future__ import annotations

import numpy as np
import pytest

from cathode.data.events import Events
from cathode.support.errors import UserError


def make(rows: int = 6, *, first_id: int = 0, weight: bool = False) -> Events:
    random = np.random.default_rng(rows + first_id)
    return Events(
        features=random.normal(size=(rows, 2)),
        names=("a", "b"),
        mass=random.uniform(2, 5, rows),
        event_id=np.arange(first_id, first_id + rows),
        weight=random.uniform(0.5, 1, rows) if weight else None,
    )


def test_columns_and_length():
    events = make()
    assert len(events) == 6
    np.testing.assert_array_equal(events.column("b"), events.features[:, 1])
    np.testing.assert_array_equal(events.column("mass"), events.mass)
    assert events.with_features(["b"]).names == ("b",)
    with pytest.raises(UserError, match=r"no column 'c'.*they have a, b, mass"):
        events.column("c")


@pytest.mark.parametrize("weight", [False, True])
def test_select_by_mask_index_and_slice_agree(weight):
    events = make(weight=weight)
    mask = np.array([False, True, False, True, True, False])
    for rows in (mask, np.flatnonzero(mask), [1, 3, 4]):
        chosen = events.select(rows)
        np.testing.assert_array_equal(chosen.features, events.features[mask])
        np.testing.assert_array_equal(chosen.event_id, [1, 3, 4])
        if weight:
            np.testing.assert_array_equal(chosen.weight, events.weight[mask])
    np.testing.assert_array_equal(events.select(slice(2, 4)).mass, events.mass[2:4])
    assert len(events.select(np.zeros(6, dtype=bool))) == 0
    assert len(events.select([])) == 0
    with pytest.raises(UserError, match="mask of shape"):
        events.select(mask[:-1])
    with pytest.raises(UserError, match="out of range"):
        events.select([6])


def test_concatenate_keeps_order_and_refuses_mixtures():
    together = Events.concatenate([make(3), make(4, first_id=3)])
    np.testing.assert_array_equal(together.event_id, np.arange(7))
    with pytest.raises(UserError, match="ids repeat"):
        Events.concatenate([make(3), make(3)])
    with pytest.raises(UserError, match="weighted with unweighted"):
        Events.concatenate([make(3), make(3, first_id=3, weight=True)])
    with pytest.raises(UserError, match="same features"):
        Events.concatenate([make(3), make(3, first_id=3).with_features(["a"])])
    with pytest.raises(UserError, match="nothing to concatenate"):
        Events.concatenate([])


@pytest.mark.parametrize("weight", [False, True])
def test_frame_round_trip(weight):
    events = make(weight=weight)
    again = Events.from_frame(events.to_frame())
    assert again.names == events.names
    for name in ("features", "mass", "event_id", "weight"):
        np.testing.assert_array_equal(getattr(again, name), getattr(events, name))
    with pytest.raises(UserError, match="no column 'mjj' in the frame"):
        Events.from_frame(events.to_frame(), mass="mjj")


@pytest.mark.parametrize("name", ["label", "Label", "truth", "is_signal", "signal"])
def test_no_label_can_be_a_feature(name):
    with pytest.raises(UserError, match="truth label and cannot be a feature"):
        Events(np.zeros((2, 1)), (name,), np.ones(2), np.arange(2))


def test_non_finite_values_are_counted_per_column():
    features = np.zeros((5, 2))
    features[0, 0] = np.nan
    features[1:3, 1] = np.inf
    features[3, 1] = np.nan
    with pytest.raises(UserError, match=r"among 5 events in 'a' \(1 NaN\), 'b' \(1 NaN and 2 infinite\)"):
        Events(features, ("a", "b"), np.ones(5), np.arange(5))
    with pytest.raises(UserError, match=r"'mass' \(1 NaN\)"):
        Events(np.zeros((2, 1)), ("a",), np.array([1, np.nan]), np.arange(2))
    with pytest.raises(UserError, match=r"'weight' \(1 infinite\)"):
        Events(np.zeros((2, 1)), ("a",), np.ones(2), np.arange(2), np.array([1, np.inf]))


def test_unusable_tables_are_refused():
    with pytest.raises(UserError, match="2 of 4 event ids repeat"):
        Events(np.zeros((4, 1)), ("a",), np.ones(4), np.array([1, 1, 1, 2]))
    with pytest.raises(UserError, match="whole numbers"):
        Events(np.zeros((2, 1)), ("a",), np.ones(2), np.array([0.5, 1]))
    with pytest.raises(UserError, match=r"shape \(4,\) for 1 names"):
        Events(np.zeros(4), ("a",), np.ones(4), np.arange(4))
    with pytest.raises(UserError, match="one mass per event"):
        Events(np.zeros((4, 1)), ("a",), np.ones(3), np.arange(4))
    with pytest.raises(UserError, match="event_id has shape"):
        Events(np.zeros((4, 1)), ("a",), np.ones(4), np.arange(3))
    with pytest.raises(UserError, match="listed more than once"):
        Events(np.zeros((4, 2)), ("a", "a"), np.ones(4), np.arange(4))
    with pytest.raises(UserError, match="name is taken"):
        Events(np.zeros((4, 1)), ("mass",), np.ones(4), np.arange(4))


def test_mass_in_gev_is_recognised():
    with pytest.raises(UserError, match="looks like GeV: declare the file's units"):
        Events(np.zeros((3, 1)), ("a",), np.array([2500.0, 3500, 4000]), np.arange(3))


def test_constant_feature():
    with pytest.raises(UserError, match=r"constant feature 'a' \(= 2\)"):
        Events(np.full((3, 1), 2.0), ("a",), np.ones(3), np.arange(3)).require_varying()
    events = make()
    assert events.require_varying() is events


def test_events_are_frozen():
    with pytest.raises(AttributeError):
        make().mass = np.zeros(6)
