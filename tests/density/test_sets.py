"""Masked sets: permutations, padding and garbage in padded entries, for networks and for the densities built
on them.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.density.base import sample
from cathode.density.diffusion import EDM, stochastic_sample
from cathode.density.matching import FlowMatching
from cathode.density.networks import EPiC, SetTransformer

NETWORKS = {
    "set-transformer": lambda: SetTransformer(2, 1, width=16, heads=2, blocks=2),
    "epic": lambda: EPiC(2, 1, width=16, global_width=4, layers=2),
}
DENSITIES = {
    "flow-matching": lambda network: FlowMatching([5, 2], 1, network=network, solver="rk4", steps=4),
    "flow_matching_plain": lambda network: FlowMatching(
        [5, 2], 1, network=network, preconditioning=False, solver="midpoint", steps=8
    ),
    "edm": lambda network: EDM([5, 2], 1, network=network, steps=6),
}
SIZES = [5, 3, 1, 0]


def randomise(module, seed=0, scale=0.3):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return module


def events(seed=0, entries=5):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(SIZES), 5, 2, generator=generator)
    mask = torch.arange(entries) < torch.tensor(SIZES).unsqueeze(1)
    padded = torch.zeros(len(SIZES), entries, 2)
    padded[:, :5] = x
    return padded * mask.unsqueeze(-1), mask, torch.randn(len(SIZES), 1, generator=generator)


def with_garbage(x, mask, value):
    return torch.where(mask.unsqueeze(-1), x, torch.tensor(value))


@pytest.fixture(params=[(n, d) for n in NETWORKS for d in DENSITIES], ids=lambda p: "-".join(p))
def density(request):
    network, kind = request.param
    return DENSITIES[kind](randomise(NETWORKS[network](), scale=0.2))


@pytest.mark.parametrize("name", NETWORKS)
@given(order=st.permutations(range(5)), seed=st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_networks_are_equivariant(name, order, seed):
    network = randomise(NETWORKS[name](), seed)
    x, mask, context = events(seed)
    t = torch.linspace(0.1, 0.9, len(x))
    out = network(x, t, context, mask=mask)
    shuffled = network(x[:, order], t, context, mask=mask[:, order])
    torch.testing.assert_close(shuffled, out[:, order], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("garbage", [1e6, float("nan"), float("inf")])
def test_networks_ignore_padding(name, garbage):
    network = randomise(NETWORKS[name]())
    x, mask, context = events()
    t = torch.linspace(0.1, 0.9, len(x))
    out = network(x, t, context, mask=mask)
    assert torch.isfinite(out).all()
    assert torch.equal(out[~mask], torch.zeros_like(out[~mask]))
    assert torch.equal(network(with_garbage(x, mask, garbage), t, context, mask=mask), out)
    more, wider, _ = events(entries=9)
    torch.testing.assert_close(network(more, t, context, mask=wider)[:, :5], out, rtol=1e-5, atol=1e-5)
    full = network(x[:1], t[:1], context[:1])
    torch.testing.assert_close(full, out[:1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_real_entries_influence_one_another(name):
    network = randomise(NETWORKS[name]())
    x, mask, context = events()
    t = torch.full((len(x),), 0.5)
    changed = x.clone()
    changed[0, 0] += 1.0
    difference = network(changed, t, context, mask=mask) - network(x, t, context, mask=mask)
    assert bool((difference[0, 1:].abs().amax(-1) > 1e-5).all())
    assert torch.equal(difference[1:], torch.zeros_like(difference[1:]))


@torch.no_grad()
def test_densities_ignore_padding(density):
    x, mask, context = events()
    more, wider, _ = events(entries=8)
    garbage = with_garbage(x, mask, float("nan"))
    for name in ("decode", "encode", "log_prob"):
        function = getattr(density, name)
        out = function(x, context, mask=mask)
        assert torch.isfinite(out).all(), name
        if name != "log_prob":
            assert torch.equal(out[~mask], torch.zeros_like(out[~mask])), name
        assert torch.equal(function(garbage, context, mask=mask), out), name
        padded = function(more, context, mask=wider)
        torch.testing.assert_close(padded if name == "log_prob" else padded[:, :5], out, rtol=1e-5, atol=1e-5, msg=name)
    losses = [density.loss(v, context, mask=mask, generator=torch.Generator().manual_seed(3)) for v in (x, garbage)]
    assert torch.equal(*losses)
    assert torch.isfinite(losses[0]).all()
    assert float(losses[0][-1]) == 0.0  # the empty set


@torch.no_grad()
def test_log_prob_is_invariant_and_decode_equivariant(density):
    x, mask, context = events()
    order = [3, 0, 4, 2, 1]
    options = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(
        density.log_prob(x[:, order], context, mask=mask[:, order]), density.log_prob(x, context, mask=mask), **options
    )
    torch.testing.assert_close(
        density.decode(x[:, order], context, mask=mask[:, order]),
        density.decode(x, context, mask=mask)[:, order],
        **options,
    )


@torch.no_grad()
def test_padding_does_not_move_the_step_size_of_an_adaptive_solver():
    network = randomise(NETWORKS["set-transformer"](), scale=0.2)
    density = FlowMatching([5, 2], 1, network=network, solver="dopri5", rtol=1e-3, atol=1e-3)
    x, mask, context = events()
    more, wider, _ = events(entries=8)
    for function in (density.decode, density.encode):
        torch.testing.assert_close(
            function(more, context, mask=wider)[:, :5], function(x, context, mask=mask), rtol=1e-5, atol=1e-5
        )


@torch.no_grad()
def test_hutchinson_estimate_ignores_the_amount_of_padding():
    network = randomise(NETWORKS["set-transformer"](), scale=0.2)
    density = FlowMatching([5, 2], 1, network=network, solver="rk4", steps=4, trace="hutchinson", probes=2)
    x, mask, context = events()
    more, wider, _ = events(entries=8)
    torch.testing.assert_close(
        density.log_prob(more, context, mask=wider), density.log_prob(x, context, mask=mask), rtol=1e-5, atol=1e-5
    )


@torch.no_grad()
def test_sampling_sets(density):
    _, mask, context = events()
    draws = [sample(density, context, mask=mask, generator=torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*draws)
    assert draws[0].shape == (4, 5, 2)
    assert torch.equal(draws[0][~mask], torch.zeros_like(draws[0][~mask]))


@torch.no_grad()
def test_stochastic_sampler_respects_masks():
    density = EDM([5, 2], 1, network=randomise(NETWORKS["epic"](), scale=0.2), steps=6)
    x, mask, context = events()
    out = stochastic_sample(density, x, context, mask=mask, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(out).all()
    assert torch.equal(out[~mask], torch.zeros_like(out[~mask]))


def test_optimal_transport_of_masked_sets_is_refused():
    density = FlowMatching([5, 2], 1, network=NETWORKS["epic"](), coupling="optimal_transport")
    x, mask, context = events()
    with pytest.raises(ValueError, match="not defined for masked sets"):
        density.loss(x, context, mask=mask)
    assert density.loss(x, context).shape == (4,)
