from __future__ import annotations

import numpy as np
import pytest

from cathode.jets.schema import Jets
from cathode.jets.writers import write_jets

PARTICLES = 6


def make_jets(count: int = 500, seed: int = 0, *, typed: bool = True) -> Jets:
    """Jets of 1 to 6 constituents, half of them full; the second type is wider.  Some constituents are at cells."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, count) * 3
    counts = np.where(rng.random(count) < 0.5, PARTICLES, rng.integers(3, PARTICLES + 1, count))
    mask = np.arange(PARTICLES) < counts[:, None]
    pt = rng.gamma(2.0, 50.0, (count, PARTICLES)) * np.linspace(2, 0.5, PARTICLES) + 1.0
    axis = np.stack([rng.uniform(-1.5, 1.5, count), rng.uniform(-np.pi, np.pi, count)], -1)
    width = np.where(kind == 3, 0.15, 0.05)[:, None, None]
    place = axis[:, None] + width * rng.normal(size=(count, PARTICLES, 2))
    on = rng.random((count, PARTICLES)) < 0.4
    centre = np.round((place - 0.05) / 0.1) * 0.1 + 0.05
    place = np.where(on[..., None] & (np.abs(centre[..., 1:]) < 3.1), centre, place)
    points = np.concatenate([pt[..., None], place], -1)
    return Jets.from_points(points, mask, type=kind if typed else None)


@pytest.fixture(scope="session")
def jets() -> Jets:
    return make_jets()


@pytest.fixture(scope="session")
def jet_file(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("jets") / "jets.h5"
    write_jets(make_jets(), path)
    return str(path)
