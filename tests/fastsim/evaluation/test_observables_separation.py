from __future__ import annotations

import numpy as np
import pytest

from cathode.support.errors import UserError
from fastsim.data import Showers, sample
from fastsim.evaluation.observables import observables
from fastsim.evaluation.separation import mean_separations, separation_powers, wasserstein_distances
from fastsim.geometry import Geometry


@pytest.fixture(scope="module")
def halves() -> tuple[Showers, Showers]:
    showers = sample("ds1-photons")[:4000]
    order = np.random.default_rng(0).permutation(len(showers))
    return showers[order[:2000]], showers[order[2000:]]


def by_the_script(a: np.ndarray, b: np.ndarray, bins: np.ndarray) -> float:
    """The published computation: densities times bin widths."""
    first, second = (np.histogram(x.astype(np.float64), bins, density=True)[0] * np.diff(bins) for x in (a, b))
    return float(0.5 * ((first - second) ** 2 / (first + second + 1e-16)).sum())


def test_calochallenge_mode_gives_the_published_numbers(halves):
    reference, generated = halves
    powers = {p.name: p.power.value for p in separation_powers(*halves, "calochallenge")}
    one, two = (observables(s, "calochallenge") for s in halves)
    voxels = [s.energies[s.energies >= 1.0] for s in halves]
    bins = {
        "e_tot_over_e_inc": np.linspace(0.5, 1.5, 101),
        "centre_eta_layer_1": np.linspace(-100, 100, 101),
        "width_phi_layer_2": np.linspace(0, 100, 101),
        "width_r_layer_0": np.linspace(0, 500, 101),
        "width_r_layer_12": np.linspace(0, 1500, 101),
        "sparsity_layer_3": np.linspace(0, 1, 21),
    }
    for name, edges in bins.items():
        assert powers[name] == pytest.approx(by_the_script(one[name].values, two[name].values, edges)), name
    edges = np.logspace(0, np.log10(one["e_layer_2"].values.max()), 40)
    edges[-1] *= 1 + 1e-12
    expected = by_the_script(one["e_layer_2"].values, two["e_layer_2"].values, edges)
    assert powers["e_layer_2"] == pytest.approx(expected, rel=1e-6)
    edges = np.logspace(0, np.log10(reference.energies.max()), 50)
    edges[-1] *= 1 + 1e-12
    assert powers["e_voxel"] == pytest.approx(by_the_script(*voxels, edges), rel=1e-6)
    for energy, low, high in ((256, 0.4, 1.4), (2048, 0.4, 1.4), (4096, 0.9, 1.1), (32768, 0.9, 1.1)):
        at = [
            o["e_tot_over_e_inc"].values[s.incident_energy[:, 0] == energy]
            for o, s in ((one, halves[0]), (two, generated))
        ]
        expected = by_the_script(*at, np.linspace(low, high, 21))
        assert powers[f"e_tot_over_e_inc_at_{energy}"] == pytest.approx(expected)


def test_a_wrong_fraction_of_empty_layers_costs_nothing_but_in_strict_mode(halves):
    reference, _ = halves
    part = reference.geometry.slices[3]
    changed = reference.energies.copy()
    full = np.flatnonzero(changed[:, part].sum(axis=1) > 0)
    changed[np.ix_(full[::2], np.arange(part.start, part.stop))] = 0.0
    wrong = Showers.unchecked(reference.incident_energy, changed, reference.geometry)
    power = {
        mode: {p.name: p for p in separation_powers(reference, wrong, mode)}["e_layer_3"]
        for mode in ("calochallenge", "strict")
    }
    assert power["calochallenge"].power.pull < 3
    assert power["strict"].power.pull > 6
    histogram = power["strict"].histogram
    assert histogram.generated_outside[2] == histogram.reference_outside[2] + len(full[::2])


def test_nothing_is_lost_in_strict_mode(halves):
    for power in separation_powers(*halves):
        h = power.histogram
        showers = len(halves[0])
        if power.kind == "energy-voxel":
            showers *= halves[0].geometry.n_voxels
        if power.energy is not None:
            showers = int((halves[0].incident_energy == np.float32(power.energy)).sum())
        assert h.reference.sum() + h.reference_outside.sum() == showers, power.name
        assert len(h.edges) == len(h.reference) + 1 == len(h.generated) + 1


@pytest.mark.parametrize("mode", ["strict", "calochallenge"])
def test_halves_of_one_sample_separate_as_expected(halves, mode):
    pulls = np.array([p.power.pull for p in separation_powers(*halves, mode)])
    assert abs(np.mean(pulls)) < 0.8
    assert np.abs(pulls).max() < 5
    assert all(0 < p.power.value < 0.1 for p in separation_powers(*halves, mode) if p.energy is None)


def test_wrong_energies_are_seen(halves):
    reference, generated = halves
    wrong = Showers.unchecked(generated.incident_energy, 1.05 * generated.energies, generated.geometry)
    powers = {p.name: p.power for p in separation_powers(reference, wrong)}
    assert powers["e_tot_over_e_inc"].pull > 10
    assert powers["e_tot_over_e_inc_at_32768"].pull > 10
    assert powers["centre_eta_layer_2"].pull < 4
    distances = wasserstein_distances(reference, wrong)
    assert distances["e_tot_over_e_inc"].pull > 5
    ratio = [e.value / e.expected for name, e in wasserstein_distances(*halves).items() if "e_layer" in name]
    assert 0.4 < np.mean(ratio) < 1.8


def test_means_over_layers(halves):
    powers = separation_powers(*halves, "strict")
    means = mean_separations(powers)
    layers = [p.power.value for p in powers if p.name.startswith("e_layer")]
    assert means["energy-layer"].value == pytest.approx(np.mean(layers))
    assert means["energy-total"].value == powers[0].power.value
    assert means["sparsity"].value == pytest.approx(
        np.mean([p.power.value for p in powers if p.name.startswith("sparsity_layer")])
    )


def test_other_detectors_and_empty_layers():
    layout = Geometry.from_grid((3, 4, 4))
    rng = np.random.default_rng(0)

    def showers(n: int) -> Showers:
        energies = rng.gamma(0.5, 2.0, (n, layout.n_voxels)).astype(np.float32)
        energies[:, layout.slices[2]] = 0.0
        return Showers.unchecked(rng.uniform(50, 200, (n, 1)).astype(np.float32), energies, layout)

    powers = separation_powers(showers(1500), showers(1200))
    assert {p.layer for p in powers} == {None, 0, 1, 2}
    # A layer that is empty in both is the same in both.
    assert {p.name: p.power.value for p in powers}["e_layer_2"] == 0.0
    assert max(p.power.value for p in powers if p.energy is None) < 0.1
    with pytest.raises(UserError, match="use one"):
        separation_powers(showers(10), sample("ds1-photons")[:10])


def test_calochallenge_mode_has_no_number_without_entries():
    reference = sample("ds1-photons")[:200]
    energies = reference.energies.copy()
    energies[:, reference.geometry.slices[0]] = 0.0
    powers = separation_powers(
        reference, Showers.unchecked(reference.incident_energy, energies, reference.geometry), "calochallenge"
    )
    assert np.isnan({p.name: p.power.value for p in powers}["e_layer_0"])
    assert np.isfinite(mean_separations(powers)["energy-layer"].value)
