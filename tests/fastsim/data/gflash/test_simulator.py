"""Simulated showers against their analytic means, and the properties that hold for every shower."""

import dataclasses
import math

import numpy as np
import pytest

from cathode.support.errors import UserError
from fastsim.data.gflash import (
    Beam,
    Calorimeter,
    Tuning,
    expected_containment,
    expected_layer_energies,
    expected_profile,
    preset,
    simulate,
    simulate_chunks,
)
from fastsim.data.gflash import simulator as module
from fastsim.geometry import Geometry, geometry
from fastsim.geometry.layers import PolarLayer

PHOTONS = geometry("ds1-photons")


def rings(edges, n_layers):
    """Rings around the axis that lose nothing at the side."""
    return Geometry("rings", None, tuple(PolarLayer(i, (*edges, 1e9), 1) for i in range(n_layers)))


@pytest.mark.parametrize(
    ("particle", "material", "n_layers", "energy"),
    [("electron", "pbwo4-24", 24, 5000.0), ("electron", "siw-45", 45, 2000.0), ("photon", "pbwo4-lar-5", 5, 2048.0)],
)
def test_layer_energies_have_the_expected_mean(particle, material, n_layers, energy):
    showers = simulate(rings([0.0], n_layers), np.full(1200, energy), seed=5, particle=particle, material=material)
    layers = showers.layer_energies().astype(float)
    expected = expected_layer_energies(preset(material), energy, particle)[0]
    error = layers.std(0) / math.sqrt(len(layers))
    # Where next to nothing arrives, rare deposits make the mean, and the sample's width is no error of it.
    bulk = expected > 0.005 * energy
    assert layers[:, ~bulk].sum(1).mean() == pytest.approx(expected[~bulk].sum(), rel=0.1)
    pulls = ((layers.mean(0) - expected) / error)[bulk]
    assert np.abs(pulls).max() < 4.5
    # Neighbouring layers are correlated, so their pulls are no independent numbers, but they stay of order one.
    assert np.sqrt(np.mean(pulls**2)) < 2.0


def test_rings_have_the_expected_containment():
    radii = np.array([3.0, 10.0, 25.0, 60.0])
    calorimeter = dataclasses.replace(preset("pbwo4-lar-5"), tuning=Tuning(core_scale=1.2, core_weight=-0.3))
    showers = simulate(rings([0.0, *radii], 5), np.full(800, 4096.0), seed=6, particle="photon", material=calorimeter)
    inside = showers.energies.astype(float).reshape(-1, 5, 5).mean(0)
    found = np.cumsum(inside, axis=1)[:, :4] / inside.sum(1, keepdims=True)
    expected = expected_containment(calorimeter, 4096.0, "photon", radii)
    assert found[1:3] == pytest.approx(expected[1:3], abs=0.015)


def test_median_radius_of_one_depth():
    calorimeter = dataclasses.replace(preset("pbwo4-24"), tuning=Tuning(fluctuation_scale=0.0))
    fine = np.linspace(0, 30, 301)
    showers = simulate(rings(fine, 24), np.full(60, 20_000.0), seed=7, particle="electron", material=calorimeter)
    layer = showers.energies.astype(float).reshape(60, 24, -1).mean(0)[6]
    cumulative = np.cumsum(layer) / layer.sum()
    expected = expected_containment(calorimeter, 20_000.0, "electron", fine[1:], nodes=3)[6]
    assert np.interp(0.5, cumulative[:300], fine[1:]) == pytest.approx(np.interp(0.5, expected, fine[1:]), rel=0.03)


def test_response_is_linear_and_resolution_falls_as_the_square_root():
    deep = dataclasses.replace(preset("pbwo4-lar-1"), layer_edges=(0.0, 60.0), sampling_fluctuation=0.12)
    energies = np.array([500.0, 2000.0, 8000.0])
    for energy in energies:
        total = simulate(
            rings([0.0], 1), np.full(1500, energy), seed=8, particle="electron", material=deep
        ).total_energies()
        width = 0.12 / math.sqrt(energy / 1000)
        assert total.mean() / energy == pytest.approx(1, abs=4 * width / math.sqrt(1500))
        assert total.std() / energy == pytest.approx(width, rel=0.08)


def test_constant_fluctuation_is_common_to_a_shower():
    block = dataclasses.replace(preset("pbwo4-24"), constant_fluctuation=0.05, layer_edges=(0.0, 10.0, 80.0))
    showers = simulate(rings([0.0], 2), np.full(1000, 1e4), seed=1, particle="electron", material=block)
    assert showers.total_energies().std() / 1e4 == pytest.approx(0.05, rel=0.1)


def test_energy_is_conserved_shower_by_shower_without_sampling_fluctuations():
    block = dataclasses.replace(preset("pbwo4-24"), layer_edges=(0.0, 30.0, 400.0))
    energy = np.geomspace(20.0, 1e5, 60)
    for particle in ("electron", "photon"):
        total = simulate(rings([0.0, 5.0], 2), energy, seed=2, particle=particle, material=block).total_energies()
        assert total == pytest.approx(energy, rel=1e-5)


def test_profile_is_that_of_the_paper_when_nothing_fluctuates():
    calorimeter = dataclasses.replace(preset("pbwo4-24"), tuning=Tuning(fluctuation_scale=0.0))
    showers = simulate(rings([0.0], 24), [3000.0], seed=3, particle="electron", material=calorimeter)
    expected = expected_profile(calorimeter, 3000.0, "electron", calorimeter.layer_edges, nodes=3)[0]
    assert showers.layer_energies()[0] == pytest.approx(expected, rel=1e-4, abs=0.01)


def test_showers_fluctuate_with_correlated_shape():
    calorimeter = dataclasses.replace(preset("pbwo4-24"), layer_edges=tuple(np.linspace(0, 30, 61)))
    showers = simulate(rings([0.0], 60), np.full(1000, 2e4), seed=4, particle="electron", material=calorimeter)
    depth = (np.arange(60) + 0.5) / 2
    fraction = showers.layer_energies().astype(float)
    fraction /= fraction.sum(1, keepdims=True)
    mean = fraction @ depth
    # <t> = T α / (α - 1): the spread of ln <t> follows from those of ln T and ln α and their correlation.
    from fastsim.data.gflash.longitudinal import fluctuations

    spread = fluctuations(calorimeter.medium, np.full(100_000, 2e4))
    t_max, alpha = spread.parameters(*np.random.default_rng(0).standard_normal((2, 100_000)))
    centre = t_max * alpha / (alpha - 1)
    assert np.log(mean).std() == pytest.approx(np.log(centre).std(), rel=0.12)
    assert mean.mean() == pytest.approx(centre.mean(), rel=0.02)


def test_same_seed_same_bits_in_any_chunks(monkeypatch):
    energy = np.geomspace(300, 50_000, 41)
    beam = Beam(np.zeros((41, 2)), np.tile([0.1, -0.05, 1.0], (41, 1)))
    grid = Geometry.from_grid((1, 12, 12), cell=(400.0, 20.0, 20.0))
    whole = simulate(PHOTONS, energy, seed=11)
    aimed = simulate(grid, energy, seed=11, particle="electron", material="pbwo4-lar-1", beam=beam)
    monkeypatch.setattr(module, "_SPOTS_PER_CHUNK", 3000)
    parts = list(simulate_chunks(PHOTONS, energy, seed=11))
    assert len(parts) > 5
    assert np.array_equal(np.concatenate([part.energies for part in parts]), whole.energies)
    tail = simulate(PHOTONS, energy[30:], seed=11, first=30)
    assert np.array_equal(tail.energies, whole.energies[30:])
    again = simulate(
        grid,
        energy[20:],
        seed=11,
        particle="electron",
        material="pbwo4-lar-1",
        beam=beam.rows(slice(20, None)),
        first=20,
    )
    assert np.array_equal(again.energies, aimed.energies[20:])
    assert not np.array_equal(simulate(PHOTONS, energy, seed=12).energies, whole.energies)
    # Another energy of one shower leaves the others as they are.
    changed = energy.copy()
    changed[7] = 1234.0
    other = simulate(PHOTONS, changed, seed=11)
    assert np.flatnonzero((other.energies != whole.energies).any(1)).tolist() == [7]


def test_no_two_showers_share_their_random_numbers():
    showers = simulate(PHOTONS, np.full(50, 2000.0), seed=1)
    assert len(np.unique(showers.energies, axis=0)) == 50


@pytest.mark.parametrize("name", ["ds1-photons", "ds2", "ds3", "grid-24x24x24", "image-30x30"])
def test_every_known_geometry_has_a_calorimeter(name):
    showers = simulate(geometry(name), np.full(20, 5000.0), seed=1, threshold=0.5)
    assert showers.energies.shape == (20, geometry(name).n_voxels)
    assert showers.energies.dtype == np.float32
    positive = showers.energies[showers.energies > 0]
    assert positive.min() >= 0.5
    assert 0.6 < showers.total_energies().mean() / 5000 < 1.05


def test_polar_and_general_look_up_agree():
    # The same detector as a list of cells in a fine grid and as a polar one: the same energy within a common circle.
    grid = Geometry.from_grid((5, 40, 40), cell=(1.0, 5.0, 5.0))
    cells = Geometry.from_cells({"layer": grid.layer, "x": grid.x, "y": grid.y, "size": grid.size})
    kwargs = {"seed": 3, "particle": "photon", "material": "pbwo4-lar-5"}
    energy = np.full(10, 4000.0)
    regular, listed = simulate(grid, energy, **kwargs), simulate(cells, energy, **kwargs)
    # At the rim the nearest cell also takes what falls just beside it.
    inner = np.maximum(np.abs(grid.x), np.abs(grid.y)) < 95
    assert listed.energies[:, inner] == pytest.approx(regular.energies[:, inner], abs=1e-2)
    polar = simulate(rings([0.0, 50.0], 5), energy, **kwargs)
    inside = np.hypot(grid.x, grid.y) < 50
    assert regular.energies[:, inside].sum() == pytest.approx(polar.energies.reshape(-1, 5, 2)[:, :, 0].sum(), rel=0.02)


def test_azimuth_is_uniform():
    showers = simulate(geometry("ds2"), np.full(300, 20_000.0), seed=9)
    by_alpha = showers.energies.astype(float).reshape(300, 45, 16, 9).sum((0, 1, 3))
    assert by_alpha / by_alpha.mean() == pytest.approx(np.ones(16), abs=0.04)


def test_inclined_showers_lean():
    slabs = Geometry.from_grid((24, 60, 60), cell=10.0)
    count = 150
    direction = np.tile([0.3, 0.0, 1.0], (count, 1))
    beam = Beam(np.tile([5.0, -20.0], (count, 1)), direction)
    energy = np.full(count, 10_000.0)
    showers = simulate(slabs, energy, seed=5, particle="electron", material="pbwo4-24", beam=beam)
    voxels = showers.energies.astype(float).mean(0)
    for layer in (3, 7, 11):
        part = slabs.slices[layer]
        x = np.average(slabs.x[part], weights=voxels[part])
        y = np.average(slabs.y[part], weights=voxels[part])
        # 10 mm layers: the middle of layer l is at (l + 1/2) 10 mm, give or take its own slope.
        assert x == pytest.approx(5 + 0.3 * 10 * (layer + 0.5), abs=1.5)
        assert y == pytest.approx(-20, abs=1.0)
    straight = simulate(slabs, energy, seed=5, particle="electron", material="pbwo4-24")
    mean = np.arange(24) @ showers.layer_energies().mean(0) / showers.layer_energies().mean(0).sum() + 0.5
    upright = np.arange(24) @ straight.layer_energies().mean(0) / straight.layer_energies().mean(0).sum() + 0.5
    assert mean / upright == pytest.approx(1 / math.sqrt(1.09), abs=0.03)
    assert showers.condition_names == ("px", "py", "pz", "x", "y")
    assert np.linalg.norm(showers.conditions[0, :3]) == pytest.approx(10_000, rel=1e-5)
    assert Beam.of(showers).direction == pytest.approx(direction / math.sqrt(1.09), abs=1e-6)


def test_a_beam_along_the_axis_is_the_default():
    grid = geometry("grid-24x24x24")
    energy = np.full(200, 8000.0)
    beam = Beam(np.zeros((200, 2)), np.tile([0.0, 0.0, 2.0], (200, 1)))
    aimed = simulate(grid, energy, seed=1, beam=beam).layer_energies().mean(0)
    plain = simulate(grid, energy, seed=2).layer_energies().mean(0)
    assert aimed / 8000 == pytest.approx(plain / 8000, abs=0.006)


def test_threshold_cuts_and_nothing_else():
    energy = np.full(30, 3000.0)
    whole, cut = simulate(PHOTONS, energy, seed=1), simulate(PHOTONS, energy, seed=1, threshold=1.0)
    assert np.array_equal(cut.energies, whole.cut(1.0).energies)
    assert (cut.energies != whole.energies).any()


def test_response_scales_its_layer():
    plain = preset("pbwo4-lar-5")
    dead = dataclasses.replace(plain, response=(1.0, 1.0, 0.5, 0.0, 1.0))
    energy = np.full(20, 8000.0)
    first, second = (simulate(PHOTONS, energy, seed=1, material=m).layer_energies() for m in (plain, dead))
    assert second == pytest.approx(first * np.array([1, 1, 0.5, 0, 1]), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"incident_energy": [1000.0, -1.0]}, "incident energies must be positive"),
        ({"incident_energy": []}, "at least one"),
        ({"incident_energy": [np.nan]}, "positive, finite"),
        ({"particle": "pion"}, "knows photon and electron, not 'pion'"),
        ({"material": "wood"}, "unknown material 'wood'; give one of pbwo4-lar-5"),
        ({"material": "pbwo4-24"}, "has 24 layers but geometry 'ds1-photons' has 5"),
        ({"seed": -1}, "must not be negative"),
        ({"beam": Beam(np.zeros((2, 2)), np.tile([0.0, 0, 1], (2, 1)))}, "1 incident energies but 2 impact points"),
    ],
)
def test_bad_input(change, message):
    arguments = {"incident_energy": [1000.0], "seed": 1, **change}
    with pytest.raises(UserError, match=message):
        simulate(PHOTONS, **arguments)


def test_bad_beams_and_unknown_geometries():
    with pytest.raises(UserError, match="2 directions are more than 60 degrees"):
        Beam(np.zeros((2, 2)), np.tile([1.0, 0, 0.1], (2, 1)))
    with pytest.raises(UserError, match=r"missing: \['x', 'y'\]"):
        Beam.from_conditions(np.zeros((1, 3)), ("px", "py", "pz"))
    with pytest.raises(UserError, match="no calorimeter belongs to geometry 'rings'"):
        simulate(rings([0.0], 3), [1000.0], seed=1, particle="photon")
    deep = Calorimeter("deep", preset("pbwo4-24").medium, (0.0, 1.0, 2.0, 50.0))
    assert len(simulate(rings([0.0], 3), [1000.0], seed=1, particle="photon", material=deep)) == 1
