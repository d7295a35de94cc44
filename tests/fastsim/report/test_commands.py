from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tyro

from cathode.support.errors import UserError
from fastsim.cli import main
from fastsim.data import Showers, read_showers, write_showers
from fastsim.evaluation.results import KIND
from fastsim.report.commands import Evaluate
from fastsim.report.figures import roc_figure
from fastsim.report.folder import check_folder, evaluation_folder
from fastsim.report.write import write_evaluation


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("showers")
    for name, start in (("reference", 0), ("generated", 600)):
        showers = read_showers("sample:ds1-photons", "ds1-photons", start=start, stop=start + 600)
        write_showers(folder / f"{name}.hdf5", showers)
    return folder


@pytest.fixture
def fastsim(capfd):
    def run(*words: object):
        capfd.readouterr()
        code = main([str(w) for w in words])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def words(files: Path, output: Path, *more: object) -> list[object]:
    return [
        "evaluate", files / "reference.hdf5", files / "generated.hdf5", "--binning", "ds1-photons", "--quick",
        "--no-classifiers", "--no-floor", "--output", output, *more,
    ]  # fmt: skip


def test_from_files_to_a_folder(files, fastsim, tmp_path, monkeypatch):
    # Every figure is drawn in other tests, and takes its time.
    monkeypatch.setattr("fastsim.report.figures.observables_figure", roc_figure_of_nothing)
    output = tmp_path / "made" / "here"
    code, out, err = fastsim(*words(files, output, "--name", "mine"))
    assert code == 0, err
    assert "mine" in out
    assert str(output / "report.html") in out
    assert {p.name for p in output.iterdir()} == {
        "results.json", "report.html", "figures", "histograms.h5", "provenance.json",
    }  # fmt: skip
    content = json.loads((output / "results.json").read_text())
    assert content["kind"] == KIND
    assert content["generator"] == "mine"
    assert content["counts"]["generated"] == 600
    assert (output / "figures" / "layers.png").exists()
    with h5py.File(output / "histograms.h5") as file:
        counts = file["observables/e_tot_over_e_inc/reference"][:].sum()
        outside = file["observables/e_tot_over_e_inc/reference_outside"][:].sum()
        assert counts + outside == 600
    assert not list(tmp_path.rglob(".writing-*"))

    before = (output / "results.json").read_bytes()
    code, _, err = fastsim(*words(files, output))
    assert code == 2
    assert "--overwrite" in err
    assert (output / "results.json").read_bytes() == before
    (output / "mine.txt").write_text("keep me")
    code, _, err = fastsim(*words(files, output, "--overwrite"))
    assert code == 2
    assert "mine.txt" in err


def roc_figure_of_nothing(_members):
    return roc_figure(None)


@pytest.fixture
def broken(files, tmp_path):
    """Files that are wrong in one way each."""
    good = read_showers(files / "generated.hdf5", "ds1-photons")

    def write(name: str, incident: np.ndarray, energies: np.ndarray) -> Path:
        path = tmp_path / f"{name}.hdf5"
        with h5py.File(path, "w") as file:
            file["incident_energies"], file["showers"] = incident, energies
        return path

    incident, energies = good.incident_energy, good.energies
    hole = energies.copy()
    hole[3, 5] = np.nan
    paths = {
        "voxels": write("voxels", incident, energies[:, :-1]),
        "nan": write("nan", incident, hole),
        "negative": write("negative", incident, -energies),
        "gev": write("gev", incident / 1000, energies / 1000),
        "gev_incident": write("gev_incident", incident / 1000, energies),
        "lengths": write("lengths", incident[:-1], energies),
        "spectrum": write("spectrum", incident[incident[:, 0] > 300], energies[incident[:, 0] > 300]),
        "few": write("few", incident[:50], energies[:50]),
        "truncated": tmp_path / "truncated.hdf5",
        "missing": tmp_path / "missing.hdf5",
        "text": tmp_path / "text.hdf5",
    }
    content = (files / "generated.hdf5").read_bytes()
    paths["truncated"].write_bytes(content[: len(content) // 2])
    paths["text"].write_text("these are no showers")
    return paths


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("voxels", "367 voxels"),
        ("nan", "1 of 600 showers have NaN"),
        ("negative", "negative"),
        ("gev", "GeV"),
        ("gev_incident", "GeV"),
        ("lengths", "599"),
        ("spectrum", "do not occur among the generated"),
        ("few", "50 showers"),
        ("truncated", "truncated"),
        ("missing", "no such file"),
        ("text", "not an HDF5 file"),
    ],
)
def test_unusable_showers_end_in_one_line(files, broken, fastsim, tmp_path, name, message):
    output = tmp_path / "output"
    code, _, err = fastsim(
        "evaluate",
        files / "reference.hdf5",
        broken[name],
        "--binning",
        "ds1-photons",
        "--no-classifiers",
        "--output",
        output,
    )
    assert code == 2
    assert message in err
    assert err.startswith("fastsim: ")
    assert len(err.strip().splitlines()) == 1
    assert not output.exists()


def test_swapped_axes_are_noticed(fastsim, tmp_path):
    good = read_showers("sample:ds2-electrons", "ds2")
    nz, na, nr = good.geometry.shape
    # As Par04 writes them: r slowest, depth fastest.
    swapped = good.energies.reshape(-1, nz, na, nr).transpose(0, 3, 2, 1).reshape(len(good), -1)
    wrong, output = tmp_path / "swapped.hdf5", tmp_path / "output"
    write_showers(wrong, Showers.unchecked(good.incident_energy, swapped, good.geometry))
    code, _, err = fastsim(
        "evaluate", "sample:ds2-electrons", wrong, "--binning", "ds2", "--no-classifiers", "--output", output
    )
    assert code == 2
    assert "transpose" in err
    assert len(err.strip().splitlines()) == 1
    assert not output.exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--binning", "ds9"], "unknown geometry 'ds9'"),
        (["--binning", "none.xml:kaon"], "unknown particle 'kaon'"),
        (["--dataset", "ds1-photons"], "no ranking"),
        (["--leave-out-energy", "777"], "no reference showers of 777 MeV"),
        (["--leave-out-energy", "-1"], "leave-out-energy must be"),
        (["--threshold", "-2"], "threshold must be"),
        (["--timing", "none.json"], "none.json does not exist"),
        (["--training", "none.hdf5"], "no such file"),
    ],
)
def test_unusable_options_end_in_one_line(files, fastsim, tmp_path, more, message):
    code, _, err = fastsim(*words(files, tmp_path / "output", *more))
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "output").exists()


def test_foreign_folders_are_left_alone(files, fastsim, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    for more in ([], ["--overwrite"]):
        code, _, err = fastsim(*words(files, tmp_path / "thesis", *more))
        assert code == 2
        assert "holds no evaluation" in err
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"
    (tmp_path / "file").write_text("")
    for target, message in ((tmp_path / "file", "not a folder"), (tmp_path / "file" / "below", "not a folder")):
        with pytest.raises(UserError, match=message):
            check_folder(target, overwrite=True)


def test_nothing_is_left_by_a_failure(tmp_path):
    def fail() -> None:
        with evaluation_folder(tmp_path / "output", overwrite=False) as folder:
            (folder / "results.json").write_text("{}")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_overwriting_an_evaluation(result, tmp_path, monkeypatch):
    monkeypatch.setattr("fastsim.report.write.report_figures", lambda result: {})
    monkeypatch.setattr("fastsim.report.write.write_report", lambda result, path, figures: path.write_text("page"))
    write_evaluation(result, tmp_path / "output")
    with pytest.raises(UserError, match="already holds an evaluation"):
        write_evaluation(result, tmp_path / "output")
    write_evaluation(result, tmp_path / "output", overwrite=True)
    assert json.loads((tmp_path / "output" / "results.json").read_text())["auc"]["low_trees"]["value"] == 0.631


def test_every_option_is_explained(capfd):
    with pytest.raises(SystemExit):
        tyro.cli(Evaluate, args=["--help"])
    said = capfd.readouterr().out
    for option in ("--binning", "--leave-out-energy", "--timing", "--against", "--match-energies", "--threshold"):
        assert option in said
