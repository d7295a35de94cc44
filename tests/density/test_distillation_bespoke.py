"""Learned solvers: exact where classical ones are, better than them after training."""

from __future__ import annotations

import pytest
import torch

from cathode.density import FlowMatching, GaussianMixture, GaussianMixtureVelocity, load_density, sample, save_density
from cathode.density.autoregressive import AutoregressiveMixture
from cathode.density.bespoke import BespokeSolver
from cathode.density.distillation import at_steps, quality_against_steps
from cathode.density.networks import ResNet, SetTransformer
from cathode.density.registry import buildable
from cathode.training import FitConfig, TrainingData, fit


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@buildable("test_bespoke_velocity")
class Velocity(torch.nn.Module):
    def __init__(self, mixture):
        super().__init__()
        self.velocity = GaussianMixtureVelocity(mixture)

    def forward(self, x, t, context=None, *, mask=None):
        return self.velocity(x, t, context)


def exact_teacher(**options):
    mixture = GaussianMixture(
        [1.0, 1.0, 2.0],
        [[1.3, 0.0], [-0.8, 1.0], [-0.5, -1.2]],
        [[[0.35, 0.0], [0.1, 0.3]], [[0.25, 0.0], [-0.2, 0.3]], [[0.5, 0.0], [0.3, 0.2]]],
    )
    return FlowMatching(2, network=Velocity(mixture), preconditioning=False, **options)


def test_starts_as_eulers_method():
    torch.manual_seed(0)
    network = ResNet(3, 1, width=16)
    torch.nn.init.normal_(network.exit.weight, std=0.2)
    teacher = FlowMatching(3, 1, network=network, solver="euler", steps=5)
    solver = BespokeSolver(teacher, 5, initial="euler")
    z, c = torch.randn(8, 3, generator=generator()), torch.randn(8, 1, generator=generator(1))
    torch.testing.assert_close(solver.decode(z, c), teacher.decode(z, c), rtol=1e-5, atol=1e-5)


def test_adams_bashforth_start_is_of_second_order():
    teacher = exact_teacher(steps=64)
    z = torch.randn(200, 2, generator=generator(), dtype=torch.float64)
    truth = teacher.decode(z)
    error = {n: float((BespokeSolver(teacher, n).double().decode(z) - truth).abs().mean().detach()) for n in (24, 48)}
    assert error[24] / error[48] == pytest.approx(4.0, rel=0.35)


def test_training_beats_the_solver_it_started_as(tmp_path):
    teacher = exact_teacher(steps=64)
    data = TrainingData(torch.zeros(1024, 2))
    start = BespokeSolver(teacher, 5, target_steps=8)
    config = FitConfig(epochs=12, batch_size=128, learning_rate=1e-2, ema_halflife_events=None, device="cpu")
    result = fit(start, data, data.take(slice(0, 256)), config, seed=0)
    assert {name for name, p in result.density.named_parameters() if p.requires_grad} == {
        "intervals",
        "start_weights",
        "slope_weights",
    }
    times = result.density.times()
    assert bool((times.diff() > 0).all())
    z = torch.randn(4000, 2, generator=generator(5))
    truth = teacher.decode(z)

    def error(density):
        with torch.no_grad():
            return float((density.decode(z) - truth).square().mean())

    assert error(result.density) < 0.5 * min(error(start), error(at_steps(teacher, 5, solver="euler")))
    save_density(result.density, tmp_path / "solver")
    again = load_density(tmp_path / "solver")
    with torch.no_grad():
        assert torch.equal(again.decode(z), result.density.decode(z))
    rows = quality_against_steps(None, {"bespoke": again}, lambda e: float(e.std()), count=100, repeats=1)
    assert [(r.steps, r.evaluations) for r in rows] == [(5, 5)]


def test_masked_sets_keep_their_padding():
    teacher = FlowMatching([4, 2], network=SetTransformer(2, width=8, heads=2, blocks=1))
    mask = torch.tensor([[True, True, False, False]] * 3)
    events = sample(BespokeSolver(teacher, 2), count=3, mask=mask, generator=generator())
    assert bool((events[~mask] == 0).all())


def test_errors():
    with pytest.raises(ValueError, match="needs a flow-matching or EDM teacher, not AutoregressiveMixture"):
        BespokeSolver(AutoregressiveMixture(2, hidden=[8]))
    with pytest.raises(ValueError, match="unknown initial solver 'heun'"):
        BespokeSolver(exact_teacher(), initial="heun")
    with pytest.raises(ValueError, match="give at least 1"):
        BespokeSolver(exact_teacher(), 0)
