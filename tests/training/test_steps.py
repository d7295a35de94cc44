from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cathode.training import FitConfig, descend, fit, make_optimizer

CONFIG = FitConfig(epochs=5, batch_size=128, learning_rate=5e-3, ema_halflife_events=None, device="cpu")


class TwoOptimisers:
    """Trains the hidden layer and the head in turn, each with its own optimiser and rate."""

    def setup(self, density, config):
        self.density = density
        hidden, head = density.net[0], density.net[3]
        self.optimisers = [
            torch.optim.AdamW(hidden.parameters(), lr=1e-2),
            torch.optim.SGD(head.parameters(), lr=3e-2, momentum=0.9),
        ]
        self.rates = []
        return self.optimisers

    def step(self, batch, generator):
        losses = []
        for optimiser in self.optimisers:
            loss = self.density.loss(batch.x, batch.context, generator=generator).mean()
            losses.append(descend(loss, optimiser, clip=1.0).loss)
        self.rates.append([o.param_groups[0]["lr"] for o in self.optimisers])
        return {"loss": losses[0], "head_loss": torch.tensor(losses[1])}

    def validation_loss(self, density, batch, *, generator):
        return density.loss(batch.x, batch.context) + 1000.0


def test_two_optimisers_share_the_loop(gaussian, tmp_path):
    data = gaussian.make_data(1000)
    step = TwoOptimisers()
    result = fit(gaussian.make_density(), data, data, CONFIG, seed=1, step=step)
    history = result.history
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[1] - 0.1
    assert (history.loc[1:, "head_loss"] < history.loc[1:, "train_loss"]).all()
    assert math.isnan(history.loc[0, "head_loss"])
    assert (history["validation_loss"] > 1000).all()
    for fast, slow in step.rates:
        assert slow == pytest.approx(3 * fast)
    assert step.rates[-1][0] == pytest.approx(0.0, abs=1e-12)


def test_two_optimisers_resume(gaussian, tmp_path, monkeypatch):
    data = gaussian.make_data(500)
    expected = fit(gaussian.make_density(), data, data, CONFIG, seed=1, step=TwoOptimisers())

    class Dying(TwoOptimisers):
        def step(self, batch, generator):
            if len(self.rates) == 10:
                raise KeyboardInterrupt
            return super().step(batch, generator)

    with pytest.raises(KeyboardInterrupt):
        fit(gaussian.make_density(), data, data, CONFIG, seed=1, step=Dying(), checkpoint_dir=tmp_path)
    found = fit(gaussian.make_density(), data, data, CONFIG, seed=1, step=TwoOptimisers(), checkpoint_dir=tmp_path)
    for key, value in found.density.state_dict().items():
        assert torch.equal(value, expected.density.state_dict()[key])


def test_descend_clips_to_the_norm():
    parameter = nn.Parameter(torch.tensor([0.0, 0.0]))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    descent = descend((parameter * torch.tensor([3.0, 4.0])).sum(), optimizer, clip=1.0)
    assert descent.gradient_norm == pytest.approx(5.0)
    torch.testing.assert_close(parameter.detach(), torch.tensor([-0.6, -0.8]))


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_descend_skips_what_is_not_finite(broken):
    parameter = nn.Parameter(torch.tensor([0.0]))
    optimizer = make_optimizer([parameter], CONFIG)
    # sqrt has a finite value and an infinite derivative at 0.
    loss = parameter.sum() * torch.nan if broken == "loss" else parameter.sqrt().sum()
    assert all(math.isnan(value) for value in descend(loss, optimizer))
    assert parameter.item() == 0.0
    assert not optimizer.state
    descend((parameter - 1).square().sum(), optimizer)
    assert parameter.item() == pytest.approx(CONFIG.learning_rate)
