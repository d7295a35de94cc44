"""Closure: showers of a known calorimeter, fitted from another start, give that calorimeter back."""

import dataclasses

import numpy as np
import pytest

from cathode.support.errors import UserError
from fastsim.data.gflash import Tuning, calibrate, preset, simulate
from fastsim.data.gflash.calibration import _Fit
from fastsim.data.gflash.summaries import energy_bins, radial_groups, summarise
from fastsim.geometry import geometry

PHOTONS = geometry("ds1-photons")


@pytest.fixture(scope="module")
def closure():
    start = preset("pbwo4-lar-5")
    truth = dataclasses.replace(
        start,
        layer_edges=(0.0, 1.0, 3.0, 20.0, 23.0, 26.0),
        sampling_fluctuation=0.15,
        response=(0.9,) * 5,
        tuning=Tuning(fluctuation_scale=0.8, core_scale=1.5, tail_scale=0.8, spot_scale=1.2),
    )
    energy = np.repeat([500.0, 2000.0, 8000.0], 240)
    data = simulate(PHOTONS, energy, seed=21, material=truth, threshold=1.0)
    return data, truth, calibrate(data, seed=22, threshold=1.0, rounds=2)


def test_calibration_comes_as_close_as_the_truth_itself(closure):
    data, truth, result = closure
    # Other showers of the true calorimeter: what 240 showers per energy leave of a perfect fit.
    others = [_Fit(data, truth, "photon", seed, 1.0).deviations(truth) for seed in (91, 92, 93, 94)]
    for name in ("layer_mean", "layer_width", "total_width", "radial"):
        left = max(getattr(one, name) for one in others)
        assert getattr(result.after, name) < 1.5 * left, name
        assert getattr(result.after, name) < getattr(result.before, name) / 1.5, name
    # Three constants of the radial profile and the number of spots share what the occupancy says.
    assert result.after.occupancy < min(0.05, result.before.occupancy / 3)
    assert result.showers == 720


def test_calibration_finds_the_constants(closure):
    _, truth, result = closure
    found = result.calorimeter
    assert found.sampling_fluctuation == pytest.approx(0.15, rel=0.1)
    assert found.response[0] == pytest.approx(0.9, rel=0.03)
    assert found.layer_edges[2] == pytest.approx(3.0, rel=0.15)
    assert found.tuning.core_scale == pytest.approx(truth.tuning.core_scale, rel=0.25)


def test_showers_not_given_are_not_used(closure):
    data, _, _ = closure
    first = calibrate(data[:400], seed=1, threshold=1.0, rounds=1, most=150)
    second = calibrate(data[:150], seed=1, threshold=1.0, rounds=1)
    assert first == second


def test_errors():
    showers = simulate(PHOTONS, np.full(20, 1000.0), seed=1)
    with pytest.raises(UserError, match="at least 100 showers, got 20"):
        calibrate(showers, seed=1)


def test_bins_and_groups():
    discrete = np.tile([256.0, 512.0, 1024.0], 5)
    assert energy_bins(discrete).tolist() == [0, 1, 2] * 5
    continuous = np.geomspace(1e3, 1e5, 400)
    assert np.bincount(energy_bins(continuous)).tolist() == [50] * 8
    group = radial_groups(PHOTONS, groups=4)
    for part in PHOTONS.slices:
        order = np.argsort(PHOTONS.r[part], kind="stable")
        assert (np.diff(group[part][order]) >= 0).all()
        assert group[part].max() == 3


def test_summary_in_numbers():
    showers = simulate(PHOTONS, np.full(200, 3000.0), seed=1, threshold=1.0)
    summary = summarise(showers, np.zeros(200, dtype=np.int64))
    assert summary.total_mean[0] == pytest.approx(showers.energies.sum(1).mean() / 3000, rel=1e-5)
    assert summary.layer_mean.sum() == pytest.approx(summary.total_mean[0], rel=1e-5)
    assert summary.radial[0].sum(1) == pytest.approx(np.ones(5), rel=1e-6)
    assert summary.occupancy[0] == pytest.approx((showers.energies > 0).mean())
