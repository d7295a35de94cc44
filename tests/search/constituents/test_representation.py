from __future__ import annotations

import numpy as np
import pytest

from cathode.jets.dijets import ordered_axes
from cathode.jets.schema import ConstituentEvents
from cathode.search.constituents.representation import set_inputs


@pytest.fixture(scope="module")
def events(make_events):
    return ordered_axes(make_events(50, 3))[0]


def test_shapes_and_masks(events):
    inputs = set_inputs(events, reference_mass=3.5)
    assert inputs.points.shape[:2] == (50, 32)
    np.testing.assert_array_equal(inputs.mask, events.mask.reshape(50, 32))
    assert inputs.momenta is None
    assert (inputs.group[:, 16:][inputs.mask[:, 16:]] == 1).all()
    assert (inputs.points[~inputs.mask] == 0).all()


def test_fewer_particles_are_the_leading_ones(events):
    few = set_inputs(events, reference_mass=3.5, particles=5, pairs=True)
    assert few.points.shape[1] == 10
    assert few.momenta.shape == (50, 10, 3)
    whole = set_inputs(events, reference_mass=3.5)
    np.testing.assert_array_equal(few.points[:, :5][few.mask[:, :5]], whole.points[:, :5][whole.mask[:, :5]])
    np.testing.assert_array_equal(few.points[:, 5:], whole.points[:, 16:21])
    # What was cut is still counted.
    assert few.global_features == whole.global_features + 2
    np.testing.assert_allclose(few.globals[:, -2:], np.log1p(events.mask.sum(2)), rtol=1e-6)
    assert set_inputs(events, reference_mass=3.5, particles=100).kind == whole.kind


def test_the_mass_is_not_seen_unless_asked_for(events):
    harder = events.points.copy()
    harder[..., 0] *= 1.5
    scaled = ConstituentEvents.from_points(harder, events.mask)
    np.testing.assert_allclose(scaled.mass, 1.5 * events.mass, rtol=1e-6)
    one, other = (set_inputs(e, reference_mass=3.5, pairs=True) for e in (events, scaled))
    for name in ("points", "globals", "momenta"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-5, atol=1e-5)
    with_mass = set_inputs(scaled, reference_mass=3.5, use_mass=True)
    np.testing.assert_allclose(with_mass.globals[:, -1], np.log(scaled.mass), rtol=1e-5)


def test_padding_changes_nothing(events):
    padded = ConstituentEvents.from_points(np.pad(events.points, ((0, 0), (0, 0), (0, 7), (0, 0))))
    one, other = set_inputs(events, reference_mass=3.5), set_inputs(padded, reference_mass=3.5)
    np.testing.assert_array_equal(one.points[one.mask], other.points[other.mask])
    np.testing.assert_array_equal(one.group[one.mask], other.group[other.mask])
    np.testing.assert_array_equal(one.globals, other.globals)
