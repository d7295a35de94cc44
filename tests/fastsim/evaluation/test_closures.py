"""Energy-regression and particle-identification closure."""

import numpy as np
import pytest

from cathode.support.errors import UserError
from fastsim.data import Showers
from fastsim.evaluation.closures import energy_regression, particle_identification
from fastsim.geometry import Geometry

CELLS = Geometry.from_cells({"layer": [0, 0, 1, 1], "x": [-1.0, 1.0, -1.0, 1.0], "y": [1.0, 1.0, -1.0, 2.0]})


def showers(n, seed, *, scale=1.0, noise=0.1, late=0.0, low=1e3, high=1e5):
    """A calorimeter with a response of 0.8 and independent fluctuations of both layers."""
    generator = np.random.default_rng(seed)
    incident = low * (high / low) ** generator.uniform(size=(n, 1))
    share = generator.beta(4.0 - late, 4.0, (n, 1))
    layers = 0.8 * scale * incident * np.concatenate([share, 1 - share], 1) * np.exp(generator.normal(0, noise, (n, 2)))
    split = generator.beta(5.0, 5.0, (n, 2))
    energies = np.stack([layers[:, 0] * split[:, 0], layers[:, 0] * (1 - split[:, 0]),
                         layers[:, 1] * split[:, 1], layers[:, 1] * (1 - split[:, 1])], 1)  # fmt: skip
    return Showers(incident, energies, CELLS)


def pulls(closure, what):
    return np.array([getattr(p, what).pull for c in closure for p in c.points])


def test_one_distribution_closes():
    found = energy_regression(showers(4000, 1), showers(4000, 2), seed=1)
    assert [c.trained_on for c in found] == ["reference", "generated"]
    for what in ("scale", "resolution"):
        assert np.abs(pulls(found, what)).max() < 4.0
        assert np.abs(pulls(found, what)).std() < 1.6
    for point in found[0].points:
        assert point.reference.mean == pytest.approx(1.0, abs=0.02)
        assert 0.05 < point.reference.width < 0.10  # 0.1 / sqrt(2) for equal layers


def test_a_wrong_scale_is_found_in_both_directions():
    found = energy_regression(showers(4000, 1), showers(4000, 2, scale=1.05), seed=1)
    for closure in found:
        middle = closure.points[2:-2]
        assert np.mean([p.scale.value for p in middle]) == pytest.approx(0.05, abs=0.012)
        assert min(p.scale.pull for p in middle) > 4.0


def test_a_wrong_resolution_is_found():
    found = energy_regression(showers(4000, 1), showers(4000, 2, noise=0.13), seed=1)
    assert pulls(found, "resolution").min() > 1.0
    assert np.median(pulls(found, "resolution")) > 4.0


def test_empty_showers_are_counted():
    reference = showers(400, 1)
    empty = reference.energies.copy()
    empty[:3] = 0.0
    found = energy_regression(Showers.unchecked(reference.incident_energy, empty, CELLS), showers(400, 2))
    assert found[0].empty == (3, 0)


def test_particle_identification_closes_and_finds_a_wrong_particle():
    reference = showers(1000, 1), showers(1000, 2, late=3.0)
    good = particle_identification(
        reference, (showers(1000, 3), showers(1000, 4, late=3.0)), particles=("photon", "pion")
    )
    assert good[0].particles == ("photon", "pion")
    for closure in good:
        assert closure.reference.value > 0.8
        assert abs(closure.difference.pull) < 3.5
        for point in closure.working_points:
            for pair in ((point.reference, point.generated),):
                assert abs(pair[0].value - pair[1].value) < 4 * np.hypot(pair[0].error, pair[1].error)
            assert abs(point.generated_efficiency.value - point.efficiency) < 5 * point.generated_efficiency.error
    bad = particle_identification(reference, (showers(1000, 5), showers(1000, 6, late=2.0)))
    assert bad[0].difference.pull < -4.0
    assert bad[0].working_points[0].generated.value > bad[0].working_points[0].reference.value


def test_same_seed_same_numbers():
    samples = showers(300, 1), showers(300, 2)
    assert energy_regression(*samples, seed=3) == energy_regression(*samples, seed=3)
    assert energy_regression(*samples, seed=3) != energy_regression(*samples, seed=4)


def test_wrong_input():
    good = showers(200, 1)
    other = Geometry.from_cells({"layer": [0, 0, 1, 1], "x": [0.0, 1.0, 0.0, 1.0], "y": [0.0] * 4})
    with pytest.raises(UserError, match="one geometry"):
        energy_regression(good, Showers(good.incident_energy, good.energies, other))
    with pytest.raises(UserError, match="at least 30 showers"):
        energy_regression(good[:20], good[20:40])
    with pytest.raises(UserError, match="different spectra"):
        energy_regression(showers(3000, 1), showers(3000, 2, low=5e3))
    with pytest.raises(UserError, match="between 0 and 1"):
        particle_identification((good, good), (good, good), efficiencies=(90.0,))
