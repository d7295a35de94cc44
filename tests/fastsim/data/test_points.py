from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.support.errors import UserError
from fastsim.data import Showers
from fastsim.data.points import points_to_voxels, voxels_to_points
from fastsim.geometry import geometry


@pytest.mark.parametrize("name", ["ds1-photons", "ds1-pions", "calogan", "image-30x30"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), filled=st.floats(0, 1))
def test_round_trip(name, seed, filled):
    rng = np.random.default_rng(seed)
    one = geometry(name)
    energies = rng.uniform(10, 100, (3, one.n_voxels)) * (rng.random((3, one.n_voxels)) < filled)
    showers = Showers(np.full(3, 1e3), energies, one)
    points = voxels_to_points(showers)
    assert points.shape[1] == (showers.energies > 0).sum(1).max()
    np.testing.assert_array_equal(points_to_voxels(points, one), showers.energies)


def test_what_is_outside_is_counted(caplog):
    one = geometry("ds2")
    points = np.array([[[1, 1, 0, 3.0], [100, 0, 0, 1.0], [1, 1, 45, 1.0]]], np.float32)
    with caplog.at_level(logging.WARNING):
        voxels = points_to_voxels(points, one)
    assert voxels.sum() == 3
    assert "2 of 3 hits, with 0.4 of the energy" in caplog.text


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((2, 3)), "shape"),
        (np.zeros((2, 3, 6)), "shape"),
        (np.full((1, 1, 4), -1.0), "at least 0"),
        (np.full((1, 1, 4), np.nan), "finite"),
    ],
)
def test_broken_points(points, message):
    with pytest.raises(UserError, match=message):
        points_to_voxels(points, geometry("ds2"))
