"""The command as users meet it."""

from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pytest
import yaml

from cathode.run.config import load_settings
from fastsim.data import read_showers
from fastsim.generators.settings import GeneratorSettings

COMMANDS = ("train", "generate", "evaluate", "steps", "simulate", "export", "latency")


def test_help_and_version_of_a_process():
    words = [sys.executable, "-m", "fastsim.cli"]
    done = subprocess.run([*words, "--help"], capture_output=True, text=True, check=True)
    assert all(command in done.stdout for command in COMMANDS)
    assert done.stderr == ""


def test_version(fastsim):
    found = fastsim("--version")
    assert (found.code, len(found.out.split())) == (0, 1)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(fastsim, command):
    found = fastsim(command, "--help")
    assert found.code == 0
    assert "usage: fastsim" in found.out


def test_the_printed_configuration_is_complete(fastsim, tiny_config, tmp_path):
    printed = fastsim("train", tiny_config, "--print-config", "--set", "shape.training.epochs=7", "seed=5")
    assert (printed.code, printed.err) == (0, "")
    (tmp_path / "again.yaml").write_text(printed.out)
    assert fastsim("train", tmp_path / "again.yaml", "--print-config").out == printed.out
    settings = load_settings(GeneratorSettings, tmp_path / "again.yaml")
    assert settings == load_settings(GeneratorSettings, tiny_config, ["shape.training.epochs=7", "seed=5"])
    assert (settings.shape.training.epochs, settings.seed) == (7, 5)
    assert yaml.safe_load(printed.out)["data"]["leave_out_energies"] == []


def test_generate_like_a_file(fastsim, trained, tmp_path):
    out = tmp_path / "g.hdf5"
    found = fastsim("generate", trained, "--like", "sample:ds1-photons", "--start", 100, "-n", 30, "--output", out)
    assert found.code == 0, found.err
    assert found.out.startswith("30 showers, 0 redrawn, ")
    made = read_showers(out, "ds1-photons")
    expected = read_showers("sample:ds1-photons", "ds1-photons", start=100, stop=130)
    np.testing.assert_array_equal(made.incident_energy, expected.incident_energy)
    with h5py.File(out) as stream:
        assert stream.attrs["seed"] == 1
        assert stream.attrs["device"] == "cpu"


def test_generate_takes_values_in_turn_and_warns_outside_of_the_training(fastsim, trained, tmp_path):
    out = tmp_path / "g.hdf5"
    found = fastsim("generate", trained / "model", "--energies", 1000, 100_000, "-n", 5, "--output", out)
    assert found.code == 0
    assert read_showers(out, "ds1-photons").incident_energy[:, 0].tolist() == [1000, 100_000, 1000, 100_000, 1000]
