"""Exact zeros, the threshold and the energy of each layer, whatever comes in."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fastsim.data import read_showers
from fastsim.generators.conserve import conserve

SLICES = [(0, 1), (1, 5), (5, 9)]
voxels = arrays(
    np.float32, (3, 9), elements=st.one_of(st.just(0.0), st.floats(-10, 1e5, width=32), st.floats(0, 2, width=32))
)
layers = arrays(
    np.float32, (3, 3), elements=st.one_of(st.just(0.0), st.floats(0, 1e6, width=32), st.floats(0, 3, width=32))
)


@settings(max_examples=100, deadline=None)
@given(voxels=voxels, layers=layers, threshold=st.sampled_from([0.0151, 1.0, 2.0]))
def test_zero_or_above_threshold_and_layers_add_up(voxels, layers, threshold):
    energies, wanted = torch.from_numpy(voxels), torch.from_numpy(layers)
    x = conserve(energies, wanted, slices=SLICES, threshold=threshold)
    assert torch.isfinite(x).all()
    assert ((x == 0) | (x >= threshold)).all()
    sums = torch.stack([x[:, a:b].double().sum(1) for a, b in SLICES], 1)
    empty = wanted < threshold * (1 - 1e-6)
    assert (sums[empty] == 0).all()
    np.testing.assert_allclose(sums[~empty], wanted[~empty].double(), rtol=3e-6)
    again = conserve(x, wanted, slices=SLICES, threshold=threshold)
    torch.testing.assert_close(again, x, rtol=1e-5, atol=1e-5 * threshold)
    # Voxels keep their order, and what was dark stays dark but for the brightest of its layer.
    for first, stop in SLICES:
        part, made = energies[:, first:stop], x[:, first:stop]
        dark = (part < threshold) & (part < part.amax(1, keepdim=True))
        assert (made[dark] == 0).all()


def test_real_showers_stay_as_they_are():
    showers = read_showers("sample:ds1-photons", "ds1-photons", stop=400).cut(1.0)
    x, sums = torch.from_numpy(showers.energies), torch.from_numpy(showers.layer_energies())
    slices = [(p.start, p.stop) for p in showers.geometry.slices]
    assert (sums == 0).any()
    torch.testing.assert_close(conserve(x, sums, slices=slices, threshold=1.0), x, rtol=1e-4, atol=1e-3)


def test_examples():
    def one(energies, total):
        return conserve(torch.tensor([energies]), torch.tensor([[total]]), slices=[(0, 3)], threshold=1.0)[0].tolist()

    assert one([2.0, 3.0, 0.5], 5.0) == [2.0, 3.0, 0.0]
    assert one([2.0, 3.0, 0.5], 8.0) == [3.0, 5.0, 0.0]
    assert one([2.0, 3.0, 4.0], 2.5) == pytest.approx([0.0, 1.2, 1.3])
    assert one([0.1, 0.3, 0.2], 7.0) == [0.0, 7.0, 0.0]
    assert one([1.0, 1.0, 1.0], 6.0) == [2.0, 2.0, 2.0]
    assert one([5.0, 5.0, 5.0], 0.9) == [0.0, 0.0, 0.0]
    assert one([-4.0, -5.0, -6.0], 3.0) == [3.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("energies", "total"),
    [([math.nan, 2.0], 5.0), ([math.inf, 2.0], 5.0), ([1.0, 2.0], math.nan), ([2.0, 3.0], math.inf)],
)
def test_what_is_broken_shows(energies, total):
    x = conserve(torch.tensor([energies]), torch.tensor([[total]]), slices=[(0, 2)], threshold=1.0)
    assert not torch.isfinite(x.sum())
