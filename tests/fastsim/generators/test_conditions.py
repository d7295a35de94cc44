"""Conditions besides the incident energy reach both stages: showers move with the impact point."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from cathode.support.errors import UserError
from cathode.training import FitConfig
from fastsim.data import Showers, read_showers, write_showers
from fastsim.generators.commands import Generate, run_generate
from fastsim.generators.generate import generate
from fastsim.generators.settings import (
    AutoregressiveEnergies,
    AutoregressiveShape,
    DataSettings,
    EnergySettings,
    GeneratorSettings,
    ShapeSettings,
)
from fastsim.generators.shape import FramedShape
from fastsim.generators.train import train
from fastsim.geometry import Geometry
from fastsim.geometry.names import NAMES

SIDE, CELL = 6, 20.0
GEOMETRY = Geometry.from_grid((SIDE, SIDE), cell=CELL, fast="y", name="small-image")
TINY = EnergySettings(AutoregressiveEnergies(components=2, hidden=16, layers=1), FitConfig(epochs=4, batch_size=128))
MODELS = {
    "autoregressive": ShapeSettings(
        AutoregressiveShape(components=2, hidden=64, ring_hidden=64, layers=1, bottleneck=8, head=16),
        FitConfig(epochs=12, batch_size=64, learning_rate=4e-3, warmup_epochs=0.5, ema_halflife_events=2000),
    ),
    "copula": ShapeSettings(FramedShape(rounds=3, nodes=3, knots=9, energy_nodes=2)),
}


def images(count, seed):
    """Blobs of 2 GeV around (x, y), of which the fainter cells are lost."""
    rng = np.random.default_rng(seed)
    conditions = rng.uniform(-35, 35, (count, 2))
    distance = np.hypot(GEOMETRY.x - conditions[:, :1], GEOMETRY.y - conditions[:, 1:])
    energies = np.exp(-distance / 15.0) * rng.gamma(6.0, 1.0, (count, GEOMETRY.n_voxels))
    incident = rng.uniform(1500, 2500, (count, 1))
    energies *= incident / energies.sum(1, keepdims=True)
    parts = [part.astype(np.float32) for part in (incident, energies)]
    return Showers(*parts, GEOMETRY, conditions.astype(np.float32), ("x", "y")).cut(5.0)


def centre(showers):
    places = np.stack([GEOMETRY.x, GEOMETRY.y], 1)
    return showers.energies @ places / showers.energies.sum(1, keepdims=True)


@pytest.mark.parametrize("model", MODELS)
def test_generated_images_follow_the_impact_point(model, tmp_path, monkeypatch):
    monkeypatch.setitem(NAMES, GEOMETRY.name, lambda: GEOMETRY)
    path = tmp_path / "images.hdf5"
    write_showers(path, images(1500, seed=1))
    assert read_showers(path, GEOMETRY).condition_names == ("x", "y")
    data = DataSettings((str(path),), GEOMETRY.name, threshold=5.0)
    generator = train(GeneratorSettings(data, TINY, MODELS[model]), output=tmp_path / "run")
    assert tuple(generator.condition_names) == ("x", "y")
    test = images(500, seed=2)
    generated = generate(generator, test.incident_energy, test.conditions, seed=3).showers
    np.testing.assert_array_equal(generated.conditions, test.conditions)
    found, wanted = centre(generated), centre(test)
    for axis in range(2):
        assert np.corrcoef(found[:, axis], test.conditions[:, axis])[0, 1] > 0.85
        slope = np.polyfit(test.conditions[:, axis], found[:, axis], 1)[0]
        assert slope == pytest.approx(np.polyfit(test.conditions[:, axis], wanted[:, axis], 1)[0], rel=0.15)
        assert abs(np.corrcoef(found[:, axis], test.conditions[:, 1 - axis])[0, 1]) < 0.2


def test_generate_like_a_file_without_names_but_not_with_other_conditions(tmp_path, monkeypatch):
    monkeypatch.setitem(NAMES, GEOMETRY.name, lambda: GEOMETRY)
    named, unnamed, others = (tmp_path / f"{name}.hdf5" for name in ("named", "unnamed", "others"))
    showers = images(400, seed=1)
    for path in (named, unnamed):
        write_showers(path, showers)
    with h5py.File(unnamed, "a") as stream:
        del stream["conditions"].attrs["names"]
    rest = (GEOMETRY, showers.conditions, ("x", "theta"))
    write_showers(others, Showers(showers.incident_energy, showers.energies, *rest))
    data = DataSettings((str(named),), GEOMETRY.name, threshold=5.0)
    train(GeneratorSettings(data, TINY, MODELS["copula"]), output=tmp_path / "run")
    run_generate(Generate(tmp_path / "run", tmp_path / "new.hdf5", like=str(unnamed), start=100, n=20))
    generated = read_showers(tmp_path / "new.hdf5", GEOMETRY)
    assert generated.condition_names == ("x", "y")
    np.testing.assert_array_equal(generated.conditions, showers.conditions[100:120])
    with pytest.raises(UserError, match=r"has the conditions \['x', 'theta'\], the generator needs \['x', 'y'\]"):
        run_generate(Generate(tmp_path / "run", tmp_path / "other.hdf5", like=str(others)))
    with pytest.raises(UserError, match="give them with --like FILE"):
        run_generate(Generate(tmp_path / "run", tmp_path / "other.hdf5", energies=("2000",)))
    assert not (tmp_path / "other.hdf5").exists()
