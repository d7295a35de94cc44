from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.support.errors import UserError
from fastsim.data import Showers, sample
from fastsim.geometry import Geometry, geometry

GRID = Geometry.from_grid((2, 2, 3), cell=10.0)


def make(rows: int = 4, **changes) -> Showers:
    content = {"incident_energy": np.full((rows, 1), 1e3), "energies": np.full((rows, 12), 50.0), "geometry": GRID}
    return Showers(**(content | changes))


def test_kept_as_float32_in_the_given_shape():
    showers = make(incident_energy=np.array([256, 512, 1024, 2048]))
    assert showers.incident_energy.dtype == showers.energies.dtype == np.float32
    assert showers.incident_energy.shape == (4, 1)
    assert len(showers) == 4
    assert "4 in Geometry('grid-2x2x3'" in repr(showers)


def test_rows_by_slice_index_and_mask():
    showers = make(
        energies=np.arange(48.0).reshape(4, 12),
        conditions=np.arange(8.0).reshape(4, 2),
        condition_names=("theta", "phi"),
    )
    for rows in (slice(1, 3), [1, 2], np.array([False, True, True, False])):
        part = showers[rows]
        np.testing.assert_array_equal(part.energies, showers.energies[1:3])
        np.testing.assert_array_equal(part.conditions, showers.conditions[1:3])
        assert part.condition_names == ("theta", "phi")
    assert showers[-1].energies[0, 0] == 36
    assert len(showers[2]) == 1
    np.testing.assert_array_equal(showers.context()[1], [1e3, 2, 3])
    again = Showers.concatenate([showers[:1], showers[1:]])
    np.testing.assert_array_equal(again.energies, showers.energies)
    np.testing.assert_array_equal(again.conditions, showers.conditions)


def test_layer_energies_of_an_irregular_geometry():
    photons = geometry("ds1-photons")
    energies = np.zeros((2, 368))
    energies[0, [0, 7, 8, 167, 168, 357, 358, 362, 363, 367]] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    showers = Showers(np.array([1024.0, 1024]), energies, photons)
    np.testing.assert_array_equal(showers.layer_energies(), [[3, 12, 48, 192, 768], [0] * 5])
    np.testing.assert_array_equal(showers.total_energies(), [1023, 0])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 100, width=32), min_size=12, max_size=12), st.floats(0, 50))
def test_cut_keeps_what_reaches_the_threshold(values, threshold):
    showers = make(1, energies=np.array([values]))
    cut = showers.cut(threshold)
    at_least = np.float32(threshold)
    assert ((cut.energies == 0) | (cut.energies >= at_least)).all()
    np.testing.assert_array_equal(
        cut.energies[showers.energies >= at_least], showers.energies[showers.energies >= at_least]
    )
    np.testing.assert_array_equal(cut.cut(threshold).energies, cut.energies)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"energies": np.ones((4, 368))},
            r"368 voxels but geometry 'grid-2x2x3' needs \(N, 12\); ds1-photons would fit",
        ),
        ({"energies": np.ones((4, 13))}, "no known geometry has that many voxels"),
        ({"energies": np.ones(12)}, r"shape \(12,\)"),
        ({"energies": np.ones((3, 12))}, "4 incident energies but 3 rows of voxel energies"),
        ({"incident_energy": np.ones((4, 2))}, r"shape \(N, 1\)"),
        ({"incident_energy": np.array([1e3, 1e3, np.nan, 1e3])}, "1 of 4 incident energies are NaN"),
        ({"incident_energy": np.array([1e3, 0, -1, 1e3])}, "2 of 4 incident energies are not positive"),
        ({"energies": np.where(np.eye(4, 12) > 0, np.nan, 50)}, "4 of 4 showers have NaN or infinite"),
        ({"energies": np.where(np.arange(48).reshape(4, 12) == 5, np.inf, 50)}, "1 of 4 showers have NaN or infinite"),
        ({"energies": np.where(np.arange(48).reshape(4, 12) > 40, -1e-3, 50)}, "1 of 4 showers have negative"),
        ({"energies": np.full((4, 12), "x")}, "must be numbers"),
        ({"conditions": np.ones((4, 1))}, "1 conditions need as many different names"),
        ({"conditions": np.ones((4, 2)), "condition_names": ("a", "a")}, "different names"),
        ({"conditions": np.ones(4), "condition_names": ("a",)}, r"conditions must have shape \(N, K\)"),
        ({"conditions": np.ones((5, 1)), "condition_names": ("a",)}, "5 rows of conditions"),
        ({"conditions": np.full((4, 1), np.nan), "condition_names": ("a",)}, "conditions of 4 of 4 showers are NaN"),
        ({"condition_names": ("a",)}, "0 conditions need as many"),
        ({"incident_energy": np.full(4, 1.0)}, "start at 1, too low .* look like GeV"),
        (
            {"incident_energy": np.full(4, 50.0), "energies": np.full((4, 12), 4000.0)},
            "incident energies .* look like GeV",
        ),
        ({"incident_energy": np.full(4, 50e3), "energies": np.full((4, 12), 4.0)}, "voxel energies look like GeV"),
    ],
)
def test_bad_input_is_one_clear_line(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        make(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", [0.02, 0.033, 1.0, 3.1])
def test_any_calorimeter_passes_the_check_of_units(scale):
    make(energies=np.full((4, 12), 1e3 * scale / 12))


def test_empty_showers_pass():
    assert len(make(0)) == 0
    make(energies=np.zeros((4, 12)))


@pytest.mark.parametrize("order", [(2, 1, 0), (2, 0, 1), (1, 2, 0), (1, 0, 2), (0, 2, 1)])
@pytest.mark.parametrize("rows", [64, 250])
def test_swapped_axes_are_noticed(rows, order):
    showers = sample("ds2-electrons")[:rows]
    nz, n_alpha, n_r = showers.geometry.shape
    stored = showers.energies.reshape(-1, nz, n_alpha, n_r).transpose(0, *(1 + axis for axis in order))
    with pytest.raises(UserError, match=r"voxels look stored in the order .*transpose the showers"):
        Showers(showers.incident_energy, stored.reshape(rows, -1), showers.geometry)


def test_order_of_par04_is_called_by_its_name():
    showers = sample("ds2-electrons")[:32]
    stored = showers.energies.reshape(-1, 45, 16, 9).transpose(0, 3, 2, 1).reshape(32, -1)
    with pytest.raises(UserError, match=r"order \(r, alpha, z\), last axis fastest, but \(z, alpha, r\)"):
        Showers(showers.incident_energy, stored, showers.geometry)


def test_swapped_axes_of_a_cube():
    cube = Geometry.from_grid((12, 12, 12), cell=10.0)
    across = np.exp(-np.hypot(cube.x, cube.y) / 5)
    mean = across * cube.z * np.exp(-cube.z / 30)
    rng = np.random.default_rng(0)
    energies = rng.gamma(2.0, 1.0, (20, 1728)) * mean
    energies *= 1e4 / energies.sum(1, keepdims=True)
    Showers(np.full(20, 1e4), energies, cube)
    swapped = energies.reshape(20, 12, 12, 12).transpose(0, 3, 2, 1).reshape(20, -1)
    with pytest.raises(UserError, match=r"along the first axis .* should be depth"):
        Showers(np.full(20, 1e4), swapped, cube)


def test_different_showers_do_not_mix():
    other = Geometry.from_grid((2, 3, 2), cell=10.0)
    with pytest.raises(UserError, match="'grid-2x2x3' and 'grid-2x3x2' do not mix"):
        Showers.concatenate([make(), make(geometry=other)])
    with pytest.raises(UserError, match="do not mix"):
        Showers.concatenate([make(), make(conditions=np.ones((4, 1)), condition_names=("a",))])
    with pytest.raises(UserError, match="no showers"):
        Showers.concatenate([])
