from __future__ import annotations

import numpy as np
import pytest

SHIFT = 1.0


@pytest.fixture
def gaussians():
    """Two unit Gaussians in two dimensions, a distance SHIFT apart; twice as many template as data events."""

    def draw(n, seed=0, shift=SHIFT):
        rng = np.random.default_rng(seed)
        data = rng.standard_normal((n, 2)) + np.array([shift, 0.0])
        template = rng.standard_normal((2 * n, 2))
        return np.concatenate([data, template]), np.repeat([1, 0], [n, 2 * n])

    return draw
