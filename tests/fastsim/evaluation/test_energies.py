from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cathode.support.errors import UserError
from fastsim.evaluation.energies import at_energy, check_spectra, energy_groups, is_discrete, matched_rows

POINTS = 2.0 ** np.arange(8, 16)


def discrete(n: int, seed: int = 0, shares=None) -> np.ndarray:
    return np.random.default_rng(seed).choice(POINTS, n, p=shares)[:, None].astype(np.float32)


def continuous(n: int, seed: int = 0, low: float = 1e3, high: float = 1e5) -> np.ndarray:
    return np.exp(np.random.default_rng(seed).uniform(np.log(low), np.log(high), n)).astype(np.float32)


def test_points_and_continua():
    assert is_discrete(discrete(1000))
    assert not is_discrete(continuous(1000))
    assert [g.energy for g in energy_groups(discrete(1000))] == pytest.approx(list(POINTS))
    groups = energy_groups(continuous(1000), bins=5)
    assert len(groups) == 5
    assert groups[0].high == groups[1].low


@given(st.integers(0, 2**32 - 1), st.booleans(), st.integers(20, 300))
def test_every_shower_is_in_exactly_one_group(seed, points, n):
    energies = discrete(n, seed) if points else continuous(n, seed)
    rows = np.concatenate([g.rows(energies) for g in energy_groups(energies)])
    assert sorted(rows) == list(range(n))


def test_rounding_of_a_file_does_not_split_a_point():
    energies = discrete(500).astype(np.float64)
    energies[::2] *= 1 + 1e-6
    assert len(energy_groups(energies)) == len(POINTS)


def test_the_same_spectrum_passes():
    check_spectra(discrete(2000, 1), discrete(2000, 2))
    check_spectra(continuous(2000, 1), continuous(700, 2))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            discrete(1000),
            discrete(1000)[discrete(1000) != 256.0],
            "of the reference showers .256 MeV",
        ),
        (discrete(900), np.append(discrete(900), np.full(50, 100.0)), "of the generated showers .100 MeV"),
        (discrete(4000), discrete(4000, shares=np.arange(1, 9) / 36), "mixed differently"),
        (continuous(3000), continuous(3000, high=5e4), "follow different spectra"),
        (discrete(1000), discrete(1000, 1) / 1000, "one file is in GeV"),
        (continuous(1000), continuous(1000, 1) * 1000, "one file is in keV"),
    ],
    ids=["missing", "extra", "shares", "range", "GeV", "keV"],
)
def test_another_spectrum_is_refused(first, second, message):
    with pytest.raises(UserError, match=message):
        check_spectra(first, second)


@pytest.mark.parametrize("make", [discrete, continuous])
def test_matching_makes_spectra_equal(make):
    first, second = make(3000, 1), make(3000, 2)[:900]
    one, two = matched_rows(first, second, seed=3)
    assert len(one) == len(two)
    assert len(np.unique(one)) == len(one)
    check_spectra(first[one], second[two])
    assert np.array_equal(matched_rows(first, second, seed=3)[0], one)
    assert len(two) > 700


def test_one_energy():
    energies = discrete(1000)
    assert set(energies[at_energy(energies, 1024.0), 0]) == {1024.0}
    assert not len(at_energy(energies, 1000.0))
    wide = continuous(4000)
    near = wide[at_energy(wide, 1e4)]
    assert len(near) > 20
    assert np.abs(near / 1e4 - 1).max() < 0.05
