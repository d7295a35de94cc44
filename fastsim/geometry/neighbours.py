"""Which voxels touch: the edges of a calorimeter's graph."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fastsim.geometry.layers import CellLayer, Layer, PolarLayer

__all__ = ["neighbour_pairs"]

Ints = NDArray[np.int64]


def neighbour_pairs(layers: Sequence[Layer]) -> Ints:
    """Pairs ``(E, 2)`` of voxels that touch, each once, smaller index first, sorted.

    Within a layer: sharing a side (alpha is periodic).  Between consecutive layers: overlapping areas.  Cells, whose
    shapes are unknown, touch when their centres are nearer than 1.5 times the mean of the sides of squares of their
    sizes (in the next layer: 0.75 times).
    """
    offsets = np.concatenate([[0], np.cumsum([layer.n_slow * layer.n_fast for layer in layers])])
    pairs = [_within(layer) + offset for layer, offset in zip(layers, offsets[:-1], strict=True)]
    for i, (one, two) in enumerate(pairwise(layers)):
        pairs.append(_between(one, two) + offsets[i : i + 2])
    edges = np.concatenate(pairs).astype(np.int64)
    edges.sort(axis=1)
    return np.unique(edges, axis=0)


def _within(layer: Layer) -> Ints:
    if isinstance(layer, CellLayer):
        return _near(layer, layer, 1.5)
    index = np.arange(layer.n_slow * layer.n_fast).reshape(layer.n_slow, layer.n_fast)
    pairs = [_pairs(index[:, :-1], index[:, 1:]), _pairs(index[:-1], index[1:])]
    # Two sectors share both their sides: one pair, which the line above has.
    if isinstance(layer, PolarLayer) and layer.n_slow > 2:
        pairs.append(_pairs(index[-1:], index[:1]))
    return np.concatenate(pairs)


def _between(one: Layer, two: Layer) -> Ints:
    if isinstance(one, CellLayer) or isinstance(two, CellLayer):
        return _near(one, two, 0.75)
    if getattr(one, "fast", None) == getattr(two, "fast", None):
        slow, fast = _overlaps(one.slow_edges, two.slow_edges), _overlaps(one.fast_edges, two.fast_edges)
        first = slow[:, None, 0] * one.n_fast + fast[None, :, 0]
        second = slow[:, None, 1] * two.n_fast + fast[None, :, 1]
    else:
        slow, fast = _overlaps(one.slow_edges, two.fast_edges), _overlaps(one.fast_edges, two.slow_edges)
        first = slow[:, None, 0] * one.n_fast + fast[None, :, 0]
        second = fast[None, :, 1] * two.n_fast + slow[:, None, 1]
    return _pairs(first, second)


def _near(one: Layer, two: Layer, factor: float) -> Ints:
    from scipy.spatial import cKDTree

    a, b = one.centres(), two.centres()
    sides_a, sides_b = np.sqrt(a["size"]), np.sqrt(b["size"])
    reach = factor * (sides_a.max() + sides_b.max()) / 2
    trees = [cKDTree(np.stack([c["x"], c["y"]], 1)) for c in (a, b)]
    found = trees[0].sparse_distance_matrix(trees[1], reach * 1.001, output_type="ndarray")
    close = found["v"] <= factor * (sides_a[found["i"]] + sides_b[found["j"]]) / 2 * 1.001
    if one is two:
        close &= found["i"] < found["j"]
    return np.stack([found["i"][close], found["j"][close]], 1).astype(np.int64)


def _overlaps(one: NDArray[np.float64], two: NDArray[np.float64]) -> Ints:
    common = np.minimum(one[1:, None], two[None, 1:]) - np.maximum(one[:-1, None], two[None, :-1])
    return np.argwhere(common > 1e-9 * max(np.ptp(one), np.ptp(two)))


def _pairs(one: Ints, two: Ints) -> Ints:
    return np.stack([one.ravel(), two.ravel()], 1)
