from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from cathode.comparison.frechet import fpd, frechet_distance
from cathode.comparison.kernel import kpd
from cathode.support.errors import UserError

GOLDEN = Path(__file__).parent / "golden"
RECIPE = runpy.run_path(str(GOLDEN / "make_jetnet.py"))
REFERENCE = json.loads((GOLDEN / "jetnet.json").read_text())


@pytest.mark.parametrize("name", sorted(REFERENCE))
def test_the_jetnet_protocol_gives_the_numbers_of_the_library(name):
    x, y = RECIPE["samples"]()[name]
    settings = RECIPE["SETTINGS"]
    ours = fpd(x, y, protocol="jetnet", min_samples=settings["min_samples"], max_samples=settings["max_samples"])
    assert (ours.value, ours.error) == pytest.approx(tuple(REFERENCE[name]["fpd"]), rel=1e-5, abs=1e-8)
    ours = kpd(x, y, protocol="jetnet", batch_size=settings["batch_size"])
    assert (ours.value, ours.error) == pytest.approx(tuple(REFERENCE[name]["kpd"]), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("name", ["shifted", "turned", "skewed"])
def test_both_protocols_agree_where_the_samples_differ(name):
    x, y = RECIPE["samples"]()[name]
    strict, published = fpd(x, y), REFERENCE[name]["fpd"]
    assert abs(strict.value - published[0]) < 3 * np.hypot(strict.error, published[1])
    strict, published = kpd(x, y), REFERENCE[name]["kpd"]
    assert abs(strict.value - published[0]) < 3 * np.hypot(strict.error, published[1])


def test_frechet_distance_of_known_gaussians():
    """Commuting covariances: sum of (a - b)^2 of the standard deviations; and a rotation that does not commute."""
    mean = np.array([1.0, -2.0, 0.0])
    one, two = np.diag([1.0, 4.0, 0.0]), np.diag([9.0, 4.0, 0.0])
    assert frechet_distance(mean, one, np.zeros(3), two) == pytest.approx(5.0 + 4.0)
    a, b = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[3.0, -1.0], [-1.0, 1.0]])
    # Tr sqrt(M) of a 2 x 2 matrix with positive eigenvalues is sqrt(Tr M + 2 sqrt(det M)).
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))
    assert frechet_distance(np.zeros(2), a, np.zeros(2), b) == pytest.approx(np.trace(a + b) - 2 * root)


def test_strict_fpd_of_a_shift_and_a_stretch_is_the_analytic_one():
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (20000, 4))
    y = 0.2 + 1.2 * rng.uniform(-1, 1, (8000, 4))
    expected = 4 * (0.2**2 + (0.2 / np.sqrt(3)) ** 2)
    result = fpd(x, y)
    assert abs(result.value - expected) < 4 * result.error < 0.15 * expected


def test_strict_distances_of_one_distribution_are_compatible_with_zero():
    """No bias: the mean of many repetitions is zero within its error; and the quoted error covers the scatter."""
    values = {"fpd": [], "kpd": []}
    errors = {"fpd": [], "kpd": []}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x, y = rng.uniform(-1, 1, (400, 5)) ** 3, rng.uniform(-1, 1, (300, 5)) ** 3
        for name, function in (("fpd", fpd), ("kpd", kpd)):
            result = function(x, y, groups=10)
            values[name].append(result.value)
            errors[name].append(result.error)
    for name in values:
        scatter = np.std(values[name])
        assert abs(np.mean(values[name])) < 3.5 * scatter / np.sqrt(40), name
        assert 0.7 * scatter < np.median(errors[name]) < 3.5 * scatter, name


def test_jetnets_fpd_of_one_distribution_keeps_the_bias_of_its_pool():
    x, y = RECIPE["samples"]()["same"]
    published = fpd(x, y, protocol="jetnet", min_samples=1000, max_samples=5000)
    strict = fpd(x, y)
    assert abs(strict.value) < 3 * strict.error
    assert published.value > 3 * published.error


def test_kpd_is_the_average_over_all_pairs():
    rng = np.random.default_rng(2)
    x, y = rng.uniform(-1, 1, (130, 3)), rng.uniform(-0.8, 1, (90, 3))
    a, b = x / np.abs(x).max(axis=0), y / np.abs(x).max(axis=0)
    kernels = [(u @ v.T / 3 + 1) ** 4 for u, v in ((a, a), (b, b), (a, b))]
    inside = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in kernels[:2]]
    assert kpd(x, y).value == pytest.approx(inside[0] + inside[1] - 2 * kernels[2].mean(), rel=1e-10)


def test_seeds_and_thinning():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((3000, 3)), 1.2 * rng.standard_normal((3000, 3))
    assert fpd(x, y, seed=1) == fpd(x, y, seed=1)
    assert fpd(x, y, seed=1).error != fpd(x, y, seed=2).error
    assert kpd(x, y, max_events=500, seed=1) == kpd(x, y, max_events=500, seed=1)
    assert kpd(x, y, max_events=500, seed=1).value != kpd(x, y, max_events=500, seed=2).value
    # Without thinning the groups change the error, not the value.
    assert kpd(x, y, seed=1).value == pytest.approx(kpd(x, y, seed=2).value, rel=1e-9)


def test_bad_input_is_refused():
    x = np.random.default_rng(4).standard_normal((100, 2))
    with pytest.raises(UserError, match="unknown FPD protocol"):
        fpd(x, x, protocol="exact")
    with pytest.raises(UserError, match="unknown KPD protocol"):
        kpd(x, x, protocol="exact")
    with pytest.raises(UserError, match="2 events per group"):
        fpd(x[:30], x)
    with pytest.raises(UserError, match="2 events per group"):
        kpd(x[:30], x)
    with pytest.raises(UserError, match="compare the same columns"):
        fpd(x, x[:, :1])
    with pytest.raises(UserError, match="min_samples <= max_samples"):
        fpd(x, x, protocol="jetnet", min_samples=100, max_samples=50)
    with pytest.raises(UserError, match="batch of at least 2"):
        kpd(x, x, protocol="jetnet", batch_size=1)
