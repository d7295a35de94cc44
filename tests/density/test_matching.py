"""Flow matching against closed-form velocities of Gaussian mixtures, and a short training."""

from __future__ import annotations

import math

import pytest
import torch

from cathode.density.base import NonFiniteError, sample
from cathode.density.divergence import draw_probes, value_and_divergence
from cathode.density.matching import FlowMatching, optimal_transport_order
from cathode.density.networks import MLP, ResNet
from cathode.density.registry import build, buildable, describe

F64 = torch.float64


@buildable("test_mixture_velocity")
class MixtureVelocity(torch.nn.Module):
    """Exact velocity E[u | x_t] for a mixture of isotropic Gaussians, raw or as the residual F of the
    preconditioning.
    """

    def __init__(self, means, scales, *, sigma_min=0.0, sigma_data=None):
        super().__init__()
        self.means, self.scales = torch.tensor(means, dtype=F64), torch.tensor(scales, dtype=F64)
        self.sigma_min, self.sigma_data = sigma_min, sigma_data

    def forward(self, x, t, context=None, *, mask=None):
        slope = 1 - self.sigma_min
        t, a = t[:, None], 1 - slope * t[:, None]
        r = 1.0
        if self.sigma_data is not None:
            r = torch.sqrt(a**2 + (self.sigma_data * t) ** 2)
            x = x * r
        variance = (t * self.scales) ** 2 + a**2
        delta = x[:, None, :] - t[..., None] * self.means
        logits = -0.5 * delta.square().sum(-1) / variance - 0.5 * x.shape[1] * variance.log()
        gain = (t * self.scales**2 - slope * a) / variance
        v = (logits.softmax(1)[..., None] * (self.means + gain[..., None] * delta)).sum(1)
        if self.sigma_data is None:
            return v
        return (v - (self.sigma_data**2 * t - slope * a) / r**2 * x) * r / self.sigma_data

    def exact_log_prob(self, x, blur=0.0):
        variance = self.scales**2 + blur**2
        squares = (x[:, None, :] - self.means).square().sum(-1)
        terms = -0.5 * squares / variance - 0.5 * x.shape[1] * torch.log(2 * math.pi * variance)
        return terms.logsumexp(1) - math.log(len(self.means))


GAUSSIAN = {"means": [[0.5, -1.0]], "scales": [0.7]}
MIXTURE = {"means": [[1.5, 0.0], [-1.0, 1.0], [-0.5, -1.2]], "scales": [0.4, 0.5, 0.3]}
LINE = {"means": [[1.0], [-1.0]], "scales": [0.3, 0.5]}


def exact_density(mixture, *, preconditioning, sigma_min=0.0, sigma_data=1.0, **options):
    network = MixtureVelocity(**mixture, sigma_min=sigma_min, sigma_data=sigma_data if preconditioning else None)
    shape = len(mixture["means"][0])
    options = {"solver": "rk4", "steps": 40} | options
    return FlowMatching(
        shape, network=network, preconditioning=preconditioning, sigma_min=sigma_min, sigma_data=sigma_data, **options
    )


def noise(count, features=2, seed=0):
    return torch.randn(count, features, generator=torch.Generator().manual_seed(seed), dtype=F64)


def randomised(network, seed=0, scale=0.4):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize("preconditioning", [False, True])
@pytest.mark.parametrize(("sigma_min", "sigma_data"), [(0.0, 1.0), (0.2, 1.0), (0.1, 1.7)])
@torch.no_grad()
def test_gaussian_truth(preconditioning, sigma_min, sigma_data):
    density = exact_density(GAUSSIAN, preconditioning=preconditioning, sigma_min=sigma_min, sigma_data=sigma_data)
    z = noise(200)
    # The flow of a Gaussian is affine, so the decoded event is known point by point.
    width = math.hypot(0.7, sigma_min)
    expected = torch.tensor([0.5, -1.0], dtype=F64) + width * z
    x = density.decode(z)
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(density.encode(x), z, rtol=0, atol=1e-5)
    torch.testing.assert_close(density.log_prob(x), density.network.exact_log_prob(x, sigma_min), rtol=0, atol=1e-5)


@pytest.mark.parametrize("preconditioning", [False, True])
@torch.no_grad()
def test_mixture_truth(preconditioning):
    density = exact_density(MIXTURE, preconditioning=preconditioning, steps=80)
    x = density.decode(noise(300))
    torch.testing.assert_close(density.log_prob(x), density.network.exact_log_prob(x), rtol=0, atol=2e-3)
    torch.testing.assert_close(density.encode(x), noise(300), rtol=0, atol=2e-3)


@pytest.mark.parametrize("sigma_min", [0.0, 0.1])
def test_preconditioned_and_plain_velocity_are_the_same_field(sigma_min):
    plain = exact_density(MIXTURE, preconditioning=False, sigma_min=sigma_min)
    preconditioned = exact_density(MIXTURE, preconditioning=True, sigma_min=sigma_min, sigma_data=1.3)
    x, t = noise(50), torch.linspace(0, 1, 50, dtype=F64)
    torch.testing.assert_close(preconditioned.velocity(x, t), plain.velocity(x, t))


@pytest.mark.parametrize("preconditioning", [False, True])
@pytest.mark.parametrize("sigma_min", [0.0, 0.3])
def test_exact_velocity_minimises_the_loss(preconditioning, sigma_min):
    density = exact_density(MIXTURE, preconditioning=preconditioning, sigma_min=sigma_min, sigma_data=1.3)
    density.to(F64)
    generator = torch.Generator().manual_seed(0)
    choice = torch.randint(0, 3, (40000,), generator=generator)
    x = density.network.means[choice] + density.network.scales[choice, None] * noise(40000, seed=1)

    class Shifted(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner
            self.offset = torch.nn.Parameter(torch.zeros(2, dtype=F64))
            self.gain = torch.nn.Parameter(torch.zeros((), dtype=F64))

        def forward(self, x, t, context=None, *, mask=None):
            return self.inner(x, t) * (1 + self.gain) + self.offset

    shifted = Shifted(density.network)
    density.network = shifted
    density.loss(x, generator=generator).mean().backward()
    # Gradients have expectation 0 at the minimum; their statistical spread is below 1e-2 here.
    assert float(shifted.offset.grad.abs().max()) < 0.03
    assert abs(float(shifted.gain.grad)) < 0.03


@pytest.mark.parametrize("preconditioning", [False, True])
@torch.no_grad()
def test_density_of_an_untrained_network_integrates_to_one(preconditioning):
    network = randomised(MLP(1, hidden=[16, 16])).double()
    density = FlowMatching(1, network=network, preconditioning=preconditioning, sigma_data=1.5, solver="rk4", steps=40)
    grid = torch.linspace(-15, 15, 3001, dtype=F64)
    p = density.log_prob(grid[:, None]).exp()
    assert float(torch.trapezoid(p, grid)) == pytest.approx(1.0, abs=1e-4)
    assert float(p.max()) > 0.1


@torch.no_grad()
def test_density_in_two_dimensions_integrates_to_one():
    network = randomised(ResNet(2, 1, width=8, blocks=2), scale=0.25).double()
    density = FlowMatching(2, 1, network=network, solver="rk4", steps=12)
    axis = torch.linspace(-8, 8, 121, dtype=F64)
    x = torch.cartesian_prod(axis, axis)
    p = density.log_prob(x, torch.full((len(x), 1), 0.7, dtype=F64)).exp().view(121, 121)
    assert float(torch.trapezoid(torch.trapezoid(p, axis), axis)) == pytest.approx(1.0, abs=1e-3)


@torch.no_grad()
def test_log_prob_is_the_jacobian_of_encode():
    network = randomised(MLP(3, 1, hidden=[16])).double()
    density = FlowMatching(3, 1, network=network, solver="rk4", steps=40)
    x, context = noise(2, 3), noise(2, 1, seed=5)
    for i in range(2):
        jacobian = torch.func.jacrev(lambda y, i=i: density.encode(y[None], context[i : i + 1])[0])(x[i])
        z = density.encode(x[i : i + 1], context[i : i + 1])
        expected = -0.5 * z.square().sum() - 1.5 * math.log(2 * math.pi) + torch.linalg.slogdet(jacobian)[1]
        torch.testing.assert_close(density.log_prob(x[i : i + 1], context[i : i + 1])[0], expected, rtol=0, atol=1e-6)


def test_trace_exact_against_autograd_and_hutchinson():
    network = randomised(MLP(20, hidden=[32])).double()
    x, t = noise(6, 20), torch.full((6,), 0.4, dtype=F64)
    value, trace = value_and_divergence(lambda y: network(y, t), x)
    torch.testing.assert_close(value, network(x, t))
    jacobian = torch.autograd.functional.jacobian(lambda y: network(y, t).sum(0), x)  # (20, 6, 20)
    exact = torch.einsum("ibi->b", jacobian)
    torch.testing.assert_close(trace, exact)
    estimates = torch.stack(
        [value_and_divergence(lambda y: network(y, t), x, probes=draw_probes(x, 50, seed=s))[1] for s in range(20)]
    )
    error = estimates.std(0) / math.sqrt(20)
    assert bool(((estimates.mean(0) - exact).abs() < 5 * error).all())
    assert bool((estimates.std(0) > 0).all())


@torch.no_grad()
def test_hutchinson_log_prob_is_a_function_of_the_seed():
    network = randomised(MLP(6, hidden=[16]))
    options = {"network": network, "solver": "rk4", "steps": 6}
    x = noise(50, 6).float()
    exact = FlowMatching(6, trace="exact", **options).log_prob(x)
    estimated = FlowMatching(6, trace="hutchinson", probes=4, **options)
    assert torch.equal(estimated.log_prob(x, seed=1), estimated.log_prob(x, seed=1))
    assert not torch.equal(estimated.log_prob(x, seed=1), estimated.log_prob(x, seed=2))
    assert torch.equal(estimated.log_prob(x), estimated.log_prob(x, seed=0))
    mean = torch.stack([estimated.log_prob(x, seed=s) for s in range(30)])
    pull = (mean.mean(0) - exact) / (mean.std(0) / math.sqrt(30) + 1e-6)
    assert float(pull.abs().max()) < 5.0
    assert torch.equal(FlowMatching(6, **options).log_prob(x), exact)  # "auto" is exact for few entries


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun", "rk4", "dopri5"])
@torch.no_grad()
def test_every_solver_round_trips(solver):
    density = exact_density(MIXTURE, preconditioning=True, solver=solver, steps=400)
    z = noise(100)
    back = density.encode(density.decode(z))
    assert float((back - z).abs().mean()) < (0.1 if solver == "euler" else 5e-4)


@pytest.mark.parametrize(
    "options", [{}, {"time_sampling": "logit_normal", "logit_location": 0.5}, {"stratified": False}]
)
def test_times(options):
    density = FlowMatching(2, **options)
    generator = torch.Generator().manual_seed(0)
    t = torch.cat([density._times(torch.zeros(1000, 2), generator) for _ in range(50)])
    assert float(t.min()) >= 0.0
    assert float(t.max()) <= 1.0
    quantiles = torch.tensor([0.1, 0.5, 0.9])
    expected = quantiles
    if "time_sampling" in options:
        expected = torch.sigmoid(0.5 + torch.special.ndtri(quantiles))
    torch.testing.assert_close(torch.quantile(t, quantiles), expected, rtol=0, atol=0.01)
    # Every row sees every time, stratified or not.
    first = torch.stack([density._times(torch.zeros(10, 2), generator)[0] for _ in range(2000)])
    torch.testing.assert_close(torch.quantile(first, quantiles), expected, rtol=0, atol=0.05)


def test_optimal_transport_coupling():
    x, z = noise(64, seed=1), noise(64, seed=2)
    order = optimal_transport_order(z, x)
    assert sorted(order.tolist()) == list(range(64))
    cost = (x - z[order]).square().sum()
    assert float(cost) < 0.7 * float((x - z).square().sum())
    # In one dimension the optimal pairing is by rank.
    order = optimal_transport_order(z[:, :1], x[:, :1])
    assert torch.equal(z[order, 0].argsort(), x[:, 0].argsort())
    density = FlowMatching(2, coupling="optimal_transport")
    assert density.loss(x.float(), generator=torch.Generator().manual_seed(0)).shape == (64,)


def test_loss_is_deterministic_per_event_and_differentiable():
    density = FlowMatching(3, 1)
    x, context = noise(16, 3).float(), noise(16, 1).float()
    losses = [density.loss(x, context, generator=torch.Generator().manual_seed(7)) for _ in range(2)]
    assert losses[0].shape == (16,)
    assert torch.equal(*losses)
    losses[0].mean().backward()
    assert all(p.grad is not None for p in density.network.exit.parameters())
    # At initialisation F = 0, and the target has unit variance for data of unit variance.
    many = density.loss(noise(20000, 3).float(), torch.zeros(20000, 1), generator=torch.Generator().manual_seed(1))
    assert float(many.mean().detach()) == pytest.approx(1.0, abs=0.02)


def test_short_training_on_a_mixture():
    truth = MixtureVelocity(**MIXTURE)
    generator = torch.Generator().manual_seed(0)

    def draw(count):
        choice = torch.randint(0, 3, (count,), generator=generator)
        normal = torch.randn(count, 2, generator=generator, dtype=F64)
        return truth.means[choice] + truth.scales[choice, None] * normal

    with torch.random.fork_rng():
        torch.manual_seed(0)
        density = FlowMatching(2, network=MLP(2, hidden=[64, 64, 64]), solver="rk4", steps=12)
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
    assert -0.02 < excess < 0.06


def test_describe_build_and_sample():
    network = randomised(MLP(2, 1, hidden=[8]))
    density = FlowMatching([2], 1, network=network, sigma_min=0.01, steps=5, solver="midpoint")
    again = build(describe(density))
    again.load_state_dict(density.state_dict())
    context = noise(9, 1).float()
    draws = [sample(d, context, generator=torch.Generator().manual_seed(1)) for d in (density, again)]
    assert torch.equal(*draws)
    assert describe(again) == describe(density)
    assert describe(build(describe(FlowMatching(4, 1)))) == describe(FlowMatching(4, 1))
    with torch.no_grad():
        network.layers[-1].bias.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="9 of 9"):
        sample(density, context, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma_min": 1.0}, "sigma_min is 1.0"),
        ({"sigma_data": 0.0}, "sigma_data is 0.0"),
        ({"time_sampling": "beta"}, "unknown time_sampling 'beta'"),
        ({"coupling": "sinkhorn"}, "unknown coupling 'sinkhorn'"),
        ({"solver": "leapfrog"}, "unknown solver 'leapfrog'"),
        ({"log_prob_steps": 0}, "solver steps is 0"),
        ({"trace": "none"}, "unknown trace 'none'"),
        ({"probes": 0}, "trace probes is 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FlowMatching(2, **arguments)


def test_sets_need_a_network():
    with pytest.raises(ValueError, match="give SetTransformer or EPiC"):
        FlowMatching([4, 2])
