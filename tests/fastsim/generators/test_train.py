"""From files to a generator: what is learned from, in memory and streamed, and whole runs."""

from __future__ import annotations

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cathode.run.config import load_settings, settings_from_dict, settings_yaml
from cathode.support.errors import UserError
from cathode.training.data import BatchSource
from cathode.training.loop import _Run
from fastsim.data import read_showers, sample, write_showers
from fastsim.generators.data import learning_data
from fastsim.generators.generate import generate
from fastsim.generators.generator import load_generator
from fastsim.generators.settings import DataSettings, GeneratorSettings
from fastsim.generators.train import train


def epoch(data):
    """All events of a source, or of data in memory."""
    if not isinstance(data, BatchSource):
        return data.x, data.context
    batches = list(data.batches(0, batch_size=64, seed=1))
    return torch.cat([b.x for b in batches]), torch.cat([b.context for b in batches])


@pytest.fixture
def files(tmp_path):
    """Showers of the sample in two files, sorted by energy as some are."""
    showers = read_showers("sample:ds1-photons", "ds1-photons", stop=600)
    showers = showers[np.argsort(showers.incident_energy[:, 0], kind="stable")]
    write_showers(tmp_path / "a.hdf5", showers[:250])
    write_showers(tmp_path / "b.hdf5", showers[250:])
    return (str(tmp_path / "a.hdf5"), str(tmp_path / "b.hdf5")), showers


@pytest.mark.parametrize("stream", [False, True])
def test_every_shower_is_learned_from_or_held_out(files, stream):
    names, showers = files
    settings = DataSettings(names, "ds1-photons", threshold=2.0, rows=(10, 590), stream=stream, memory=2.0)
    data = learning_data(settings, seed=1)
    assert data.counts["train"] + data.counts["validation"] == 580
    assert data.counts["validation"] == pytest.approx(58, abs=6)
    assert data.counts["left_out"] == 0
    cut = showers[10:590].cut(2.0)
    parts = [epoch(part) for part in (data.shape.train, data.shape.validation)]
    everything = torch.cat([x for x, _ in parts])
    assert torch.equal(everything.sum(1).sort().values, torch.from_numpy(cut.energies).sum(1).sort().values)
    for (x, context), energy in zip(parts, (data.energy.train, data.energy.validation), strict=True):
        layers = torch.stack([x[:, p].double().sum(1) for p in data.geometry.slices], 1).float()
        torch.testing.assert_close(context[:, 1:], layers)
        own = torch.cat([energy.context, energy.x], 1)
        assert torch.equal(own[own.sum(1).argsort()], context[context.sum(1).argsort()])
    known = data.shape.context
    assert torch.equal(known[known.sum(1).argsort()], parts[0][1][parts[0][1].sum(1).argsort()])
    # Both parts and the first look have all energies, though the files are sorted.
    for context in (parts[0][1], parts[1][1], data.shape.some.context):
        assert len(context[:, 0].unique()) == len(np.unique(cut.incident_energy))
    assert isinstance(data.shape.train, BatchSource) == stream


@pytest.mark.parametrize("stream", [False, True])
def test_left_out_energies(files, stream):
    names, showers = files
    energies = np.unique(showers.incident_energy)[[2, 5]].tolist()
    settings = DataSettings(names, "ds1-photons", leave_out_energies=tuple(energies), stream=stream, memory=2.0)
    data = learning_data(settings, seed=1)
    here = np.isin(showers.incident_energy[:, 0], np.array(energies, np.float32))
    assert data.counts["left_out"] == here.sum() > 0
    for part in (data.shape.train, data.shape.validation):
        assert not np.isin(epoch(part)[1][:, 0].numpy(), np.array(energies, np.float32)).any()


def test_the_split_depends_on_the_seed(files):
    settings = DataSettings(files[0], "ds1-photons")
    one, same, other = (learning_data(settings, seed=seed).energy.train.x for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"rows": (0, 700)}, r"data.rows: \[0, 700\] of 600 showers"),
        ({"rows": (0, 50)}, "50 showers are too few"),
        ({"leave_out_energies": (777.0,)}, "no shower has the incident energy 777 MeV"),
        ({"geometry": None}, "say which geometry"),
        ({"geometry": "ds2"}, "368 voxels"),
        ({"stream": True, "memory": 0.001}, "give more memory"),
        ({"showers": ("gone.hdf5",)}, "gone.hdf5: no such file"),
    ],
)
def test_data_that_cannot_be_learned_from(files, changes, match):
    settings = replace(DataSettings(files[0], "ds1-photons"), **changes)
    with pytest.raises(UserError, match=match):
        learning_data(settings, seed=1)


@pytest.mark.parametrize(
    "changes", [{"showers": ()}, {"threshold": 0.0}, {"validation": 1.0}, {"memory": 0.0}, {"rows": (5, 5)}]
)
def test_settings_out_of_range(changes):
    with pytest.raises(UserError, match=f"data.{next(iter(changes))}: must be"):
        DataSettings(**changes)


def test_a_run_leaves_everything_behind(trained, tiny_config):
    assert {p.name for p in trained.iterdir()} == {"config.yaml", "log.txt", "model", "results.json"}
    results = json.loads((trained / "results.json").read_text())
    assert results["showers"] == {"left_out": 0, "train": 360, "validation": 40}
    assert results["stages"]["shape"]["epochs"] == 2
    log = (trained / "log.txt").read_text()
    assert "fastsim.generators.train: 360 showers to train on, 40 to validate" in log
    assert "cathode.training.loop: stopped after epoch 2" in log
    settings = load_settings(GeneratorSettings, tiny_config)
    assert (trained / "config.yaml").read_text() == settings_yaml(settings)
    history = (trained / "model" / "history.csv").read_text().splitlines()
    assert len(history) == 1 + 2 * 3
    generator = load_generator(trained / "model")
    assert generator.geometry.name == "ds1-photons"
    assert generator.incident_range == (256.0, 32768.0)


def test_what_is_trained_can_generate(trained):
    generator = load_generator(trained / "model")
    showers = generate(generator, np.array([300.0, 3000.0, 30_000.0] * 20), seed=1).showers
    assert ((showers.energies == 0) | (showers.energies >= 1.0)).all()
    total = showers.total_energies()
    assert (total[2::3] > total[::3].mean()).all()


@pytest.mark.parametrize("moment", ["between the stages", "within a stage"])
def test_a_killed_run_continues_to_the_same_bits(fastsim, trained, tiny_config, tmp_path, monkeypatch, moment):
    out = tmp_path / "out"
    copy = _Run._copy_to_shadow

    def interrupted(self):
        if self.density.event_shape == (368,) and self.epoch == (1 if moment == "between the stages" else 2):
            raise KeyboardInterrupt
        copy(self)

    monkeypatch.setattr(_Run, "_copy_to_shadow", interrupted)
    assert fastsim("train", tiny_config, "--output", out).code == 130
    assert not (out / "results.json").exists()
    assert (out / "tasks" / "energy").is_dir()
    monkeypatch.undo()
    again = fastsim("train", tiny_config, "--output", out)
    assert (again.code, len(again.errors)) == (2, 1)
    assert "add --resume" in again.err
    assert fastsim("train", tiny_config, "--output", out, "--resume").code == 0
    assert {p.name for p in out.iterdir()} == {p.name for p in trained.iterdir()}
    one, other = (load_file(folder / "model" / "weights.safetensors") for folder in (out, trained))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    # Once more: nothing is left to do.
    before = (out / "model" / "weights.safetensors").stat().st_mtime_ns
    assert fastsim("train", tiny_config, "--output", out, "--resume").code == 0
    assert (out / "model" / "weights.safetensors").stat().st_mtime_ns == before


def short(tiny, **data):
    content = {**tiny, "data": {**tiny["data"], **data}}
    return settings_from_dict(GeneratorSettings, content)


def test_a_single_incident_energy(tiny, tmp_path):
    showers = sample("ds1-photons")[:2500]
    showers = showers[showers.incident_energy[:, 0] == 4096.0]
    write_showers(tmp_path / "one.hdf5", showers)
    settings = short(tiny, showers=[str(tmp_path / "one.hdf5")], geometry="ds1-photons", rows=None)
    generator = train(settings, output=tmp_path / "out")
    assert generator.incident_range == (4096.0, 4096.0)
    made = generate(generator, np.full(50, 4096.0), seed=1).showers
    assert made.total_energies().mean() == pytest.approx(showers.total_energies().mean(), rel=0.3)


def test_images_with_conditions_of_both_signs(tiny, fastsim, tmp_path):
    settings = short(tiny, showers=["sample:images"], rows=[0, 150])
    generator = train(settings, output=tmp_path / "out")
    real = sample("images")[:150]
    assert (real.conditions < 0).any()
    assert generator.condition_names == real.condition_names
    words = ("generate", tmp_path / "out", "--output", tmp_path / "g.hdf5")
    assert fastsim(*words, "--like", "sample:images", "--start", 5, "-n", 20).code == 0
    made = read_showers(tmp_path / "g.hdf5", "image-30x30")
    np.testing.assert_allclose(made.conditions, sample("images").conditions[5:25])
    refused = fastsim("generate", tmp_path / "out", "--output", tmp_path / "h.hdf5", "--energies", 3000)
    assert (refused.code, len(refused.errors)) == (2, 1)
    assert "give them with --like" in refused.err


def test_streamed_training_of_a_sequence(tiny, tmp_path):
    content = {
        **tiny,
        "data": {"showers": ["sample:ds2-electrons"], "rows": [0, 120], "stream": True, "memory": 30.0},
        "shape": {
            **tiny["shape"],
            "training": {"epochs": 1, "batch_size": 16, "validation_batch": 16},
            "model": {**tiny["shape"]["model"], "structure": "sequence", "symmetry": "rotations"},
        },
    }
    generator = train(settings_from_dict(GeneratorSettings, content), output=tmp_path / "out")
    showers = generate(generator, np.array([5000.0, 50_000.0]), seed=1).showers
    assert showers.energies.shape == (2, 6480)
    assert ((showers.energies == 0) | (showers.energies >= 1.0)).all()
    assert json.loads((tmp_path / "out" / "results.json").read_text())["showers"]["train"] < 120


def test_a_framed_shape_is_not_streamed(tmp_path):
    settings = settings_from_dict(GeneratorSettings, {"data": {"stream": True}, "shape": {"model": {"kind": "framed"}}})
    with pytest.raises(UserError, match=r"data.stream: the shape model 'framed'"):
        train(settings, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_generate_is_continued_after_an_interruption(fastsim, trained, tmp_path, monkeypatch):
    from fastsim.generators import commands

    words = ["generate", trained, "--energies", "300:30000", "-n", 90, "--batch-size", 20, "--seed", 4, "--output"]
    assert fastsim(*words, tmp_path / "whole.hdf5").code == 0
    make = commands.generate_chunks

    def interrupted(*args, **kwargs):
        for number, part in enumerate(make(*args, **kwargs)):
            if number == 2:
                raise KeyboardInterrupt
            yield part

    monkeypatch.setattr(commands, "generate_chunks", interrupted)
    assert fastsim(*words, tmp_path / "resumed.hdf5").code == 130
    assert not (tmp_path / "resumed.hdf5").exists()
    monkeypatch.undo()
    assert fastsim(*words, tmp_path / "resumed.hdf5", "--resume").code == 0
    whole, resumed = (read_showers(tmp_path / f"{n}.hdf5", "ds1-photons") for n in ("whole", "resumed"))
    np.testing.assert_array_equal(whole.incident_energy, resumed.incident_energy)
    np.testing.assert_allclose(resumed.energies, whole.energies, rtol=1e-4)
    with h5py.File(tmp_path / "resumed.hdf5") as stream:
        assert stream.attrs["redrawn"] == 0
        assert stream.attrs["milliseconds_per_shower"] > 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["resumed.hdf5", "whole.hdf5"]
    # A finished file is recognised by what made it.
    done = fastsim(*words, tmp_path / "resumed.hdf5", "--resume")
    assert (done.code, "finished already" in done.out) == (0, True)
    other = fastsim(*words, tmp_path / "resumed.hdf5", "--resume", "--start", 1)
    assert (other.code, len(other.errors)) == (2, 1)
    assert "holds something else" in other.err
    assert fastsim(*words, tmp_path / "resumed.hdf5", "--overwrite").code == 0
