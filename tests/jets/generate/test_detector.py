"""The detector: unbiased, with the resolution it says, and nothing outside its acceptance."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cathode.jets.generate.detector import CHARGED, NEUTRAL_HADRON, PHOTON, detect, smear
from cathode.jets.generate.settings import DetectorSettings

PERFECT = DetectorSettings(
    track_constant=0, track_slope_per_gev=0, photon_stochastic=0, photon_constant=0, neutral_stochastic=0,
    neutral_constant=0,
)  # fmt: skip


def momentum(pt: float, eta: float, phi: float) -> list[float]:
    return [pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)]


def see(particles: list[tuple[int, float, float, float]], settings: DetectorSettings, *, seed: int = 0) -> np.ndarray:
    """One event of particles (kind, pT, eta, phi)."""
    four = np.array([momentum(*particle[1:]) for particle in particles])
    kind = np.array([particle[0] for particle in particles])
    return detect(
        np.zeros(len(kind), dtype=int), kind, four, n_events=1, settings=settings, generator=np.random.default_rng(seed)
    )[0]


def repeat(kind: int, energy: float, settings: DetectorSettings, *, n: int = 40_000) -> np.ndarray:
    """Measured energies of ``n`` single-particle events at the centre of a cell."""
    eta = 0.5 * (settings.photon_cell if kind == PHOTON else settings.neutral_cell)
    four = np.tile(momentum(energy / np.cosh(eta), eta, 1.0), (n, 1))
    seen = detect(
        np.arange(n), np.full(n, kind), four, n_events=n, settings=settings, generator=np.random.default_rng(5)
    )[:, 0]
    return seen[:, 0] * np.cosh(seen[:, 1])


@pytest.mark.parametrize("relative", [0.02, 0.3, 1.0])
def test_smearing_has_mean_one_and_the_given_width(relative: float) -> None:
    n = 400_000
    response = smear(np.ones(n), np.full(n, relative), np.random.default_rng(1))
    assert response.mean() == pytest.approx(1, abs=5 * relative / np.sqrt(n))
    # Kurtosis of the log-normal: the error of a variance is far from Gaussian for wide responses.
    w = 1 + relative**2
    error = relative**2 * np.sqrt((w**4 + 2 * w**3 + 3 * w**2 - 4) / n)
    assert response.var() == pytest.approx(relative**2, abs=5 * error)
    assert np.all(response > 0)


@pytest.mark.parametrize(
    ("kind", "energy", "relative"),
    [
        (CHARGED, 100.0, np.hypot(0.01, 1e-4 * 100)),
        (CHARGED, 800.0, np.hypot(0.01, 1e-4 * 800)),
        (PHOTON, 50.0, np.hypot(0.07 / np.sqrt(50), 0.007)),
        (NEUTRAL_HADRON, 100.0, np.hypot(1.0 / np.sqrt(100), 0.05)),
    ],
)
def test_energy_resolution(kind: int, energy: float, relative: float) -> None:
    seen = repeat(kind, energy, DetectorSettings())
    assert seen.mean() / energy == pytest.approx(1, abs=5 * relative / np.sqrt(len(seen)))
    assert seen.std() / energy == pytest.approx(relative, rel=0.03)


def test_acceptance_and_thresholds() -> None:
    seen = see(
        [(CHARGED, 10.0, 2.99, 0.1), (CHARGED, 10.0, 3.01, 0.1), (PHOTON, 10.0, -3.5, 1.0), (CHARGED, 0.4, 0.0, 2.0),
         (NEUTRAL_HADRON, 0.3, 0.0, 2.0)], PERFECT,
    )  # fmt: skip
    np.testing.assert_allclose(seen, [[10.0, 2.99, 0.1]])


def test_soft_neutrals_add_up_in_a_cell() -> None:
    """Two photons of one cell are one object with the sum of their energies, at the centre of the cell."""
    cell = PERFECT.photon_cell
    seen = see([(PHOTON, 0.4, 0.2 * cell, 0.005), (PHOTON, 0.4, 0.7 * cell, 0.005), (PHOTON, 5.0, 1.5, 0.005)], PERFECT)
    assert len(seen) == 2
    assert seen[1, 1] == pytest.approx(0.5 * cell)
    energy = 0.4 * (np.cosh(0.2 * cell) + np.cosh(0.7 * cell))
    assert seen[1, 0] * np.cosh(seen[1, 1]) == pytest.approx(energy)


@pytest.mark.parametrize("kind", [PHOTON, NEUTRAL_HADRON])
def test_cells_move_an_object_by_half_a_cell_at_most_and_keep_its_energy(kind: int) -> None:
    generator = np.random.default_rng(2)
    cell = PERFECT.photon_cell if kind == PHOTON else PERFECT.neutral_cell
    n = 2000
    pt, eta = generator.uniform(1, 50, n), generator.uniform(-2.9, 2.9, n)
    phi = generator.uniform(-np.pi, np.pi, n)
    phi[:2] = (np.pi, -np.pi)
    four = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)], axis=1)
    seen = detect(
        np.arange(n), np.full(n, kind), four, n_events=n, settings=PERFECT, generator=np.random.default_rng(0)
    )[:, 0]
    assert np.abs(seen[:, 1] - eta).max() <= cell / 2 + 1e-12
    dphi = (seen[:, 2] - phi + np.pi) % (2 * np.pi) - np.pi
    assert np.abs(dphi).max() <= np.pi / round(2 * np.pi / cell) + 1e-12
    np.testing.assert_allclose(seen[:, 0] * np.cosh(seen[:, 1]), four[:, 3], rtol=1e-9)


def test_cells_of_different_events_stay_apart() -> None:
    four = np.array([momentum(10.0, 0.3, 0.4), momentum(20.0, 0.3, 0.4)])
    seen = detect(
        np.array([0, 2]), np.full(2, PHOTON), four, n_events=3, settings=PERFECT, generator=np.random.default_rng(0)
    )
    np.testing.assert_allclose((seen[:, 0, 0] * np.cosh(seen[:, 0, 1])), [four[0, 3], 0.0, four[1, 3]])


def test_track_efficiency_and_order() -> None:
    half = dataclasses.replace(PERFECT, track_efficiency=0.5)
    particles = [(CHARGED, 1.0 + 0.01 * i, 0.0, 0.1) for i in range(4000)]
    seen = see(particles, half)
    assert len(seen) == pytest.approx(2000, abs=5 * np.sqrt(1000))
    assert np.all(np.diff(seen[:, 0]) <= 0)


def test_nothing_in_nothing_out() -> None:
    seen = detect(
        np.zeros(0, dtype=int), np.zeros(0, dtype=int), np.zeros((0, 4)), n_events=2, settings=PERFECT,
        generator=np.random.default_rng(0),
    )  # fmt: skip
    assert seen.shape == (2, 0, 3)
