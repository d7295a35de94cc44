from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files

import h5py
import jsonschema
import numpy as np
import pandas as pd
import pytest
import yaml

from cathode.data.readers import read_events
from cathode.run.config import load_settings
from cathode.search.settings import SearchSettings


def test_a_search_leaves_everything_behind(finished):
    assert finished.code == 0, finished.err
    assert finished.err.count("\n") == finished.err.count("WARNING:")
    names = {p.name for p in finished.folder.iterdir()}
    assert names == {
        "config.yaml", "results.json", "report.html", "figures", "template.h5", "scores.h5", "models", "log.txt",
        "provenance.json",
    }  # fmt: skip
    for suffix in ("png", "pdf"):
        assert len(list((finished.folder / "figures").glob(f"*.{suffix}"))) >= 10
    for member in ("density-0", "density-1"):
        files_of = {p.name for p in (finished.folder / "models" / member).iterdir()}
        assert {"config.yaml", "weights.safetensors", "history.csv", "provenance.json"} <= files_of
    assert "events to search" in (finished.folder / "log.txt").read_text()


def test_results_follow_the_schema(finished):
    content = json.loads((finished.folder / "results.json").read_text())
    schema = json.loads((files("cathode.search") / "results.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(content)
    assert set(content["truth"]["references"]) == {"idealized", "supervised"}


def test_the_terminal_says_what_the_report_says(finished):
    headline, gate, *rest = finished.out.splitlines()
    page = (finished.folder / "report.html").read_text()
    assert headline.replace("ε_B", "ε<sub>B</sub>") in page
    results = json.loads((finished.folder / "results.json").read_text())
    assert gate == f"gate: {results['gate']['status']}"
    points = [line for line in rest if line.startswith("eps_B = ")]
    assert len(points) == len(results["working_points"]) == 2
    for line, point in zip(points, results["working_points"], strict=True):
        assert f"observed {point['observed']:g}, " in line
        assert f"Z = {point['significance']:.1f}" in line
    assert rest[-1] == "report: runs/small/report.html"
    assert any(line.startswith("max SIC: search ") for line in rest)


def test_scores_and_template_can_be_used_elsewhere(finished):
    results = json.loads((finished.folder / "results.json").read_text())
    with h5py.File(finished.folder / "scores.h5") as file:
        assert len(file["data/score"]) == results["counts"]["signal_region"]
        assert len(file["template/score"]) == results["counts"]["template"]
        assert set(np.unique(file["data/fold"])) == {0, 1}
        assert "label" not in file["data"]
        assert np.isfinite(file["data/score"][:]).all()
    template = read_events(
        finished.folder / "template.h5", mass="mass", features=["mj1", "dmj", "tau21_j1", "tau21_j2"], weight="weight"
    )
    assert len(template) == results["counts"]["template"]
    assert ((template.mass > 3.3) & (template.mass < 3.7)).all()
    assert template.weight.sum() == pytest.approx(results["counts"]["signal_region"])


def test_the_configuration_of_a_run_repeats_it(finished, config):
    written = finished.folder / "config.yaml"
    assert load_settings(SearchSettings, written) == load_settings(SearchSettings, config)


def test_print_config_resolves_and_writes_nothing(cathode, config, tmp_path):
    found = cathode(
        "search", config, "--print-config", "--set", "density.members=5", "seed=7", "--truth", "label",
        "--output", tmp_path / "out",
    )  # fmt: skip
    assert (found.code, found.err) == (0, "")
    content = yaml.safe_load(found.out)
    assert (content["density"]["members"], content["seed"]) == (5, 7)
    assert content["evaluation"]["truth"] == "label"
    assert content["density"]["training"]["learning_rate"] == 0.002
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file_format", ["h5", "parquet", "root"])
def test_template_alone(cathode, config, tmp_path, file_format):
    out = tmp_path / "out"
    found = cathode(
        "template", config, "--output", out, "--format", file_format, "--set", "density.members=1",
        "density.training.epochs=1", "density.training.batch_size=1024",
    )  # fmt: skip
    assert found.code == 0, found.err
    summary = json.loads((out / "results.json").read_text())
    names = {p.name for p in out.iterdir()}
    assert names == {"config.yaml", "log.txt", "results.json", "histograms.h5", "models", f"template.{file_format}"}
    features = ["mj1", "dmj", "tau21_j1", "tau21_j2"]
    events = read_events(out / f"template.{file_format}", mass="mass", features=features, weight="weight")
    assert len(events) == summary["counts"]["template"]
    assert events.weight.sum() == pytest.approx(summary["expected"], rel=1e-5)
    assert f"{summary['expected']:.1f} +- {summary['expected_error']:.1f}" in found.out
    assert str(out / f"template.{file_format}") in found.out
    with h5py.File(out / "histograms.h5") as file:
        assert set(file) == {"signal_region", "sideband"}
        group = file["signal_region/mj1"]
        assert set(group) == {
            "edges", "data", "data_error", "template", "template_error", "template_model_error",
        }  # fmt: skip
        assert len(group["edges"]) == len(group["data"]) + 1


def test_info_and_conversions(cathode, small, tmp_path):
    found = cathode("data", "info", small)
    assert (found.code, found.err) == (0, "")
    assert "20000" in found.out.replace(",", "").replace(" ", "")
    assert "mj1" in found.out
    for suffix in ("parquet", "csv", "npz", "h5"):
        path = tmp_path / f"events.{suffix}"
        assert cathode("data", "convert", small, path).code == 0
        assert cathode("data", "info", path).code == 0
    frame = pd.read_parquet(tmp_path / "events.parquet")
    assert len(frame) == 20_000
    direct = read_events(small, mass="mjj", features=["mj1"])
    np.testing.assert_allclose(frame["mass"] if "mass" in frame else frame["mjj"], direct.mass)
    assert "sample" not in cathode("data", "info", "sample:lhco_signal").err


def test_download_lists_what_is_known(cathode):
    found = cathode("data", "download")
    assert found.code == 0
    assert "lhco-rnd" in found.out
    unknown = cathode("data", "download", "lhco-rndd")
    assert unknown.code == 2
    assert len(unknown.errors) == 1
    assert "lhco-rnd" in unknown.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--help"], ["search", "template", "data"]),
        (["search", "--help"], ["CONFIG", "--output", "--set", "--resume", "--print-config", "--truth"]),
        (["template", "--help"], ["CONFIG", "--output", "--set", "--resume", "--print-config", "--format"]),
        (["data", "--help"], ["info", "convert", "download", "generate"]),
        (["data", "download", "--help"], ["--folder", "--base-url"]),
        (["data", "convert", "--help"], ["--mass", "--features", "--units", "--layout"]),
        (["data", "generate", "--help"], ["--processes", "--raw"]),
    ],
    ids=" ".join,
)
def test_help_is_complete(cathode, words, expected):
    found = cathode(*words)
    assert found.code == 0
    for word in expected:
        assert word in found.out


@pytest.mark.parametrize(
    "words",
    [[], ["serch"], ["search"], ["search", "a.yaml", "--nonsense"], ["data"], ["template", "a", "--format", "x"]],
    ids=" ".join,
)
def test_wrong_words_are_exit_code_2(cathode, words):
    found = cathode(*words)
    assert found.code == 2
    assert "Traceback" not in found.err + found.out


def test_version(cathode):
    assert cathode("--version").out.strip()


def test_importing_the_command_line_is_quick():
    """Help and mistakes must not wait for torch: only what a command needs is imported."""
    code = "import sys, cathode.run.cli; sys.exit(sum(m in sys.modules for m in ('torch', 'sklearn', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
