"""The known truths are themselves checked: against scipy, quadrature, sampling and finite differences."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from cathode.density import registry
from cathode.density.analytic import (
    GaussianMixture,
    GaussianMixtureDenoiser,
    GaussianMixtureVelocity,
    LinearGaussian,
)
from cathode.density.base import Tractable, sample
from cathode.support.errors import UserError

CHOLESKY = [[1.0, 0.0], [0.4, 0.7]]
LINEAR = {
    "bias": [0.5, -1.0],
    "cholesky": CHOLESKY,
    "weight": [[0.6, 0.1], [-0.4, 0.3]],
    "scale": [0.15, 0.0],
}
MIXTURE = {
    "weights": [2.0, 1.0, 1.0],
    "means": [[-2.0, 0.0], [1.5, 1.0], [0.0, -1.5]],
    "choleskys": [[[0.5, 0.0], [0.3, 0.4]], [[0.8, 0.0], [-0.5, 0.6]], [[0.3, 0.0], [0.0, 1.2]]],
    "shift": [[0.5], [-0.25]],
}


def densities():
    return {
        "linear": (LinearGaussian(**LINEAR), torch.tensor([[1.0, -2.0]], dtype=torch.float64)),
        "mixture": (GaussianMixture(**MIXTURE), torch.tensor([[0.8]], dtype=torch.float64)),
    }


@pytest.mark.parametrize("name", ["linear", "mixture"])
def test_integrates_to_one(name):
    density, context = densities()[name]
    axis = torch.linspace(-9, 9, 400, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    p = density.log_prob(grid, context.expand(len(grid), -1)).exp().reshape(400, 400)
    total = torch.trapezoid(torch.trapezoid(p, axis), axis)
    assert float(total) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("name", ["linear", "mixture"])
def test_contract(name):
    density, context = densities()[name]
    assert isinstance(density, Tractable)
    c = context.expand(2000, -1)
    g = torch.Generator().manual_seed(1)
    x = sample(density, c, generator=g)
    z = density.encode(x, c)
    torch.testing.assert_close(density.decode(z, c), x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(density.loss(x, c), -density.log_prob(x, c))
    # The noise is standard normal and the map's Jacobian is the density.
    for column in z.T:
        assert stats.kstest(column.numpy(), "norm").pvalue > 1e-3
    assert abs(float(torch.corrcoef(z.T)[0, 1])) < 0.1
    for row, one in zip(x[:10], c, strict=False):
        jacobian = torch.autograd.functional.jacobian(lambda v, one=one: density.encode(v[None], one[None])[0], row)
        expected = stats.norm.logpdf(density.encode(row[None], one[None]).numpy()).sum() + float(
            torch.linalg.slogdet(jacobian).logabsdet
        )
        assert float(density.log_prob(row[None], one[None])) == pytest.approx(expected, abs=1e-6)
    rebuilt = registry.build(registry.describe(density))
    assert torch.equal(rebuilt.log_prob(x, c), density.log_prob(x, c))
    assert density.decode(z.float(), c.float()).dtype == torch.float32


def test_linear_gaussian_is_scipys():
    density, context = densities()["linear"]
    c = context[0].numpy()
    mean = np.array(LINEAR["weight"]) @ c + np.array(LINEAR["bias"])
    lower = (1 + 0.15 * c[0]) * np.array(CHOLESKY)
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = stats.multivariate_normal(mean, lower @ lower.T).logpdf(x.numpy())
    np.testing.assert_allclose(density.log_prob(x, context.expand(20, -1)).numpy(), expected, rtol=1e-10)


def test_mixture_is_scipys():
    density, context = densities()["mixture"]
    offset = np.array(MIXTURE["shift"]) @ context[0].numpy()
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    expected = sum(
        w / 4 * stats.multivariate_normal(np.array(m) + offset, np.array(lower) @ np.array(lower).T).pdf(x.numpy())
        for w, m, lower in zip(MIXTURE["weights"], MIXTURE["means"], MIXTURE["choleskys"], strict=True)
    )
    np.testing.assert_allclose(density.log_prob(x, context.expand(20, -1)).exp().numpy(), expected, rtol=1e-10)


def test_mixture_samples_have_its_moments():
    density, context = densities()["mixture"]
    x = sample(density, context.expand(40_000, -1), generator=torch.Generator().manual_seed(4))
    w = torch.tensor(MIXTURE["weights"], dtype=torch.float64) / 4
    mu = torch.tensor(MIXTURE["means"], dtype=torch.float64) + density.offset(context, 1)
    lower = torch.tensor(MIXTURE["choleskys"], dtype=torch.float64)
    mean = w @ mu
    covariance = torch.einsum("k,kij->ij", w, lower @ lower.mT + mu[:, :, None] * mu[:, None, :])
    covariance = covariance - torch.outer(mean, mean)
    torch.testing.assert_close(x.mean(0), mean, atol=5 * float(covariance.max()) ** 0.5 / 200, rtol=0)
    torch.testing.assert_close(x.T.cov(), covariance, atol=0.1, rtol=0)


def integrate(field, x, times):
    """Classical Runge-Kutta, written out here so that this test stands alone."""
    for t, s in itertools.pairwise(times):
        h = s - t
        a = field(x, t)
        b = field(x + 0.5 * h * a, t + 0.5 * h)
        c = field(x + 0.5 * h * b, t + 0.5 * h)
        x = x + h / 6 * (a + 2 * b + 2 * c + field(x + h * c, s))
    return x


@pytest.mark.parametrize("sigma_min", [0.0, 0.1])
def test_velocity_carries_noise_to_the_mixture(sigma_min):
    """log p by the change of variables along the flow is the mixture's, convolved with the path's end width."""
    velocity = GaussianMixtureVelocity(GaussianMixture(**MIXTURE), sigma_min)
    context = torch.tensor([[0.8]], dtype=torch.float64)
    z = torch.randn(3, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    times = torch.linspace(0, 1, 101, dtype=torch.float64).tolist()

    def flow(noise):
        c = context.expand(len(noise), -1)
        return integrate(lambda x, t: velocity.velocity(x, t, c), noise, times)

    lower = torch.tensor(MIXTURE["choleskys"], dtype=torch.float64)
    widened = torch.linalg.cholesky(lower @ lower.mT + sigma_min**2 * torch.eye(2, dtype=torch.float64))
    truth = GaussianMixture(**{**MIXTURE, "choleskys": widened.tolist()})
    x = flow(z)
    for noise, event in zip(z, x, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None])[0], noise)
        log_prob = stats.norm.logpdf(noise.numpy()).sum() - float(torch.linalg.slogdet(jacobian).logabsdet)
        assert float(truth.log_prob(event[None], context)) == pytest.approx(log_prob, abs=1e-5)


def test_denoiser_is_tweedies():
    """D(y; s) = y + s^2 grad log p(y; s), with p the mixture convolved with a Gaussian of width s."""
    denoiser = GaussianMixtureDenoiser(GaussianMixture(**MIXTURE))
    lower = torch.tensor(MIXTURE["choleskys"], dtype=torch.float64)
    g = torch.Generator().manual_seed(6)
    for sigma in (0.01, 0.5, 3.0, 80.0):
        widened = torch.linalg.cholesky(lower @ lower.mT + sigma**2 * torch.eye(2, dtype=torch.float64))
        noisy = GaussianMixture(**{**MIXTURE, "choleskys": widened.tolist()})
        y = (torch.randn(8, 2, generator=g, dtype=torch.float64) * (1 + sigma)).requires_grad_()
        c = torch.randn(8, 1, generator=g, dtype=torch.float64)
        (score,) = torch.autograd.grad(noisy.log_prob(y, c).sum(), y)
        torch.testing.assert_close(denoiser.denoise(y, sigma, c), y + sigma**2 * score, rtol=1e-8, atol=1e-8)


def test_times_and_widths_may_differ_by_event():
    mixture = GaussianMixture(**MIXTURE)
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    c = torch.zeros(4, 1, dtype=torch.float64)
    t = torch.tensor([0.0, 0.3, 0.9, 1.0], dtype=torch.float64)
    for module, call in (
        (GaussianMixtureVelocity(mixture), "velocity"),
        (GaussianMixtureDenoiser(mixture), "denoise"),
    ):
        together = getattr(module, call)(x, t, c)
        for i in range(4):
            torch.testing.assert_close(together[i : i + 1], getattr(module, call)(x[i : i + 1], float(t[i]), c[:1]))
        rebuilt = registry.build(registry.describe(module))
        assert torch.equal(getattr(rebuilt, call)(x, t, c), together)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearGaussian([0.0], [[-1.0]]), "positive diagonal"),
        (lambda: LinearGaussian([0.0, 0.0], [[1.0, 1.0], [0.0, 1.0]]), "lower triangular"),
        (lambda: LinearGaussian([0.0], CHOLESKY), "shapes do not fit"),
        (lambda: GaussianMixture([1.0, 0.0], [[0.0], [1.0]], [[[1.0]], [[1.0]]]), "weights must be positive"),
        (lambda: GaussianMixture([1.0], [[0.0], [1.0]], [[[1.0]], [[1.0]]]), "shapes do not fit"),
    ],
)
def test_bad_numbers_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_contexts_without_a_scale_are_counted():
    density, _ = densities()["linear"]
    c = torch.tensor([[0.0, 0.0], [-10.0, 0.0]])
    with pytest.raises(UserError, match="not positive at 1 of 2 contexts"):
        density.log_prob(torch.zeros(2, 2), c)
    with pytest.raises(ValueError, match="context has shape None"):
        density.log_prob(torch.zeros(2, 2))


def test_sampling_reproduces_the_entropy():
    """Mean of -log p over samples of a Gaussian: d/2 (1 + ln 2 pi) + ln det L."""
    density = LinearGaussian([0.0, 0.0], CHOLESKY)
    x = sample(density, count=20_000, generator=torch.Generator().manual_seed(8))
    entropy = 1 + math.log(2 * math.pi) + math.log(0.7)
    assert float(density.loss(x).mean()) == pytest.approx(entropy, abs=5 / math.sqrt(20_000))
