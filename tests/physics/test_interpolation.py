"""A density learned in sidebands says what background looks like in the signal region, where it saw none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cathode.data.toys import ResonanceToy
from cathode.density import AutoregressiveMixture, Preprocessed, log_prob, sample
from cathode.density.bijections import Standardize
from cathode.support.seeding import numpy_generator
from cathode.training import FitConfig, TrainingData, fit

TOY = ResonanceToy(k=1.0)


@pytest.fixture(scope="module")
def density():
    events, held = 80_000, 8_000
    x, m = (torch.as_tensor(a) for a in TOY.sample_background(events + held, numpy_generator(1, "train"), "sideband"))
    m = m[:, None]
    scale, mass_scale = Standardize(4).fit(x), Standardize(1).fit(m)
    z, c = scale.forward_and_log_det(x)[0].float(), mass_scale.forward_and_log_det(m)[0].float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        inner = AutoregressiveMixture(4, 1, hidden=[64, 64], components=4)
    result = fit(
        inner,
        TrainingData(z[held:], c[held:]),
        TrainingData(z[:held], c[:held]),
        FitConfig(epochs=5, batch_size=1024, learning_rate=4e-3, warmup_epochs=0.2, ema_halflife_events=40_000),
        seed=1,
    )
    return Preprocessed(scale, result.density, context_bijection=mass_scale)


def _excess(density, region):
    """Mean and standard error of ln p - ln q, event by event, over background of ``region``."""
    x, m = TOY.sample_background(20_000, numpy_generator(2, "test", str(region)), region)
    learned = log_prob(density, torch.as_tensor(x).float(), torch.as_tensor(m[:, None]).float()).double().numpy()
    difference = TOY.log_prob_background(x, m) - learned
    return difference.mean(), difference.std(ddof=1) / np.sqrt(len(difference))


@pytest.mark.parametrize("region", ["sideband", "signal", (3.45, 3.55)])
def test_likelihood_is_near_the_exact_one_in_the_gap(density, region):
    value, error = _excess(density, region)
    assert error < 0.005
    assert value + 3 * error < 0.05
    # No density beats the truth: a negative divergence would be an error of the log-determinant.
    assert value > -3 * error


@pytest.mark.parametrize("mass", [3.3, 3.5, 3.7])
def test_dependence_on_the_mass_is_learned(density, mass):
    """Samples at a mass in the gap have the mean of that mass; ignoring the mass would miss by up to 0.12."""
    n = 20_000
    x = sample(density, torch.full((n, 1), mass), generator=torch.Generator().manual_seed(3)).double().numpy()
    m = np.full(n, mass)
    exact = TOY.from_latent(np.zeros((n, 4)), m).mean(0)
    tolerance = 3 * x.std(0) / np.sqrt(n) + 0.02
    assert (np.abs(x.mean(0) - exact) < tolerance).all(), (x.mean(0), exact)
    # The exact map back to the noise leaves a standard normal, correlations included.
    z = TOY.latent(x, m)
    assert np.abs(np.cov(z, rowvar=False) - np.eye(4)).max() < 0.06


def test_features_follow_the_mass_across_the_gap(density):
    n = 100_000
    masses = numpy_generator(4, "masses").uniform(3.3, 3.7, n)
    x = sample(density, torch.as_tensor(masses[:, None]).float(), generator=torch.Generator().manual_seed(4))
    slope = np.polyfit(masses, x.double().numpy(), 1)[0]
    error = 1.3 / (np.sqrt(n) * masses.std())
    exact = TOY.from_latent(np.zeros((2, 4)), np.array([3.0, 4.0]))
    np.testing.assert_allclose(slope, exact[1] - exact[0], atol=4 * error + 0.05)
