"""Autoregressive mixtures against quadrature, autograd and their own inverse."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.density.autoregressive import AutoregressiveMixture
from cathode.density.base import log_prob, sample
from cathode.density.mixtures import HEADS
from cathode.density.registry import build, describe


def random_density(features=3, context=1, head="gaussian", components=5, seed=0, spread=1.0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        density = AutoregressiveMixture(features, context, hidden=[24, 24], components=components, head=head).double()
        for parameter in density.parameters():
            parameter.data += spread * 0.3 * torch.randn_like(parameter)
    return density


def test_conditionals_see_only_earlier_features():
    density = random_density(4)
    x, c = torch.randn(4, dtype=torch.float64), torch.randn(1, dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda v: density.made(v[None], c[None])[0])(x)  # (D, 3K, D)
    reach = jacobian.abs().amax(1)
    assert torch.equal(torch.triu(reach), torch.zeros(4, 4, dtype=torch.float64))
    assert (reach[torch.tril_indices(4, 4, -1).unbind()] > 0).all()


@pytest.mark.parametrize("head", ["gaussian", "logistic"])
def test_integrates_to_one_in_two_dimensions(head):
    density = random_density(2, head=head, spread=0.3)
    axis = torch.linspace(-60, 60, 2001, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    p = log_prob(density, x, torch.full((len(x), 1), 0.3, dtype=torch.float64)).exp()
    assert p.sum().item() * (axis[1] - axis[0]).item() ** 2 == pytest.approx(1, abs=2e-4)


def test_discretised_masses_sum_to_one():
    density = random_density(1, head="discretised")
    x = torch.arange(-400, 401, dtype=torch.float64)[:, None]
    assert log_prob(density, x, torch.zeros(len(x), 1)).exp().sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("head", ["gaussian", "logistic"])
@given(seed=st.integers(0, 1000), spread=st.floats(0, 1.5))
@settings(max_examples=15, deadline=None)
def test_decode_inverts_encode_and_back(head, seed, spread):
    density = random_density(3, head=head, seed=seed, spread=spread)
    g = torch.Generator().manual_seed(seed)
    c = torch.randn(64, 1, generator=g, dtype=torch.float64)
    z = 2 * torch.randn(64, 3, generator=g, dtype=torch.float64)
    x = density.decode(z, c)
    assert torch.allclose(density.encode(x, c), z, atol=1e-7)


@pytest.mark.parametrize("head", ["gaussian", "logistic"])
def test_encoding_is_the_flow_of_the_density(head):
    density = random_density(3, head=head)
    c = torch.randn(5, 1, dtype=torch.float64)
    x = density.decode(torch.randn(5, 3, dtype=torch.float64), c)
    for row in range(5):
        jacobian = torch.autograd.functional.jacobian(lambda v, r=row: density.encode(v[None], c[r : r + 1])[0], x[row])
        z = density.encode(x[row : row + 1], c[row : row + 1])[0]
        flow = -0.5 * (z**2).sum() - 1.5 * math.log(2 * math.pi) + torch.linalg.slogdet(jacobian)[1]
        assert density.log_prob(x[row : row + 1], c[row : row + 1]).item() == pytest.approx(flow.item(), abs=1e-6)


def test_far_tails_invert():
    density = random_density(1, context=0)
    z = torch.tensor([[-12.0], [-8.0], [8.0], [12.0]], dtype=torch.float64)
    x = density.decode(z)
    assert torch.isfinite(x).all()
    assert (x.diff(dim=0) > 0).all()
    assert torch.allclose(density.encode(x), z, rtol=1e-9)


def test_discretised_decode_inverts_encode():
    density = random_density(2, head="discretised")
    x = torch.randint(-6, 7, (200, 2)).double()
    c = torch.zeros(200, 1, dtype=torch.float64)
    assert torch.equal(density.decode(density.encode(x, c), c), x)


def test_mixed_heads_equal_each_head_alone():
    density = random_density(2, head=["gaussian", "discretised"])
    x = torch.tensor([[0.3, 2.0]], dtype=torch.float64)
    raw = density.made(x, torch.zeros(1, 1, dtype=torch.float64))
    expected = HEADS["gaussian"]().log_prob(x[:, 0], raw[:, 0]) + HEADS["discretised"]().log_prob(x[:, 1], raw[:, 1])
    assert torch.equal(density.log_prob(x, torch.zeros(1, 1, dtype=torch.float64)), expected)


def test_samples_follow_the_density():
    density = random_density(2, spread=0.5).float()
    c = torch.zeros(40_000, 1)
    x = sample(density, c, generator=torch.Generator().manual_seed(1))
    z = density.encode(x, c)
    assert z.mean(0).abs().max() < 0.02
    assert (z.std(0) - 1).abs().max() < 0.02
    again = sample(density, c, generator=torch.Generator().manual_seed(1), chunk=16384)
    assert torch.equal(x, again)


def test_described_and_built_again():
    density = random_density(2, head=["logistic", "gaussian"])
    twin = build(describe(density)).double()
    twin.load_state_dict(density.state_dict())
    x, c = torch.randn(7, 2, dtype=torch.float64), torch.randn(7, 1, dtype=torch.float64)
    assert torch.equal(twin.log_prob(x, c), density.log_prob(x, c))


def test_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="2 heads for 3 features"):
        AutoregressiveMixture(3, head=["gaussian", "logistic"])
    with pytest.raises(ValueError, match="unknown head 'cauchy'"):
        AutoregressiveMixture(3, head="cauchy")
    with pytest.raises(ValueError, match="takes no mask"):
        AutoregressiveMixture(3).loss(torch.zeros(2, 3), mask=torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="context has 0 columns"):
        sample(AutoregressiveMixture(2, 1), count=3, generator=torch.Generator().manual_seed(0))
