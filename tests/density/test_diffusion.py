"""EDM diffusion against the closed-form denoiser of Gaussian mixtures, and a short training."""

from __future__ import annotations

import math

import pytest
import torch

from cathode.density.base import sample
from cathode.density.diffusion import EDM, stochastic_sample
from cathode.density.networks import MLP
from cathode.density.registry import build, buildable, describe

F64 = torch.float64


@buildable("test_mixture_denoiser")
class MixtureDenoiser(torch.nn.Module):
    """The raw network F that makes ``denoise`` the exact E[y | x] for a mixture of isotropic Gaussians."""

    def __init__(self, means, scales, *, sigma_data=1.0):
        super().__init__()
        self.means, self.scales = torch.tensor(means, dtype=F64), torch.tensor(scales, dtype=F64)
        self.sigma_data = sigma_data

    def denoise(self, x, sigma):
        variance = self.scales**2 + sigma**2
        delta = x[:, None, :] - self.means
        logits = -0.5 * delta.square().sum(-1) / variance - 0.5 * x.shape[1] * variance.log()
        return (logits.softmax(1)[..., None] * (self.means + (self.scales**2 / variance)[..., None] * delta)).sum(1)

    def forward(self, x, t, context=None, *, mask=None):
        sigma = torch.exp(4 * t)[:, None]
        s = torch.sqrt(sigma**2 + self.sigma_data**2)
        noisy = x * s
        return (self.denoise(noisy, sigma) - (self.sigma_data / s) ** 2 * noisy) * s / (sigma * self.sigma_data)

    def exact_log_prob(self, x):
        squares = (x[:, None, :] - self.means).square().sum(-1)
        terms = -0.5 * squares / self.scales**2 - 0.5 * x.shape[1] * torch.log(2 * math.pi * self.scales**2)
        return terms.logsumexp(1) - math.log(len(self.means))


GAUSSIAN = {"means": [[0.5, -1.0]], "scales": [0.7]}
MIXTURE = {"means": [[1.5, 0.0], [-1.0, 1.0], [-0.5, -1.2]], "scales": [0.4, 0.5, 0.3]}


def exact_density(mixture, *, sigma_data=1.0, **options):
    options = {"steps": 60} | options
    density = EDM(2, network=MixtureDenoiser(**mixture, sigma_data=sigma_data), sigma_data=sigma_data, **options)
    return density.to(F64)


def noise(count, features=2, seed=0):
    return torch.randn(count, features, generator=torch.Generator().manual_seed(seed), dtype=F64)


def randomised(network, seed=0, scale=0.4):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return network


@torch.no_grad()
def test_denoise_is_the_closed_form():
    density = exact_density(MIXTURE, sigma_data=0.8)
    x = noise(40)
    sigma = torch.logspace(-2, 1.5, 40, dtype=F64)
    torch.testing.assert_close(density.denoise(x, sigma), density.network.denoise(x, sigma[:, None]))


def test_preconditioning_coefficients():
    density = EDM(2, sigma_data=0.5).double()
    sigma = torch.tensor([0.1, 0.5, 10.0], dtype=F64)
    # With these choices the input and the target of F have unit variance for data of variance sigma_data^2
    # (paper, App. B.6).
    torch.testing.assert_close(density.c_in(sigma) ** 2 * (sigma**2 + 0.25), torch.ones(3, dtype=F64))
    target = ((1 - density.c_skip(sigma)) ** 2 * 0.25 + (density.c_skip(sigma) * sigma) ** 2) / density.c_out(
        sigma
    ) ** 2
    torch.testing.assert_close(target, torch.ones(3, dtype=F64))
    torch.testing.assert_close(density.c_noise(sigma), sigma.log() / 4)


def test_noise_levels_of_the_paper():
    levels = EDM(2, steps=18).sigmas()
    assert len(levels) == 18
    assert levels[0] == 80.0
    assert levels[-1] == 0.002
    # Eq. 5 by hand at i = 1 and 9.
    for i in (1, 9):
        root = 80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))
        assert levels[i] == pytest.approx(root**7, rel=1e-12)


@pytest.mark.parametrize("sigma_data", [1.0, 0.5])
@torch.no_grad()
def test_gaussian_truth(sigma_data):
    density = exact_density(GAUSSIAN, sigma_data=sigma_data, solver="rk4", steps=40)
    z = noise(500)
    x = density.decode(z)
    # x - mean scales by 0.7 / sqrt(0.49 + sigma_max^2) along the flow, exactly.
    mean = torch.tensor([0.5, -1.0], dtype=F64)
    expected = mean + (80.0 * z - mean) * 0.7 / math.hypot(0.7, 80.0)
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(density.log_prob(x), density.network.exact_log_prob(x), rtol=0, atol=0.08)
    difference = density.log_prob(x) - density.network.exact_log_prob(x)
    # The prior N(0, sigma_max^2) leaves out the mean and the width of the data: at most |mean| / sigma_max
    # per unit of noise.
    assert abs(float(difference.mean())) < 3e-3
    torch.testing.assert_close(density.encode(x), z, rtol=0, atol=2e-3)


@torch.no_grad()
def test_gaussian_preconditioning_is_exact_with_two_levels():
    # Data of unit variance and zero mean: F = 0, the linear part does everything, whatever the number of
    # steps.
    density = EDM(2, network=MLP(2, hidden=[4]), steps=2, sigma_max=1000.0)
    x = noise(50).float()
    expected = -0.5 * x.square().sum(1) - math.log(2 * math.pi)
    torch.testing.assert_close(density.log_prob(x), expected, rtol=0, atol=2e-5)


@torch.no_grad()
def test_mixture_truth():
    density = exact_density(MIXTURE, steps=80)
    x = density.decode(noise(300))
    difference = density.log_prob(x) - density.network.exact_log_prob(x)
    assert float(difference.abs().mean()) < 0.02
    assert abs(float(difference.mean())) < 5e-3
    torch.testing.assert_close(density.encode(x), noise(300), rtol=0, atol=0.05)
    assert float((density.encode(x) - noise(300)).abs().mean()) < 3e-3


@pytest.mark.parametrize("solver", ["heun", "rk4", "dopri5"])
@torch.no_grad()
def test_solvers_agree(solver):
    reference = exact_density(MIXTURE, steps=400).decode(noise(100))
    solution = exact_density(MIXTURE, solver=solver, steps=100).decode(noise(100))
    assert float((solution - reference).abs().mean()) < 3e-3


@torch.no_grad()
def test_samples_follow_the_mixture():
    density = exact_density(MIXTURE, steps=60)
    x = density.decode(noise(10000, seed=1))
    truth = density.network
    means = truth.means.mean(0)
    variance = (truth.scales**2).mean() + truth.means.var(0, unbiased=False)
    torch.testing.assert_close(x.mean(0), means, rtol=0, atol=0.03)
    torch.testing.assert_close(x.var(0), variance, rtol=0.03, atol=0)
    nearest = (x[:, None] - truth.means).square().sum(-1).argmin(1)
    torch.testing.assert_close(torch.bincount(nearest) / 10000, torch.full((3,), 1 / 3), rtol=0, atol=0.02)


@torch.no_grad()
def test_stochastic_sampler():
    density = exact_density(MIXTURE, steps=100)
    z = noise(5000, seed=1)
    x = stochastic_sample(density, z, generator=torch.Generator().manual_seed(0))
    truth = density.network
    variance = (truth.scales**2).mean() + truth.means.var(0, unbiased=False)
    torch.testing.assert_close(x.var(0), variance, rtol=0.04, atol=0)
    again = stochastic_sample(density, z, generator=torch.Generator().manual_seed(0))
    assert torch.equal(x, again)
    other = stochastic_sample(density, z, generator=torch.Generator().manual_seed(1))
    assert float((x - other).abs().mean()) > 0.01
    plain = stochastic_sample(density, z[:100], generator=torch.Generator().manual_seed(0), S_churn=0.0)
    torch.testing.assert_close(plain, density.decode(z[:100]))


def test_exact_denoiser_minimises_the_loss_and_loss_is_weighted_as_in_the_paper():
    density = exact_density(MIXTURE, sigma_data=0.8)
    generator = torch.Generator().manual_seed(0)
    choice = torch.randint(0, 3, (2000,), generator=generator)
    y = density.network.means[choice] + density.network.scales[choice, None] * noise(2000, seed=1)
    losses = density.loss(y, generator=torch.Generator().manual_seed(5))
    # The same draw by hand, with D and lambda(sigma) of Table 1.
    same = torch.Generator().manual_seed(5)
    sigma = density._training_sigmas(y, same)
    n = torch.randn(y.shape, generator=same, dtype=F64) * sigma[:, None]
    weight = (sigma**2 + 0.8**2) / (sigma * 0.8) ** 2
    by_hand = weight * (density.denoise(y + n, sigma) - y).square().mean(1)
    torch.testing.assert_close(losses, by_hand)
    inner = density.network

    class Tilted(torch.nn.Module):
        def forward(self, x, t, context=None, *, mask=None):
            return inner(x, t) * 1.15 + 0.1

    density.network = Tilted()
    worse = density.loss(y, generator=torch.Generator().manual_seed(5))
    assert float((worse - losses).mean()) > 0.005


@pytest.mark.parametrize("stratified", [True, False])
def test_training_distribution_of_sigma(stratified):
    density = EDM(2, stratified=stratified)
    generator = torch.Generator().manual_seed(0)
    logs = torch.cat([density._training_sigmas(torch.zeros(1000, 2), generator) for _ in range(30)]).log()
    assert float(logs.mean()) == pytest.approx(-1.2, abs=0.03)
    assert float(logs.std()) == pytest.approx(1.2, abs=0.03)


@torch.no_grad()
def test_density_integrates_to_one():
    network = randomised(MLP(1, hidden=[16, 16]), scale=0.3)
    density = EDM(1, network=network, sigma_max=20.0, solver="rk4", steps=60).double()
    grid = torch.linspace(-25, 25, 3001, dtype=F64)
    p = density.log_prob(grid[:, None]).exp()
    assert float(torch.trapezoid(p, grid)) == pytest.approx(1.0, abs=2e-3)


@torch.no_grad()
def test_log_prob_is_the_jacobian_of_encode():
    network = randomised(MLP(3, 1, hidden=[16]), scale=0.2)
    density = EDM(3, 1, network=network, sigma_max=20.0, solver="rk4", steps=40).double()
    x, context = noise(2, 3), noise(2, 1, seed=5)
    for i in range(2):
        jacobian = torch.func.jacrev(lambda y, i=i: density.encode(y[None], context[i : i + 1])[0])(x[i])
        z = density.encode(x[i : i + 1], context[i : i + 1])
        expected = -0.5 * z.square().sum() - 1.5 * math.log(2 * math.pi) + torch.linalg.slogdet(jacobian)[1]
        torch.testing.assert_close(density.log_prob(x[i : i + 1], context[i : i + 1])[0], expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_hutchinson_log_prob():
    network = randomised(MLP(6, hidden=[16]), scale=0.2)
    x = noise(30, 6).float()
    exact = EDM(6, network=network, steps=8).log_prob(x)
    estimated = EDM(6, network=network, steps=8, trace="hutchinson", probes=4)
    draws = torch.stack([estimated.log_prob(x, seed=s) for s in range(30)])
    assert torch.equal(draws[3], estimated.log_prob(x, seed=3))
    pull = (draws.mean(0) - exact) / (draws.std(0) / math.sqrt(30) + 1e-5)
    assert float(pull.abs().max()) < 5.0


def test_short_training_on_a_mixture():
    truth = MixtureDenoiser(**MIXTURE)
    generator = torch.Generator().manual_seed(0)

    def draw(count):
        choice = torch.randint(0, 3, (count,), generator=generator)
        normal = torch.randn(count, 2, generator=generator, dtype=F64)
        return truth.means[choice] + truth.scales[choice, None] * normal

    with torch.random.fork_rng():
        torch.manual_seed(0)
        density = EDM(2, network=MLP(2, hidden=[64, 64, 64]), steps=24)
    x, held_out = draw(20000), draw(2000)
    mean, scale = x.mean(0), x.std(0)
    x = ((x - mean) / scale).float()
    optimiser = torch.optim.AdamW(density.parameters(), lr=5e-3, weight_decay=0.0)
    steps = 700
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 5e-3 * 0.5 * (1 + math.cos(math.pi * step / steps))
        rows = torch.randint(0, len(x), (512,), generator=generator)
        optimiser.zero_grad()
        density.loss(x[rows], generator=generator).mean().backward()
        optimiser.step()
    with torch.no_grad():
        log_p = density.log_prob(((held_out - mean) / scale).float()).double() - scale.log().sum()
    excess = float((truth.exact_log_prob(held_out) - log_p).mean())
    assert -0.02 < excess < 0.1


def test_describe_build_and_sample():
    density = EDM(2, 1, network=randomised(MLP(2, 1, hidden=[8]), scale=0.2), sigma_data=0.7, steps=5)
    again = build(describe(density))
    again.load_state_dict(density.state_dict())
    context = noise(9, 1).float()
    draws = [sample(d, context, generator=torch.Generator().manual_seed(1)) for d in (density, again)]
    assert torch.equal(*draws)
    assert draws[0].dtype == torch.float32
    assert describe(again) == describe(density)
    assert "sigma_data" in density.state_dict()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma_min": 100.0}, "need 0 < sigma_min < sigma_max, not 100.0 and 80.0"),
        ({"sigma_data": -1.0}, "sigma_data is -1.0"),
        ({"solver": "leapfrog"}, "unknown solver 'leapfrog'"),
        ({"steps": 1}, "solver steps is 0"),
        ({"trace": "none"}, "unknown trace 'none'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        EDM(2, **arguments)


def test_sets_need_a_network():
    with pytest.raises(ValueError, match="give SetTransformer or EPiC"):
        EDM([4, 2])
