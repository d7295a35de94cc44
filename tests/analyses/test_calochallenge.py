"""The configurations of ``analyses/`` for fast simulation: they parse, fit their geometry and print as themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from cathode.run.config import load_settings, settings_yaml
from fastsim.evaluation.procedure import dataset_of, voxel_threshold
from fastsim.generators.data import find_geometry
from fastsim.generators.settings import GeneratorSettings
from fastsim.generators.stages import check_stages
from fastsim.geometry import geometry

FOLDER = Path(__file__).parents[2] / "analyses"
CONFIGS = sorted([*(FOLDER / "calochallenge").glob("*.yaml"), FOLDER / "demo" / "showers.yaml"])
# What the published tables are for: file names are those of the records.
PUBLIC = {
    "ds1_photons": ("ds1-photons", ["dataset_1_photons_1.hdf5"]),
    "ds1_pions": ("ds1-pions", ["dataset_1_pions_1.hdf5"]),
    "ds2_electrons": ("ds2", ["dataset_2_1.hdf5"]),
    "ds3_electrons": ("ds3", ["dataset_3_1.hdf5", "dataset_3_2.hdf5"]),
}


def settings_of(path):
    return load_settings(GeneratorSettings, path)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configuration_parses_fits_its_geometry_and_prints_as_itself(path, tmp_path):
    settings = settings_of(path)
    check_stages(settings, find_geometry(settings.data))
    printed = tmp_path / "printed.yaml"
    printed.write_text(settings_yaml(settings), encoding="utf-8")
    assert load_settings(GeneratorSettings, printed) == settings


@pytest.mark.parametrize("name", PUBLIC)
def test_public_datasets_have_their_binning_threshold_and_training_files(name):
    dataset, files = PUBLIC[name]
    data = settings_of(FOLDER / "calochallenge" / f"{name}.yaml").data
    layout = geometry(data.geometry)
    assert dataset_of(layout) == dataset
    assert data.threshold == pytest.approx(voxel_threshold(layout, "calochallenge"), rel=1e-5)
    assert [Path(file).name for file in data.showers] == files
    assert data.rows is None


def test_dataset_three_is_streamed_within_eight_gigabytes():
    data = settings_of(FOLDER / "calochallenge" / "ds3_electrons.yaml").data
    assert data.stream
    assert data.memory <= 6000


def test_test_showers_are_left_out():
    for name, last in (("ds1_like_photons", 40_000), ("images", 10_000), ("pbwo4", 2_000)):
        rows = settings_of(FOLDER / "calochallenge" / f"{name}.yaml").data.rows
        assert rows is not None
        assert rows[1] <= last
