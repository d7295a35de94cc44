from __future__ import annotations

import numpy as np
import pytest

from cathode.classifiers.transformer.features import constituent_inputs, event_inputs, jet_axis
from cathode.support.errors import UserError


def constituents(*shape, seed=0):
    rng = np.random.default_rng(seed)
    points = np.stack(
        [np.sort(rng.exponential(20, shape), axis=-1)[..., ::-1] + 0.5, *rng.normal(0, 0.2, (2, *shape))], axis=-1
    )
    points[..., 2] += 3.1  # across the edge of phi
    points[..., 2] = (points[..., 2] + np.pi) % (2 * np.pi) - np.pi
    count = rng.integers(2, shape[-1] + 1, (*shape[:-1], 1))
    return np.where((np.arange(shape[-1]) < count)[..., None], points, 0.0)


def test_the_axis_is_the_sum_of_the_points():
    jets = constituents(20, 6)
    mask = jets[..., 0] > 0
    found = jet_axis(jets, mask)
    for jet, real, (pt, eta, phi, mass) in zip(jets, mask, found, strict=True):
        p = sum(np.array([t * np.cos(f), t * np.sin(f), t * np.sinh(e), t * np.cosh(e)]) for t, e, f in jet[real])
        np.testing.assert_allclose([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], p[:3], rtol=1e-9, atol=1e-9)
        assert mass**2 == pytest.approx(p[3] ** 2 - (p[:3] ** 2).sum(), abs=1e-6 * p[3] ** 2)
    assert (jet_axis(np.zeros((1, 3, 3)), np.zeros((1, 3), bool)) == 0).all()


def test_columns_of_points_and_jets():
    jets = constituents(20, 6)
    axis = jet_axis(jets, jets[..., 0] > 0)
    inputs = constituent_inputs(jets)
    assert inputs.kind == "5 features, 3 momentum columns, 4 globals"
    pt, eta, phi = jets[3, 1]
    dphi = np.angle(np.exp(1j * (phi - axis[3, 2])))
    expected = [
        np.log(pt),
        np.log(pt / axis[3, 0]),
        eta - axis[3, 1],
        dphi,
        np.log(np.hypot(eta - axis[3, 1], dphi) + 1e-3),
    ]
    np.testing.assert_allclose(inputs.points[3, 1], expected, rtol=1e-4, atol=1e-5)
    assert np.abs(inputs.points[..., 3]).max() < 2
    of_jet = [np.log(axis[3, 0]), axis[3, 1], np.log(axis[3, 3] / axis[3, 0]), np.log1p(inputs.mask[3].sum())]
    np.testing.assert_allclose(inputs.globals[3], of_jet, rtol=1e-5)
    np.testing.assert_allclose(inputs.momenta, jets, rtol=1e-6)


def test_rotations_in_phi_change_no_feature():
    jets = constituents(20, 6)
    turned = jets.copy()
    turned[..., 2] = np.where(jets[..., 0] > 0, (jets[..., 2] + 5.0) % (2 * np.pi) - np.pi, 0.0)
    first, second = constituent_inputs(jets), constituent_inputs(turned)
    np.testing.assert_allclose(first.points, second.points, atol=2e-5)
    np.testing.assert_allclose(first.globals, second.globals, atol=2e-5)


def test_events_are_their_jets_side_by_side():
    events = constituents(15, 2, 6)
    inputs = event_inputs(events, columns=np.arange(15.0)[:, None])
    assert inputs.kind == "5 features, groups, 3 momentum columns, 10 globals"
    assert inputs.groups == 2
    np.testing.assert_array_equal(inputs.globals[:, 9], np.arange(15))
    for j in (0, 1):
        alone = constituent_inputs(events[:, j])
        np.testing.assert_array_equal(inputs.points[:, 6 * j : 6 * j + 6], alone.points)
        np.testing.assert_array_equal(inputs.globals[:, 4 * j : 4 * j + 4], alone.globals)
        assert (inputs.group[:, 6 * j : 6 * j + 6] == j * alone.mask).all()
    axes = jet_axis(events, events[..., 0] > 0)
    opening = np.abs(np.angle(np.exp(1j * (axes[:, 0, 2] - axes[:, 1, 2]))))
    np.testing.assert_allclose(inputs.globals[:, 8], opening, atol=1e-5)


def test_extras_given_axes_and_empty_jets():
    jets = constituents(5, 4)
    jets[2] = 0
    axis = np.tile([100.0, 0.1, 3.0, 10.0], (5, 1))
    inputs = constituent_inputs(jets, axis=axis, extras=np.ones((5, 4, 2)))
    assert inputs.features == 7
    assert not inputs.mask[2].any()
    assert (inputs.points[2] == 0).all()
    np.testing.assert_allclose(inputs.globals[0, :3], [np.log(100), 0.1, np.log(0.1)], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"points": np.ones((3, 4))}, r"give \(jets, points, 3\)"),
        ({"points": np.ones((3, 4, 3)), "mask": np.ones((3, 4))}, "give booleans"),
        ({"points": -np.ones((3, 4, 3)), "mask": np.ones((3, 4), bool)}, "12 constituents"),
        ({"points": np.full((3, 4, 3), np.nan), "mask": np.ones((3, 4), bool)}, "12 constituents"),
        ({"points": np.ones((3, 4, 3)), "axis": np.ones((3, 3))}, "axes of jets"),
        ({"points": np.ones((3, 4, 3)), "extras": np.ones((3, 4))}, "extras of constituents"),
        ({"points": np.ones((3, 4, 3)), "columns": np.ones(3)}, "columns of sets"),
    ],
)
def test_bad_constituents_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        constituent_inputs(**arguments)
