from __future__ import annotations

import numpy as np
import pytest

from fastsim.data import Showers, sample
from fastsim.evaluation.observables import observables
from fastsim.geometry import Geometry, geometry


def single_hits(layout: Geometry, voxels: list[int]) -> Showers:
    """One shower per voxel, with all its energy there."""
    energies = np.zeros((len(voxels), layout.n_voxels), np.float32)
    energies[np.arange(len(voxels)), voxels] = 100.0
    return Showers.unchecked(np.full((len(voxels), 1), 200.0, np.float32), energies, layout)


@pytest.mark.parametrize("layout", [geometry("ds2"), Geometry.from_grid((4, 5, 6))], ids=str)
def test_a_single_voxel_is_where_it_is(layout):
    hits = [3, layout.n_voxels // 2, layout.n_voxels - 1]
    found = observables(single_hits(layout, hits))
    first, second = ("eta", "phi") if layout.kind == "polar" else ("x", "y")
    assert found["e_tot_over_e_inc"].values == pytest.approx(0.5)
    assert found[f"centre_{first}"].values == pytest.approx(layout.x[hits], rel=1e-5)
    assert found[f"centre_{second}"].values == pytest.approx(layout.y[hits], rel=1e-5, abs=1e-5)
    assert found["centre_r"].values == pytest.approx(layout.r[hits], rel=1e-5)
    assert found["centre_z"].values == pytest.approx(layout.z[hits], rel=1e-5)
    assert found["hottest_share"].values == pytest.approx(1.0)
    assert found["sparsity"].values == pytest.approx(1 - 1 / layout.n_voxels)
    assert found[f"asymmetry_{first}"].values == pytest.approx(np.sign(np.round(layout.x[hits], 9)))
    for name_of_width in (f"width_{first}", "width_r", "width_z"):
        assert found[name_of_width].values == pytest.approx(0.0, abs=1e-3)


def test_two_voxels_have_the_width_of_their_distance():
    layout = Geometry.from_grid((3, 8, 8), cell=10.0)
    energies = np.zeros((1, layout.n_voxels), np.float32)
    part = layout.slices[1]
    a, b = part.start, part.start + 5
    energies[0, [a, b]] = [30.0, 10.0]
    found = observables(Showers.unchecked(np.full((1, 1), 100.0, np.float32), energies, layout))
    distance = layout.x[b] - layout.x[a]
    assert found["centre_x_layer_1"].values[0] == pytest.approx(layout.x[a] + 0.25 * distance, rel=1e-5)
    assert found["width_x_layer_1"].values[0] == pytest.approx(np.sqrt(0.75 * 0.25) * distance, rel=1e-5)
    assert found["e_layer_1"].values[0] == pytest.approx(40.0)
    assert found["e_layer_0"].values[0] == 0.0
    assert found["sparsity_layer_1"].values[0] == pytest.approx(1 - 2 / 64)


def test_turning_a_shower_turns_its_centre():
    layout = geometry("ds2")
    showers = sample("ds2-electrons")[:20]
    assert showers.geometry == layout
    turned = np.roll(showers.energies.reshape(-1, 45, 16, 9), 4, axis=2).reshape(len(showers), -1)
    one = observables(showers)
    two = observables(Showers.unchecked(showers.incident_energy, turned, layout))
    # A quarter turn: x becomes y, y becomes -x.
    assert two["centre_phi"].values == pytest.approx(one["centre_eta"].values, abs=1e-4)
    assert two["centre_eta"].values == pytest.approx(-one["centre_phi"].values, abs=1e-4)
    assert two["width_phi_layer_10"].values == pytest.approx(one["width_eta_layer_10"].values, abs=1e-3)
    for unchanged in ("e_layer_10", "centre_r", "width_r_layer_5", "sparsity", "centre_z"):
        assert two[unchanged].values == pytest.approx(one[unchanged].values, rel=1e-4, abs=1e-4)


def test_shapes_do_not_depend_on_the_scale_of_energy():
    showers = sample("ds1-photons")[:100].cut(1.0)
    larger = Showers.unchecked(2 * showers.incident_energy, 2 * showers.energies, showers.geometry)
    one, two = observables(showers), observables(larger)
    for name, first in one.items():
        factor = 2.0 if first.kind == "energy-layer" else 1.0
        # Widths are a difference of squares of up to (1500 mm)^2.
        tolerance = 0.01 if first.kind.startswith("width") else 1e-4
        assert two[name].values == pytest.approx(factor * first.values, rel=1e-5, abs=tolerance), name


def test_kinds_labels_and_modes():
    showers = sample("ds1-photons")[:10]
    strict, published = observables(showers), observables(showers, "calochallenge")
    assert len(published) == 1 + 5 + 2 * 4 + 2 * 5 + 5
    assert list(strict)[: len(published)] == list(published)
    assert [o.layer for o in published.of_kind("energy-layer")] == [0, 1, 2, 3, 12]
    assert [o.layer for o in published.of_kind("centre-x")] == [1, 2]
    assert strict["centre_eta_layer_2"].label == "centre of energy in η, layer 2"
    assert strict["centre_eta_layer_2"].unit == "mm"
    assert all(o.values.dtype == np.float32 and o.values.shape == (10,) for o in strict.values())
    # Rings have no direction, an image has no depth.
    assert "centre_eta_layer_0" not in strict
    assert "centre_z" not in observables(single_hits(geometry("image-30x30"), [5]))
