from __future__ import annotations

import json
import math
from dataclasses import dataclass

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from cathode.density.base import ConditionalDensity
from cathode.density.ensemble import Ensemble
from cathode.density.folder import load_density, load_history, save_density
from cathode.density.registry import buildable
from cathode.support.errors import UserError


@buildable("test-folder-normal")
class Normal(ConditionalDensity):
    def __init__(self, hidden=3):
        super().__init__()
        self.event_shape, self.context_features = (2,), 1
        self.net = nn.Linear(1, hidden)
        self.head = nn.Linear(hidden, 2)
        self.register_buffer("count", torch.tensor(7))

    def log_prob(self, x, context=None):
        return torch.distributions.Normal(self.head(self.net(context)), 1.0).log_prob(x).sum(-1)

    def encode(self, x, context=None):
        return x - self.head(self.net(context))

    def decode(self, noise, context=None, *, mask=None):
        return noise + self.head(self.net(context))


@buildable("test-folder-fickle")
class Fickle(Normal):
    """Breaks the contract: a buffer whose shape does not follow from the arguments."""

    def grow(self):
        self.register_buffer("later", torch.zeros(5))
        return self


@dataclass(frozen=True)
class Settings:
    epochs: int = 3
    names: tuple[str, ...] = ("a", "b")


HISTORY = pd.DataFrame({"epoch": [0, 1], "validation_loss": [1 / 3, math.nan]})


@pytest.fixture
def folder(tmp_path):
    return save_density(
        Normal(), tmp_path / "model", history=HISTORY, provenance={"seed": 5, "loss": math.nan}, config=Settings()
    )


@pytest.mark.parametrize(
    "wrap", [lambda: Normal(4), lambda: Normal().double(), lambda: Ensemble([Normal(), Normal()], [1, 3])]
)
def test_round_trip_is_exact(tmp_path, wrap):
    density = wrap()
    state = torch.get_rng_state()
    loaded = load_density(save_density(density, tmp_path / "model"))
    assert torch.equal(torch.get_rng_state(), state)
    assert type(loaded) is type(density)
    assert not loaded.training
    dtype = next(density.parameters()).dtype
    x, context = torch.randn(5, 2, dtype=dtype), torch.randn(5, 1, dtype=dtype)
    assert torch.equal(loaded.log_prob(x, context), density.log_prob(x, context))


def test_the_four_files(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.yaml",
        "history.csv",
        "provenance.json",
        "weights.safetensors",
    ]
    document = yaml.safe_load((folder / "config.yaml").read_text())
    assert document["density"] == {"kind": "test-folder-normal", "hidden": 3}
    assert document["config"] == {"epochs": 3, "names": ["a", "b"]}
    facts = json.loads((folder / "provenance.json").read_text())
    assert facts["seed"] == 5
    assert facts["loss"] is None
    assert {"versions", "git_revision", "environment", "weights_sha256"} <= facts.keys()
    pd.testing.assert_frame_equal(load_history(folder), HISTORY, check_exact=True)


@pytest.mark.parametrize("name", ["config.yaml", "weights.safetensors", "history.csv", "provenance.json"])
def test_missing_files_are_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name}: missing"):
        load_density(folder)


def test_truncated_weights_are_named(folder):
    path = folder / "weights.safetensors"
    content = path.read_bytes()
    for length in (0, 5, 100, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"weights.safetensors: truncated or not a safetensors file"):
            load_density(folder)


def _drop(state):
    del state["head.bias"]


def _add(state):
    state["extra"] = torch.zeros(1)


def _reshape(state):
    state["net.weight"] = torch.zeros(4, 1)


def _cast(state):
    state["net.weight"] = state["net.weight"].double()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop, "1 of 5 tensors are missing, first 'head.bias'"),
        (_add, "1 unknown tensors, first 'extra'"),
        (_reshape, r"'net.weight' has shape \(4, 1\), expected \(3, 1\)"),
        (_cast, "'net.weight' has type torch.float64, expected torch.float32"),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder, change, message):
    state = load_file(folder / "weights.safetensors")
    change(state)
    save_file(state, folder / "weights.safetensors")
    with pytest.raises(UserError, match=r"weights.safetensors: does not fit config.yaml: " + message):
        load_density(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "format 99, this version reads format 1"),
        ({"density": "x"}, "has no entry 'density'"),
        ({"density": {"kind": "nonsense"}}, "unknown kind 'nonsense'"),
        ({"density": {"kind": "test-folder-normal", "layers": 3}}, "cannot build 'test-folder-normal'"),
        ({"density": {"kind": "standardize", "features": 2}}, "config.yaml: .*(not a density|cannot build)"),
        ({"modules": ["os"]}, "'os' is not a module of this package"),
        ({"modules": ["cathode.density.nowhere"]}, "cathode.density.nowhere does not exist"),
        ({"dtype": "int64"}, "dtype 'int64' is not a floating-point type"),
    ],
)
def test_foreign_descriptions_are_refused(folder, change, message):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))
    with pytest.raises(UserError, match=message):
        load_density(folder)


def test_yaml_cannot_run_code(folder):
    (folder / "config.yaml").write_text("density: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(UserError, match="not readable as YAML"):
        load_density(folder)


def test_no_such_folder(tmp_path):
    with pytest.raises(UserError, match="no such model folder"):
        load_density(tmp_path / "nowhere")


def test_a_density_that_cannot_be_rebuilt_is_not_saved(tmp_path):
    with pytest.raises(
        ValueError, match="do not follow from its constructor arguments: 1 unknown tensors, first 'later'"
    ):
        save_density(Fickle().grow(), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_failure_leaves_the_old_folder(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(TypeError, match="cannot be kept as plain data"):
        save_density(Normal(), folder, provenance={"object": object()})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    save_density(Normal(5), folder)
    assert load_density(folder).net.out_features == 5


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="exists and is not a model folder"):
        save_density(Normal(), tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_tied_weights(tmp_path):
    density = Normal(1)
    density.head = nn.Linear(1, 2)
    density.net.bias = nn.Parameter(torch.zeros(1))
    save_density(density, tmp_path / "model")
    assert torch.equal(load_density(tmp_path / "model").head.weight, density.head.weight)
