from __future__ import annotations

import numpy as np
import pytest

from fastsim.data import Showers
from fastsim.evaluation.profiles import mean_shower, profiles, radius_against_depth, rings
from fastsim.evaluation.response import example_showers, response, spread
from fastsim.geometry import Geometry, geometry


def showers(layout: Geometry, n: int = 300, seed: int = 0, factor: float = 1.0) -> Showers:
    generator = np.random.default_rng(seed)
    incident = generator.choice([1000.0, 8000.0], (n, 1))
    shape = generator.gamma(0.4, 1.0, (n, layout.n_voxels)) * np.exp(-layout.r / 30)
    shape[shape < 0.01] = 0
    energies = factor * incident * shape / shape.sum(axis=1, keepdims=True) * generator.normal(0.9, 0.05, (n, 1))
    return Showers.unchecked(incident.astype(np.float32), energies.astype(np.float32), layout)


LAYOUTS = {
    "polar, uneven": lambda: geometry("ds1-photons"),
    "grid": lambda: Geometry.from_grid((6, 5, 5), cell=10.0),
    "picture": lambda: Geometry.from_grid((6, 6), cell=10.0, fast="y"),
    "cells": lambda: Geometry.from_cells(
        {"layer": np.repeat([0, 1], 7), "x": np.tile(np.arange(7.0), 2), "y": np.tile(np.arange(7.0) ** 2, 2)}
    ),
}


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return LAYOUTS[request.param]()


def test_every_voxel_is_shared_out_completely(layout):
    found = rings(layout)
    assert found.share.sum(axis=1) == pytest.approx(np.ones(layout.n_voxels))
    assert (found.share >= 0).all()
    for voxel in range(0, layout.n_voxels, 7):
        covered = np.flatnonzero(found.share[voxel] > 0)
        assert found.edges[covered[0]] <= layout.r[voxel] <= found.edges[covered[-1] + 1]


def test_profiles_hold_all_the_energy(layout):
    first, second = showers(layout), showers(layout, seed=1, factor=1.2)
    fraction = [(s.energies.sum(axis=1, dtype=float) / s.incident_energy[:, 0]).mean() for s in (first, second)]
    made = {p.name: p for p in profiles(first, second)}
    assert made["longitudinal"].reference.sum() == pytest.approx(fraction[0], rel=1e-5)
    assert made["longitudinal"].generated.sum() == pytest.approx(fraction[1], rel=1e-5)
    area = np.pi * np.diff(made["radial"].edges ** 2)
    assert made["radial"].reference @ area == pytest.approx(fraction[0], rel=1e-5)
    mean = mean_shower(first, second)
    density, edges = radius_against_depth(layout, mean.generated)
    assert (np.pi * np.diff(edges**2) @ density).sum() == pytest.approx(fraction[1], rel=1e-5)
    for one in made.values():
        assert one.reference.shape == one.reference_error.shape == (len(one.edges) - 1,)


def test_errors_of_profiles_are_standard_errors():
    layout = LAYOUTS["grid"]()
    pulls = []
    for seed in range(40):
        one = profiles(showers(layout, seed=2 * seed), showers(layout, seed=2 * seed + 1))[0]
        error = np.hypot(one.reference_error, one.generated_error)
        pulls.append((one.generated - one.reference) / error)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.15)


def test_means_of_voxels():
    layout = LAYOUTS["grid"]()
    sample = showers(layout)
    mean = mean_shower(sample, sample)
    expected = (sample.energies.astype(float) / sample.incident_energy).mean(axis=0)
    assert mean.reference == pytest.approx(expected, rel=1e-5)
    assert mean.reference_hit == pytest.approx((sample.energies > 0).mean(axis=0))


def test_azimuthal_profile_of_a_direction():
    layout = geometry("ds2")
    energies = np.zeros((20, layout.n_voxels), dtype=np.float32)
    energies[:, layout.alpha > 2.9] = 1.0
    sample = Showers.unchecked(np.full((20, 1), 1e5, dtype=np.float32), energies, layout)
    azimuthal = next(p for p in profiles(sample, sample) if p.name == "azimuthal")
    # Sectors are sixteenths of a turn: angles above 2.9 are in the middle of the last one only.
    assert np.count_nonzero(azimuthal.reference) == np.count_nonzero(np.unique(layout.alpha) > 2.9)
    assert azimuthal.reference[-1] > 0


def test_width_and_its_error():
    values = np.random.default_rng(0).normal(3.0, 2.0, (400, 500))
    found = [spread(v) for v in values]
    assert np.mean([s.width_error for s in found]) == pytest.approx(np.std([s.width for s in found]), rel=0.15)
    assert found[0].mean_error == pytest.approx(found[0].width / np.sqrt(500))
    # Uniform values scatter less about their width than normal ones do.
    flat = np.random.default_rng(1).uniform(0, 1, (400, 500))
    found = [spread(v) for v in flat]
    assert np.mean([s.width_error for s in found]) == pytest.approx(np.std([s.width for s in found]), rel=0.15)
    assert spread(np.full(10, 2.0)) == spread(np.full(20, 2.0))


def test_closure_of_scaled_showers():
    layout = LAYOUTS["grid"]()
    first, second = showers(layout, n=2000), showers(layout, n=2000, seed=1, factor=1.1)
    found = response(first, second)
    assert [r.energy for r in found] == [1000.0, 8000.0]
    for one in found:
        value, error = one.mean_ratio
        assert value == pytest.approx(1.1, abs=5 * error)
        assert error < 0.01
        assert one.width_ratio[0] == pytest.approx(1.1, abs=5 * one.width_ratio[1])
        parts = sum(part.reference.mean for part in one.layers)
        assert parts == pytest.approx(one.reference.mean, rel=1e-5)
        assert (
            sum(one.showers)
            == (first.incident_energy == one.energy).sum() + (second.incident_energy == one.energy).sum()
        )


def test_empty_layers_are_counted():
    layout = LAYOUTS["grid"]()
    energies = showers(layout).energies.copy()
    energies[::4, layout.slices[2]] = 0
    sample = Showers.unchecked(np.full((300, 1), 1000, dtype=np.float32), energies, layout)
    (one,) = response(sample, sample)
    assert one.layers[2].reference_empty == 0.25
    assert one.layers[1].generated_empty == 0.0


def test_examples_are_real_showers_of_one_energy():
    layout = LAYOUTS["grid"]()
    first, second = showers(layout), showers(layout, seed=1)
    pairs = example_showers(first, second, seed=5)
    assert len(pairs) == 3
    for pair in pairs:
        assert [p.sample for p in pair] == ["reference", "generated"]
        assert pair[0].incident_energy == pair[1].incident_energy
        for part, sample in zip(pair, (first, second), strict=True):
            row = np.zeros(layout.n_voxels, dtype=np.float32)
            row[part.voxels] = part.energies
            assert (sample.energies == row).all(axis=1).any()
    again = example_showers(first, second, seed=5)
    assert np.array_equal(again[2][1].energies, pairs[2][1].energies)
