"""Classifier refinement on generators whose density ratio is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cathode.density.base import ConditionalDensity
from cathode.density.registry import buildable
from cathode.support.errors import UserError
from fastsim.data import Showers
from fastsim.generators.generate import generate
from fastsim.generators.generator import ShowerGenerator
from fastsim.generators.refine import (
    RefinementSettings,
    account,
    fit_refinement,
    generate_refined,
    load_refinement,
)
from fastsim.geometry import Geometry

GRID = Geometry.from_grid((2, 2, 2), cell=10.0)
QUICK = {
    "kind": "mlp",
    "members": 2,
    "hidden": [32, 32],
    "epochs": 25,
    "best_epochs": 5,
    "batch_size": 256,
    "learning_rate": 3e-3,
    "validation_fraction": 0.2,
}


@buildable("test_refine_layers")
class Layers(ConditionalDensity):
    """Each layer takes 40 % of the incident energy, give or take ``spread``, times ``scale``."""

    event_shape, context_features = (2,), 1

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def decode(self, noise, context=None, *, mask=None):
        return 0.4 * context * self.scale * torch.exp(0.1 * noise)


@buildable("test_refine_shape")
class Shape(ConditionalDensity):
    """Voxels share their layer in equal parts, give or take a factor."""

    event_shape, context_features = (8,), 3

    def decode(self, noise, context=None, *, mask=None):
        return torch.exp(0.3 * noise) * context[:, 1:].repeat_interleave(4, 1) / 4


def generator(scale=1.0):
    return ShowerGenerator(Layers(scale), Shape(), {"layout": GRID.to_dict()}, 1.0, [1000.0, 1300.0]).eval()


def incident(count, seed):
    return np.random.default_rng(seed).uniform(1000.0, 1300.0, (count, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def fitted():
    reference = generate(generator(1.0), incident(8000, 1), seed=1).showers
    generated = generate(generator(1.05), incident(8000, 2), seed=2).showers
    settings = RefinementSettings(QUICK, inputs="high")
    return fit_refinement(reference, generated, settings, threshold=1.0, seed=3)


def true_ratio(showers):
    """Both layers are log-normal: ratio of two Gaussians in the logarithm."""
    u = np.log(showers.layer_energies() / (0.4 * showers.incident_energy)) / 0.1
    shift = np.log(1.05) / 0.1
    return np.exp(0.5 * ((u - shift) ** 2 - u**2).sum(1))


def test_weights_are_the_density_ratio(fitted):
    showers = generate(generator(1.05), incident(4000, 5), seed=6).showers
    weights, exact = fitted.raw_weights(showers), true_ratio(showers)
    assert np.corrcoef(np.log(weights), np.log(exact))[0, 1] > 0.9
    assert weights.mean() == pytest.approx(1.0, abs=0.08)
    response = showers.total_energies() / showers.incident_energy[:, 0]
    reference = generate(generator(1.0), incident(4000, 7), seed=8).showers
    expected = (reference.total_energies() / reference.incident_energy[:, 0]).mean()
    assert np.average(response, weights=weights) == pytest.approx(expected, rel=0.01)
    assert abs(response.mean() / expected - 1) > 0.03


def test_report_is_of_the_gain(fitted):
    report = fitted.report
    # Two sum coordinates, each shifted by 0.49 standard deviations: AUC = Phi(0.49 sqrt(2) / sqrt(2)) = 0.69.
    assert report.auc == pytest.approx(0.687, abs=0.03)
    assert abs(report.refined_auc - 0.5) < 4 * report.refined_auc_error < 0.1
    assert report.weights.showers == 2000
    assert report.weights.mean == pytest.approx(1.0, abs=0.1)
    # Kish: 1 / E[w^2] = exp(-|shift|^2) for two Gaussians of unit width.
    assert report.weights.efficiency == pytest.approx(np.exp(-2 * (np.log(1.05) / 0.1) ** 2), abs=0.1)


def test_rejection_gives_the_reference_and_counts(fitted):
    energies = incident(3000, 9)
    refined = generate_refined(generator(1.05), fitted, energies, seed=4)
    assert np.array_equal(refined.showers.incident_energy, energies)
    response = refined.showers.total_energies() / energies[:, 0]
    assert response.mean() == pytest.approx(0.8 * np.exp(0.005), rel=0.01)
    largest = fitted.settings.largest_weight
    assert refined.drawn == pytest.approx(3000 * largest, rel=0.15)
    assert refined.acceptance == pytest.approx(1 / largest, rel=0.15)
    assert refined.exhausted < 10
    assert refined.capped < 0.01 * refined.drawn
    again = generate_refined(generator(1.05), fitted, energies, seed=4)
    assert np.array_equal(again.showers.energies, refined.showers.energies)
    assert again.drawn == refined.drawn


def test_exhausted_draws_are_counted(fitted):
    settings = RefinementSettings(QUICK, inputs="high", largest_weight=50.0, largest_draws=2)
    fitted_twice = type(fitted)(fitted.classifier, settings, threshold=1.0, voxels=8)
    refined = generate_refined(generator(1.05), fitted_twice, incident(500, 1), seed=1)
    assert 900 < refined.drawn <= 1000  # two rounds, of which the first keeps one shower in fifty
    assert refined.exhausted > 400
    assert len(refined.showers) == 500
    assert bool((refined.showers.energies.sum(1) > 0).all())


def test_save_and_load(fitted, tmp_path):
    fitted.save(tmp_path / "refinement")
    again = load_refinement(tmp_path / "refinement")
    showers = generate(generator(1.05), incident(50, 5), seed=6).showers
    assert np.array_equal(again.weights(showers), fitted.weights(showers))
    assert again.report == fitted.report
    assert again.settings.inputs == "high"
    (tmp_path / "refinement" / "refinement.json").write_text("{}")
    with pytest.raises(UserError, match=r"cannot read .*refinement.json"):
        load_refinement(tmp_path / "refinement")


def test_account_by_hand():
    found = account(np.array([0.5, 1.5, 4.0]), largest=2.0)
    assert (found.showers, found.mean) == (3, pytest.approx(4 / 3))
    assert found.effective == pytest.approx(16 / 6.5)
    assert found.efficiency == pytest.approx(16 / 6.5 / 3)
    assert found.acceptance == pytest.approx(2 / 3)
    assert found.capped == pytest.approx(1 / 3)
    with pytest.raises(UserError, match="finite and not negative"):
        account(np.array([1.0, np.nan]), largest=2.0)


def test_errors(fitted):
    reference = generate(generator(1.0), incident(200, 1), seed=1).showers
    other = generate(generator(1.0), incident(200, 1) * 1.1, seed=1).showers
    with pytest.raises(UserError, match="different incident energies"):
        fit_refinement(reference, other, threshold=1.0, seed=0)
    with pytest.raises(UserError, match="20 showers are too few"):
        fit_refinement(reference[:20], reference[:20], threshold=1.0, seed=0)
    small = Geometry.from_grid((1, 2, 2), cell=10.0)
    wrong = Showers.unchecked(incident(5, 1), np.ones((5, 4), dtype=np.float32), small)
    with pytest.raises(UserError, match="trained on showers of 8 voxels, these have 4"):
        fitted.weights(wrong)
    with pytest.raises(UserError, match="largest_weight: must be above 1"):
        RefinementSettings(largest_weight=0.5)
    with pytest.raises(UserError, match="inputs: must be high, low or both"):
        RefinementSettings(inputs="all")
