from __future__ import annotations

import numpy as np
import pytest

from cathode.classifiers.transformer.inputs import SetInputs


def draw_sets(n, *, size=9, shift=0.0, correlation=0.0, seed=0, groups=False):
    """Sets of 0 to ``size`` points of three normal features, of which the first is shifted."""
    rng = np.random.default_rng(seed)
    mask = np.arange(size) < rng.integers(0, size + 1, (n, 1))
    points = rng.standard_normal((n, size, 3)) + np.array([shift, 0.0, 0.0])
    points[..., 1] += correlation * rng.standard_normal((n, 1))
    group = rng.integers(0, 2, (n, size)) if groups else None
    momenta = np.stack([rng.exponential(1.0, (n, size)) + 0.1, *rng.uniform(-1, 1, (2, n, size))], axis=-1)
    return SetInputs(points, mask, group, momenta, rng.standard_normal((n, 2)))


@pytest.fixture
def sets():
    """Maker of sets: ``sets(n, size=, shift=, correlation=, seed=, groups=)``."""
    return draw_sets


@pytest.fixture
def labelled(sets):
    """Data shifted against the template, twice as many of the latter, and labels."""

    def draw(n, seed=0, shift=0.6, **settings):
        both = [sets(n, shift=shift, seed=2 * seed, **settings), sets(2 * n, seed=2 * seed + 1, **settings)]
        return SetInputs.concatenate(both), np.repeat([1, 0], [n, 2 * n])

    return draw
