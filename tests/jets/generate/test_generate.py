"""Generation end to end: a few events, the same ones however the work is split, killed or repeated."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import psutil
import pytest

from cathode.data.features import JET_COLUMNS
from cathode.jets.generate import run as run_module
from cathode.jets.generate import shard as shard_module
from cathode.jets.generate.pythia import Collisions
from cathode.jets.generate.run import generate, provenance_path
from cathode.jets.generate.settings import GenerateSettings
from cathode.jets.generate.shard import ShardTask, write_shard
from cathode.jets.raw import features_from_raw
from cathode.support.errors import UserError

pytest.importorskip("pythia8mc", reason="the generator needs the extra [generate]")

SMALL = GenerateSettings(events=20, shard_events=5, seed=3)


def table(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["df/block0_values"][:]


def masses(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dijet mass, and both jet masses, sorted; GeV."""
    jets = np.stack([rows[:, :4], rows[:, 7:11]], axis=1)
    energy = np.sqrt((jets**2).sum(axis=-1)).sum(axis=1)
    return np.sqrt(energy**2 - (jets[..., :3].sum(axis=1) ** 2).sum(axis=-1)), np.sort(jets[..., 3], axis=1)


@pytest.fixture(scope="module")
def background(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("background")
    generate(SMALL, folder / "qcd.h5", raw=folder / "raw.h5", constituents=folder / "pieces.h5", max_constituents=30)
    return folder


def test_events_pass_the_cuts(background: Path) -> None:
    rows = table(background / "qcd.h5")
    assert rows.shape == (20, 15)
    assert np.isfinite(rows).all()
    pt = np.hypot(rows[:, [0, 7]], rows[:, [1, 8]])
    assert np.all(pt[:, 0] > SMALL.leading_jet_pt_min_gev)
    assert np.all(pt[:, 0] >= pt[:, 1])
    assert np.all(np.abs(np.arcsinh(rows[:, [2, 9]] / pt)) < SMALL.jet_eta_max)
    assert np.all(masses(rows)[0] > SMALL.dijet_mass_min_gev)
    assert np.all(rows[:, 14] == 0)
    assert len(np.unique(rows[:, 0])) == 20


def test_the_layouts_tell_the_same_story(background: Path, tmp_path: Path) -> None:
    """Features made from the raw file are the generated ones, and so are the constituents."""
    rows = table(background / "qcd.h5")
    again = table(features_from_raw(background / "raw.h5", tmp_path / "again.h5", axes=SMALL.axes).path)
    np.testing.assert_allclose(again, rows, rtol=1e-9, atol=1e-6)
    with h5py.File(background / "pieces.h5") as file:
        assert file.attrs["label"] == 0
        assert file["jet_features"].attrs["columns"].split(",") == list(JET_COLUMNS)
        np.testing.assert_allclose(file["jet_features"][:], rows[:, :14], rtol=1e-6, atol=1e-3)
        pieces = file["constituents"][:]
    assert pieces.shape == (20, 2, 30, 3)
    assert np.all(np.diff(pieces[..., 0], axis=-1) <= 0)
    px = (pieces[..., 0] * np.cos(pieces[..., 2])).sum(axis=-1)
    py = (pieces[..., 0] * np.sin(pieces[..., 2])).sum(axis=-1)
    # The thirty hardest constituents carry nearly all of a jet.
    assert np.median(np.hypot(px, py) / np.hypot(rows[:, [0, 7]], rows[:, [1, 8]])) > 0.85


def test_provenance(background: Path) -> None:
    record = json.loads(provenance_path(background / "qcd.h5").read_text())
    assert record["settings"]["pt_hat_min_gev"] == 1050.0
    assert record["events"] == 20
    assert 0.2 < record["accepted_fraction"] < 0.9
    assert 1 < record["cross_section_pb"] < 50
    assert set(record["sha256"]) == {"qcd.h5", "raw.h5", "pieces.h5"}
    assert {"pythia8mc", "fastjet"} <= set(record["programs"])


def test_seed_decides(background: Path, tmp_path: Path) -> None:
    generate(dataclasses.replace(SMALL, seed=4, events=5), tmp_path / "other.h5")
    assert not np.isin(table(tmp_path / "other.h5")[:, 0], table(background / "qcd.h5")[:, 0]).any()


def test_killed_and_started_again_on_other_processes(background: Path, tmp_path: Path) -> None:
    """A real kill after the first shard of two workers: they end, nothing is half-written, one process finishes."""
    output = tmp_path / "qcd.h5"
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "if __name__ == '__main__':\n"
        "    from cathode.jets.generate.run import generate\n"
        "    from cathode.jets.generate.settings import GenerateSettings\n"
        "    generate(GenerateSettings(events=20, shard_events=5, seed=3), sys.argv[1], processes=2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen([sys.executable, str(program), str(output)], env=environment, stdout=subprocess.DEVNULL)
    folder = tmp_path / "qcd.h5.parts"
    deadline = time.monotonic() + 120
    while not list(folder.glob("0*.npz")):
        assert process.poll() is None, "the generator ended before its first shard"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(children) >= 2
    assert not psutil.wait_procs(children, timeout=60)[1]
    assert not output.exists()
    kept = {path.name for path in folder.glob("0*.npz")}
    made: set[str] = set()

    def counting(task: ShardTask) -> None:
        made.add(task.path.name)
        write_shard(task)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "write_shard", counting)
        generate(SMALL, output)
    assert kept
    assert kept | made == {f"{number:06d}.npz" for number in range(4)}
    assert not kept & made
    np.testing.assert_array_equal(table(output), table(background / "qcd.h5"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["program.py", "qcd.h5", "qcd.provenance.json"]


def test_complete_output_is_kept_and_foreign_output_is_refused(background: Path, tmp_path: Path) -> None:
    before = (background / "qcd.h5").stat().st_mtime_ns
    result = generate(
        SMALL,
        background / "qcd.h5",
        raw=background / "raw.h5",
        constituents=background / "pieces.h5",
        max_constituents=30,
    )
    assert (background / "qcd.h5").stat().st_mtime_ns == before
    assert result.events == 20
    with pytest.raises(UserError, match="exists and holds something else"):
        generate(dataclasses.replace(SMALL, seed=9), background / "qcd.h5")
    (tmp_path / "a.h5.parts").mkdir()
    (tmp_path / "a.h5.parts" / "000000.npz").touch()
    (tmp_path / "a.h5.parts" / "job.json").write_text('{"job": "another"}')
    with pytest.raises(UserError, match="parts of another job"):
        generate(SMALL, tmp_path / "a.h5")
    with pytest.raises(UserError, match="must differ"):
        generate(SMALL, tmp_path / "b.h5", raw=tmp_path / "b.h5")


def test_signal_has_the_masses_asked_for(tmp_path: Path) -> None:
    settings = GenerateSettings(
        process="wprime", events=80, shard_events=80, mass_resonance_gev=4000.0, mass_x_gev=300.0, mass_y_gev=150.0
    )
    result = generate(settings, tmp_path / "signal.h5")
    rows = table(tmp_path / "signal.h5")
    dijet, jets = masses(rows)
    assert np.median(dijet) == pytest.approx(4000, rel=0.03)
    np.testing.assert_allclose(np.median(jets, axis=0), [150, 300], rtol=0.08)
    assert np.all(rows[:, 14] == 1)
    assert result.accepted_fraction > 0.6


def test_multiparton_interactions_add_particles() -> None:
    means = {}
    for on in (False, True):
        collisions = Collisions(dataclasses.replace(SMALL, multiparton_interactions=on), seed=5)
        batch = collisions.next_batch(20)
        means[on] = len(batch.event) / batch.n_events
    assert means[True] > 1.3 * means[False]


def test_damaged_shard_and_hopeless_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "000000.npz"
    damaged.write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(UserError, match="is damaged: delete it"):
        shard_module.read_shard(damaged)
    monkeypatch.setattr(shard_module, "_HOPELESS", 200)
    hopeless = dataclasses.replace(SMALL, leading_jet_pt_min_gev=6000.0)
    task = ShardTask(tmp_path / "x.npz", hopeless, events=5, pythia_seed=1, detector_seed=1)
    with pytest.raises(UserError, match="none of 200 qcd collisions passed the cuts"):
        write_shard(task)
    assert not (tmp_path / "x.npz").exists()
