"""Rings, order of generation, neighbours and sectors for every kind of geometry."""

from __future__ import annotations

import numpy as np
import pytest

from cathode.density.budgets import Budgets
from cathode.support.errors import UserError
from fastsim.generators.order import earlier_neighbours, generation_order, rings, rotation_blocks
from fastsim.geometry import Geometry, geometry


def cells(count=30):
    rng = np.random.default_rng(1)
    table = {"layer": np.repeat([0, 1], [count, 5]), "x": rng.normal(size=count + 5), "y": rng.normal(size=count + 5)}
    return Geometry.from_cells(table)


KINDS = {
    "irregular rings": lambda: geometry("ds1-photons"),
    "regular rings": lambda: geometry("ds2"),
    "grid": lambda: Geometry.from_grid((3, 4, 5), cell=2.0),
    "image": lambda: geometry("image-30x30"),
    "cells": cells,
}


@pytest.fixture(params=KINDS, scope="module")
def layout(request):
    one = KINDS[request.param]()
    return one, rings(one)


def test_rings_are_parts_of_layers(layout):
    one, found = layout
    assert sorted(set(found.of_voxel)) == list(range(len(found.layer)))
    for voxel, ring in enumerate(found.of_voxel):
        assert found.layer[ring] == one.layer[voxel]
    for ring in range(len(found.layer)):
        members = [v for v, r in enumerate(found.of_voxel) if r == ring]
        assert sorted(found.place[v] for v in members) == list(range(len(members)))
        assert [found.voxel(ring, p) for p in range(len(members))] == sorted(members, key=found.place.__getitem__)
        if one.kind == "polar":
            assert np.ptp(one.r[members]) < 1e-6
        if one.kind == "cartesian":
            assert np.ptp(one.y[members]) < 1e-6
            assert (np.diff(one.x[[found.voxel(ring, p) for p in range(len(members))]]) > 0).all()
    assert found.voxel(-1, 0) is None
    assert found.voxel(len(found.layer), 0) is None


def test_beside_are_rings_that_touch(layout):
    _, found = layout
    for ring in range(len(found.layer)):
        for other in found.beside(ring):
            distance = abs(found.layer[other] - found.layer[ring])
            assert distance == 1 or (distance == 0 and abs(other - ring) == 1)


@pytest.mark.parametrize("interleave", [1, 2, 7])
def test_the_order_suits_known_sums_of_rings(layout, interleave):
    _, found = layout
    order, groups = generation_order(found.of_voxel, found.place, interleave=interleave)
    assert sorted(order) == list(range(len(found.of_voxel)))
    assert groups[0] == 0
    assert set(np.diff(groups)) <= {0, 1}
    # No two voxels of a ring in one step: this would raise.
    Budgets([found.of_voxel[v] for v in order], groups, 1.0)
    places = max(found.place) + 1
    assert groups[-1] + 1 <= places * interleave + 1


def test_neighbours_are_near_and_earlier(layout):
    one, found = layout
    order, groups = generation_order(found.of_voxel, found.place)
    step = dict(zip(order, groups, strict=True))
    neighbours = earlier_neighbours(found, order, groups)
    assert len(neighbours) == one.n_voxels
    for voxel, near in enumerate(neighbours):
        assert len(set(near)) == len(near)
        assert voxel not in near
        for other in near:
            assert step[other] < step[voxel]
            assert abs(one.layer[other] - one.layer[voxel]) <= 1
    # All but those of the first steps have some.
    assert sum(not near for near in neighbours) <= groups.count(0) + groups.count(1)


def test_no_steps_at_all():
    with pytest.raises(UserError, match="interleave is 0"):
        generation_order([0, 0], [0, 1], interleave=0)


@pytest.mark.parametrize("name", ["ds1-photons", "ds2", "ds3"])
def test_sectors_turn_by_equal_angles(name):
    one = geometry(name)
    turns, blocks = rotation_blocks(one)
    for first, inner in blocks:
        alpha = one.alpha[first : first + turns * inner].reshape(turns, inner)
        r = one.r[first : first + turns * inner].reshape(turns, inner)
        assert np.ptp(alpha, axis=1).max() < 1e-9
        np.testing.assert_allclose(np.diff(alpha[:, 0]), 2 * np.pi / turns, atol=1e-6)
        assert np.ptp(r, axis=0).max() < 1e-9
    inside = sum(turns * inner for _, inner in blocks)
    assert inside == sum(p.stop - p.start for p, n in zip(one.slices, one.n_alpha, strict=True) if n > 1)


def test_grids_do_not_turn():
    with pytest.raises(UserError, match="cannot be turned"):
        rotation_blocks(geometry("image-30x30"))
