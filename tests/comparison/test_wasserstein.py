from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from cathode.comparison.wasserstein import wasserstein


def test_value_is_that_of_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.gamma(2.0, size=300), np.round(rng.gamma(2.5, size=220), 1)  # with ties
    assert wasserstein(x, y, standardise=False).value == pytest.approx(wasserstein_distance(x, y))
    assert wasserstein(x, y).value == pytest.approx(wasserstein_distance(x, y) / y.std())


def test_chance_is_expected_and_a_shift_has_its_error():
    rng = np.random.default_rng(1)
    same = [wasserstein(rng.standard_normal(300), rng.standard_normal(200)) for _ in range(150)]
    values = np.array([e.value for e in same])
    assert values.mean() == pytest.approx(np.mean([e.expected for e in same]), rel=0.08)
    moved = [wasserstein(rng.standard_normal(300) + 1.0, rng.standard_normal(200)) for _ in range(150)]
    values = np.array([e.value for e in moved])
    assert np.median([e.error for e in moved]) == pytest.approx(values.std(), rel=0.3)


def test_constant_features():
    assert wasserstein(np.ones(20), np.ones(30)).value == 0.0
    assert wasserstein(np.full(20, 3.0), np.ones(30)).value == pytest.approx(2.0)
