"""Unusable input: exactly one line on stderr, exit code 2, and nothing written."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from fastsim.data import ShowerFile
from fastsim.data.samples import sample_path


@pytest.fixture(scope="module")
def bad(tmp_path_factory, trained):
    """One file for every way of being unusable, and good ones beside them."""
    folder = tmp_path_factory.mktemp("bad")
    real = ShowerFile("sample:ds1-photons", "ds1-photons").read(0, 300)
    incident, energies = real.incident_energy, real.energies

    def write(name, incident, energies):
        with h5py.File(folder / name, "w") as stream:
            stream["incident_energies"], stream["showers"] = incident, energies

    write("good.hdf5", incident, energies)
    write("voxels.hdf5", incident, energies[:, :-1])
    write("rows.hdf5", incident[:-1], energies)
    write("gev.hdf5", incident / 1000, energies / 1000)
    write("gev_incident.hdf5", incident / 1000, energies)
    write("gev_voxels.hdf5", incident, energies / 1000)
    broken = energies.copy()
    broken[7, 3] = np.nan
    write("nan.hdf5", incident, broken)
    broken[7, 3] = -1.0
    write("negative.hdf5", incident, broken)
    write("few.hdf5", incident[:30], energies[:30])
    electrons = ShowerFile("sample:ds2-electrons", "ds2").read()
    swapped = electrons.energies.reshape(-1, 45, 16, 9).transpose(0, 3, 2, 1).reshape(-1, 6480)
    write("axes.hdf5", electrons.incident_energy, swapped)
    whole = sample_path("ds1-photons").read_bytes()
    (folder / "truncated.hdf5").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.hdf5").write_bytes(b"")
    (folder / "foreign.hdf5").write_text("%PDF-1.7\nnot showers\n")
    with h5py.File(folder / "strange.hdf5", "w") as stream:
        stream["image"] = np.zeros((3, 4))
    (folder / "broken.yaml").write_text("data: [1,\n  : ]\n")
    (folder / "empty").mkdir()
    return folder


FILES = {
    "missing file": ("{bad}/gone.hdf5", "ds1-photons", "gone.hdf5: no such file"),
    "missing sample": ("sample:nothing", "ds1-photons", "no sample called 'nothing'"),
    "voxel count": ("{bad}/voxels.hdf5", "ds1-photons", "367 voxels but geometry 'ds1-photons' needs (N, 368)"),
    "another geometry": ("{bad}/good.hdf5", "ds2", "368 voxels"),
    "different lengths": ("{bad}/rows.hdf5", "ds1-photons", "299"),
    "GeV": ("{bad}/gev.hdf5", "ds1-photons", "look like GeV"),
    "incident GeV": ("{bad}/gev_incident.hdf5", "ds1-photons", "look like GeV"),
    "voxel GeV": ("{bad}/gev_voxels.hdf5", "ds1-photons", "look like GeV"),
    "NaN": ("{bad}/nan.hdf5", "ds1-photons", "1 of 300 showers have NaN"),
    "negative": ("{bad}/negative.hdf5", "ds1-photons", "1 of 300 showers have negative"),
    "swapped axes": ("{bad}/axes.hdf5", "ds2", "transpose the showers"),
    "truncated": ("{bad}/truncated.hdf5", "ds1-photons", "truncated"),
    "empty": ("{bad}/empty.hdf5", "ds1-photons", "not an HDF5 file"),
    "foreign": ("{bad}/foreign.hdf5", "ds1-photons", "not an HDF5 file"),
    "other HDF5": ("{bad}/strange.hdf5", "ds1-photons", "no known format"),
    "unknown geometry": ("{bad}/good.hdf5", "ds7", "ds7"),
    "unknown particle": ("{bad}/good.hdf5", "gone.xml:kaon", ""),
}  # fmt: skip


def check(found, message, folder, before):
    assert found.code == 2, (found.out, found.err)
    assert len(found.errors) == 1, found.err
    assert found.errors[0].startswith("fastsim: ")
    assert message in found.errors[0]
    assert found.out == ""
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("case", FILES)
def test_showers_that_cannot_be_trained_on_or_evaluated(fastsim, bad, tiny_config, tmp_path, case):
    name, layout, message = FILES[case]
    name = name.format(bad=bad)
    words = ("train", tiny_config, "--output", tmp_path / "out", "--set")
    check(fastsim(*words, f"data.showers={name}", f"data.geometry={layout}", "data.rows=null"), message, tmp_path, [])
    other = "sample:ds2-electrons" if layout == "ds2" else bad / "good.hdf5"
    for pair in ((name, other), (other, name)):
        found = fastsim("evaluate", *pair, "--binning", layout, "--output", tmp_path / "out", "--no-classifiers")
        check(found, message, tmp_path, [])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shape.modle.hidden=3"], "unknown key 'shape.modle'; did you mean 'model'?"),
        (["shape.model.hiden=3"], "unknown key 'shape.model.hiden'; did you mean 'hidden'?"),
        (["data.threshold=0"], "data.threshold: must be a positive energy"),
        (["shape.training.epochs=many"], "shape.training.epochs"),
        (["shape.model.kind=trees"], "shape.model"),
        (["data.rows=[0,1000000]"], "lower the second number"),
        (["data.showers={bad}/few.hdf5", "data.geometry=ds1-photons", "data.rows=null"], "30 showers are too few"),
        (["data.showers={bad}/good.hdf5"], "say which geometry"),
        (["data.leave_out_energies=[5]"], "no shower has the incident energy 5 MeV"),
        (["data.showers=sample:images", "shape.model.symmetry=rotations"], "cannot be turned"),
        (["shape.model.structure=sequence"], "cannot share one network"),
        (["shape.model.interleave=0"], "shape.model.interleave: must be 1 or more, got 0"),
        (["data"], "expected KEY=VALUE"),
    ],
)
def test_settings_that_cannot_be(fastsim, bad, tiny_config, tmp_path, words, message):
    words = [word.replace("{bad}", str(bad)) for word in words]
    check(fastsim("train", tiny_config, "--output", tmp_path / "out", "--set", *words), message, tmp_path, [])


@pytest.mark.parametrize("name", ["gone.yaml", "broken.yaml", "empty"])
def test_configurations_that_cannot_be_read(fastsim, bad, tmp_path, name):
    check(fastsim("train", bad / name, "--output", tmp_path / "out"), name, tmp_path, [])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{bad}/gone", "--energies", "1000"], "gone"),
        (["{bad}", "--energies", "1000"], "bad"),
        (["{trained}"], "give either --energies or --like"),
        (["{trained}", "--energies", "1000", "--like", "sample:ds1-photons"], "give either --energies or --like"),
        (["{trained}", "--energies", "1000", "-n", "0"], "number of showers must be positive"),
        (["{trained}", "--energies", "minus"], "must be positive values in MeV"),
        (["{trained}", "--energies", "1", "4"], "look like GeV"),
        (["{trained}", "--energies", "1000", "--batch-size", "0"], "batch size must be positive"),
        (["{trained}", "--energies", "1000", "--seed=-1"], "seed not negative"),
        (["{trained}", "--energies", "1000", "--device", "abacus"], "abacus"),
        (["{trained}", "--like", "{bad}/gone.hdf5"], "no such file"),
        (["{trained}", "--like", "{bad}/voxels.hdf5"], "367 voxels"),
        (["{trained}", "--like", "{bad}/truncated.hdf5"], "truncated"),
        (["{trained}", "--like", "{bad}/gev.hdf5"], "look like GeV"),
        (["{trained}", "--like", "{bad}/good.hdf5", "--start", "300"], "which has 300 showers"),
    ],
)
def test_what_cannot_be_generated(fastsim, bad, trained, tmp_path, words, message):
    words = [word.replace("{bad}", str(bad)).replace("{trained}", str(trained)) for word in words]
    check(fastsim("generate", *words, "--output", tmp_path / "out.hdf5"), message, tmp_path, [])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--energies", "1000"], "give --geometry"),
        (["--geometry", "ds1-photons", "--energies", "1000", "--particle", "kaon"], "not 'kaon'"),
        (["--geometry", "ds7", "--energies", "1000"], "ds7"),
        (["--geometry", "ds1-photons", "--like", "{bad}/truncated.hdf5"], "truncated"),
        (["--geometry", "ds1-photons", "--energies", "1000", "--calibrate", "{bad}/nan.hdf5"], "NaN"),
    ],
)
def test_what_cannot_be_simulated(fastsim, bad, tmp_path, words, message):
    words = [word.replace("{bad}", str(bad)) for word in words]
    check(fastsim("simulate", *words, "--output", tmp_path / "out.hdf5"), message, tmp_path, [])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{bad}/gone", "--reference", "sample:ds1-photons"], "gone"),
        (["{trained}", "--reference", "{bad}/voxels.hdf5"], "367 voxels"),
        (["{trained}", "--reference", "{bad}/good.hdf5", "--n", "1"], "at least 2 showers"),
    ],
)
def test_steps_of_what_has_none(fastsim, bad, trained, tmp_path, words, message):
    words = [word.replace("{bad}", str(bad)).replace("{trained}", str(trained)) for word in words]
    check(fastsim("steps", *words, "--output", tmp_path / "out.json"), message, tmp_path, [])


def test_outputs_that_are_there(fastsim, bad, trained, tiny_config, tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    energies = ("--energies", "1000")
    commands = {
        "exists": [
            ("generate", trained, *energies, "--output", tmp_path / "file"),
            ("simulate", "--geometry", "ds1-photons", *energies, "--output", tmp_path / "file"),
            ("steps", trained, "--reference", bad / "good.hdf5", "--output", tmp_path / "file"),
        ],
        "is a folder": [
            ("generate", trained, *energies, "--output", tmp_path / "folder"),
            ("simulate", "--geometry", "ds1-photons", *energies, "--output", tmp_path / "folder"),
        ],
        "cannot write": [
            ("generate", trained, *energies, "--output", tmp_path / "file" / "below"),
        ],
        "folder": [
            ("train", tiny_config, "--output", tmp_path / "file"),
            ("train", tiny_config, "--output", tmp_path / "folder"),
            ("evaluate", *[bad / "good.hdf5"] * 2, "--binning", "ds1-photons", "--output", tmp_path / "folder"),
        ],
    }  # fmt: skip
    for message, many in commands.items():
        for words in many:
            check(fastsim(*words), message, tmp_path, sorted(tmp_path.iterdir()))
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "in the way"
