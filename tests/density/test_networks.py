"""Networks: shapes, conditioning, initial output, and the description round trip."""

from __future__ import annotations

import math

import pytest
import torch

from cathode.density.networks import MLP, EPiC, FourierFeatures, ResNet, SetTransformer
from cathode.density.networks.embeddings import ConditionEmbedding, activation_module, activations
from cathode.density.registry import build, describe

VECTOR_NETWORKS = {
    "mlp": lambda **kw: MLP(3, 2, hidden=[16, 16], **kw),
    "resnet": lambda **kw: ResNet(3, 2, width=16, blocks=2, **kw),
    "resnet_normalised": lambda **kw: ResNet(3, 2, width=16, blocks=2, normalise=True, **kw),
}
SET_NETWORKS = {
    "set-transformer": lambda **kw: SetTransformer(3, 2, width=16, heads=2, blocks=2, **kw),
    "epic": lambda **kw: EPiC(3, 2, width=16, global_width=4, layers=2, **kw),
}
NETWORKS = VECTOR_NETWORKS | SET_NETWORKS


def randomise(module, seed=0):
    """Replace the zero initialisation, under which most statements hold trivially."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module


def inputs(name, seed=1):
    generator = torch.Generator().manual_seed(seed)
    shape = (5, 4, 3) if name in SET_NETWORKS else (5, 3)
    return (
        torch.randn(shape, generator=generator),
        torch.rand(5, generator=generator),
        torch.randn(5, 2, generator=generator),
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_starts_at_zero_and_learns_from_there(name):
    network = NETWORKS[name]()
    x, t, context = inputs(name)
    out = network(x, t, context)
    assert out.shape == x.shape
    assert torch.equal(out, torch.zeros_like(x))
    (out - 1).square().sum().backward()
    assert any(p.grad is not None and bool(p.grad.abs().max() > 0) for p in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_depends_on_event_time_and_context_of_the_same_row_only(name):
    network = randomise(NETWORKS[name]())
    x, t, context = inputs(name)
    out = network(x, t, context)
    for i, changed in enumerate(
        [network(x + 0.5, t, context), network(x, t * 0.5 + 0.1, context), network(x, t, context + 0.5)]
    ):
        assert bool((changed - out).flatten(1).abs().amax(1).min() > 1e-4), i
    other_x, other_t, other_context = x.clone(), t.clone(), context.clone()
    other_x[0], other_t[0], other_context[0] = 9.0, 0.123, -7.0
    torch.testing.assert_close(network(other_x, other_t, other_context)[1:], out[1:])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("frequencies", [0, 3])
def test_describe_and_build(name, frequencies):
    network = randomise(NETWORKS[name](time_frequencies=frequencies, context_frequencies=frequencies))
    again = build(describe(network))
    again.load_state_dict(network.state_dict())
    x, t, context = inputs(name)
    assert torch.equal(again(x, t, context), network(x, t, context))
    assert describe(again) == describe(network)


@pytest.mark.parametrize("name", NETWORKS)
def test_wrong_context_is_refused(name):
    x, t, context = inputs(name)
    with pytest.raises(ValueError, match="context has 0 columns, the network was built for 2"):
        NETWORKS[name]()(x, t)
    with pytest.raises(ValueError, match="context has 1 columns"):
        NETWORKS[name]()(x, t, context[:, :1])


@pytest.mark.parametrize("name", VECTOR_NETWORKS)
def test_vector_networks_refuse_masks(name):
    x, t, context = inputs(name)
    with pytest.raises(ValueError, match="use SetTransformer or EPiC"):
        VECTOR_NETWORKS[name]()(x, t, context, mask=torch.ones(5, 3, dtype=torch.bool))


def test_fourier_features_by_hand():
    u = torch.tensor([[0.5, 2.0]], dtype=torch.float64)
    features = FourierFeatures(2, 2, lowest=0.25)
    angles = [0.25 * math.pi, 0.5 * math.pi, math.pi, 2 * math.pi]
    expected = [0.5, 2.0, *(math.sin(a) for a in angles), *(math.cos(a) for a in angles)]
    torch.testing.assert_close(features(u), torch.tensor([expected], dtype=torch.float64), rtol=1e-6, atol=1e-6)
    assert features.output_features == 10
    assert torch.equal(FourierFeatures(2, 0)(u), u)
    with pytest.raises(ValueError, match="frequencies is -1"):
        FourierFeatures(1, -1)


def test_condition_without_context():
    embedding = ConditionEmbedding(0, time_frequencies=1)
    assert embedding(torch.zeros(4), None).shape == (4, 3)
    assert embedding.output_features == 3


def test_bad_arguments():
    with pytest.raises(ValueError, match="unknown activation 'swish2'"):
        MLP(2, activation="swish2")
    with pytest.raises(ValueError, match="width 10 is not a multiple of heads 4"):
        SetTransformer(2, width=10, heads=4)
    for name in activations():
        assert torch.isfinite(activation_module(name)(torch.linspace(-3, 3, 7))).all()
