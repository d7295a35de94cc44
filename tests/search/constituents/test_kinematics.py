from __future__ import annotations

import numpy as np
import pytest

from cathode.jets.dijets import DijetKinematics, ordered_axes
from cathode.search.constituents.conserve import conserved
from cathode.search.constituents.kinematics import COLUMNS, KinematicColumns


def test_jets_are_ordered_by_what_is_stored(make_events):
    events = make_events(400, 0)
    ordered, axes = ordered_axes(events)
    assert (axes[:, 0, 0] >= axes[:, 1, 0]).all()
    np.testing.assert_array_equal(ordered.mass, events.mass)
    np.testing.assert_allclose(ordered.flat().axis.reshape(-1, 2, 4), axes)
    assert (ordered.points[:, 0] != events.points[:, 0]).any()
    again, _ = ordered_axes(ordered)
    assert again is ordered


def test_columns_and_back(make_events):
    events, axes = ordered_axes(make_events(2000, 0))
    inside = DijetKinematics().inside(axes)
    events, axes = events.select(inside), axes[inside]
    columns = KinematicColumns.fitted(DijetKinematics(), events)
    table = columns.table(events, axes, seed=1)
    assert table.names == COLUMNS
    np.testing.assert_array_equal(table.event_id, events.event_id)
    back, counts = columns.jets(table.features, table.mass, seed=2)
    np.testing.assert_array_equal(counts, events.mask.sum(2))
    np.testing.assert_allclose(back[..., (0, 3)], axes[..., (0, 3)], rtol=1e-6)
    np.testing.assert_allclose(back[..., 1], axes[..., 1], atol=1e-6)
    # The azimuth is drawn: only the angle between the jets is kept.
    between = [np.cos(a[:, 0, 2] - a[:, 1, 2]) for a in (back, axes)]
    np.testing.assert_allclose(*between, atol=1e-9)
    other, _ = columns.jets(table.features, table.mass, seed=3)
    assert not np.allclose(other[..., 2], back[..., 2])
    same = columns.table(events, axes, seed=1)
    np.testing.assert_array_equal(same.features, table.features)


def test_the_cap_is_spread_without_a_step(make_events):
    events, axes = ordered_axes(make_events(6000, 0, slots=24, mean=24.0))
    inside = DijetKinematics().inside(axes)
    events, axes = events.select(inside), axes[inside]
    columns = KinematicColumns.fitted(DijetKinematics(), events)
    real = columns.table(events, axes, seed=1).features[:, -2]
    assert (events.mask.sum(2)[:, 0] == 24).mean() > 0.2
    below = ((real > 21.5) & (real < 23.5)).sum() / 2
    above = ((real > 23.5) & (real < 25.5)).sum() / 2
    assert above == pytest.approx(below, rel=0.25)
    assert real.max() > 26


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_masses_and_momenta_are_those_asked_for(make_events, threshold):
    events, axes = ordered_axes(make_events(500, 0))
    asked = np.roll(axes, 1, axis=0)
    asked[..., 1:3] = axes[..., 1:3]
    mass = np.roll(events.mass, 1)
    before = events.points.astype(np.float64)
    made = conserved(before, events.mask, asked, mass, threshold=threshold)
    possible = np.isfinite(made).all((1, 2, 3))
    assert possible.mean() > 0.9
    made, mask = made[possible], events.mask[possible]
    pt, eta, phi = np.moveaxis(made, -1, 0)
    four = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)], -1)
    total = four.sum((1, 2))
    found = np.sqrt(total[:, 3] ** 2 - (total[:, :3] ** 2).sum(1)) / 1e3
    np.testing.assert_allclose(found, mass[possible], rtol=1e-9)
    assert (made[~mask] == 0).all()
    # What was above the threshold stays above it, and what was below is not touched.
    smallest = np.minimum(before[possible][..., 0], threshold)[mask]
    assert (made[mask][:, 0] >= smallest * (1 - 1e-12)).all()
    assert (made[mask][:, 0] > 0).all()
    np.testing.assert_array_equal(made[..., 1:], before[possible][..., 1:])


def test_nothing_changes_where_nothing_is_missing(make_events):
    events, axes = ordered_axes(make_events(200, 0))
    before = events.points.astype(np.float64)
    made = conserved(before, events.mask, axes, events.mass, threshold=0.5)
    np.testing.assert_allclose(made, before, rtol=1e-6, atol=1e-6)
