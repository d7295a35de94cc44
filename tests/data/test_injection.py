from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.data.events import Events
from cathode.data.injection import Truth, inject, split
from cathode.support.errors import UserError


def make(rows: int, *, origin: float, weight: bool = False) -> Events:
    """Events that carry where they are from in their one feature."""
    return Events(
        features=origin + np.arange(rows, dtype=float)[:, None],
        names=("x",),
        mass=np.linspace(2, 5, rows),
        event_id=np.arange(rows),
        weight=np.full(rows, origin) if weight else None,
    )


BACKGROUND, SIGNAL = make(500, origin=1000), make(100, origin=9000)


@settings(max_examples=25)
@given(count=st.integers(0, 100), seed=st.integers(0, 2**32))
def test_injection_keeps_every_event_whole(count, seed):
    events, truth = inject(BACKGROUND, SIGNAL, count=count, seed=seed)
    labels = truth.of(events)
    x = events.column("x")
    assert len(events) == 500 + count
    np.testing.assert_array_equal(labels, x >= 9000)
    np.testing.assert_array_equal(np.sort(x[~labels]), BACKGROUND.column("x"))
    assert len(np.unique(x)) == len(x), "an event was drawn twice"
    np.testing.assert_array_equal(events.mass[labels], SIGNAL.mass[(x[labels] - 9000).astype(int)])
    assert set(events.names) == {"x"}


def test_seed_decides_and_the_first_events_are_nothing_special():
    once, again, other = (inject(BACKGROUND, SIGNAL, count=30, seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(once.features, again.features)
    assert not np.array_equal(once.features, other.features)
    chosen = np.sort(once.column("x")[once.column("x") >= 9000]) - 9000
    assert not np.array_equal(chosen, np.arange(30))
    events, truth = inject(BACKGROUND, SIGNAL, count=100, seed=5)
    places = np.flatnonzero(truth.of(events))
    assert abs(places.mean() / len(events) - 0.5) < 5 * np.sqrt(1 / 12 / 100), "signal is not spread over the data"


def test_weights_travel():
    events, truth = inject(make(50, origin=1, weight=True), make(20, origin=7, weight=True), count=10, seed=0)
    np.testing.assert_array_equal(events.weight, np.where(truth.of(events), 7.0, 1.0))
    with pytest.raises(UserError, match="only one of background and signal has weights"):
        inject(make(50, origin=1, weight=True), SIGNAL, count=10, seed=0)


def test_impossible_injections():
    with pytest.raises(UserError, match="cannot inject 101 signal events: the signal sample has only 100"):
        inject(BACKGROUND, SIGNAL, count=101, seed=0)
    with pytest.raises(UserError, match="must not be negative"):
        inject(BACKGROUND, SIGNAL, count=-1, seed=0)
    with pytest.raises(UserError, match="same features"):
        inject(BACKGROUND, dataclasses.replace(SIGNAL, names=("y",)), count=1, seed=0)


def test_truth_is_found_by_id_not_by_row():
    truth = Truth(event_id=np.array([7, 3, 5]), is_signal=np.array([1, 0, 1]))
    np.testing.assert_array_equal(truth.of(make(8, origin=0).select([5, 3, 7])), [True, False, True])
    with pytest.raises(UserError, match="1 of 2 events have no truth label"):
        truth.of(make(8, origin=0).select([5, 6]))
    with pytest.raises(UserError, match="have no truth label"):
        Truth(np.empty(0), np.empty(0)).of(make(2, origin=0))
    with pytest.raises(UserError, match="ids repeat"):
        Truth(np.array([1, 1]), np.array([0, 1]))
    with pytest.raises(UserError, match="one label per event id"):
        Truth(np.array([1, 2]), np.array([0]))


def test_split_depends_on_the_id_only():
    fractions = {"train": 0.5, "validation": 0.2, "test": 0.3}
    events = make(20_000, origin=0)
    parts = split(events, fractions, seed=3)
    ids = np.concatenate([part.event_id for part in parts.values()])
    np.testing.assert_array_equal(np.sort(ids), events.event_id)
    for name, part in parts.items():
        assert abs(len(part) - 20_000 * fractions[name]) < 5 * np.sqrt(20_000 * fractions[name] * (1 - fractions[name]))
    shuffled = events.select(np.random.default_rng(0).permutation(20_000)[:5000])
    for name, part in split(shuffled, fractions, seed=3).items():
        assert set(part.event_id) == set(parts[name].event_id) & set(shuffled.event_id)
    other = split(events, fractions, seed=4)["train"]
    shared = len(set(other.event_id) & set(parts["train"].event_id))
    assert abs(shared - 5000) < 5 * np.sqrt(20_000 * 0.25 * 0.75), "two seeds must split independently"


def test_split_may_leave_events_over_and_refuses_nonsense():
    assert 800 < len(split(make(2000, origin=0), {"half": 0.5}, seed=0)["half"]) < 1200
    for fractions in ({}, {"a": 0.0}, {"a": 0.7, "b": 0.6}, {"a": -0.5}):
        with pytest.raises(UserError, match="add up to at most 1"):
            split(BACKGROUND, fractions, seed=0)
