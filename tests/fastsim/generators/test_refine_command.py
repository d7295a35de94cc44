"""The command ``fastsim refine``."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from cathode.density.base import ConditionalDensity
from cathode.density.registry import buildable
from fastsim import cli
from fastsim.data import read_showers, write_showers
from fastsim.generators.generate import generate
from fastsim.generators.generator import ShowerGenerator, save_generator
from fastsim.geometry import Geometry

GRID = Geometry.from_grid((2, 2, 2), cell=10.0)


@buildable("test_refine_command_layers")
class Layers(ConditionalDensity):
    event_shape, context_features = (2,), 1

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def decode(self, noise, context=None, *, mask=None):
        return 0.4 * context * self.scale * torch.exp(0.1 * noise)


@buildable("test_refine_command_shape")
class Shape(ConditionalDensity):
    event_shape, context_features = (8,), 3

    def __init__(self):
        super().__init__()

    def decode(self, noise, context=None, *, mask=None):
        return torch.exp(0.3 * noise) * context[:, 1:].repeat_interleave(4, 1) / 4


def generator(scale):
    return ShowerGenerator(Layers(scale), Shape(), {"layout": GRID.to_dict()}, 1.0, [1000.0, 1300.0]).eval()


@pytest.fixture
def words(tmp_path):
    incident = np.random.default_rng(1).uniform(1000.0, 1300.0, (3000, 1)).astype(np.float32)
    write_showers(tmp_path / "truth.hdf5", generate(generator(1.0), incident, seed=1).showers)
    save_generator(generator(1.1), tmp_path / "model")
    data = str(tmp_path / "truth.hdf5")
    return ["refine", str(tmp_path / "model"), "--data", data, "--rows", "0:2500", "--inputs", "high",
            "--members", "1", "--epochs", "15", "--output", str(tmp_path / "out")]  # fmt: skip


def test_command_corrects_a_scale_and_accounts_for_it(words, tmp_path, capsys):
    like = ["--like", str(tmp_path / "truth.hdf5"), "--like-rows", "2500:3000"]
    assert cli.main([*words, *like]) == 0
    assert "rejection keeps" in capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    report = results["report"]
    assert report["auc"] > 0.65
    assert abs(report["refined_auc"] - 0.5) < 0.5 * (report["auc"] - 0.5)
    made = read_showers(tmp_path / "out" / "showers.hdf5", GRID)
    truth = read_showers(tmp_path / "truth.hdf5", GRID)[2500:3000]
    assert np.array_equal(made.incident_energy, truth.incident_energy)
    response = [float((s.energies.sum(1) / s.incident_energy[:, 0]).mean()) for s in (made, truth)]
    assert abs(response[0] - response[1]) < 0.03  # unrefined: 0.08
    assert results["showers"]["acceptance"] == pytest.approx(500 / results["showers"]["drawn"])
    assert cli.main([*words, *like]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert cli.main([*words, *like, "--resume"]) == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--rows", "7"], "rows must be FIRST:STOP"),
        (["--like-rows", "0:5"], "--like-rows needs --like"),
        (["--largest-weight", "0.5"], "largest_weight: must be above 1"),
    ],
)
def test_bad_requests_leave_nothing(words, tmp_path, capsys, more, message):
    assert cli.main([*words, *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
