"""Unusable input: exactly one line on stderr, exit code 2, and nothing written."""

from __future__ import annotations

import subprocess
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml

from cathode.data.lhco import write_lhco_features

BASE = ["mj1", "dmj", "tau21_j1", "tau21_j2"]


@pytest.fixture(scope="module")
def files(frame, small, tmp_path_factory):
    """One file for every way of being unusable."""
    folder = tmp_path_factory.mktemp("bad")
    part = frame.iloc[:6000]
    whole = Path(small).read_bytes()
    (folder / "truncated.h5").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.h5").write_bytes(b"")
    (folder / "foreign.h5").write_text("%PDF-1.7\nnot events\n")
    (folder / "foreign.xyz").write_text("x y z\n")
    with h5py.File(folder / "strange.h5", "w") as file:
        file.create_dataset("image", data=np.zeros((3, 4, 5)))
    with_nan, with_inf = part.copy(), part.copy()
    with_nan.loc[7, "tau2j1"] = np.nan
    with_inf.loc[7, "mj1"] = np.inf
    write_lhco_features(with_nan, folder / "nan.h5")
    write_lhco_features(with_inf, folder / "inf.h5")
    write_lhco_features(part.iloc[:60], folder / "few.h5")
    energy = [np.sqrt(sum(part[f"p{a}j{k}"] ** 2 for a in "xyz") + part[f"mj{k}"] ** 2) for k in (1, 2)]
    momentum = sum((part[f"p{a}j1"] + part[f"p{a}j2"]) ** 2 for a in "xyz")
    mjj = np.sqrt((energy[0] + energy[1]) ** 2 - momentum)
    plain = pd.DataFrame({"mjj": mjj, "mj1": part["mj1"], "mj2": part["mj2"]})
    plain.to_csv(folder / "gev.csv", index=False)
    (plain / 1000).assign(flat=1.0, double=2 * plain["mj1"] / 1000).to_csv(folder / "tev.csv", index=False)
    (folder / "file").write_text("in the way")
    return folder


CASES = {
    "missing file": (["data.events=NOWHERE.h5"], "NOWHERE.h5"),
    "missing sample": (["data.events=sample:nothing"], "no sample called 'nothing'"),
    "truncated file": (["data.events={bad}/truncated.h5"], "truncated.h5"),
    "empty file": (["data.events={bad}/empty.h5"], "empty.h5"),
    "foreign file": (["data.events={bad}/foreign.h5"], "foreign.h5"),
    "unknown format": (["data.events={bad}/foreign.xyz"], "foreign.xyz"),
    "other HDF5": (["data.events={bad}/strange.h5"], "strange.h5"),
    "folder": (["data.events={bad}"], ""),
    "missing column": (["data.features=[mj1, mj9]"], "mj9"),
    "missing mass": (["data.mass=mjjj"], "mjjj"),
    "missing weight": (["data.weight=w"], "'w'"),
    "bad expression": (["data.features=[mj1, mj1 +]"], ""),
    "NaN": (["data.events={bad}/nan.h5"], "NaN"),
    "infinity": (["data.events={bad}/inf.h5"], "infinit"),
    "label as feature": (["data.features=[mj1, label]"], "label"),
    "GeV taken for TeV": (["data.events={bad}/gev.csv", "data.features=[mj1, mj2]", "data.units=TeV"], "GeV"),
    "empty region": (["regions.signal=[9.0, 9.5]"], "no events in the signal region"),
    "region of no width": (["regions.signal=[3.5, 3.5]"], "empty"),
    "no lower sideband": (["regions.signal=[0.1, 3.7]"], "sideband below"),
    "no upper sideband": (["regions.sideband=[2.3, 3.7]"], "sideband above"),
    "no upper data": (["regions.signal=[3.3, 12.0]"], "sideband above"),
    "constant feature": (
        ["data.events={bad}/tev.csv", "data.features=[mj1, flat]", "data.units=TeV"], "constant feature 'flat'"),
    "too few events": (["data.events={bad}/few.h5"], "at least 100 are needed"),
    "nothing selected": (["data.where=mj1 > 100"], ""),
    "unknown key": (["density.epochs=3"], "unknown key 'density.epochs'"),
    "wrong value": (["classifier.folds=1"], "classifier.folds"),
    "too much signal": (["injection.signal=sample:lhco_signal", "injection.count=1000000"], "1000000 signal events"),
    "truth without column": (["evaluation.truth=nothing"], "nothing"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_nothing_written(cathode, small, files, tmp_path, case):
    overrides, message = CASES[case]
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({"data": {"events": small}, "executor": "serial"}))
    words = [o.replace("{bad}", str(files)) for o in overrides]
    for command in ("search", "template"):
        found = cathode(command, config, "--output", tmp_path / "out", "--set", *words)
        assert found.code == 2
        assert len(found.errors) == 1, found.err
        assert found.errors[0].startswith("cathode: ")
        assert message in found.errors[0]
        assert found.out == ""
        assert sorted(p.name for p in tmp_path.iterdir()) == ["c.yaml"]


@pytest.mark.parametrize(
    ("place", "message"),
    [("file", "is not a folder"), ("file/below", "is not a folder"), (".", "holds no run")],
)
def test_outputs_that_cannot_be_used(cathode, config, files, place, message):
    before = sorted(files.iterdir())
    found = cathode("search", config, "--output", files / place)
    assert found.code == 2
    assert len(found.errors) == 1, found.err
    assert message in found.err
    assert sorted(files.iterdir()) == before
    assert (files / "file").read_text() == "in the way"


@pytest.mark.parametrize("words", [["nothing.yaml"], ["."]])
def test_missing_configuration(cathode, tmp_path, words):
    found = cathode("search", tmp_path / words[0], "--output", tmp_path / "out")
    assert found.code == 2
    assert len(found.errors) == 1
    assert not (tmp_path / "out").exists()


def test_dependent_features_are_found_by_the_fit(cathode, files, tmp_path):
    config = tmp_path / "c.yaml"
    content = {
        "data": {"events": str(files / "tev.csv"), "features": ["mj1", "double"], "units": "TeV"},
        "density": {"members": 1, "training": {"epochs": 1}, "model": {"hidden": [8], "components": 2}},
        "executor": "serial",
    }
    config.write_text(yaml.safe_dump(content))
    found = cathode("search", config, "--output", tmp_path / "out")
    assert found.code == 2
    assert found.errors[-1].startswith("cathode: ")
    assert "linearly dependent" in found.errors[-1]
    assert "Traceback" not in found.err
    assert not (tmp_path / "out" / "results.json").exists()


def test_a_process_of_its_own_says_the_same(start, tmp_path, files):
    """Warnings of libraries would only show outside of the tests' own process."""
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({"data": {"events": str(files / "inf.h5")}}))
    process: subprocess.Popen[str] = start("search", config, "--output", tmp_path / "out")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("cathode: ")
    assert not (tmp_path / "out").exists()
