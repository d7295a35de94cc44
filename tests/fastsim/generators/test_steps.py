"""The curve of quality against steps of a shower generator."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from cathode.density import FlowMatching, Preprocessed
from cathode.density.autoregressive import AutoregressiveMixture
from cathode.density.bijections import Compose, Log, Standardize
from cathode.density.distillation import MeanFlow, student_of
from cathode.density.networks import ResNet
from cathode.support.errors import UserError
from fastsim.data import write_showers
from fastsim.generators.generate import generate
from fastsim.generators.generator import ShowerGenerator, save_generator
from fastsim.generators.steps import steps_curve, with_steps
from fastsim.generators.steps.commands import Steps, run_steps
from fastsim.geometry import Geometry

GRID = Geometry.from_grid((2, 2, 2), cell=10.0)


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


def flow():
    torch.manual_seed(1)
    network = ResNet(8, 3, width=16, blocks=1)
    torch.nn.init.normal_(network.exit.weight, std=0.3)
    with torch.no_grad():
        network.entrance.weight[:, -3:] = 0.0
        network.blocks[0].condition.weight[:, -3:] = 0.0
    return log_of(FlowMatching(8, 3, network=network, solver="rk4", steps=8))


@pytest.fixture(scope="module")
def case():
    teacher = generator_of(flow())
    students = {kind: generator_of(student_of(teacher.shape_stage, kind)) for kind in ("consistency", "mean-flow")}
    incident = np.full((300, 1), 500.0, dtype=np.float32)
    reference = generate(teacher, incident, seed=5).showers
    return teacher, students, reference


def test_noise_follows_the_steps_of_a_consistency_stage(case):
    teacher, students, _ = case
    for steps in (1, 2, 4):
        chosen = with_steps(students["consistency"], steps)
        noise = chosen.noise(3, generator=torch.Generator().manual_seed(0))
        assert noise.shape == (3, 2 + 8 * steps)
        assert chosen.decode(noise, torch.full((3, 1), 500.0)).shape == (3, 8)
    assert with_steps(teacher, 3, solver="euler").shape_stage.density.steps == 3
    assert teacher.shape_stage.density.steps == 8  # untouched


def test_curve_has_every_choice_and_converges(case):
    teacher, students, reference = case
    rows = steps_curve(
        teacher,
        reference,
        students=students,
        solvers=("euler", "rk4"),
        teacher_steps=(1, 8),
        repeats=1,
        seed=5,
    )
    table = {(r.name, r.solver, r.steps): r for r in rows}
    assert len(table) == len(rows) == 4 + 6
    assert table["teacher", "rk4", 8].evaluations == 32
    assert table["mean-flow", "", 4].evaluations == 4
    assert table["teacher", "rk4", 8].distance < table["teacher", "euler", 1].distance
    assert all(np.isfinite(r.distance) and r.seconds_per_event > 0 for r in rows)


def test_generator_without_steps_is_one_row(case):
    *_, reference = case
    plain = generator_of(log_of(AutoregressiveMixture(8, 3, hidden=[8])))
    (row,) = steps_curve(plain, reference, repeats=1)
    assert (row.name, row.steps, row.evaluations) == ("teacher", 1, None)
    with pytest.raises(UserError, match="has no steps to choose"):
        with_steps(plain, 2)


def test_command_writes_the_table(case, tmp_path, capsys):
    teacher, students, reference = case
    save_generator(teacher, tmp_path / "teacher")
    save_generator(students["mean-flow"], tmp_path / "fast")
    write_showers(tmp_path / "reference.hdf5", reference)
    command = Steps(
        tmp_path / "teacher",
        str(tmp_path / "reference.hdf5"),
        tmp_path / "steps.json",
        students=(tmp_path / "fast",),
        solvers=("euler",),
        teacher_steps=(2,),
        student_steps=(1,),
        n=100,
    )
    run_steps(command)
    found = json.loads((tmp_path / "steps.json").read_text())
    assert [(r["name"], r["steps"]) for r in found["rows"]] == [("teacher", 2), ("fast", 1)]
    assert found["showers"] == 100
    assert "fast" in capsys.readouterr().out


def test_errors(case):
    teacher, _, reference = case
    with pytest.raises(UserError, match="unknown metric 'auc'"):
        steps_curve(teacher, reference, metric="auc")
    with pytest.raises(UserError, match="unknown solver"):
        steps_curve(teacher, reference, solvers=("rk5",), repeats=1)
    assert isinstance(case[1]["mean-flow"].shape_stage.density, MeanFlow)
