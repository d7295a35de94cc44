from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cathode.training import FitConfig
from cathode.training.ema import MovingAverage
from cathode.training.schedule import Plateau, learning_rate_factor
from cathode.training.selection import BestEpochs, average_states


def test_moving_average_halves_the_distance_each_halflife():
    source, target = nn.Linear(1, 1), nn.Linear(1, 1)
    ema = MovingAverage(source, target, halflife_events=1000.0, batch_size=100)
    ema.events = 10**9  # far beyond the ramp
    with torch.no_grad():
        source.weight.fill_(1.0)
        target.weight.fill_(0.0)
    for _ in range(30):
        ema.step(100)
    assert target.weight.item() == pytest.approx(1 - 0.5**3, rel=1e-5)


def test_moving_average_on_a_coarser_grid_is_the_same_average():
    source, target = nn.Linear(1, 1), nn.Linear(1, 1)
    ema = MovingAverage(source, target, halflife_events=100_000.0, batch_size=100)
    assert ema._stride > 1
    ema.events = 10**9
    with torch.no_grad():
        target.weight.fill_(0.0)
    exact = 0.0
    for i in range(3001):
        with torch.no_grad():
            source.weight.fill_(math.sin(i / 500))
        ema.step(100)
        exact += (math.sin(i / 500) - exact) * (1 - 0.5 ** (100 / 100_000))
    ema.flush()
    assert target.weight.item() == pytest.approx(exact, abs=0.01 * 3)


def test_moving_average_forgets_the_initial_weights_early():
    source, target = nn.Linear(1, 1), nn.Linear(1, 1)
    ema = MovingAverage(source, target, halflife_events=1e9, batch_size=100)
    with torch.no_grad():
        source.weight.fill_(1.0)
        target.weight.fill_(100.0)
    for _ in range(100):
        ema.step(100)
    ema.flush()
    assert target.weight.item() == pytest.approx(1.0, abs=0.1)


def test_cosine_with_warmup():
    config = FitConfig(epochs=10, warmup_epochs=2.0, learning_rate_floor=0.1)
    assert learning_rate_factor(config, 0.5) == pytest.approx(0.25)
    assert learning_rate_factor(config, 2.0) == pytest.approx(1.0)
    assert learning_rate_factor(config, 6.0) == pytest.approx(0.55)
    assert learning_rate_factor(config, 10.0) == pytest.approx(0.1)
    assert learning_rate_factor(config, 3.0, spent=1.0) == pytest.approx(0.1)


@given(position=st.floats(0.0, 20.0), spent=st.floats(0.0, 2.0))
def test_the_rate_never_exceeds_the_peak_nor_becomes_negative(position, spent):
    for schedule in ("cosine", "constant", "plateau"):
        config = FitConfig(epochs=15, schedule=schedule, warmup_epochs=1.5)
        assert 0 <= learning_rate_factor(config, position, spent=spent) <= 1 + 1e-12


def test_plateau_lowers_after_patience_and_counts_nan_as_no_progress():
    config = FitConfig(schedule="plateau", plateau_patience=2, plateau_factor=0.1, learning_rate_floor=0.05)
    plateau = Plateau()
    scales = []
    for loss in (1.0, 0.9, 0.9, math.nan, 0.8, 0.85, 0.85, 0.85, 0.85):
        plateau.update(config, loss)
        scales.append(plateau.scale)
    assert scales == [1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05]
    assert learning_rate_factor(config, 3.0, scale=plateau.scale) == 0.05


@given(st.lists(st.one_of(st.floats(-10, 10), st.just(math.nan), st.just(math.inf)), max_size=30), st.integers(1, 5))
def test_best_epochs_are_the_lowest_finite_ones(losses, size):
    best = BestEpochs(size)
    module = nn.Linear(1, 1)
    for epoch, loss in enumerate(losses, start=1):
        best.offer(epoch, loss, module)
    expected = sorted((loss, epoch) for epoch, loss in enumerate(losses, start=1) if math.isfinite(loss))[:size]
    assert [(entry.validation_loss, entry.epoch) for entry in best.entries] == expected


def test_average_of_states():
    states = [
        {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(3)},
        {"w": torch.tensor([3.0, 6.0]), "n": torch.tensor(5)},
    ]
    averaged = average_states(states)
    assert torch.equal(averaged["w"], torch.tensor([2.0, 4.0]))
    assert averaged["w"].dtype == torch.float32
    assert averaged["n"] == 3
