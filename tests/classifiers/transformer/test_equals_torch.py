"""The packed network is the one of ``torch.nn.TransformerEncoder`` with zero-padding: same losses, same gradients."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from cathode.classifiers.transformer.network import Architecture
from cathode.classifiers.transformer.training import network_with_seed

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "bench_transformer_throughput.py"


@pytest.fixture(scope="module")
def benchmark():
    specification = importlib.util.spec_from_file_location("bench_transformer_throughput", BENCHMARK)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_losses_and_gradients_are_those_of_torch(benchmark):
    ours = network_with_seed(Architecture(5, width=16, heads=4, blocks=3), 0)
    with torch.no_grad():
        for p in ours.parameters():  # away from biases of 0 and scales of 1
            p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
    theirs = benchmark.Padded(ours).double()
    ours = ours.double()
    g = torch.Generator().manual_seed(0)
    mask = torch.arange(20) < torch.randint(1, 21, (50, 1), generator=g)
    points = torch.randn(50, 20, 5, generator=g, dtype=torch.float64)
    label = torch.randint(0, 2, (50,), generator=g).double()
    losses = [binary_cross_entropy_with_logits(m(points, mask).squeeze(1), label) for m in (ours, theirs)]
    torch.testing.assert_close(losses[0], losses[1], atol=1e-12, rtol=0)
    for loss in losses:
        loss.backward()
    first, second = ours.encoder.blocks[0], theirs.encoder.layers[0]
    both = torch.cat([first.query.weight.grad, first.key_value.weight.grad])
    torch.testing.assert_close(both, second.self_attn.in_proj_weight.grad, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(ours.encoder.embed[0].weight.grad, theirs.embed[0].weight.grad, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(ours.encoder.class_token.grad, theirs.class_token.grad, atol=1e-12, rtol=1e-9)
    last = ours.encoder.blocks[2].feed_forward[0].weight.grad
    torch.testing.assert_close(last, theirs.encoder.layers[2].linear1.weight.grad, atol=1e-12, rtol=1e-9)


def test_trainings_stay_together(benchmark):
    """Several steps in single precision, of both: the losses are equal up to rounding."""
    for counts, size in benchmark.multiplicities(None, 200).values():
        *_, ratios, difference = benchmark.compare(counts, size, 32, 1, 2, {"width": 16, "heads": 2, "blocks": 2})
        assert difference < 2e-6
        assert len(ratios) == 1
