"""Chains of classes: the Kolmogorov forward equation, exact steps, and simulated chains against their distribution."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.density.categorical import INTERPOLATIONS, corrupt, jump, jump_rates, one_hot, start, states

F64 = torch.float64
DATA = torch.tensor([0.6, 0.3, 0.0, 0.1], dtype=F64)
SIZE = len(DATA)


def distribution(t, interpolation):
    """p(x_t) of every state."""
    if interpolation == "masking":
        return torch.cat([t * DATA, torch.tensor([1 - t], dtype=F64)])
    return t * DATA + (1 - t) / SIZE


def posterior(state, t, interpolation):
    """p(x1 | x_t = state), ``(..., S)``."""
    own = one_hot(state, SIZE, F64)
    if interpolation == "masking":
        return torch.where((state == SIZE).unsqueeze(-1), DATA.expand(own.shape), own)
    joint = DATA * (t * own + (1 - t) / SIZE)
    return joint / joint.sum(-1, keepdim=True)


def frequencies(state, count):
    return torch.bincount(state.flatten(), minlength=count).double() / state.numel()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("stochasticity", [0.0, 3.0])
@pytest.mark.parametrize("t", [0.0, 0.2, 0.7, 0.95])
def test_the_rates_carry_the_distribution(interpolation, stochasticity, t):
    count = states(SIZE, interpolation)
    every = torch.arange(count)
    p = distribution(t, interpolation)
    # At t = 1 - tiny probability flows only where there is some, so conditional rates of impossible states may be
    # anything finite.
    rates = jump_rates(
        every, posterior(every, t, interpolation), t, interpolation=interpolation, stochasticity=stochasticity
    )
    assert bool((rates >= 0).all())
    assert float(rates.diagonal().abs().max()) == 0.0
    flow = p @ rates - p * rates.sum(-1)
    slope = distribution(1.0, interpolation) - distribution(0.0, interpolation)
    torch.testing.assert_close(flow, slope, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_corruption_has_the_distribution_of_its_time(interpolation):
    generator = torch.Generator().manual_seed(1)
    count = 200_000
    classes = torch.multinomial(DATA, count, replacement=True, generator=generator)
    keep, other = torch.rand(2, count, generator=generator)
    for t in (0.0, 0.35, 1.0):
        state = corrupt(classes, torch.tensor(t), keep, other, SIZE, interpolation=interpolation)
        expected = distribution(t, interpolation)
        assert float((frequencies(state, len(expected)) - expected).abs().max()) < 5e-3
    assert torch.equal(corrupt(classes, torch.ones(()), keep, other, SIZE, interpolation=interpolation), classes)


@pytest.mark.parametrize(
    ("interpolation", "stochasticity", "steps", "tolerance"),
    [("masking", 0.0, 1, 5e-3), ("masking", 0.0, 7, 5e-3), ("masking", 4.0, 60, 7e-3), ("uniform", 0.0, 60, 9e-3),
     ("uniform", 2.0, 60, 9e-3)],
)  # fmt: skip
def test_simulated_chains_end_in_the_data(interpolation, stochasticity, steps, tolerance):
    generator = torch.Generator().manual_seed(2)
    count = 50_000
    state = start(torch.rand(count, generator=generator), SIZE, interpolation=interpolation)
    for step in range(steps):
        t, following = step / steps, (step + 1) / steps
        state = jump(
            state, posterior(state, t, interpolation), t, following, torch.rand(count, generator=generator),
            interpolation=interpolation, stochasticity=stochasticity,
        )  # fmt: skip
        if interpolation == "masking" and (not stochasticity or following < 0.9):
            assert abs(float((state == SIZE).double().mean()) - (1 - following)) < 3 * tolerance
    found = frequencies(state, states(SIZE, interpolation))
    assert float((found[:SIZE] - DATA).abs().max()) < tolerance
    assert float(found[2]) == 0.0 or interpolation == "uniform"
    assert float(found[SIZE:].sum()) == 0.0


def test_visible_classes_stay_without_stochasticity_and_some_hide_with_it():
    state = torch.arange(SIZE).repeat(1000)
    uniform = torch.rand(len(state), generator=torch.Generator().manual_seed(3))
    certain = one_hot(state, SIZE, torch.float32)
    assert torch.equal(jump(state, certain, 0.5, 0.6, uniform, interpolation="masking"), state)
    revised = jump(state, certain, 0.5, 0.6, uniform, interpolation="masking", stochasticity=2.0)
    assert float((revised == SIZE).double().mean()) == pytest.approx(0.2, abs=0.02)
    assert torch.equal(jump(state, certain, 0.9, 1.0, uniform, interpolation="masking", stochasticity=2.0), state)


@given(st.floats(0, 1, exclude_max=True, width=32), st.integers(0, 3), st.floats(1e-6, 1.0))
@settings(max_examples=60, deadline=None)
def test_nothing_stays_hidden_and_nothing_impossible_is_chosen(uniform, missing, sharpness):
    probabilities = torch.full((SIZE,), sharpness)
    probabilities[1] = 1.0
    if missing != 1:
        probabilities[missing] = 0.0
    probabilities /= probabilities.sum()
    state = jump(
        torch.tensor([SIZE]), probabilities[None], 0.97, 1.0, torch.tensor([uniform], dtype=torch.float32),
        interpolation="masking",
    )  # fmt: skip
    assert 0 <= int(state) < SIZE
    assert float(probabilities[int(state)]) > 0


def test_refusals():
    with pytest.raises(ValueError, match="unknown interpolation 'linear'"):
        states(3, "linear")
    with pytest.raises(ValueError, match="at least 2"):
        states(1, "masking")
