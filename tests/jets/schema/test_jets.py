from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.jets.schema import Jets, jet_axis, wrap_phi
from cathode.support.errors import UserError

seeds = st.integers(0, 2**32 - 1)


def random_points(seed, jets=6, slots=7, spread=0.8):
    """Constituents around axes anywhere in phi, out of order, with padding anywhere."""
    rng = np.random.default_rng(seed)
    mask = rng.random((jets, slots)) < 0.7
    mask[:, 0] = True
    axis = np.stack([rng.uniform(-2.5, 2.5, jets), rng.uniform(-np.pi, np.pi, jets)], axis=1)
    points = np.empty((jets, slots, 3), np.float32)
    points[..., 0] = rng.lognormal(3, 2, (jets, slots))
    points[..., 1:] = axis[:, None] + rng.normal(0, spread, (jets, slots, 2))
    points[~mask] = 0
    return points, mask


def random_jets(seed, **sizes):
    points, mask = random_points(seed, **sizes)
    rng = np.random.default_rng(seed + 1)
    charge = rng.integers(-1, 2, mask.shape).astype(np.int8) * mask
    return Jets.from_points(points, mask, extras={"charge": charge}, type=np.arange(len(points)) % 5)


@given(phi=st.floats(-50, 50))
def test_phi_is_wrapped_into_one_turn(phi):
    wrapped = float(wrap_phi(phi))
    assert -np.pi <= wrapped < np.pi
    assert np.cos(wrapped) == pytest.approx(np.cos(phi), abs=1e-12)
    assert np.sin(wrapped) == pytest.approx(np.sin(phi), abs=1e-12)


def test_phi_inside_keeps_its_bits_and_pi_turns_over():
    inside = np.array([-np.pi, -1e-300, 0.1, np.nextafter(np.pi, 0)])
    assert np.array_equal(wrap_phi(inside), inside)
    assert wrap_phi(np.pi) == -np.pi
    # The nearest float32 to pi lies outside; it comes back inside as a float32.
    jets = Jets.from_points(np.array([[[10.0, 0.0, np.pi]]]))
    assert -np.pi <= float(jets.points[0, 0, 2]) < np.pi


@given(seed=seeds)
@settings(max_examples=40, deadline=None)
def test_relative_coordinates_have_an_exact_inverse(seed):
    jets = random_jets(seed)
    relative = jets.relative()
    assert np.abs(relative[..., 2]).max() <= np.pi
    back = Jets.from_relative(relative, jets.mask, jets.axis, jets.extras, jets.type)
    # Bit for bit, but where eta or phi is so near to 0 that its last bits are below those of the axis.
    assert np.array_equal(back.points[..., 0], jets.points[..., 0])
    np.testing.assert_allclose(back.points, jets.points, rtol=0, atol=2e-15)
    assert np.array_equal(back.mask, jets.mask)
    assert np.array_equal(back.axis, jets.axis)
    assert np.array_equal(back.extras["charge"], jets.extras["charge"])
    assert np.array_equal(back.type, jets.type)


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_relative_coordinates_survive_single_precision(seed):
    jets = random_jets(seed)
    back = Jets.from_relative(jets.relative(np.float32), jets.mask, jets.axis)
    difference = back.four_momenta().sum(axis=1) - jets.four_momenta().sum(axis=1)
    scale = jets.four_momenta()[..., 3].sum(axis=1)
    # Angles up to pi have steps of 2.4e-7 in float32.
    assert (np.abs(difference) / scale[:, None]).max() < 2e-6


@given(seed=seeds)
@settings(max_examples=40, deadline=None)
def test_momenta_and_back(seed):
    jets = random_jets(seed)
    momenta = jets.four_momenta()
    np.testing.assert_allclose(momenta[..., 3] ** 2, (momenta[..., :3] ** 2).sum(axis=-1), rtol=1e-12, atol=0)
    back = Jets.from_four_momenta(momenta, extras=jets.extras)
    assert np.array_equal(back.mask, jets.mask)
    # A float32 has 24 bits: half a unit in the last place.
    np.testing.assert_allclose(back.points, jets.points, rtol=6e-8, atol=1e-12)
    np.testing.assert_allclose(back.axis, jets.axis, rtol=1e-7, atol=1e-6 * jets.axis[:, :1].max())
    assert np.array_equal(back.extras["charge"], jets.extras["charge"])


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_order_and_place_of_padding_do_not_matter(seed):
    points, mask = random_points(seed)
    columns = np.where(mask, np.arange(mask.size).reshape(mask.shape), 0)
    jets = Jets.from_points(points, mask, extras={"number": columns})
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.tile(np.arange(mask.shape[1]), (len(mask), 1)), axis=1)
    shuffled = np.take_along_axis(points, order[..., None], axis=1)
    other = Jets.from_points(
        shuffled,
        np.take_along_axis(mask, order, axis=1),
        extras={"number": np.take_along_axis(columns, order, axis=1)},
    )
    assert np.array_equal(other.points, jets.points)
    assert np.array_equal(other.mask, jets.mask)
    assert np.array_equal(other.axis, jets.axis)
    assert np.array_equal(other.extras["number"], jets.extras["number"])
    assert (jets.points[:, 1:, 0] <= jets.points[:, :-1, 0]).all()
    assert np.array_equal(jets.mask.sum(axis=1), jets.multiplicity())


@given(seed=seeds, more=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_padding_changes_nothing(seed, more):
    points, mask = random_points(seed)
    jets = Jets.from_points(points, mask)
    wide = Jets.from_points(np.pad(points, ((0, 0), (0, more), (0, 0))), np.pad(mask, ((0, 0), (0, more))))
    slots = jets.particles
    assert np.array_equal(wide.points[:, :slots], jets.points)
    assert not wide.points[:, slots:].any()
    np.testing.assert_allclose(wide.axis, jets.axis, rtol=1e-14, atol=1e-12)
    np.testing.assert_allclose(wide.relative()[:, :slots], jets.relative(), atol=1e-12)
    assert np.array_equal(jets.padded(slots + more).points, wide.points)


def test_what_the_mask_hides_is_ignored():
    points = np.array([[[np.nan, np.inf, 0.0], [5.0, 0.1, 0.2], [-3.0, 99.0, 99.0]]], np.float32)
    jets = Jets.from_points(points, np.array([[0, 1, 0]]), extras={"d0": np.array([[np.nan, 0.5, np.nan]])})
    assert np.array_equal(jets.mask, [[True, False, False]])
    np.testing.assert_allclose(jets.points[0], [[5.0, 0.1, 0.2], [0, 0, 0], [0, 0, 0]], rtol=1e-6)
    assert np.array_equal(jets.extras["d0"], [[0.5, 0, 0]])


def test_axis_is_the_sum_of_the_constituents():
    # Two massless constituents back to back in eta: E = 2 cosh(1), pT = 2, so m^2 = 4 (cosh^2 1 - 1).
    jets = Jets.from_points(np.array([[[1.0, 1.0, 0.0], [1.0, -1.0, 0.0]], [[3.0, 0.5, -1.0], [0, 0, 0]]]))
    np.testing.assert_allclose(jets.axis[0], [2.0, 0.0, 0.0, 2 * np.sinh(1)], atol=1e-12)
    np.testing.assert_allclose(jets.axis[1], [3.0, 0.5, -1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(jets.total(), jets.axis, atol=1e-12)


def test_a_given_axis_is_kept_and_can_be_replaced():
    points = np.array([[[10.0, 0.1, 0.0], [5.0, -0.2, 0.1]]])
    jets = Jets.from_points(points, axis=[[20.0, 0.05, 6.3, 3.0]])
    np.testing.assert_allclose(jets.axis, [[20.0, 0.05, 6.3 - 2 * np.pi, 3.0]])
    assert jets.relative()[0, 0, 0] == 0.5
    assert np.array_equal(jets.leading(1).axis, jets.axis)
    own = jets.leading(1).with_own_axis()
    np.testing.assert_allclose(own.axis, [[10.0, 0.1, 0.0, 0.0]], atol=1e-6)
    assert np.array_equal(own.axis, jet_axis(jets.points[:, :1]))


def test_leading_select_concatenate():
    jets = random_jets(3)
    few = jets.leading(2)
    assert few.points.shape == (6, 2, 3)
    assert np.array_equal(few.points, jets.points[:, :2])
    assert np.array_equal(few.multiplicity(), np.minimum(jets.multiplicity(), 2))
    assert jets.leading(100).particles == 7
    picked = jets.select([4, 4, -1])
    assert np.array_equal(picked.type, jets.type[[4, 4, 5]])
    assert np.array_equal(picked.extras["charge"], jets.extras["charge"][[4, 4, 5]])
    assert len(jets.select(jets.type == 0)) == 2
    joined = Jets.concatenate([few, jets])
    assert joined.points.shape == (12, 7, 3)
    assert np.array_equal(joined.select(slice(6, None)).points, jets.points)
    assert np.array_equal(joined.leading(2).points[:6], few.points)
    # The strict constructor takes what the methods make.
    Jets(joined.points, joined.mask, joined.axis, joined.extras, joined.type)


def test_jets_without_constituents():
    jets = Jets.from_points(np.zeros((2, 3, 3)))
    assert not jets.mask.any()
    assert not jets.axis.any()
    assert not jets.relative().any()
    back = Jets.from_relative(jets.relative(), jets.mask, jets.axis)
    assert np.array_equal(back.points, jets.points)
    assert len(Jets.from_points(np.zeros((0, 3, 3)))) == 0


GOOD = np.array([[[10.0, 0.1, 0.2], [5.0, 0.3, 0.1], [0, 0, 0]]], np.float32)


def spoiled(value, slot=1, column=0):
    points = GOOD.copy()
    points[0, slot, column] = value
    return points


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (GOOD[0], r"must be numbers of shape \(jets, constituents, 3"),
        (np.zeros((4, 3, 10)), "axes look swapped"),
        (spoiled(np.nan), "1 of 1 jets .first: row 0. have constituents that are NaN"),
        (spoiled(np.inf, column=1), "NaN or infinite"),
        (spoiled(-1.0), "negative pT: are the columns in the order"),
        (GOOD[..., ::-1], "negative pT|eta. > 20"),
        (spoiled(30.0, column=1), "are the columns in the order pT, eta, phi"),
        (spoiled(9.0, column=2), "phi. > 2 pi"),
        (GOOD.astype(str), "must be numbers"),
    ],
)
def test_unusable_constituents(points, message):
    with pytest.raises(UserError, match=message):
        Jets.from_points(points)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask": np.ones((1, 2))}, "mask has shape"),
        ({"mask": np.array([[1, 1, 1]])}, "pT 0 where the mask says"),
        ({"mask": np.array([[1, 0.5, 0]])}, "other than 0 and 1"),
        ({"axis": np.ones((1, 3))}, r"axis has shape \(1, 3\)"),
        ({"axis": [[np.nan, 0, 0, 1]]}, "axis that is NaN"),
        ({"axis": [[0.0, 0, 0, 1]]}, "no positive pT"),
        ({"axis": [[10.0, 40, 0, 1]]}, "impossible eta or phi"),
        ({"axis": [[10.0, 0, 0, -1]]}, "negative mass"),
        ({"extras": {"d0": np.ones((1, 2))}}, "'d0' of the constituents has shape"),
        ({"extras": {"d0": np.full((1, 3), np.nan)}}, "NaN or infinite values of 'd0'"),
        ({"extras": {"d0": np.full((1, 3), "a")}}, "not numeric"),
        ({"extras": {"label": np.ones((1, 3))}}, "looks like a truth label"),
        ({"type": [0.5]}, "whole numbers"),
        ({"type": [1, 2]}, "type has shape"),
    ],
)
def test_unusable_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        Jets.from_points(GOOD, **arguments)


def test_the_constructor_sorts_nothing():
    jets = Jets.from_points(GOOD)
    with pytest.raises(UserError, match="not ordered by falling pT"):
        Jets(GOOD[:, [1, 0, 2]], jets.mask, jets.axis)
    with pytest.raises(UserError, match="mask and constituents do not agree"):
        Jets(GOOD, np.array([[True, False, False]]), jets.axis)
    with pytest.raises(UserError, match="phi of constituents is outside"):
        Jets(spoiled(4.0, column=2), jets.mask, jets.axis)
    with pytest.raises(UserError, match="not zero in padding"):
        Jets(GOOD, jets.mask, jets.axis, {"d0": np.ones((1, 3))})


def test_unusable_requests():
    jets = random_jets(0)
    with pytest.raises(UserError, match="at least 1, got 0"):
        jets.leading(0)
    with pytest.raises(UserError, match="row 6 is out of range: there are 6 jets"):
        jets.select([0, 6])
    with pytest.raises(UserError, match="cannot select among 6 jets"):
        jets.select(np.ones(5, bool))
    with pytest.raises(UserError, match="one-dimensional array of integers"):
        jets.select([0.5])
    with pytest.raises(UserError, match="no jets were given"):
        Jets.concatenate([])
    with pytest.raises(UserError, match="with columns"):
        Jets.concatenate([jets, Jets.from_points(GOOD, type=[1])])
    with pytest.raises(UserError, match="with and without types"):
        Jets.concatenate([jets, Jets.from_points(GOOD, extras={"charge": np.zeros((1, 3))})])
    with pytest.raises(UserError, match=r"\(jets, constituents, 4"):
        Jets.from_four_momenta(GOOD)
    with pytest.raises(UserError, match="axis has shape"):
        Jets.from_relative(GOOD, GOOD[..., 0] > 0, np.ones((1, 3)))
