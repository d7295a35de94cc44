"""Small showers whose classifier tests have known answers."""

import numpy as np
import pytest

from fastsim.data import Showers
from fastsim.geometry import Geometry


@pytest.fixture(scope="session")
def cells():
    """Two layers of two cells."""
    return Geometry.from_cells({"layer": [0, 0, 1, 1], "x": [-1.0, 1.0, -1.0, 1.0], "y": [1.0, 1.0, -1.0, 2.0]})


@pytest.fixture(scope="session")
def log_normal(cells):
    """Showers with log-normal voxels of width 0.3, whose first voxel is shifted by so many widths."""

    def make(n, seed, shift=0.0):
        generator = np.random.default_rng(seed)
        logs = generator.normal(5.0, 0.3, (n, 4))
        logs[:, 0] += 0.3 * shift
        return Showers(np.full((n, 1), 1000.0), np.exp(logs), cells)

    return make
