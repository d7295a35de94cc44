"""Distances between all events of one or two samples, by blocks of rows so that memory stays bounded.

Single precision: a distance is known to about 1e-3 of a typical one, and events whose squared distance is below 4e-6 of
their squared norms count as identical.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ["kth_neighbour", "squared_distances"]

_BLOCK_ELEMENTS = 8 * 2**20
_SAME = 4e-6  # rounding of a float32 scalar product of some thousand terms, relative to the norms


def squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows of ``x (N, D)`` and their squared Euclidean distances to all of ``y (M, D)``, float32, block by block."""
    centre = y.mean(axis=0, dtype=np.float64)
    first, second = ((sample - centre).astype(np.float32, copy=False) for sample in (x, y))
    norms = np.einsum("ij,ij->i", first, first), np.einsum("ij,ij->i", second, second)
    rows = max(1, _BLOCK_ELEMENTS // len(y))
    for start in range(0, len(x), rows):
        block = slice(start, min(start + rows, len(x)))
        total = norms[0][block, None] + norms[1]
        distance = first[block] @ second.T
        distance *= -2.0
        distance += total
        total *= _SAME
        distance[distance < total] = 0.0
        yield block, distance


def kth_neighbour(x: np.ndarray, k: int) -> np.ndarray:
    """Squared distance ``(N,)`` of each event to its ``k``-th nearest other one."""
    result = np.empty(len(x), dtype=np.float32)
    for block, distance in squared_distances(x, x):
        distance[np.arange(len(distance)), np.arange(block.start, block.stop)] = np.inf  # itself
        result[block] = np.partition(distance, k - 1, axis=1)[:, k - 1]
    return result
