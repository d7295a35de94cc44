"""Voxels to points and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.support.errors import UserError
from fastsim.data import read_showers
from fastsim.data.points import points_to_voxels
from fastsim.generators.points import PointGrid
from fastsim.geometry import Geometry
from fastsim.geometry.layers import PolarLayer

RINGS = PolarLayer(1, (0.0, 2.0, 4.0, 9.0), 6)
GEOMETRIES = {
    "polar": Geometry("polar", None, (PolarLayer(0, (0.0, 1.0, 3.0), 1), RINGS, PolarLayer(12, (1.0, 5.0), 4))),
    "turning": Geometry("turning", None, (RINGS, PolarLayer(2, (0.0, 3.0, 9.0), 6))),
    "grid": Geometry.from_grid((3, 4, 5), cell=(1.0, 2.0, 3.0)),
    "swapped": Geometry.from_grid((2, 4, 3), cell=2.0, fast="y"),
}


def stream(seed=1):
    return torch.Generator().manual_seed(seed)


def some_showers(geometry, seed=0, count=6, lit=0.3):
    generator = stream(seed)
    shape = (count, geometry.n_voxels)
    energies = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5
    energies = energies * (torch.rand(shape, generator=generator) < lit)
    energies[1] = 0.0
    return energies


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("dequantised", [False, True])
@pytest.mark.parametrize("collisions", ["add", "move"])
def test_round_trip_is_exact(name, dequantised, collisions):
    grid, x = PointGrid(GEOMETRIES[name]), some_showers(GEOMETRIES[name])
    hits = grid.to_points(x, generator=stream() if dequantised else None)
    assert torch.equal(hits.mask.sum(1), (x > 0).sum(1))
    assert torch.equal(hits.counts.sum(1), (x > 0).sum(1).double())
    assert (hits.points[~hits.mask] == 0).all()
    for counts in (None, hits.counts):
        assert torch.equal(grid.to_voxels(hits.points, hits.mask, counts, collisions=collisions), x)
    order = torch.randperm(hits.mask.shape[1], generator=stream())
    shuffled = grid.to_voxels(hits.points[:, order], hits.mask[:, order], hits.counts, collisions=collisions)
    assert torch.equal(shuffled, x)


def test_points_in_mm_are_those_of_the_hit_files():
    """Undone, the radius is that of the numpy conversion, which finds the same voxels."""
    layout = GEOMETRIES["turning"]
    grid, x = PointGrid(layout), some_showers(layout)
    points = grid.to_points(x, generator=stream()).points.clone()
    points[..., :2] *= points[..., :2].norm(dim=2, keepdim=True) / grid.outer
    points[..., 2] = points[..., 2].floor()
    np.testing.assert_allclose(points_to_voxels(points.numpy(), layout), x.numpy(), rtol=1e-6)


def test_places_fill_the_voxel_and_the_radius_is_flattened():
    layout = GEOMETRIES["polar"]
    grid = PointGrid(layout)
    x = torch.zeros((4000, layout.n_voxels), dtype=torch.float64)
    voxel = 2 + 3 * 4 + 1
    x[:, voxel] = 1.0
    points = grid.to_points(x, generator=stream()).points[:, 0]
    radius = points[:, :2].square().sum(1) / grid.outer
    angle = torch.atan2(points[:, 1], points[:, 0])
    r_edges, alpha_edges = RINGS.fast_edges, RINGS.slow_edges
    for values, low, high in ((radius, *r_edges[1:3]), (angle, *alpha_edges[4:6]), (points[:, 2], 1.0, 2.0)):
        u = (values - low) / (high - low)
        assert 0 < u.min() < 0.01 < 0.99 < u.max() < 1
        torch.testing.assert_close(u.mean(), torch.tensor(0.5, dtype=torch.float64), atol=0.02, rtol=0)
        torch.testing.assert_close(u.std(), torch.tensor(12**-0.5, dtype=torch.float64), atol=0.01, rtol=0)


def test_turned_and_mirrored_showers_are_showers():
    layout = GEOMETRIES["turning"]
    grid, x = PointGrid(layout), some_showers(layout, count=60)
    made = grid.to_voxels(*grid.to_points(x, generator=stream(), turns=6, mirror=True)[:2])
    kinds = set()
    for before, after in zip(x, made, strict=True):
        if not before.any():
            continue
        found = []
        for turn in range(6):
            for mirror in (False, True):
                pieces = [before[:18].view(6, 3), before[18:].view(6, 2)]
                moved = [(p.flip(0) if mirror else p).roll(turn, 0).flatten() for p in pieces]
                if torch.equal(torch.cat(moved), after):
                    found.append((turn, mirror))
        assert len(found) == 1
        kinds.add(found[0])
    assert len(kinds) > 8


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), name=st.sampled_from(sorted(GEOMETRIES)), spread=st.floats(0.0, 50.0))
def test_moved_points_share_no_voxel_and_lose_nothing(seed, name, spread):
    layout = GEOMETRIES[name]
    grid, x = PointGrid(layout), some_showers(layout, seed=seed, lit=0.6)
    hits = grid.to_points(x, generator=stream(seed))
    points = hits.points.clone()
    points[..., :3] += spread * torch.randn(points[..., :3].shape, generator=stream(seed + 1), dtype=torch.float64)
    moved = grid.to_voxels(points, hits.mask, hits.counts, collisions="move")
    # Every point has a voxel of its own, in the layer that the counts say.
    assert torch.equal(grid.counts(moved), hits.counts)
    torch.testing.assert_close(moved.sum(1), x.sum(1))
    for a, b in zip(moved, x, strict=True):
        assert torch.equal(a[a > 0].sort().values, b[b > 0].sort().values)
    added = grid.to_voxels(points, hits.mask, hits.counts, collisions="add")
    assert (grid.counts(added) <= hits.counts).all()
    torch.testing.assert_close(added.sum(1), x.sum(1))


def test_the_more_energetic_point_stays_and_the_other_goes_next_door():
    layout = Geometry.from_grid((1, 1, 4), cell=1.0)
    grid = PointGrid(layout)
    points = torch.tensor([[[-0.4, 0.0, 0.5, 1.0], [-0.5, 0.0, 0.5, 3.0], [-0.45, 0.0, 0.5, 2.0]]])
    mask = torch.ones((1, 3), dtype=torch.bool)
    counts = torch.tensor([[3.0]])
    # All want the second cell; the next nearest is the third, then the first.
    assert grid.to_voxels(points, mask, counts, collisions="add").tolist() == [[0.0, 6.0, 0.0, 0.0]]
    assert grid.to_voxels(points, mask, counts, collisions="move").tolist() == [[1.0, 3.0, 2.0, 0.0]]


def test_a_full_layer_adds_up():
    grid = PointGrid(Geometry.from_grid((1, 1, 2), cell=1.0))
    points = torch.tensor([[[-0.5, 0.0, 0.5, float(e)] for e in (1, 2, 4)]])
    found = grid.to_voxels(points, torch.ones((1, 3), dtype=torch.bool), torch.tensor([[3.0]]), collisions="move")
    assert found.tolist() == [[5.0, 2.0]]


def test_depths_are_handed_out_in_order():
    grid = PointGrid(Geometry.from_grid((3, 1, 1), cell=1.0))
    depth = torch.tensor([[0.9, 0.1, 0.5, torch.inf], [2.0, 1.0, torch.inf, torch.inf]])
    counts = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]])
    assert grid.layers(depth, counts).tolist() == [[2, 0, 2, 3], [2, 1, 3, 3]]


def test_points_outside_go_to_the_outermost_voxels():
    grid = PointGrid(GEOMETRIES["turning"])
    points = torch.tensor([[[500.0, 1.0, 90.0, 2.0], [0.0, 0.0, -3.0, 1.0]]])
    found = grid.to_voxels(points, torch.ones((1, 2), dtype=torch.bool))[0]
    assert found[18:].view(6, 2)[3, 1] == 2.0
    assert found[:18].view(6, 3)[:, 0].sum() == 1.0


def test_lists_of_cells_are_refused():
    cells = Geometry.from_cells({"layer": np.array([0, 0]), "x": np.array([0.0, 1.0]), "y": np.array([0.0, 0.0])})
    with pytest.raises(UserError, match="list of cells, whose shapes are not known"):
        PointGrid(cells)


def test_real_showers_survive():
    showers = read_showers("sample:ds2-electrons", "ds2", stop=5).cut(0.5)
    x = torch.from_numpy(showers.energies)
    grid = PointGrid(showers.geometry)
    assert torch.equal(grid.to_voxels(*grid.to_points(x, generator=stream()), collisions="move"), x)
