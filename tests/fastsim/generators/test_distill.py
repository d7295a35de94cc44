"""Distillation of shower generators: students inside every wrapper, the command, resuming, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from cathode.density import EDM, Canonical, Dequantised, FlowMatching, Preprocessed
from cathode.density.autoregressive import AutoregressiveMixture
from cathode.density.bespoke import BespokeSolver
from cathode.density.bijections import Compose, Log, Standardize
from cathode.density.distillation import ConsistencyModel, MeanFlow, core_of, evaluations, inward, rewrapped, student_of
from cathode.density.networks import ResNet
from cathode.support.errors import UserError
from cathode.training import FitConfig
from fastsim import cli
from fastsim.data import write_showers
from fastsim.data.streaming import training_data
from fastsim.generators.distill import DistillSettings, distil_shape, distill, milliseconds_per_shower
from fastsim.generators.distill.commands import parse_rows
from fastsim.generators.generate import generate
from fastsim.generators.generator import ShowerGenerator, load_generator, save_generator
from fastsim.generators.steps import with_steps
from fastsim.geometry import Geometry

GRID = Geometry.from_grid((2, 2, 2), cell=10.0)
TURNS = [[0, 1], [4, 1]]


def log_of(density):
    """The density of the logarithm, given the logarithm of the context: energies of about 50 MeV."""
    features, columns = density.event_shape[0], density.context_features
    g = torch.Generator().manual_seed(0)
    bijection, context_bijection = (
        Compose([Log(n), Standardize(n)]).fit(50.0 * torch.exp(0.3 * torch.randn(50, n, generator=g)))
        for n in (features, columns)
    )
    return Preprocessed(bijection, density, context_bijection)


def generator_of(shape):
    torch.manual_seed(0)
    energies = log_of(AutoregressiveMixture(2, 1, hidden=[8], components=1))
    with torch.no_grad():
        energies.density.made.head_context.weight.zero_()
        energies.density.made.head.weight.zero_()
    return ShowerGenerator(energies, shape, {"layout": GRID.to_dict()}, 1.0, [100.0, 1000.0]).eval()


def shape_of(family):
    """A shape stage in all wrappers, whose field is far from a straight one."""
    torch.manual_seed(1)
    network = ResNet(8, 3, width=16, blocks=1)
    torch.nn.init.normal_(network.exit.weight, std=0.15)
    core = (
        FlowMatching(8, 3, network=network, solver="midpoint", steps=8)
        if family == "flow"
        else EDM(8, 3, network=network, sigma_max=20.0, steps=8)
    )
    return Canonical(Dequantised(log_of(core), 1.0), 4, TURNS, mirror=True)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    teacher = generator_of(shape_of("flow"))
    save_generator(teacher, folder / "model")
    showers = generate(teacher, np.full((400, 1), 500.0, dtype=np.float32), seed=5).showers
    write_showers(folder / "showers.hdf5", showers)
    return folder, teacher, showers


def fast(**changes):
    settings = {"epochs": 2, "batch_size": 64, "device": "cpu", "validation_batch": 200, **changes}
    return FitConfig(**settings)


def settings_of(folder, **changes):
    chosen = {
        "model": str(folder / "model"), "showers": (str(folder / "showers.hdf5"),), "draws": 1, "training": fast()
    } | changes  # fmt: skip
    return DistillSettings(**chosen)


@pytest.mark.parametrize("family", ["flow", "diffusion"])
@pytest.mark.parametrize("kind", ["mean-flow", "consistency"])
def test_students_are_put_where_the_core_was(family, kind):
    teacher = shape_of(family)
    student = student_of(teacher, kind, steps=2)
    assert isinstance(student, Canonical)
    assert isinstance(student.density, Dequantised)
    assert isinstance(core_of(student), MeanFlow if kind == "mean-flow" else ConsistencyModel)
    assert core_of(teacher) is teacher.density.density.density
    # The wrappers are copies: nothing of the student is shared with its teacher.
    shared = {p.data_ptr() for p in teacher.state_dict().values()} & {
        p.data_ptr() for p in student.state_dict().values()
    }
    assert not shared - {0}
    noise = student.noise(5, generator=torch.Generator().manual_seed(0))
    assert noise.shape == (5, 2 + 8 * (2 if kind == "consistency" else 1))
    assert student.decode(noise, torch.full((5, 3), 50.0)).shape == (5, 8)


def test_rewrapping_the_core_changes_nothing_and_inward_undoes_decode():
    teacher = shape_of("flow").eval()
    again = rewrapped(teacher, core_of(teacher)).eval()
    noise = teacher.noise(20, generator=torch.Generator().manual_seed(1))
    context = torch.full((20, 3), 50.0)
    x = teacher.decode(noise, context)
    assert torch.equal(x, again.decode(noise, context))
    z, seen = inward(teacher, x, context, generator=torch.Generator().manual_seed(2))
    expected = teacher.density.density.bijection.forward_and_log_det(teacher.frame(x))[0]
    lit = teacher.frame(x) >= 1.0
    torch.testing.assert_close(z[lit], expected[lit])
    torch.testing.assert_close(seen, teacher.density.density.transform_context(context))


def test_steps_of_a_consistency_student_may_change_inside_a_frame():
    student = generator_of(student_of(shape_of("flow"), "consistency"))
    chosen = with_steps(student, 3)
    noise = chosen.noise(2, generator=torch.Generator().manual_seed(0))
    assert noise.shape[1] == 2 + 2 + 8 * 3
    assert torch.isfinite(chosen.decode(noise, torch.full((2, 1), 500.0))).all()


@pytest.mark.parametrize(
    ("method", "steps", "kind"),
    [("mean-flow", 1, MeanFlow), ("consistency", 2, ConsistencyModel), ("bespoke", 3, BespokeSolver)],
)
def test_command_writes_a_generator_of_few_steps(case, tmp_path, method, steps, kind, capsys):
    folder, teacher, showers = case
    words = [
        "distill",
        str(folder / "model"),
        "--data",
        str(folder / "showers.hdf5"),
        "--output",
        str(tmp_path / "out"),
    ]
    words += ["--method", method, "--steps", str(steps), "--epochs", "2", "--rows", "0:300", "--batch-size", "64"]
    assert cli.main([*words, "--device", "cpu"]) == 0
    assert "model: " in capsys.readouterr().out
    student = load_generator(tmp_path / "out" / "model")
    assert isinstance(core_of(student.shape_stage), kind)
    assert evaluations(student.shape_stage) == steps
    made = generate(student, showers.incident_energy[:50], seed=1).showers
    assert np.isfinite(made.energies).all()
    assert ((made.energies == 0) | (made.energies >= 1.0)).all()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["showers"] == {"train": 270, "validation": 30}
    assert results["evaluations"] == {"teacher": 16, "student": steps}
    assert (tmp_path / "out" / "log.txt").read_text()
    # Unchanged: what is not the core of the shape stage.
    for name, value in teacher.energy_stage.state_dict().items():
        assert torch.equal(value, student.energy_stage.state_dict()[name])
    assert cli.main([*words, "--device", "cpu"]) == 2
    assert "already holds a run" in capsys.readouterr().err


def test_a_trained_student_is_nearer_to_its_teacher(case):
    folder, teacher, showers = case
    shape = teacher.shape_stage
    data = training_data(showers, "shape")
    made = distil_shape(shape, data, data, settings=settings_of(folder, training=fast(epochs=12, learning_rate=3e-3)))
    deviation = made.history["validation_loss"]
    assert made.summary["validation_loss"] < 0.6 * deviation.iloc[0]
    assert made.density.context_features == shape.context_features


def test_killed_distillation_continues_to_the_same_bits_and_only_with_its_teacher(case, tmp_path):
    folder, teacher, showers = case
    data = training_data(showers, "shape")
    settings = settings_of(folder, training=fast(epochs=3))
    whole = distil_shape(teacher.shape_stage, data, data, settings=settings).density

    class Killed(Exception):
        pass

    from cathode.training.distillation import DistillationStep

    real, steps = DistillationStep.step, []

    def step(self, batch, generator):
        steps.append(1)
        if len(steps) == 9:
            raise Killed
        return real(self, batch, generator)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DistillationStep, "step", step)
        with pytest.raises(Killed):
            distil_shape(teacher.shape_stage, data, data, settings=settings, checkpoint_dir=tmp_path)
    assert (tmp_path / "checkpoint.safetensors").exists()
    other = shape_of("flow")
    with torch.no_grad():
        core_of(other).network.exit.weight[0, 0] += 1e-3
    with pytest.raises(UserError, match="belongs to another fit, it differs in teacher"):
        distil_shape(other, data, data, settings=settings, checkpoint_dir=tmp_path)
    resumed = distil_shape(teacher.shape_stage, data, data, settings=settings, checkpoint_dir=tmp_path).density
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_smaller_network_and_resume_of_a_finished_run(case, tmp_path):
    folder, teacher, showers = case
    settings = settings_of(folder, width=8, blocks=2, training=fast(epochs=1))
    student = distill(settings, output=tmp_path / "out")
    network = core_of(student.shape_stage).network
    assert (network.entrance.out_features, len(network.blocks)) == (8, 2)
    again = distill(settings, output=tmp_path / "out", resume=True)
    assert core_of(again.shape_stage).network.entrance.weight.shape == (8, network.entrance.in_features)
    times = milliseconds_per_shower((teacher, student), showers, batch_size=20, repeats=3)
    assert all(0 < t < 1e4 for t in times)


def test_errors_leave_nothing_behind(case, tmp_path, capsys):
    folder, _, _ = case
    output = tmp_path / "out"
    plain = generator_of(log_of(AutoregressiveMixture(8, 3, hidden=[8])))
    save_generator(plain, tmp_path / "plain")
    with pytest.raises(UserError, match="AutoregressiveMixture, which has no differential equation to distil"):
        distill(settings_of(folder, model=str(tmp_path / "plain")), output=output)
    save_generator(generator_of(student_of(shape_of("flow"))), tmp_path / "student")
    with pytest.raises(UserError, match="MeanFlow, distilled already"):
        distill(settings_of(folder, model=str(tmp_path / "student")), output=output)
    with pytest.raises(UserError, match="rows 0 to 500 of 400 showers"):
        distill(settings_of(folder, rows=(0, 500)), output=output)
    with pytest.raises(UserError, match="50 showers are too few"):
        distill(settings_of(folder, rows=(0, 50)), output=output)
    with pytest.raises(UserError, match="no such model folder"):
        distill(settings_of(folder, model=str(tmp_path / "nowhere")), output=output)
    with pytest.raises(UserError, match="steps: must be at least 1, got 0"):
        settings_of(folder, steps=0)
    with pytest.raises(UserError, match="bespoke solver keeps its teacher's network"):
        settings_of(folder, method="bespoke", width=3)
    with pytest.raises(UserError, match="must be one of consistency, mean-flow, bespoke"):
        settings_of(folder, method="shortcut")
    assert not output.exists()
    for text in ("5", "7:3", "a:b", "3:"):
        with pytest.raises(UserError, match="FIRST:STOP"):
            parse_rows(text)
    assert parse_rows("3:9") == (3, 9)
