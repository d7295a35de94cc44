"""Momentum conservation: exact where it says so, small, and nothing moves that must not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.jets.generators.conserve import conserve
from cathode.jets.schema import Jets


def _jets(seed: int, count: int = 60, particles: int = 12) -> Jets:
    rng = np.random.default_rng(seed)
    points = np.stack(
        [
            rng.gamma(1.5, 30.0, (count, particles)) + 0.5,
            rng.normal(0, 0.2, (count, particles)) + rng.uniform(-2, 2, (count, 1)),
            rng.normal(0, 0.2, (count, particles)) + rng.uniform(-np.pi, np.pi, (count, 1)),
        ],
        -1,
    )
    return Jets.from_points(points, np.arange(particles) < rng.integers(6, particles + 1, count)[:, None])


def _disturbed(jets: Jets, seed: int, size: float) -> np.ndarray:
    rng = np.random.default_rng(seed + 1)
    relative = jets.relative()
    relative[..., 0] *= np.exp(size * rng.normal(size=relative.shape[:2]))
    relative[..., 1:] += 0.05 * size * rng.normal(size=relative[..., 1:].shape)
    relative[~jets.mask] = 0.0
    return relative


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=15, deadline=None)
def test_disturbed_jets_add_up_again(seed: int, mass: bool) -> None:
    jets = _jets(seed)
    disturbed = _disturbed(jets, seed, 0.05)
    done = conserve(disturbed, jets.mask, jets.axis, mass=mass)
    assert done.exact.mean() > 0.9
    total = Jets.from_relative(done.relative, jets.mask, jets.axis).total()
    assert np.abs(total[:, 0] / jets.axis[:, 0] - 1).max() < 1e-5  # the pT is always right
    error = np.abs(total - jets.axis)[done.exact]
    error[:, 2] = np.minimum(error[:, 2], 2 * np.pi - error[:, 2])
    assert error[:, 1:3].max() < 1e-5
    if mass:
        assert (error[:, 3] / jets.axis[done.exact, 3]).max() < 1e-4
    assert bool((done.relative[..., 0][jets.mask] > 0).all())
    assert not np.any(done.relative[~jets.mask])
    there = jets.mask & done.exact[:, None]
    assert np.abs(np.log(done.relative[there, 0] / disturbed[there, 0])).max() <= np.log(4.0) + 1e-9


def test_what_adds_up_is_left_alone() -> None:
    jets = _jets(1)
    relative = jets.relative()
    # The centroid that the shift looks for is that of lowest order; without it nothing changes.
    done = conserve(relative, jets.mask, jets.axis, movable=np.zeros_like(jets.mask))
    assert bool(done.exact.all())
    np.testing.assert_allclose(done.relative, relative, atol=1e-6)


def test_constituents_on_the_lattice_stay_where_they_are() -> None:
    jets = _jets(2)
    disturbed = _disturbed(jets, 2, 0.05)
    movable = np.random.default_rng(0).random(jets.mask.shape) < 0.5
    before = disturbed.copy()
    done = conserve(disturbed, jets.mask, jets.axis, movable=movable)
    np.testing.assert_array_equal(disturbed, before)  # arguments are not changed
    fixed = jets.mask & ~movable
    np.testing.assert_array_equal(done.relative[fixed][:, 1:], disturbed[fixed][:, 1:])
    assert np.abs(done.relative[..., 1:] - disturbed[..., 1:]).max() > 1e-4


@pytest.mark.filterwarnings("error")
def test_impossible_jets_are_reported_and_keep_their_pt() -> None:
    relative = np.zeros((3, 4, 3))
    mask = np.zeros((3, 4), dtype=bool)
    axis = np.array([[100.0, 0.5, 1.0, 20.0], [100.0, 0.5, 1.0, 20.0], [100.0, 0.0, 0.0, 60.0]])
    relative[0, 0], mask[0, 0] = (0.7, 0.0, 0.0), True  # one massless constituent has no mass
    relative[2, :2, 0], mask[2, :2] = 0.5, True
    relative[2, :2, 1] = (-0.01, 0.01)  # two constituents this close have less mass than was asked for
    done = conserve(relative, mask, axis)
    assert not done.exact.any()
    assert done.relative[0, 0, 0] == pytest.approx(1.0)
    assert not done.relative[1].any()
    assert np.isfinite(done.relative).all()
    assert done.relative[2, :2, 0].sum() == pytest.approx(1.0, abs=1e-3)
