"""Distances of jets against what is known about them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from cathode.jets.metrics import cov_mmd, emd, jet_fpd, jet_kpd, physics_features, w1efp, w1m, w1p
from cathode.jets.metrics.coverage import _matched
from cathode.jets.metrics.transport import lower_bounds
from cathode.jets.schema import Jets
from cathode.support.errors import UserError


def random_jets(seed: int, count: int = 200, width: int = 8, spread: float = 0.2) -> Jets:
    generator = np.random.default_rng(seed)
    points = np.zeros((count, width, 3))
    points[..., 0] = generator.exponential(20.0, (count, width)) + 1.0
    points[..., 1:] = spread * generator.standard_normal((count, width, 2))
    points[np.arange(width) >= generator.integers(2, width + 1, count)[:, None]] = 0
    return Jets.from_points(points)


def test_w1m_of_single_draws_is_the_distance_of_the_drawn_masses():
    """Two prongs with all the momentum: the relative mass follows from the angle between them."""

    def prongs(angles):
        points = np.zeros((len(angles), 2, 3))
        points[..., 0] = 50.0
        points[:, 1, 2] = angles
        return Jets.from_points(points)

    first, second = np.linspace(0.1, 0.3, 50), np.linspace(0.2, 0.5, 40)
    found = w1m(prongs(first), prongs(second), num_eval_samples=60, num_batches=3, seed=2)
    generator = np.random.default_rng(2)
    for value in found.values[:, 0]:
        rows = [generator.choice(n, size=60) for n in (50, 40)]
        masses = [np.tan(angle[r] / 2) for angle, r in zip((first, second), rows, strict=True)]
        assert value == pytest.approx(wasserstein_distance(*masses), rel=1e-5)


def test_w1p_sees_a_shift_of_every_constituent():
    jets = random_jets(1)
    relative = jets.relative()
    moved = Jets.from_relative(
        np.where(jets.mask[..., None], relative + np.array([0, 0.05, 0]), 0), jets.mask, jets.axis
    )
    found = w1p(jets, moved, num_eval_samples=20_000, num_batches=4, seed=0)
    assert found.names == ("eta_rel", "phi_rel", "pt_rel")
    np.testing.assert_allclose(found.mean, [0.05, 0.0, 0.0], atol=0.008)
    assert found.average[0] == pytest.approx(found.mean.mean())


def test_one_sample_with_itself_is_near_zero_and_another_is_not():
    first, second, wide = random_jets(2, 400), random_jets(3, 400), random_jets(4, 400, spread=0.3)
    for metric in (w1m, w1p, w1efp):
        same = metric(first, second, num_eval_samples=5000, num_batches=3).average[0]
        other = metric(first, wide, num_eval_samples=5000, num_batches=3).average[0]
        assert other > 3 * same > 0, metric.__name__


def test_padding_changes_no_metric():
    first, second = random_jets(5, 60), random_jets(6, 60)
    settings = {"num_eval_samples": 100, "num_batches": 2, "seed": 3}
    for metric in (w1m, w1p, w1efp):
        plain = metric(first, second, **settings).values
        np.testing.assert_allclose(metric(first.padded(13), second, **settings).values, plain, rtol=1e-9)
    few = {"num_eval_samples": 6, "num_batches": 1}
    assert cov_mmd(first.padded(11), second, **few).mmd == pytest.approx(cov_mmd(first, second, **few).mmd, rel=1e-9)


def test_seeds():
    first, second = random_jets(7), random_jets(8)
    settings = {"num_eval_samples": 100, "num_batches": 2}
    one = w1p(first, second, seed=1, **settings).values
    np.testing.assert_array_equal(one, w1p(first, second, seed=1, **settings).values)
    assert np.any(one != w1p(first, second, seed=2, **settings).values)


def test_a_sample_without_constituents_is_infinitely_far():
    empty = Jets.from_points(np.zeros((5, 3, 3)))
    found = w1p(random_jets(9, 5), empty, num_eval_samples=5, num_batches=1)
    assert np.isinf(found.values).all()


def test_energy_movers_distance_by_hand():
    jet = np.array([[0.6, 0.0, 0.0], [0.4, 0.3, 0.0], [0.0, 0.0, 0.0]])
    assert emd(jet, jet) == pytest.approx(0.0, abs=1e-12)
    # All of it moves by 0.1; half of the harder prong moves by 0.2; a tenth is missing.
    assert emd(jet, jet + np.array([0, 0, 0.1])) == pytest.approx(0.1)
    split = np.array([[0.3, 0.0, 0.0], [0.3, 0.0, 0.2], [0.4, 0.3, 0.0]])
    assert emd(jet, split) == pytest.approx(0.06)
    less = jet * [0.9, 1, 1]
    assert emd(jet, less) == pytest.approx(0.1) == emd(less, jet)
    assert emd(jet, np.array([[1.0, 0.0, 0.0]])) == pytest.approx(0.12)
    assert emd(jet, np.zeros((2, 3))) == pytest.approx(1.0)
    assert emd(np.zeros((1, 3)), np.zeros((2, 3))) == 0.0


def test_lower_bounds_are_below_the_distance_and_not_far():
    first, second = (np.asarray(random_jets(k, 12).relative()) for k in (10, 11))
    second[:, :, 0] *= np.linspace(0.8, 1.2, 12)[:, None]
    exact = np.array([[emd(a, b) for b in second] for a in first])
    bounds = lower_bounds(first, second)
    assert np.all(bounds <= exact + 1e-12)
    assert np.mean(bounds / exact) > 0.5
    nearest, distance = _matched(first, second)
    np.testing.assert_array_equal(nearest, exact.argmin(axis=1))
    np.testing.assert_allclose(distance, exact.min(axis=0), rtol=1e-12)


def test_fpd_and_kpd_on_energy_flow_polynomials():
    features = [physics_features(random_jets(k, 600)) for k in (12, 13)]
    wide = physics_features(random_jets(14, 600, spread=0.3))
    assert features[0].shape == (600, 36)
    for distance in (jet_fpd, jet_kpd):
        same = distance(*features)
        assert abs(same.value) < 4 * same.error
        far = distance(features[0], wide)
        assert far.value > max(far.error, 20 * abs(same.value))


def test_bad_input_is_refused():
    jets, none = random_jets(15, 5), Jets.from_points(np.zeros((0, 3, 3)))
    with pytest.raises(UserError, match="jets on both sides, got 5 and 0"):
        w1m(jets, none)
    with pytest.raises(UserError, match="jets on both sides"):
        cov_mmd(none, jets)
    with pytest.raises(UserError, match="must be positive"):
        w1p(jets, jets, num_batches=0)
    with pytest.raises(UserError, match="must be positive"):
        cov_mmd(jets, jets, num_eval_samples=0)
