"""``cathode jets``: train, generate, distil and convert from the command line, and one line for every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from cathode.jets.readers import read_jets
from cathode.run.cli import main

ANALYSIS = Path(__file__).parents[2] / "analyses" / "jetnet"
TINY = {"epochs": 1, "batch_size": 128, "device": "cpu", "ema_halflife_events": 1000.0}
CONTENT = {
    "data": {"jets": "sample:lhco_constituents", "rows": [0, 150], "particles": 8, "cells": {"pitch": 0.1}},
    "kinematics": {"model": {"components": 2, "hidden": 8, "layers": 1, "knots": 5}, "training": TINY},
    "constituents": {
        "model": {
            "kind": "flow-matching",
            "network": {"kind": "set-transformer", "width": 8, "heads": 2, "blocks": 1},
            "steps": 2,
        },
        "training": TINY,
    },
    "conserve": "axis",
}


def _config(folder: Path, **changes) -> Path:
    path = folder / "jets.yaml"
    path.write_text(yaml.safe_dump({**CONTENT, **changes}))
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("jets-cli")
    assert main(["jets", "train", str(_config(folder)), "--output", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def refused(capsys):
    """Run a command that must fail: its one line."""

    def run(*words: object) -> str:
        assert main(["jets", *map(str, words)]) == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith("cathode: ")
        assert "\n" not in error
        return error

    return run


def test_a_training_leaves_everything_behind(trained: Path) -> None:
    assert {p.name for p in trained.iterdir()} == {"config.yaml", "log.txt", "model", "results.json"}
    results = json.loads((trained / "results.json").read_text())
    assert results["jets"] == {"train": 285, "validation": 15}
    assert "constituents stage is trained" in (trained / "log.txt").read_text()
    provenance = json.loads((trained / "model" / "provenance.json").read_text())
    assert provenance["seed"] == 1
    assert yaml.safe_load((trained / "config.yaml").read_text())["conserve"] == "axis"


def test_a_finished_training_is_not_repeated(trained: Path, capsys, refused) -> None:
    config = trained.parent / "jets.yaml"
    assert main(["jets", "train", str(config), "--output", str(trained), "--resume"]) == 0
    assert "finished" in capsys.readouterr().out
    assert "already holds a run" in refused("train", config, "--output", trained)
    changed = ("--set", "seed=2", "--resume")
    assert "another configuration" in refused("train", config, "--output", trained, *changed)


def test_generate_by_number_and_like_a_file(trained: Path, tmp_path: Path, capsys) -> None:
    first, second, like = (tmp_path / name for name in ("a.h5", "b.h5", "like.h5"))
    for path in (first, second):
        assert main(["jets", "generate", str(trained), "--count", "25", "--seed", "7", "--output", str(path)]) == 0
    assert "ms per jet" in capsys.readouterr().out
    jets = read_jets(first)
    assert np.array_equal(jets.points, read_jets(second).points)
    assert len(jets) == 25
    words = ["jets", "generate", str(trained / "model"), "--like", "sample:lhco_constituents", "--start", "400"]
    assert main([*words, "--count", "31", "--batch-size", "10", "--output", str(like)]) == 0
    truth = read_jets("sample:lhco_constituents", start=400, stop=416, particles=8, own_axis=True).select(slice(0, 31))
    made = read_jets(like)
    np.testing.assert_allclose(made.axis, truth.axis, rtol=1e-4, atol=1e-4)
    assert np.array_equal(made.multiplicity(), truth.multiplicity())
    more = ["--count", "5", "--steps", "1", "--output", str(first), "--overwrite"]
    assert main(["jets", "generate", str(trained), *more]) == 0
    assert len(read_jets(first)) == 5


@pytest.mark.parametrize("method", ["mean-flow", "consistency"])
def test_distil(method: str, trained: Path, tmp_path: Path) -> None:
    words = ["jets", "distill", str(trained)]
    words += ["--jets", "sample:lhco_constituents", "--rows", "0:150"] if method == "consistency" else []
    words += ["--method", method, "--epochs", "1", "--batch-size", "128", "--device", "cpu"]
    assert main([*words, "--steps", "1", "--output", str(tmp_path / "student")]) == 0
    results = json.loads((tmp_path / "student" / "results.json").read_text())
    assert results["evaluations"] == {"teacher": 4, "student": 1}
    assert set(results["milliseconds_per_jet"]) == {"teacher", "student"}
    config = yaml.safe_load((tmp_path / "student" / "model" / "config.yaml").read_text())["config"]
    assert config["rows"] == [0, 150]
    assert config.get("data", {}).get("rows") == (None if method == "consistency" else [0, 150])
    made = tmp_path / "jets.h5"
    assert main(["jets", "generate", str(tmp_path / "student"), "--count", "10", "--output", str(made)]) == 0
    assert len(read_jets(made)) == 10


def test_distillation_refuses_what_it_cannot_do(trained: Path, tmp_path: Path, refused) -> None:
    words = ("distill", trained, "--jets", "sample:lhco_constituents", "--output", tmp_path / "x")
    assert "FIRST:STOP" in refused(*words, "--rows", "5:3")
    assert "steps: must be at least 1" in refused(*words, "--steps", "0")
    assert "multiple of heads" in refused(*words, "--width", "9")
    assert "too few" in refused(*words, "--rows", "0:10")
    assert "need --jets" in refused("distill", trained, "--output", tmp_path / "x", "--rows", "0:9")
    assert not (tmp_path / "x").exists()


def test_generation_refuses_what_it_cannot_do(trained: Path, tmp_path: Path, refused) -> None:
    output = tmp_path / "x.h5"
    words = ("generate", trained, "--output", output)
    assert "give --count N or --like FILE" in refused(*words)
    assert "must be positive" in refused(*words, "--count", 0)
    assert "batch size must be positive" in refused(*words, "--count", 3, "--batch-size", 0)
    assert "knows no types" in refused(*words, "--count", 3, "--type", 1)
    assert "outside of" in refused(*words, "--like", "sample:lhco_constituents", "--start", 5000)
    assert "no sample called" in refused(*words, "--like", "sample:nothing")
    assert "exclude each other" in refused(*words, "--like", "sample:lhco_constituents", "--type", 1)
    assert "10 jets from row" in refused(*words, "--like", "sample:lhco_constituents", "--start", 4995, "--count", 11)
    assert "no such model folder" in refused("generate", tmp_path / "nothing", "--count", 3, "--output", output)
    assert "suffix must be" in refused("generate", trained, "--output", tmp_path / "x.csv", "--count", 3)
    assert "needs at least 1 steps" in refused(*words, "--count", 3, "--steps", 0)
    assert not any(tmp_path.iterdir())
    output.touch()
    assert "exists: add --overwrite" in refused(*words, "--count", 3)
    assert output.stat().st_size == 0


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.jets=missing.h5", "missing.h5"),
        ("data.rows=[0,9999]", "9999"),
        ("data.rows=[3,3]", "data.rows"),
        ("data.particels=8", "did you mean 'particles'"),
        ("data.types=1.5", "data.types"),
        ("constituents.model.kind=unknown", "constituents.model"),
        ("constituents.model.network.width=9", "no multiple of heads"),
        ("constituents.model.network.widht=8", "did you mean 'width'"),
        ("constituents.training.epochs=0", "epochs"),
        ("conserve=all", "conserve"),
        ("data.axis=file", "needs complete jets"),
        ("data.cells.pitch=-1", "cells.pitch"),
    ],
)
def test_training_refuses_configurations(override: str, expected: str, tmp_path: Path, refused) -> None:
    line = refused("train", _config(tmp_path), "--output", tmp_path / "run", "--set", override)
    assert expected in line
    assert not (tmp_path / "run").exists()


def test_the_configuration_can_be_printed(tmp_path: Path, capsys) -> None:
    assert main(["jets", "train", str(_config(tmp_path)), "--print-config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["constituents"]["model"]["frame"] == {"ordered": True, "scale": 0.05, "mirror": True}
    assert printed["data"]["cells"]["offset"] == 0.05


@pytest.mark.parametrize("name", sorted(path.name for path in ANALYSIS.glob("*.yaml")))
def test_configurations_of_the_analysis_are_valid(name: str) -> None:
    from cathode.jets.generators import JetGeneratorSettings
    from cathode.run.config import load_settings

    settings = load_settings(JetGeneratorSettings, ANALYSIS / name)
    assert settings.data.cells is not None


def test_pretraining_leaves_an_encoder_that_a_classifier_takes(tmp_path: Path, capsys, refused) -> None:
    from cathode.classifiers.transformer.pretrained import pretrained_architecture

    output = tmp_path / "encoder"
    words = ["jets", "pretrain", "sample:lhco_constituents", "--output", str(output), "--rows", "0", "200"]
    words += ["--signal", "sample:lhco_constituents_signal", "--exclude-mass", "3.6", "3.7", "--targets", "tau21"]
    words += ["--particles", "8", "--width", "16", "--blocks", "1", "--epochs", "1"]
    assert main(words) == 0
    assert f"encoder: {output}" in capsys.readouterr().out
    assert pretrained_architecture(output).width == 16
    assert [p.name for p in tmp_path.iterdir()] == ["encoder"]
    assert "exists: choose another" in refused(*words[1:])
    other = tmp_path / "other"
    common = ("pretrain", "sample:lhco_constituents", "--output", other)
    assert "no observable 'size'" in refused(*common, "--targets", "size")
    assert "too few to learn from" in refused(*common, "--mass", 20, 30)
    assert "nothing to learn" in refused(*common, "--targets")
    assert not other.exists()
