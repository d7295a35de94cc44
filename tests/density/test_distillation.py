"""Few-step students against closed forms, and short trainings against their teachers."""

from __future__ import annotations

import itertools
import math

import pandas as pd
import pytest
import torch

from cathode.comparison.distances import sliced_wasserstein
from cathode.density import (
    EDM,
    FlowMatching,
    GaussianMixture,
    GaussianMixtureVelocity,
    Preprocessed,
    build,
    describe,
    load_density,
    sample,
    save_density,
)
from cathode.density.autoregressive import AutoregressiveMixture
from cathode.density.bijections import Standardize
from cathode.density.distillation import (
    Angles,
    ConsistencyModel,
    MeanFlow,
    TeacherFlow,
    at_steps,
    quality_against_steps,
    student_of,
    widened,
)
from cathode.density.networks import MLP, EPiC, ResNet, SetTransformer
from cathode.density.registry import buildable
from cathode.support.errors import UserError
from cathode.training import FitConfig, TrainingData, fit
from cathode.training.distillation import DistillationStep

F64 = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randomised(module, scale=0.3, seed=0):
    g = generator(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=g))
    return module


# -- a Gaussian of width s: every path is y(phi) = y(0) r(phi) with r^2 = cos^2 + s^2 sin^2 ------------------------


@buildable("test_gaussian_field")
class GaussianField(torch.nn.Module):
    """The exact velocity, average velocity or consistency function for data N(0, s^2), whichever is asked for."""

    def __init__(self, s, *, what):
        super().__init__()
        self.s, self.what = s, what

    def r(self, phi):
        return torch.sqrt(phi.cos() ** 2 + (self.s * phi.sin()) ** 2)

    def forward(self, y, t, context=None, *, mask=None):
        phi = torch.atan2(t, 1 - t)
        if self.what == "field":
            factor = (self.s**2 - 1) * phi.sin() * phi.cos() / self.r(phi) ** 2
        elif self.what == "average":
            length = context[:, -1] * math.pi / 2
            near = length.abs() < 1e-9
            safe = torch.where(near, torch.ones_like(length), length)
            chord = (self.r(phi + length) / self.r(phi) - 1) / safe
            factor = torch.where(near, (self.s**2 - 1) * phi.sin() * phi.cos() / self.r(phi) ** 2, chord)
        else:
            rest = math.pi / 2 - phi
            factor = (self.s / self.r(phi) - rest.cos()) / rest.sin().clamp(min=1e-12)
        return factor[:, None] * y


S = 0.4


def gaussian_teacher():
    return FlowMatching(3, network=GaussianField(S, what="field"), steps=40)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_exact_average_velocity_decodes_exactly_in_any_number_of_steps(steps):
    student = MeanFlow(3, network=GaussianField(S, what="average"), steps=steps)
    z = torch.randn(50, 3, generator=generator(), dtype=F64)
    torch.testing.assert_close(student.decode(z), S * z, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("objective", "tolerance"), [("identity", 1e-20), ("trajectory", 1e-7)])
def test_exact_average_velocity_has_no_loss(objective, tolerance):
    x = S * torch.randn(400, 3, generator=generator(), dtype=F64)

    def loss(what):
        student = MeanFlow(
            3, network=GaussianField(S, what=what), objective=objective, power=0.0, path_steps=16, path_method="rk4"
        )
        return student.distillation_loss(gaussian_teacher(), x, generator=generator(1)).mean()

    assert loss("average") < tolerance
    # The velocity in place of its average must be noticed.
    assert loss("field") > 1e-3


def test_adaptive_weight_divides_the_loss_by_itself():
    x = S * torch.randn(400, 3, generator=generator(), dtype=F64)
    plain, weighted = (
        MeanFlow(
            3, network=GaussianField(S, what="field"), objective="identity", power=power, constant=0.01
        ).distillation_loss(gaussian_teacher(), x, generator=generator(1))
        for power in (0.0, 1.0)
    )
    torch.testing.assert_close(weighted, plain / (plain + 0.01))


def test_exact_consistency_function_decodes_exactly_and_has_no_loss():
    model = ConsistencyModel(3, network=GaussianField(S, what="consistency"), coarsest=640, finest=640, huber=1e-12)
    z = torch.randn(50, 3, generator=generator(), dtype=F64)
    torch.testing.assert_close(model.decode(z), S * z, rtol=1e-9, atol=1e-9)
    x = S * torch.randn(400, 3, generator=generator(), dtype=F64)
    assert model.distillation_loss(gaussian_teacher(), x, generator=generator(1)).max() < 1e-6
    wrong = ConsistencyModel(3, network=GaussianField(S, what="field"), coarsest=640, finest=640, huber=1e-12)
    assert wrong.distillation_loss(gaussian_teacher(), x, generator=generator(1)).mean() > 1e-4


def test_multistep_sampling_keeps_the_exact_distribution():
    model = ConsistencyModel(3, network=GaussianField(S, what="consistency"), steps=4)
    x = sample(model, count=40_000, generator=generator())
    # Fresh noise at each step: the later rows matter.
    assert x.std().item() == pytest.approx(S, rel=0.01)
    z = model.noise(100, generator=generator(), dtype=F64)
    assert z.shape == (100, 4, 3)
    other = z.clone()
    other[:, 3] += 1.0
    assert not torch.equal(model.decode(z), model.decode(other))
    assert torch.equal(model.decode(z), model.decode(z.clone()))
    with pytest.raises(ValueError, match="noise is for 2 steps, the model decodes in 4"):
        model.decode(z[:, :2])


# -- coordinates ---------------------------------------------------------------------------------------------------


TEACHERS = {
    "flow": lambda: FlowMatching(3, 2, network=randomised(ResNet(3, 2, width=16), scale=0.15), steps=80),
    "blurred flow": lambda: FlowMatching(
        3, 2, network=randomised(ResNet(3, 2, width=16), scale=0.15), steps=80, sigma_min=0.1, sigma_data=1.7
    ),
    "plain flow": lambda: FlowMatching(
        3, 2, network=randomised(ResNet(3, 2, width=16)), steps=40, sigma_min=0.05, preconditioning=False
    ),
    "edm": lambda: EDM(
        3, 2, network=randomised(ResNet(3, 2, width=16), scale=0.15), sigma_data=0.7, sigma_min=0.01, steps=60
    ),
}


@pytest.mark.parametrize("name", TEACHERS)
def test_solving_the_angular_field_is_the_teachers_own_decoding(name):
    teacher = TEACHERS[name]().double()
    flow = TeacherFlow(teacher)
    z = torch.randn(20, 3, generator=generator(), dtype=F64)
    c = torch.randn(20, 2, generator=generator(1), dtype=F64)
    grid = torch.linspace(flow.angles.start, flow.angles.end, 81, dtype=F64).tolist()
    events = flow.angles.scale * flow.path(z, grid, c, None, method="rk4")[-1]
    # EDM goes one step further, to the denoised event: sigma_min away.
    tolerance = 0.02 if name == "edm" else 2e-5
    torch.testing.assert_close(events, teacher.decode(z, c), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "angles", [Angles(), Angles("flow", 1.5, 0.1), Angles("noise", 0.5, 0.01, 50.0)], ids=lambda a: a.clock
)
def test_slope_is_the_derivative_of_the_point(angles):
    z, x = torch.randn(2, 6, 3, generator=generator(), dtype=F64)
    phi = torch.linspace(angles.start, angles.end, 6, dtype=F64)
    _, derivative = torch.func.jvp(lambda p: angles.point(z, x, p), (phi,), (torch.ones_like(phi),))
    torch.testing.assert_close(angles.slope(z, x, phi), derivative)
    assert torch.isfinite(angles.time(phi)).all()


@pytest.mark.parametrize("clock", ["flow", "noise"])
def test_consistency_boundary_condition(clock):
    angles = Angles(clock, 1.0, 0.01)
    model = ConsistencyModel(4, network=randomised(ResNet(4, width=16)), angles=angles).double()
    y = torch.randn(10, 4, generator=generator(), dtype=F64)
    end = torch.full((10,), angles.end, dtype=F64)
    assert torch.equal(model.jump(y, end, None, None), y)


def test_divisions_double_from_coarsest_to_finest():
    model = ConsistencyModel(2, network=ResNet(2, width=8), coarsest=10, finest=80, ramp_events=400)
    found = []
    for seen in (0, 99, 100, 250, 399, 400, 10_000):
        model.seen.fill_(seen)
        found.append(model.divisions())
    assert found == [10, 10, 20, 40, 80, 80, 80]


# -- networks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frequencies", [0, 2])
@pytest.mark.parametrize("context_features", [0, 3])
@pytest.mark.parametrize(
    "build_network",
    [
        lambda c, k: MLP(4, c, hidden=(16, 16), context_frequencies=k),
        lambda c, k: ResNet(4, c, width=16, context_frequencies=k),
        lambda c, k: SetTransformer(4, c, width=16, context_frequencies=k),
        lambda c, k: EPiC(4, c, width=16, layers=2, context_frequencies=k),
    ],
    ids=["mlp", "resnet", "set-transformer", "epic"],
)
def test_widened_network_starts_as_the_old_one(build_network, context_features, frequencies):
    network = randomised(build_network(context_features, frequencies))
    larger = widened(network, 1)
    is_set = isinstance(network, (SetTransformer, EPiC))
    x = torch.randn(5, 6, 4, generator=generator()) if is_set else torch.randn(5, 4, generator=generator())
    t = torch.rand(5, generator=generator(1))
    c = torch.randn(5, context_features, generator=generator(2)) if context_features else None
    new = torch.randn(5, 1, generator=generator(3))
    wider = new if c is None else torch.cat([c, new], 1)
    torch.testing.assert_close(larger(x, t, wider), network(x, t, c), rtol=1e-4, atol=1e-5)
    for parameter in larger.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator())
    assert not torch.allclose(larger(x, t, wider), larger(x, t, wider * 2))


def test_untrained_student_takes_the_teachers_euler_step():
    teacher = FlowMatching(3, 1, network=randomised(ResNet(3, 1, width=16)), solver="euler", steps=2)
    z, c = torch.randn(9, 3, generator=generator()), torch.randn(9, 1, generator=generator(1))
    student = student_of(teacher, "mean-flow", steps=2)
    torch.testing.assert_close(student.decode(z, c), teacher.decode(z, c), rtol=1e-4, atol=1e-5)


# -- training on a mixture with the exact velocity as the teacher --------------------------------------------------

MIXTURE = GaussianMixture(
    [1.0, 1.0, 1.0],
    [[1.3, 0.0], [-0.8, 1.0], [-0.5, -1.2]],
    [[[0.35, 0.0], [0.1, 0.3]], [[0.25, 0.0], [-0.2, 0.3]], [[0.5, 0.0], [0.3, 0.2]]],
    [[0.3], [-0.3]],
)


@buildable("test_mixture_network")
class MixtureNetwork(torch.nn.Module):
    """The closed-form velocity in the place of a network."""

    def __init__(self, mixture):
        super().__init__()
        self.velocity = GaussianMixtureVelocity(mixture)

    def forward(self, x, t, context=None, *, mask=None):
        return self.velocity(x, t, context)


def exact_teacher():
    return FlowMatching(2, 1, network=MixtureNetwork(MIXTURE), preconditioning=False, solver="rk4", steps=16)


def mixture_data(count, seed):
    context = torch.rand(count, 1, generator=generator(seed)) * 2 - 1
    return TrainingData(sample(MIXTURE, context.double(), generator=generator(seed + 1)).float(), context)


def config(epochs, **settings):
    common = {"batch_size": 256, "learning_rate": 3e-3, "ema_halflife_events": 20_000.0, "device": "cpu"}
    return FitConfig(epochs=epochs, **(common | settings))


# Settings, epochs, and a bound on the distance to the truth in 1, 2 and 4 steps.
STUDENTS = {
    "consistency": (
        "consistency",
        {
            "ramp_events": 130_000,
            "coarsest": 8,
            "finest": 64,
            "huber": 0.03,
            "log_level_mean": 0.0,
            "log_level_std": 1.2,
        },
        20,
        0.3,
    ),
    "identity": ("mean-flow", {"objective": "identity"}, 16, 0.11),
    "trajectory": ("mean-flow", {"objective": "trajectory", "path_steps": 4, "path_method": "rk4"}, 5, 0.11),
}


@pytest.mark.parametrize("name", STUDENTS)
def test_students_are_close_to_the_truth_in_few_steps(name):
    kind, settings, epochs, largest = STUDENTS[name]
    data, held_out = mixture_data(8192, 1), mixture_data(512, 3)
    torch.manual_seed(0)
    columns = 2 if kind == "mean-flow" else 1
    student = student_of(exact_teacher(), kind, network=ResNet(2, columns, width=48, blocks=2), **settings)
    result = fit(student, data, held_out, config(epochs), seed=1, step=DistillationStep(exact_teacher()))
    assert result.validation_loss < 0.25 * result.history.validation_loss.iloc[0]
    truth = mixture_data(8000, 11)

    def distance(events):
        return sliced_wasserstein(events.numpy(), truth.x.numpy(), projections=32)

    context = mixture_data(8000, 21).context
    rows = quality_against_steps(
        exact_teacher(), {name: result.density}, distance, context=context, solvers=["euler"], teacher_steps=[1, 2, 4]
    )
    teacher = {row.steps: row.distance for row in rows if row.name == "teacher"}
    found = {row.steps: row.distance for row in rows if row.name == name}
    assert set(found) == {1, 2, 4}
    # One evaluation against one and two of the exact field; the distance of two samples of the truth is 0.015.
    assert found[1] < min(0.3 * teacher[1], 0.6 * teacher[2])
    assert max(found.values()) < largest
    # Every evaluation of the exact velocity costs more than one of the small network.
    assert all(row.seconds_per_event > 0 and row.evaluations == row.steps for row in rows)


@pytest.mark.parametrize("name", STUDENTS)
def test_interrupted_training_ends_as_an_uninterrupted_one(name, tmp_path):
    kind, settings, *_ = STUDENTS[name]
    data, held_out = mixture_data(1024, 1), mixture_data(128, 3)
    torch.manual_seed(0)
    network = ResNet(2, 2 if kind == "mean-flow" else 1, width=16, blocks=1)
    student = student_of(exact_teacher(), kind, network=network, **{**settings, **SHORT.get(kind, {})})

    class Stop(Exception):
        pass

    class Interrupted(DistillationStep):
        left = 10

        def step(self, batch, generator):
            self.left -= 1
            if self.left < 0:
                raise Stop
            return super().step(batch, generator)

    def run(folder, step):
        return fit(student, data, held_out, config(4), seed=5, step=step(exact_teacher()), checkpoint_dir=folder)

    whole = run(tmp_path / "whole", DistillationStep)
    with pytest.raises(Stop):
        run(tmp_path / "parts", Interrupted)
    parts = run(tmp_path / "parts", DistillationStep)
    for key, value in whole.density.state_dict().items():
        assert torch.equal(parts.density.state_dict()[key], value), key
    columns = ["epoch", "train_loss", "validation_loss"]
    pd.testing.assert_frame_equal(parts.history[columns], whole.history[columns], check_exact=True)
    if kind == "consistency":
        assert int(whole.density.seen) > 0


SHORT = {"consistency": {"ramp_events": 2000}}


@pytest.mark.parametrize(("kind", "what"), [("consistency", "consistency"), ("mean-flow", "average")])
def test_without_a_teacher_the_truth_has_no_loss_where_pairs_are_unique(kind, what):
    # All events at 0: then the path of a pair is the path of the flow.
    x = torch.zeros(400, 3, dtype=F64)

    def loss(network):
        flow = kind == "mean-flow"
        student = MeanFlow(3, network=network, power=0.0) if flow else ConsistencyModel(3, network=network)
        return student.loss(x, generator=generator(1)).mean()

    assert loss(GaussianField(0.0, what=what)) < 1e-12
    assert loss(randomised(ResNet(3, 1 if kind == "mean-flow" else 0, width=16).double())) > 1e-3


# -- masked sets, preprocessing, folders ---------------------------------------------------------------------------


def set_case(count=64, seed=0):
    x = torch.randn(count, 5, 3, generator=generator(seed))
    mask = torch.rand(count, 5, generator=generator(seed + 1)) < 0.7
    context = torch.randn(count, 1, generator=generator(seed + 2))
    return TrainingData(x * mask.unsqueeze(-1), context, mask)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("consistency", {}), ("mean-flow", {"objective": "identity"}), ("mean-flow", {"objective": "trajectory"})],
)
@pytest.mark.parametrize("family", [FlowMatching, EDM])
def test_masked_sets(family, kind, settings):
    teacher = family([5, 3], 1, network=randomised(SetTransformer(3, 1, width=8, heads=2, blocks=1), scale=0.2))
    data = set_case()
    student = student_of(teacher, kind, **settings)
    result = fit(student, data, data, config(2, batch_size=32), seed=0, step=DistillationStep(teacher))
    assert math.isfinite(result.validation_loss)
    for steps in (1, 3):
        density = at_steps(result.density, steps)
        events = sample(density, data.context, mask=data.mask, generator=generator())
        assert events.shape == data.x.shape
        assert bool((events[~data.mask] == 0).all())
        assert torch.isfinite(events).all()
    # What stands in the padding must not matter to the loss.
    dirty = torch.where(data.mask.unsqueeze(-1), data.x, torch.full_like(data.x, 7.0))
    clean = student.distillation_loss(teacher, data.x, data.context, mask=data.mask, generator=generator(9))
    same = student.distillation_loss(teacher, dirty, data.context, mask=data.mask, generator=generator(9))
    torch.testing.assert_close(clean, same)


@pytest.mark.parametrize("kind", ["consistency", "mean-flow"])
def test_teacher_inside_preprocessing(kind, tmp_path):
    data = mixture_data(2048, 1)
    shifted = TrainingData(100.0 + 50.0 * data.x, 10.0 + data.context)
    bijection, context_bijection = Standardize(2).fit(shifted.x), Standardize(1).fit(shifted.context)
    network = randomised(ResNet(2, 1, width=16, blocks=1))
    teacher = Preprocessed(bijection, FlowMatching(2, 1, network=network), context_bijection)
    student = student_of(teacher, kind)
    assert isinstance(student, Preprocessed)
    result = fit(student, shifted, shifted, config(3), seed=0, step=DistillationStep(teacher))
    # The same as distilling behind the bijections.
    inner = TrainingData(
        bijection.forward_and_log_det(shifted.x)[0], context_bijection.forward_and_log_det(shifted.context)[0]
    )
    behind = fit(student.density, inner, inner, config(3), seed=0, step=DistillationStep(teacher.density))
    assert result.validation_loss == pytest.approx(behind.validation_loss, rel=1e-4)
    assert result.validation_loss < result.history.validation_loss.iloc[0]
    save_density(result.density, tmp_path / "student")
    again = load_density(tmp_path / "student")
    for steps in (1, 2, 4):
        first, second = (
            sample(at_steps(d, steps), shifted.context[:50], generator=generator()) for d in (result.density, again)
        )
        assert torch.equal(first, second)
    with pytest.raises(UserError, match="both be preprocessed"):
        fit(student, shifted, shifted, config(1), seed=0, step=DistillationStep(teacher.density))


def test_students_are_described_and_built_again():
    teacher = FlowMatching(3, 1, network=randomised(ResNet(3, 1, width=16)), sigma_min=0.01)
    for kind in ("consistency", "mean-flow"):
        student = student_of(teacher, kind, steps=2)
        again = build(describe(student))
        assert again.steps == 2
        assert again.angles.sigma_min == 0.01
        again.load_state_dict(student.state_dict())
        z, c = student.noise(7, generator=generator()), torch.ones(7, 1)
        assert torch.equal(again.decode(z, c), student.decode(z, c))


# -- the curve -----------------------------------------------------------------------------------------------------


def test_quality_against_steps_counts_evaluations_and_sees_convergence():
    calls = []

    def distance(events):
        calls.append(events.shape)
        return abs(float(events.std()) - S)

    student = MeanFlow(3, network=GaussianField(S, what="average"))
    rows = quality_against_steps(
        gaussian_teacher(),
        {"exact": student},
        distance,
        count=2000,
        solvers=("euler", "heun", "rk4", "dopri5"),
        teacher_steps=(2, 8),
        repeats=1,
    )
    table = {(r.name, r.solver, r.steps): r for r in rows}
    expected = {("euler", 2): 2, ("euler", 8): 8, ("heun", 8): 16, ("rk4", 8): 32}
    for (solver, steps), count in expected.items():
        assert table["teacher", solver, steps].evaluations == count
    (adaptive,) = [r for r in rows if r.solver == "dopri5"]
    assert adaptive.evaluations is None
    for coarse, fine in itertools.pairwise([("euler", 2), ("euler", 8), ("rk4", 8)]):
        assert table[("teacher", *fine)].distance < table[("teacher", *coarse)].distance
    assert [r.steps for r in rows if r.name == "exact"] == [1, 2, 4]
    assert len(calls) == len(rows) == 10


def test_edm_evaluations():
    teacher = EDM(2, network=ResNet(2, width=8))
    rows = quality_against_steps(teacher, {}, lambda e: 0.0, count=4, solvers=["heun"], teacher_steps=[5], repeats=1)
    assert rows[0].evaluations == 9


# -- errors --------------------------------------------------------------------------------------------------------


def test_errors():
    network = ResNet(2, 1, width=8)
    with pytest.raises(UserError, match="unknown student 'shortcut'; known: consistency, mean-flow"):
        student_of(FlowMatching(2, network=ResNet(2, width=8)), "shortcut")
    with pytest.raises(UserError, match="need a flow-matching or EDM teacher, not AutoregressiveMixture"):
        student_of(AutoregressiveMixture(2, hidden=[8]))
    with pytest.raises(ValueError, match="takes 1 context columns, it needs 2"):
        MeanFlow(2, 1, network=network)
    with pytest.raises(ValueError, match="unknown objective 'shortcut'"):
        MeanFlow(2, network=network, objective="shortcut")
    with pytest.raises(ValueError, match="need 2 <= coarsest <= finest"):
        ConsistencyModel(2, 1, network=network, coarsest=20, finest=10)
    with pytest.raises(ValueError, match="unknown clock"):
        Angles("sigma")
    with pytest.raises(UserError, match="has no steps to choose"):
        at_steps(AutoregressiveMixture(2, hidden=[8]), 2)
    with pytest.raises(UserError, match="EDM needs at least 2 steps, not 1"):
        at_steps(EDM(2, network=ResNet(2, width=8)), 1)
    with pytest.raises(UserError, match="unknown solver 'rk5'"):
        at_steps(FlowMatching(2, network=ResNet(2, width=8)), 1, solver="rk5")
    data = TrainingData(torch.randn(64, 2, generator=generator()))
    teacher = FlowMatching(2, network=ResNet(2, width=8))
    with pytest.raises(UserError, match="FlowMatching is no student"):
        fit(teacher, data, data, config(1), seed=0, step=DistillationStep(teacher))
