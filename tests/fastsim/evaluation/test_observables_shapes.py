"""Correlations, similarity, rare topologies, and the distances applied to showers."""

from __future__ import annotations

import numpy as np
import pytest

from cathode.support.errors import UserError
from fastsim.data import Showers, sample
from fastsim.evaluation.correlations import layer_correlations
from fastsim.evaluation.distances import amplification_test, frechet_and_kernel, precision_recall, support
from fastsim.evaluation.similarity import image_similarity, ssim
from fastsim.evaluation.topology import multi_peak_rates
from fastsim.geometry import Geometry


@pytest.fixture(scope="module")
def halves() -> tuple[Showers, Showers]:
    showers = sample("ds1-photons")[:4000]
    order = np.random.default_rng(0).permutation(len(showers))
    return showers[order[:2000]], showers[order[2000:]]


def with_energies(showers: Showers, energies: np.ndarray) -> Showers:
    return Showers.unchecked(showers.incident_energy, energies.astype(np.float32), showers.geometry)


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_layer_correlations(halves, method):
    reference, generated = halves
    same = layer_correlations(reference, generated, method)
    assert same.layers == (0, 1, 2, 3, 12)
    assert abs(same.distance.pull) < 3.5
    fractions = reference.layer_energies() / reference.incident_energy
    if method == "pearson":
        assert same.reference == pytest.approx(np.corrcoef(fractions.T), abs=1e-5)
    # Layers of different showers of one energy: right spectra, no correlation.
    mixed = generated.energies.copy()
    rng = np.random.default_rng(1)
    for energy in np.unique(generated.incident_energy):
        rows = np.flatnonzero(generated.incident_energy[:, 0] == energy)
        for part in generated.geometry.slices:
            mixed[rows, part] = generated.energies[rng.permutation(rows), part]
    wrong = layer_correlations(reference, with_energies(generated, mixed), method)
    assert wrong.distance.value > 2 * same.distance.value
    assert wrong.distance.pull > 3


def test_correlations_of_a_single_layer_and_of_constant_layers():
    rng = np.random.default_rng(0)
    picture = Geometry.from_grid((5, 5))
    one = Showers.unchecked(np.ones((50, 1), np.float32), rng.random((50, 25)).astype(np.float32), picture)
    assert np.isnan(layer_correlations(one, one).distance.value)
    block = Geometry.from_grid((3, 2, 2))
    energies = rng.random((50, 12)).astype(np.float32)
    energies[:, block.slices[2]] = 0.0
    dead = Showers.unchecked(np.ones((50, 1), np.float32), energies, block)
    result = layer_correlations(dead, dead)
    assert result.reference[2, 0] == 0.0
    assert result.distance.value == 0.0


def test_ssim_of_known_pictures():
    rng = np.random.default_rng(0)
    x = rng.random((4, 16, 9))
    assert ssim(x, x, data_range=1.0) == pytest.approx(1.0)
    # Uniform pictures: only the brightness term is left.
    a, b, c1 = 0.2, 0.6, 1e-4
    flat = ssim(np.full((1, 8, 8), a), np.full((1, 8, 8), b), data_range=1.0)
    assert flat == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1))
    # Negated contrast about the same mean is anti-correlated.
    assert (ssim(0.5 + 0.4 * (x - 0.5), 0.5 - 0.4 * (x - 0.5), data_range=1.0) < -0.3).all()
    # A turn of both pictures changes nothing if the axis is periodic.
    y = rng.random((4, 16, 9))
    turned = ssim(np.roll(x, 5, axis=1), np.roll(y, 5, axis=1), data_range=1.0, periodic=True)
    assert turned == pytest.approx(ssim(x, y, data_range=1.0, periodic=True))
    assert turned != pytest.approx(ssim(x, y, data_range=1.0))
    assert ssim(x[:, :1], y[:, :1], data_range=1.0).shape == (4,)


def test_ssim_agrees_with_a_loop_over_windows():
    rng = np.random.default_rng(1)
    x, y = rng.random((2, 20, 20))
    weight = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(weight, weight) / weight.sum() ** 2
    values = []
    for i in range(5, 15):
        for j in range(5, 15):
            a, b = (z[i - 5 : i + 6, j - 5 : j + 6] for z in (x, y))
            means = (window * a).sum(), (window * b).sum()
            variances = [(window * z * z).sum() - m * m for z, m in zip((a, b), means, strict=True)]
            covariance = (window * a * b).sum() - means[0] * means[1]
            c1, c2 = 1e-4, 9e-4
            values.append(
                (2 * means[0] * means[1] + c1)
                * (2 * covariance + c2)
                / ((means[0] ** 2 + means[1] ** 2 + c1) * (sum(variances) + c2))
            )
    # Only the inner pixels have a whole window.
    padded = ssim(x[None], y[None], data_range=1.0)[0]
    assert padded == pytest.approx(np.mean(values), abs=0.15)
    inner = ssim(np.tile(x, (3, 3))[None, 10:50, 10:50], np.tile(x, (3, 3))[None, 10:50, 10:50], data_range=1.0)
    assert inner == pytest.approx(1.0)


def test_similarity_of_halves_and_of_collapsed_showers(halves):
    reference, generated = halves
    layers = image_similarity(reference, generated, max_pairs=600)
    assert [one.layer for one in layers] == [0, 1, 2, 3, 12]
    for one in layers:
        assert one.mean_image.value > 0.95
        assert abs(one.mean_image.value - one.mean_image.expected) < 5 * one.mean_image.error + 0.005
        error = np.hypot(one.pairs.error, one.within_reference.error)
        assert abs(one.pairs.value - one.within_reference.value) < 4 * error
        assert one.within_generated.expected == one.within_reference.value
    # One shower per incident energy, again and again.
    energies = generated.energies.copy()
    for energy in np.unique(generated.incident_energy):
        rows = np.flatnonzero(generated.incident_energy[:, 0] == energy)
        energies[rows] = energies[rows[0]]
    collapsed = image_similarity(reference, with_energies(generated, energies), max_pairs=600)[2]
    assert collapsed.within_generated.value > 0.95
    assert collapsed.within_generated.pull > 20
    one, two, other = (repr(image_similarity(*halves, max_pairs=100, seed=seed)) for seed in (1, 1, 2))
    assert one == two != other


def test_similarity_needs_pictures():
    cells = Geometry.from_cells({"layer": [0, 0], "x": [0.0, 1.0], "y": [0.0, 0.0]})
    showers = Showers.unchecked(np.ones((5, 1), np.float32), np.ones((5, 2), np.float32), cells)
    assert image_similarity(showers, showers) == ()


def blobs(two: np.ndarray, rng: np.random.Generator, shape: tuple[int, int, int] = (1, 20, 20)) -> Showers:
    """Gaussian cores in a grid, with a second one 8 cells away where ``two`` is true."""
    layout = Geometry.from_grid(shape, cell=1.0)
    x, y = layout.x, layout.y
    centre = rng.uniform(-1, 1, (len(two), 2))
    core = np.exp(-0.5 * ((x - centre[:, :1]) ** 2 + (y - centre[:, 1:]) ** 2))
    other = np.exp(-0.5 * ((x - centre[:, :1] - 6) ** 2 + (y - centre[:, 1:] - 5) ** 2))
    energies = 100 * core + 80 * other * two[:, None]
    energies *= rng.gamma(20, 1 / 20, energies.shape)
    return Showers.unchecked(np.full((len(two), 1), 2e3, np.float32), energies.astype(np.float32), layout)


def test_two_cores_are_found_and_one_is_not_two():
    rng = np.random.default_rng(0)
    true = rng.random(600) < 0.3
    reference, generated = blobs(true, rng), blobs(np.zeros(500, dtype=bool), rng)
    layer, any_layer = multi_peak_rates(reference, generated)
    assert layer.reference.value == pytest.approx(true.mean(), abs=0.005)
    assert layer.generated.value == 0.0
    assert layer.generated.error > 0
    assert layer.pull < -8
    assert (layer.name, layer.layer, any_layer.name) == ("layer_0", 0, "any_layer")
    assert any_layer.reference.value == layer.reference.value
    # A disc in the second core does not hold half of the energy.
    assert multi_peak_rates(reference, generated, share=0.5)[0].reference.value == 0.0


def test_a_second_maximum_in_depth():
    layout = Geometry.from_grid((24, 2, 2))
    depth = np.arange(24)
    one = np.exp(-0.5 * ((depth - 8) / 3) ** 2)
    two = one + 0.5 * np.exp(-0.5 * ((depth - 18) / 2) ** 2)
    rng = np.random.default_rng(0)

    def showers(profile: np.ndarray) -> Showers:
        energies = np.repeat(profile, 4) * rng.gamma(30, 1 / 30, (200, 96))
        return Showers.unchecked(np.full((200, 1), 100.0, np.float32), energies.astype(np.float32), layout)

    rate = multi_peak_rates(showers(one), showers(two))[-1]
    assert rate.name == "depth"
    assert rate.reference.value < 0.05
    assert rate.generated.value > 0.95


def test_rates_of_halves_agree(halves):
    for rate in multi_peak_rates(*halves, threshold=1.0):
        assert abs(rate.pull) < 4
    with pytest.raises(UserError, match="between 0 and 1"):
        multi_peak_rates(*halves, share=1.5)


@pytest.mark.parametrize("mode", ["strict", "calochallenge"])
def test_distances_of_halves_are_compatible_with_none(halves, mode):
    frechet, kernel = (
        frechet_and_kernel(*halves, mode)
        if mode == "strict"
        else frechet_and_kernel(halves[0][:500], halves[1][:500], mode)
    )
    if mode == "strict":
        assert abs(frechet.value) < 3.5 * frechet.error < 0.02
    assert abs(kernel.value) < 3.5 * kernel.error + 2e-3
    result = precision_recall(halves[0][:1000], halves[1][:1000], mode)
    assert abs(result.density.pull) < 4
    if mode == "strict":
        assert abs(result.coverage.pull) < 4
    assert 0.5 < result.precision.value < 0.95
    assert 0.5 < result.recall.value < 0.95


def test_distances_see_a_wrong_scale_and_a_collapsed_generator(halves):
    reference, generated = halves
    rng = np.random.default_rng(2)
    for distance in frechet_and_kernel(reference, with_energies(generated, 2 * generated.energies)):
        assert distance.value > 3 * distance.error
    few = generated[np.tile(np.arange(40), 50)]
    collapsed = with_energies(few, few.energies * rng.normal(1, 0.01, few.energies.shape).clip(0.9))
    size = support(reference, collapsed)
    assert size.ratio.value < 0.3
    assert abs(support(reference, generated).ratio.pull) < 3.5
    assert precision_recall(reference[:1000], collapsed[:1000]).recall.value < 0.3


def test_amplification_of_true_showers(halves):
    reference, generated = halves
    tests = amplification_test(reference, generated[:200], generated[200:])
    assert list(tests) == ["e_tot_over_e_inc", "centre_r", "width_r", "centre_z"]
    # True showers are worth their number, within what 2000 true ones can tell.
    assert np.median([t.factor for t in tests.values()]) > 2
    assert [p.events for p in tests["centre_r"].generated] == [200, 400, 1000, 1800]
    with pytest.raises(UserError, match="none of the observables"):
        amplification_test(reference, generated, generated, names=["charm"])
