from __future__ import annotations

import numpy as np
import pytest
from scipy.special import gamma
from scipy.stats import foldnorm

from cathode.comparison.distances import energy_distance, sliced_wasserstein
from cathode.support.errors import UserError


def test_sliced_wasserstein_of_a_shift():
    """Of a shift by a in D dimensions it is a E|u_1|, u uniform on the sphere."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 3))
    shift = np.array([0.7, 0.0, 0.0])
    mean = gamma(1.5) / (np.sqrt(np.pi) * gamma(2.0))
    assert sliced_wasserstein(x + shift, x, projections=1500, standardise=False) == pytest.approx(0.7 * mean, rel=0.05)
    assert sliced_wasserstein(x, x) == 0.0


def test_units_do_not_matter_and_weights_do():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((500, 2)), rng.standard_normal((400, 2))
    counts = rng.integers(1, 4, 500)
    for distance in (sliced_wasserstein, energy_distance):
        assert distance(1000 * x, 1000 * y) == pytest.approx(distance(x, y), rel=1e-9)
    weighted = sliced_wasserstein(x, y, x_weight=counts)
    assert weighted == pytest.approx(sliced_wasserstein(np.repeat(x, counts, axis=0), y), rel=1e-9)


def test_energy_distance_of_shifted_gaussians():
    """One dimension: E|N(a, 2)| is known, and so is the distance."""
    rng = np.random.default_rng(2)
    shift = 1.0
    x, y = rng.standard_normal((2, 3000))
    x, y = x - x.mean() + shift, y - y.mean()  # the chance difference of the means is most of the noise
    expected = 2 * foldnorm.mean(shift / np.sqrt(2), scale=np.sqrt(2)) - 2 * foldnorm.mean(0, scale=np.sqrt(2))
    assert energy_distance(x, y, standardise=False) == pytest.approx(expected, rel=0.03)


def test_energy_distance_is_unbiased_under_weights():
    values = []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        weight = rng.exponential(size=150)
        x, y = rng.standard_normal((150, 2)), rng.standard_normal((150, 2))
        values.append(energy_distance(x, y, x_weight=weight, standardise=False))
    assert abs(np.mean(values)) < 3.5 * np.std(values) / np.sqrt(len(values))


def test_thinning_and_directions_follow_the_seed():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((300, 2)), rng.standard_normal((300, 2))
    for distance, settings in ((sliced_wasserstein, {}), (energy_distance, {"max_events": 100})):
        assert distance(x, y, seed=1, **settings) == distance(x, y, seed=1, **settings)
        assert distance(x, y, seed=1, **settings) != distance(x, y, seed=2, **settings)


def test_bad_input_is_refused():
    with pytest.raises(UserError, match="at least one direction"):
        sliced_wasserstein(np.zeros((5, 1)), np.zeros((5, 1)), projections=0)
    with pytest.raises(UserError, match="events as rows"):
        sliced_wasserstein(np.zeros((5, 1, 1)), np.zeros((5, 1)))
    with pytest.raises(UserError, match="at least 2"):
        energy_distance(np.zeros((1, 1)), np.zeros((5, 1)))
