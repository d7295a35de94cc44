from __future__ import annotations

import numpy as np
import pytest

from cathode.jets.schema import ConstituentEvents
from cathode.run.executors import SerialExecutor
from cathode.run.tasks import TaskStore


def dijets(rows, seed, *, slots=16, mean=10.0, prongs=1, masses=(2.2, 4.8), first=0):
    """Two back-to-back jets of a falling mass spectrum; constituents spread around one axis, or around two prongs."""
    random = np.random.default_rng(seed)
    low, high = masses
    mass = low - np.log1p(-random.random(rows) * (1 - np.exp(-1.5 * (high - low)))) / 1.5
    largest = np.arccosh(np.maximum(0.5 * (mass / 1.22) ** 2 - 1, 1.02))
    gap = random.uniform(-1, 1, rows) * np.minimum(largest, 1.5)
    boost = random.normal(0, 0.4, rows)
    pt = 1e3 * mass / np.sqrt(2 * (np.cosh(gap) + 1))
    phi = random.uniform(-np.pi, np.pi, rows)
    axis = (
        np.stack([boost + 0.5 * gap, boost - 0.5 * gap], 1),
        np.stack([phi, phi + np.pi + random.normal(0, 0.05, rows)], 1),
    )
    counts = np.clip(random.poisson(mean, (rows, 2)), 3, slots)
    mask = np.arange(slots) < counts[..., None]
    share = np.where(mask, random.exponential(1.0, mask.shape) ** 2 + 0.02, 0.0)
    share /= share.sum(2, keepdims=True)
    points = np.zeros((rows, 2, slots, 3))
    points[..., 0] = share * (pt[:, None] * random.uniform(0.9, 1.0, (rows, 2)))[..., None]
    width = 0.12
    for k in range(2):
        offset = np.zeros((rows, 2, slots))
        if prongs == 2 and k == 0:
            offset = np.where(random.random((rows, 2, slots)) < 0.5, -0.25, 0.25)
        points[..., 1 + k] = axis[k][..., None] + offset + random.normal(0, width, (rows, 2, slots))
    points[..., 2] = (points[..., 2] + np.pi) % (2 * np.pi) - np.pi
    points[~mask] = 0.0
    return ConstituentEvents.from_points(points, mask, event_id=first + np.arange(rows))


@pytest.fixture(scope="session")
def make_events():
    return dijets


@pytest.fixture
def runner(tmp_path):
    return TaskStore(tmp_path / "tasks", SerialExecutor())
