from __future__ import annotations

import numpy as np
import pytest

from fastsim.data import Showers
from fastsim.geometry import Geometry, geometry


def electron_showers(rows: int, *, seed: int = 0, name: str = "ds2") -> Showers:
    """Showers that fall off in r and have a maximum in depth, at random azimuth, with gaps."""
    rng = np.random.default_rng(seed)
    one = geometry(name)
    incident = np.exp(rng.uniform(np.log(1e3), np.log(1e5), (rows, 1)))
    depth = one.z / one.n_layers
    mean = one.size * np.exp(-one.r / 8) * depth * np.exp(-4 * depth)
    energies = rng.gamma(0.5, 2.0, (rows, one.n_voxels)) * mean
    energies *= rng.random((rows, one.n_voxels)) < 0.4
    energies *= incident / energies.sum(1, keepdims=True)
    return Showers(incident, energies, one)


@pytest.fixture(scope="session")
def electrons():
    return electron_showers


@pytest.fixture
def small():
    """A geometry whose axes all differ, and showers in it whose voxels all differ."""
    one = Geometry.from_dict(
        {
            "name": "small",
            "particle": None,
            "kind": "polar",
            "layers": [{"id": i, "r_edges": [0.0, 1.0, 2.0, 3.0], "n_alpha": 2} for i in range(4)],
            "z_edges": None,
        }
    )
    energies = np.arange(1, 1 + 5 * 24, dtype=np.float32).reshape(5, 24)
    return Showers(np.arange(1, 6) * 1000.0, energies, one)
