from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cathode.data.events import Events
from cathode.data.regions import Regions
from cathode.support.errors import UserError


def events_at(mass) -> Events:
    mass = np.asarray(mass, dtype=float)
    return Events(np.arange(len(mass), dtype=float)[:, None], ("x",), mass, np.arange(len(mass)))


def test_edges_are_strict():
    regions = Regions(signal=(3.3, 3.7), sideband=(2.3, 5.0))
    mass = np.array([2.3, 2.4, 3.3, 3.31, 3.69, 3.7, 4.9, 5.0, 6.0])
    np.testing.assert_array_equal(regions.in_signal(mass), [0, 0, 0, 1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(regions.in_sideband(mass), [0, 1, 1, 0, 0, 1, 1, 0, 0])
    np.testing.assert_array_equal(regions.in_lower_sideband(mass), [0, 1, 1, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(regions.in_upper_sideband(mass), [0, 0, 0, 0, 0, 1, 1, 0, 0])


@given(
    edges=st.lists(st.floats(0.1, 90), min_size=4, max_size=4, unique=True).map(sorted),
    mass=st.lists(st.floats(0.05, 95), min_size=1, max_size=40),
    bounded=st.booleans(),
)
def test_every_event_is_in_exactly_one_region(edges, mass, bounded):
    outer = (edges[0], edges[3]) if bounded else (None, None)
    regions = Regions(signal=(edges[1], edges[2]), sideband=outer)
    mass = np.array(mass + edges)
    parts = [regions.in_signal(mass), regions.in_lower_sideband(mass), regions.in_upper_sideband(mass)]
    np.testing.assert_array_equal(np.sum(parts, axis=0) + ~regions.in_range(mass), np.ones(len(mass)))
    np.testing.assert_array_equal(regions.in_sideband(mass), parts[1] | parts[2])
    if not bounded:
        assert regions.in_range(mass).all()
    counts = regions.counts(events_at(mass))
    assert sum(counts.values()) == len(mass)
    signal, sideband = regions.split(events_at(mass))
    assert len(signal) == counts["signal_region"]
    assert len(sideband) == counts["lower_sideband"] + counts["upper_sideband"]
    assert not set(signal.event_id) & set(sideband.event_id)


@pytest.mark.parametrize(
    ("signal", "sideband", "message"),
    [
        ((3.7, 3.3), (None, None), "signal region .* is empty"),
        ((3.3, 3.3), (None, None), "signal region .* is empty"),
        ((3.3, np.nan), (None, None), "must be finite"),
        ((3.3, 3.7), (3.3, None), "no sideband below"),
        ((3.3, 3.7), (None, 3.5), "no sideband above"),
        ((3.3, 3.7, 4.0), (None, None), "two edges"),
    ],
)
def test_impossible_regions(signal, sideband, message):
    with pytest.raises(UserError, match=message):
        Regions(signal=signal, sideband=sideband)


def test_check_tells_what_is_missing_and_how_much():
    regions = Regions()
    low, middle, high = np.linspace(2.5, 3.2, 200), np.linspace(3.35, 3.65, 150), np.linspace(3.8, 5, 120)
    counts = regions.check(events_at(np.concatenate([low, middle, high])))
    assert counts == {"signal_region": 150, "lower_sideband": 200, "upper_sideband": 120, "outside": 0}
    with pytest.raises(UserError, match=r"no events in the signal region .* masses 2.5 to 5 TeV"):
        regions.check(events_at(np.concatenate([low, high])))
    with pytest.raises(UserError, match=r"no events in the sideband below 3.3"):
        regions.check(events_at(np.concatenate([middle, high])))
    with pytest.raises(UserError, match=r"no events in the sideband above 3.7"):
        regions.check(events_at(np.concatenate([middle, low])))
    with pytest.raises(UserError, match=r"only 150 events in the signal region .* at least 151"):
        regions.check(events_at(np.concatenate([low, middle, high])), minimum_signal=151)
    with pytest.raises(UserError, match=r"only 120 events in the sideband above .* at least 130"):
        regions.check(events_at(np.concatenate([low, middle, high])), minimum_sideband=130)
