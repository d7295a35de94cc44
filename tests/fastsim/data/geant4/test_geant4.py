from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from cathode.support.errors import UserError
from fastsim.data.geant4 import Geant4Simulation, SamplingCalorimeter, check_installation
from fastsim.data.geant4.calorimeter import layer_of_slab, voxelise
from fastsim.data.geant4.installation import DATASETS
from fastsim.geometry import geometry

TUNGSTEN = SamplingCalorimeter("G4_W", "G4_Si", absorber_mm=1.4, sensitive_mm=0.3, slabs=90)


@pytest.fixture
def installed(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "geant4_pybind" else find(name))


def test_plates_of_the_calochallenge_stack():
    plates = TUNGSTEN.plates()
    assert len(plates) == 180
    assert TUNGSTEN.depth_mm == pytest.approx(153)
    assert [plate.sensitive for plate in plates[:4]] == [False, True, False, True]
    np.testing.assert_allclose([(p.z_front, p.z_back) for p in plates[2:4]], [(1.7, 3.1), (3.1, 3.4)])
    edges = np.array([[p.z_front, p.z_back] for p in plates]).reshape(-1)
    np.testing.assert_allclose(edges[1:-1:2], edges[2::2])


def test_homogeneous_stack_has_no_absorber():
    stack = SamplingCalorimeter("G4_PbWO4", "G4_PbWO4", absorber_mm=0, sensitive_mm=10, slabs=24)
    assert all(plate.sensitive for plate in stack.plates())
    assert stack.depth_mm == 240


def test_slabs_are_shared_by_the_layers():
    one = geometry("ds2")
    np.testing.assert_array_equal(layer_of_slab(TUNGSTEN, one), np.repeat(np.arange(45), 2))
    # Two pairs of 1.7 mm make the published 3.4 mm of a layer.
    np.testing.assert_allclose(np.diff(TUNGSTEN.with_depths(one).z_edges), 3.4)
    uneven = SamplingCalorimeter("G4_Pb", "G4_lAr", 4.5, 3, slabs=10, slabs_per_layer=(1, 2, 4, 2, 1))
    np.testing.assert_array_equal(layer_of_slab(uneven, geometry("ds1-photons")), [0, 1, 1, 2, 2, 2, 2, 3, 3, 4])


def test_deposits_become_voxels():
    one = geometry("ds2")
    rng = np.random.default_rng(0)
    slab, x, y = rng.integers(0, 90, 1000), rng.normal(0, 20, 1000), rng.normal(0, 20, 1000)
    energy = rng.exponential(1.0, 1000)
    voxels, outside = voxelise(slab, x, y, energy, TUNGSTEN, one)
    assert voxels.sum() + outside == pytest.approx(energy.sum())
    far = np.hypot(x, y) >= 41.85
    assert outside == pytest.approx(energy[far].sum())
    per_layer = np.bincount(slab[~far] // 2, weights=energy[~far], minlength=45)
    np.testing.assert_allclose(np.add.reduceat(voxels, np.arange(0, 6480, 144)), per_layer)
    # One deposit, by hand: slab 7 is layer 3; x = 5 mm is ring 1; alpha just above 0 is sector 8.
    voxels, _ = voxelise(np.array([7]), np.array([5.0]), np.array([0.1]), np.array([2.0]), TUNGSTEN, one)
    assert np.flatnonzero(voxels).tolist() == [3 * 144 + 8 * 9 + 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sensitive_mm": 0.0}, "must be positive"),
        ({"absorber_mm": -1.0}, "at least 0"),
        ({"slabs": 0}, "at least 1"),
        ({"absorber_mm": float("nan")}, "must be positive"),
        ({"slabs_per_layer": (45, 44)}, "add up to 90"),
    ],
)
def test_bad_stacks(changes, message):
    content = {"absorber": "G4_W", "sensitive": "G4_Si", "absorber_mm": 1.4, "sensitive_mm": 0.3, "slabs": 90}
    with pytest.raises(UserError, match=message):
        SamplingCalorimeter(**(content | changes))


def test_slabs_that_do_not_fit():
    with pytest.raises(UserError, match="91 slabs cannot be shared equally by the 45 layers"):
        layer_of_slab(SamplingCalorimeter("G4_W", "G4_Si", 1, 1, 91), geometry("ds2"))
    with pytest.raises(UserError, match="2 entries for the 45 layers"):
        layer_of_slab(SamplingCalorimeter("G4_W", "G4_Si", 1, 1, 3, slabs_per_layer=(1, 2)), geometry("ds2"))


def test_missing_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'cathode-hep\[geant4\]'"):
        check_installation({})


def test_missing_data(installed, tmp_path):
    with pytest.raises(UserError, match=r"G4EMLOW, PhotonEvaporation.*GEANT4_DATA_DIR=not set"):
        check_installation({})
    with pytest.raises(UserError, match="is no folder"):
        check_installation({"GEANT4_DATA_DIR": str(tmp_path / "missing")})
    for name in DATASETS:
        (tmp_path / f"{name}1.0").mkdir()
    check_installation({"GEANT4_DATA_DIR": str(tmp_path)})
    (tmp_path / "G4EMLOW1.0").rmdir()
    with pytest.raises(UserError, match="data sets G4EMLOW are missing"):
        check_installation({"GEANT4_DATA_DIR": str(tmp_path)})
    check_installation({"GEANT4_DATA_DIR": str(tmp_path), "G4LEDATA": str(tmp_path)})


def test_settings_are_checked_before_geant4_is_loaded():
    for changes, message in (
        ({"particle": "muon"}, "unknown particle 'muon'; expected one of photon, pion, electron"),
        ({"sampling_fraction": 1.5}, r"sampling_fraction must be in \(0, 1\]"),
    ):
        with pytest.raises(UserError, match=message):
            Geant4Simulation(geometry("ds2"), TUNGSTEN, seed=1, **changes)


def test_geometry_is_built_in_geant4(tmp_path):
    """Without data Geant4 can still build volumes; in a process of its own, for it may abort."""
    if importlib.util.find_spec("geant4_pybind") is None:
        pytest.skip("geant4-pybind is not installed")
    code = """
import geant4_pybind as g4
from cathode.support.errors import UserError
from fastsim.data.geant4 import SamplingCalorimeter
from fastsim.data.geant4.simulation import build_calorimeter
world = build_calorimeter(g4, SamplingCalorimeter("G4_W", "G4_Si", 1.4, 0.3, 90))
inside = world.GetLogicalVolume()
assert inside.GetNoDaughters() == 180
plates = [inside.GetDaughter(i) for i in range(180)]
assert [p.GetName() for p in plates[:2]] == ["absorber", "sensitive"]
assert plates[7].GetCopyNo() == 3
assert abs(plates[7].GetTranslation().z - (3 * 1.7 + 1.55)) < 1e-9
assert not any(p.CheckOverlaps(100, 0.0, False) for p in plates)
try:
    build_calorimeter(g4, SamplingCalorimeter("G4_Cheese", "G4_Si", 1.4, 0.3, 90))
except UserError as error:
    assert "no material 'G4_Cheese'" in str(error)
else:
    raise SystemExit("accepted cheese")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"GEANT4_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
