"""``fastsim simulate`` as functions: files, resumption, and one line for bad input."""

import logging

import h5py
import numpy as np
import pytest
import yaml

from cathode.support.errors import UserError
from fastsim.data import Showers, read_showers, write_showers
from fastsim.data.gflash import Beam, Calorimeter, preset, simulate
from fastsim.data.gflash import commands as module
from fastsim.data.gflash.commands import Simulate, run_simulate
from fastsim.geometry import geometry

PHOTONS = geometry("ds1-photons")


def test_values_are_taken_in_turn(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = tmp_path / "showers.hdf5"
    run_simulate(Simulate(path, geometry="ds1-photons", energies=("1000", "4000"), n=5, threshold=1.0, seed=3))
    showers = read_showers(path, PHOTONS)
    assert showers.incident_energy[:, 0].tolist() == [1000, 4000, 1000, 4000, 1000]
    expected = simulate(PHOTONS, showers.incident_energy, seed=3, threshold=1.0)
    assert np.array_equal(showers.energies, expected.energies)
    assert "5 showers written" in caplog.text
    assert "showers/s" in caplog.text
    with h5py.File(path) as stream:
        assert stream["showers"].shape == (5, 368)


@pytest.mark.parametrize(("words", "flat"), [("1000:100000", False), ("1000:100000:flat", True)])
def test_ranges(tmp_path, words, flat):
    path = tmp_path / "showers.hdf5"
    run_simulate(Simulate(path, geometry="ds1-photons", energies=(words,), n=60))
    energy = read_showers(path, PHOTONS).incident_energy
    assert energy.min() >= 1000
    assert energy.max() <= 100_000
    assert (np.median(energy) > 30_000) == flat


def test_like_repeats_energies_and_beams(tmp_path):
    path, source = tmp_path / "out.hdf5", tmp_path / "in.hdf5"
    grid = geometry("image-30x30")
    rng = np.random.default_rng(1)
    beam = Beam(rng.normal(0, 20, (4, 2)), np.column_stack([rng.normal(0, 0.1, (4, 2)), np.ones(4)]))
    write_showers(source, simulate(grid, rng.uniform(2000, 9000, 4), seed=1, beam=beam))
    run_simulate(Simulate(path, geometry="image-30x30", like=str(source), n=6, start=1))
    given, made = read_showers(source, grid), read_showers(path, grid)
    rows = [1, 2, 3, 1, 2, 3]
    assert made.incident_energy[:, 0] == pytest.approx(given.incident_energy[rows, 0])
    assert made.conditions == pytest.approx(given.conditions[rows], rel=1e-4, abs=1e-2)
    assert made.condition_names == given.condition_names


def test_a_killed_run_is_continued_to_the_same_file(tmp_path, monkeypatch):
    settings = {"geometry": "ds1-photons", "energies": ("500:20000",), "n": 40}
    whole, resumed = tmp_path / "whole.hdf5", tmp_path / "resumed.hdf5"
    run_simulate(Simulate(whole, **settings))
    original = module.simulate_chunks

    def dies(*args, **kwargs):
        kwargs = {**kwargs, "beam": None}
        energy = args[1]
        yield from original(args[0], energy[:15], **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "simulate_chunks", dies)
    monkeypatch.setattr(module.ShowerWriter, "append", _append_and_flush(module.ShowerWriter.append))
    with pytest.raises(KeyboardInterrupt):
        run_simulate(Simulate(resumed, **settings))
    assert not resumed.exists()
    monkeypatch.setattr(module, "simulate_chunks", original)
    run_simulate(Simulate(resumed, **settings, resume=True))
    assert np.array_equal(read_showers(resumed, PHOTONS).energies, read_showers(whole, PHOTONS).energies)


def _append_and_flush(append):
    def both(self, showers):
        append(self, showers)
        self.flush()

    return both


def test_calibration_and_material_files(tmp_path):
    training = simulate(PHOTONS, np.repeat([1000.0, 4000.0], 100), seed=5, threshold=1.0)
    source, material = tmp_path / "training.hdf5", tmp_path / "material.yaml"
    write_showers(source, training)
    first, second = tmp_path / "first.hdf5", tmp_path / "second.hdf5"
    common = {"geometry": "ds1-photons", "energies": ("2000",), "n": 10, "threshold": 1.0}
    run_simulate(Simulate(first, **common, calibrate=str(source), calibrate_rows=150, save_material=material))
    fitted = Calorimeter.from_dict(yaml.safe_load(material.read_text()))
    assert fitted != preset("pbwo4-lar-5")
    run_simulate(Simulate(second, **common, material=str(material)))
    assert np.array_equal(read_showers(first, PHOTONS).energies, read_showers(second, PHOTONS).energies)


def test_geometry_of_a_sample(tmp_path):
    path = tmp_path / "out.hdf5"
    run_simulate(Simulate(path, like="sample:ds1-photons", n=3))
    assert isinstance(read_showers(path, PHOTONS), Showers)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"geometry": "ds1-photons"}, "give either --energies or --like"),
        ({"energies": ("1000",)}, "give --geometry"),
        ({"geometry": "ds1-photons", "energies": ("one",)}, "values in MeV, or LOW:HIGH"),
        ({"geometry": "ds1-photons", "energies": ("9:3",)}, "0 < LOW < HIGH, got 9:3"),
        ({"geometry": "ds1-photons", "energies": ("-5",)}, "must be positive"),
        ({"geometry": "ds1-photons", "energies": ("5",), "n": 0}, "number of showers must be positive"),
        ({"geometry": "ds1-photons", "energies": ("5",), "material": "gone.yaml"}, "cannot read the material"),
        ({"geometry": "ds1-photons", "energies": ("5",), "particle": "pion"}, "photon and electron, not 'pion'"),
        ({"geometry": "ds1-photons", "like": "sample:ds1-photons", "start": 10**9}, "is outside of"),
    ],
)
def test_bad_input_leaves_nothing_behind(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        run_simulate(Simulate(tmp_path / "out.hdf5", **settings))
    assert not (tmp_path / "out.hdf5").exists()
