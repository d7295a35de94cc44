"""Points on a lattice and mirror images: what the density inside sees, and what comes back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.density.bijections import Affine, Columns, Compose, Identity, Log, PlaceStandardize
from cathode.density.distillation import core_of, inward, quality_against_steps, rewrapped, student_of
from cathode.density.lattice import LatticePoints
from cathode.density.matching import FlowMatching
from cathode.density.mirrored import Mirrored
from cathode.density.networks import EPiC, SetTransformer
from cathode.density.preprocessed import Preprocessed
from cathode.support.errors import UserError
from cathode.support.seeding import torch_generator
from cathode.training import FitConfig, TrainingData, fit
from cathode.training.distillation import DistillationStep

P, F, C = 5, 4, 2


def _flow(network: str = "transformer", context: int = C) -> FlowMatching:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = (
            SetTransformer(F, context, width=16, heads=2, blocks=1, places=P)
            if network == "transformer"
            else EPiC(F, context, width=16, global_width=4, layers=1, places=P)
        )
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return FlowMatching([P, F], context, network=net, steps=3)


def _points(count: int = 60, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch_generator(seed)
    counts = torch.randint(1, P + 1, (count,), generator=generator)
    mask = torch.arange(P) < counts[:, None]
    x = torch.randn(count, P, F, generator=generator)
    x[..., 0] = x[..., 0].exp().sort(1, descending=True).values
    x[..., 3] = (x[..., 3] > 0).float()
    return x * mask.unsqueeze(-1), mask, torch.randn(count, C, generator=generator)


def _wrapped(network: str = "transformer") -> Mirrored:
    x, mask, _ = _points(400)
    chain = Compose([Columns([Log(1, epsilon=1e-6), Identity(3)]), PlaceStandardize(F, P)])
    bijection = chain.fit(x + torch.tensor([0, 0, 0, 1e-3]) * torch.randn(400, P, 1), mask=mask)
    inside = Preprocessed(bijection, _flow(network), Affine(C, 0.1, 2.0))
    return Mirrored(LatticePoints(inside, 0.5, [1, 2], 3), [[1], [2]], [[0], []])


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=20, deadline=None)
def test_spread_points_stay_in_their_cells_and_come_back(seed: int) -> None:
    density = LatticePoints(_flow(), 0.5, [1, 2], 3)
    x, mask, _ = _points(seed=3)
    filled = density.fill(x, mask=mask, generator=torch_generator(seed))
    on = (x[..., 3] > 0.5) & mask
    assert float((filled - x)[..., 1:3][on].abs().max()) <= 0.25 + 1e-6
    assert torch.equal(filled[..., :3][~on], x[..., :3][~on])
    assert torch.equal(filled[..., 3], torch.where(mask, torch.where(on, 1.0, -1.0), 0.0))
    assert torch.equal(filled[..., 0], x[..., 0])


def test_spread_is_uniform_over_the_cell() -> None:
    x = torch.zeros(2000, P, F)
    x[..., 3] = 1.0
    offsets = LatticePoints(_flow(), 0.5, [1, 2], 3).fill(x, generator=torch_generator(0))[..., 1:3].flatten()
    assert float(offsets.mean()) == pytest.approx(0.0, abs=0.005)
    assert float(offsets.std()) == pytest.approx(0.5 / 12**0.5, rel=0.02)


def test_decoded_flags_are_bits_and_nan_shows() -> None:
    density = LatticePoints(_flow(), 0.5, [1, 2], 3)
    context = torch.zeros(8, C)
    noise = density.noise(8, generator=torch_generator(1))
    made = density.decode(noise, context)
    inner = density.density.decode(noise, context)
    assert torch.equal(made[..., :3], inner[..., :3])
    assert torch.equal(made[..., 3], (inner[..., 3] > 0).float())
    noise[0] = float("nan")
    assert bool(density.decode(noise, context)[0, :, 3].isnan().all())


def test_every_mirror_image_is_equally_likely_and_moves_event_and_context_together() -> None:
    density = Mirrored(_flow(), [[1], [2, 3]], [[0], [1]])
    x, context = torch.ones(4000, P, F), torch.ones(4000, C)
    y, c = density.mirror(x, context, generator=torch_generator(0))
    assert torch.equal(x, torch.ones_like(x))
    assert torch.equal(y[..., 0], x[..., 0])
    assert torch.equal(y[:, 0, 1], c[:, 0])
    assert torch.equal(y[:, 2, 2], c[:, 1])
    assert torch.equal(y[:, 2, 3], c[:, 1])
    pairs = (c[:, 0] * 2 + c[:, 1]).long()
    counts = torch.unique(pairs, return_counts=True)[1]
    assert len(counts) == 4
    assert bool((counts - 1000).abs().max() < 120)
    assert density.mirror(x, context, generator=None)[0] is x


@pytest.mark.parametrize("network", ["transformer", "epic"])
def test_students_of_sets_get_inside_and_back(network: str) -> None:
    teacher = _wrapped(network)
    x, mask, context = _points()
    z, given_context = inward(teacher, x, context, mask=mask, generator=torch_generator(3))
    assert float(z[~mask].abs().max()) == 0.0
    core = core_of(teacher)
    assert isinstance(core, FlowMatching)
    again = rewrapped(teacher, core)
    noise = teacher.noise(60, mask=mask, generator=torch_generator(4))
    assert torch.equal(again.decode(noise, context, mask=mask), teacher.decode(noise, context, mask=mask))
    # Through all layers, the loss of the teacher is that of the core on what inward gives.
    outer = teacher.loss(x, context, mask=mask, generator=torch_generator(5))
    stream = torch_generator(5)
    z, given_context = inward(teacher, x, context, mask=mask, generator=stream)
    torch.testing.assert_close(core.loss(z, given_context, mask=mask, generator=stream), outer)


@pytest.mark.parametrize("network", ["transformer", "epic"])
@pytest.mark.parametrize("kind", ["mean-flow", "consistency"])
def test_students_of_masked_sets_learn_and_ignore_padding(network: str, kind: str) -> None:
    teacher = _flow(network)
    x, mask, context = _points(256)
    student = student_of(teacher, kind, steps=1)
    config = FitConfig(epochs=8, batch_size=64, learning_rate=3e-3, ema_halflife_events=None, device="cpu")
    data = TrainingData(x, context, mask)
    result = fit(student, data, data.take(slice(0, 64)), config, seed=1, step=DistillationStep(teacher))
    assert result.validation_loss < 0.95 * float(result.history["validation_loss"].iloc[0])
    made = result.density
    noise = made.noise(60, mask=mask[:60], generator=torch_generator(2))
    with torch.no_grad():
        events = made.decode(noise, context[:60], mask=mask[:60])
        assert float(events[~mask[:60]].abs().max()) == 0.0
        garbage = torch.where(mask[:60].unsqueeze(-1), noise, 7.0)
        torch.testing.assert_close(made.decode(garbage, context[:60], mask=mask[:60]), events, atol=1e-5, rtol=1e-5)
        more = torch.zeros(60, 1, F)
        wider = torch.cat([mask[:60], torch.zeros(60, 1, dtype=torch.bool)], 1)
        trimmed = mask[:60].clone()
        trimmed[:, -1] = False
        wide = made.decode(torch.cat([noise[:, :-1], more], 1), context[:60], mask=trimmed)
        short = made.decode(noise[:, :-1], context[:60], mask=trimmed[:, :-1])
        torch.testing.assert_close(wide[:, :-1], short, atol=1e-5, rtol=1e-5)
        assert wider.shape[1] == P + 1


def test_trajectory_objective_takes_masks() -> None:
    teacher = _flow()
    x, mask, context = _points(32)
    student = student_of(teacher, "mean-flow", objective="trajectory", path_steps=4)
    losses = student.distillation_loss(teacher, x, context, mask=mask, generator=torch_generator(0))
    changed = torch.where(mask.unsqueeze(-1), x, 9.0)
    again = student.distillation_loss(teacher, changed, context, mask=mask, generator=torch_generator(0))
    assert losses.shape == (32,)
    torch.testing.assert_close(losses, again)


def test_quality_against_steps_takes_masks() -> None:
    teacher = _flow()
    _, mask, context = _points(20)
    student = student_of(teacher, "mean-flow")

    def padding(events: torch.Tensor) -> float:
        return float(events[~mask].abs().max())

    points = quality_against_steps(
        teacher, {"mean-flow": student}, padding, context=context, mask=mask, solvers=("euler",), teacher_steps=(2,),
        student_steps=(1, 2), repeats=1,
    )  # fmt: skip
    assert [(p.name, p.steps, p.distance) for p in points] == [
        ("teacher", 2, 0.0), ("mean-flow", 1, 0.0), ("mean-flow", 2, 0.0),
    ]  # fmt: skip


def test_places_break_the_symmetry_and_none_keep_it() -> None:
    x, mask, context = _points(20)
    mask[:] = True
    t = torch.full((20,), 0.3)
    order = torch.tensor([3, 0, 4, 1, 2])
    for make in (
        lambda places: SetTransformer(F, C, width=16, heads=2, blocks=1, places=places),
        lambda places: EPiC(F, C, width=16, global_width=4, layers=1, places=places),
    ):
        for places in (0, P):
            net = make(places)
            for parameter in net.parameters():
                torch.nn.init.normal_(parameter, std=0.3, generator=torch_generator(1))
            same = torch.allclose(
                net(x[:, order], t, context, mask=mask), net(x, t, context, mask=mask)[:, order], atol=1e-5
            )
            assert same == (places == 0)


def test_refuses() -> None:
    with pytest.raises(UserError, match="positive"):
        LatticePoints(_flow(), 0.0, [1, 2], 3)
    with pytest.raises(UserError, match="not in points"):
        LatticePoints(_flow(), 0.1, [1, 2], 4)
    with pytest.raises(UserError, match="a position and the flag"):
        LatticePoints(_flow(), 0.1, [1, 2], 2)
    with pytest.raises(UserError, match="one for each"):
        Mirrored(_flow(), [[1]], [])
    with pytest.raises(UserError, match="do not fit events"):
        Mirrored(_flow(), [[4]], [[0]])
    with pytest.raises(UserError, match="do not fit a context"):
        Mirrored(_flow(), [[1]], [[2]])
