"""Each format is written here in its published layout, by hand, and read; then written by the package and compared."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from cathode.support.errors import UserError
from fastsim.data import Showers, read_showers, sniff, write_showers
from fastsim.data.formats import FORMATS
from fastsim.geometry import geometry


def write(path, **datasets):
    with h5py.File(path, "w") as stream:
        for name, values in datasets.items():
            stream.create_dataset(name, data=values)
    return path


def contents(path):
    with h5py.File(path, "r") as stream:
        return {name: (stream[name].shape, stream[name].dtype.kind) for name in stream}


# Voxel energy 100 * z + 10 * alpha + r, so that any confusion of axes shows.
def labelled(shape):
    nz, n_alpha, n_r = shape
    z, alpha, r = np.meshgrid(np.arange(nz), np.arange(n_alpha), np.arange(n_r), indexing="ij")
    return (100 * z + 10 * alpha + r + 1).astype(np.float32)


def test_calochallenge(tmp_path, small):
    cells = labelled((4, 2, 3))
    flat = np.stack([cells.reshape(-1), 2 * cells.reshape(-1)])
    path = write(tmp_path / "a.hdf5", incident_energies=np.array([[1e3], [2e3]]), showers=flat)
    assert sniff(path) == "calochallenge"
    showers = read_showers(path, small.geometry)
    np.testing.assert_array_equal(showers.energies[0].reshape(4, 2, 3), cells)
    np.testing.assert_array_equal(showers.incident_energy, [[1e3], [2e3]])
    # r is fastest: the first three voxels are the rings of layer 0, sector 0.
    np.testing.assert_array_equal(showers.energies[0, :3], [1, 2, 3])
    four = write(tmp_path / "b.hdf5", incident_energies=np.array([[1e3]]), showers=cells[None])
    np.testing.assert_array_equal(read_showers(four, small.geometry).energies[0], flat[0])


def test_calochallenge_with_conditions(tmp_path, small):
    showers = Showers(small.incident_energy, small.energies, small.geometry, np.arange(10).reshape(5, 2), ("px", "py"))
    write_showers(tmp_path / "a.hdf5", showers)
    again = read_showers(tmp_path / "a.hdf5", small.geometry)
    assert again.condition_names == ("px", "py")
    np.testing.assert_array_equal(again.conditions, showers.conditions)
    assert contents(tmp_path / "a.hdf5") == {
        "conditions": ((5, 2), "f"),
        "incident_energies": ((5, 1), "f"),
        "showers": ((5, 24), "f"),
    }


def test_conditions_without_names_get_some(tmp_path, small):
    path = write(
        tmp_path / "a.hdf5", incident_energies=small.incident_energy, showers=small.energies, conditions=np.ones((5, 2))
    )
    assert read_showers(path, small.geometry).condition_names == ("condition_0", "condition_1")
    assert read_showers(path, small.geometry, condition_names=["x", "y"]).condition_names == ("x", "y")
    with pytest.raises(UserError, match="2 conditions but 1 names"):
        read_showers(path, small.geometry, condition_names=["x"])


@pytest.mark.parametrize(("name", "voxels"), [("ds1-photons", 368), ("ds1-pions", 533), ("ds2", 6480), ("ds3", 40500)])
def test_public_datasets(tmp_path, name, voxels):
    rng = np.random.default_rng(1)
    energies = rng.gamma(0.3, 1.0, (3, voxels)).astype(np.float32)
    energies *= 1e4 / energies.sum(1, keepdims=True)
    path = write(tmp_path / "a.hdf5", incident_energies=np.full((3, 1), 1e4, np.float32), showers=energies)
    showers = read_showers(path, name)
    np.testing.assert_array_equal(showers.energies, energies)
    write_showers(tmp_path / "b.hdf5", showers)
    np.testing.assert_array_equal(read_showers(tmp_path / "b.hdf5", name).energies, energies)


def test_calogan_has_gev_and_mev(tmp_path):
    rng = np.random.default_rng(2)
    layers = {
        f"layer_{i}": rng.uniform(0, 100, (2, *shape)).astype(np.float32)
        for i, shape in enumerate([(3, 96), (12, 12), (12, 6)])
    }
    path = write(tmp_path / "gamma.hdf5", energy=np.array([[30.0], [12.5]]), overflow=np.zeros((2, 3)), **layers)
    assert sniff(path) == "calogan"
    showers = read_showers(path, "calogan")
    np.testing.assert_array_equal(showers.incident_energy, [[30e3], [12.5e3]])
    np.testing.assert_array_equal(showers.energies[1, 288 : 288 + 144].reshape(12, 12), layers["layer_1"][1])
    one = showers.geometry
    # Along the second index, the fast one, x changes by 5 mm in the first layer and by 80 mm in the last.
    assert one.x[1] - one.x[0] == pytest.approx(5)
    assert one.y[96] - one.y[0] == pytest.approx(160)
    assert one.x[433] - one.x[432] == pytest.approx(80)
    write_showers(tmp_path / "b.hdf5", showers, format="calogan")
    with h5py.File(path) as first, h5py.File(tmp_path / "b.hdf5") as second:
        assert set(first) == set(second)
        for key in first:
            np.testing.assert_allclose(first[key][:], second[key][:], rtol=1e-6)


def test_calogan_errors(tmp_path):
    good = {"energy": np.array([[30.0]]), "layer_0": np.ones((1, 3, 96)), "layer_1": np.ones((1, 12, 12))}
    path = write(tmp_path / "a.hdf5", **good, layer_2=np.ones((1, 6, 12)))
    with pytest.raises(UserError, match=r"layer_2 has \(6, 12\) cells but geometry 'calogan' needs \(12, 6\)"):
        read_showers(path, "calogan")
    with pytest.raises(UserError, match="Cartesian layers, but geometry 'ds2' is polar"):
        read_showers(path, "ds2")
    path = write(tmp_path / "b.hdf5", **good)
    with pytest.raises(UserError, match="no dataset 'layer_2'"):
        read_showers(path, "calogan")
    path = write(tmp_path / "c.hdf5", **good, layer_2=np.ones((2, 12, 6)))
    with pytest.raises(UserError, match="datasets differ in length"):
        read_showers(path, "calogan")
    path = write(tmp_path / "d.hdf5", **good, layer_2=np.ones((1, 12, 6)), layer_3=np.ones((1, 2, 2)))
    with pytest.raises(UserError, match="the file has layer_3"):
        read_showers(path, "calogan")


def test_par04_axes_are_reversed(tmp_path, small):
    cells = labelled((4, 2, 3))
    stored = np.stack([cells.transpose(2, 1, 0)] * 2)
    assert stored.shape == (2, 3, 2, 4)  # (N, R, PHI, Z)
    path = write(
        tmp_path / "a.h5",
        incident_energy=np.array([1e3, 2e3]),
        incident_theta=np.array([1.57, 1.0]),
        incident_phi=np.array([0.0, 3.0]),
        showers=stored,
    )
    assert sniff(path) == "par04"
    showers = read_showers(path, small.geometry)
    np.testing.assert_array_equal(showers.energies[1].reshape(4, 2, 3), cells)
    assert showers.condition_names == ("incident_theta", "incident_phi")
    np.testing.assert_allclose(showers.conditions[1], [1.0, 3.0])
    write_showers(tmp_path / "b.h5", showers, format="par04")
    with h5py.File(path) as first, h5py.File(tmp_path / "b.h5") as second:
        assert set(first) == set(second)
        for key in first:
            np.testing.assert_allclose(first[key][:], second[key][:], rtol=1e-6)


def test_lemurs_is_one_structured_dataset(tmp_path, small):
    cells = labelled((4, 2, 3))
    kind = [(n, "f4") for n in ("incident_energy", "incident_theta", "incident_phi")] + [("showers", "f4", (3, 2, 4))]
    events = np.zeros(3, kind)
    events["incident_energy"] = [1e3, 2e3, 3e3]
    events["incident_theta"] = [0.9, 1.5, 2.2]
    events["showers"] = cells.transpose(2, 1, 0) * np.array([1, 2, 3])[:, None, None, None]
    path = write(tmp_path / "a.h5", events=events)
    assert sniff(path) == "lemurs"
    showers = read_showers(path, small.geometry, start=1)
    np.testing.assert_array_equal(showers.energies[0].reshape(4, 2, 3), 2 * cells)
    np.testing.assert_array_equal(showers.incident_energy, [[2e3], [3e3]])
    assert showers.condition_names == ("incident_theta", "incident_phi")
    write_showers(tmp_path / "b.h5", read_showers(path, small.geometry), format="lemurs")
    with h5py.File(tmp_path / "b.h5") as second:
        np.testing.assert_array_equal(second["events"][:], events)


def test_par04_vae_has_a_dataset_per_energy(tmp_path, small):
    cells = labelled((4, 2, 3)).transpose(2, 1, 0)
    path = tmp_path / "SiW_angle_70.h5"
    write(path, **{"16": np.stack([cells * 16] * 2), "2": np.stack([cells]), "128": np.stack([cells * 128] * 3)})
    assert sniff(path) == "par04-vae"
    showers = read_showers(path, small.geometry)
    np.testing.assert_array_equal(showers.incident_energy[:, 0], np.array([2, 16, 16, 128, 128, 128]) * 1000)
    np.testing.assert_array_equal(showers.energies[1].reshape(4, 2, 3), labelled((4, 2, 3)) * 16)
    assert showers.condition_names == ("angle",)
    assert set(showers.conditions[:, 0]) == {70.0}
    part = read_showers(path, small.geometry, start=2, stop=4)
    np.testing.assert_array_equal(part.energies, showers.energies[2:4])
    write_showers(tmp_path / "again_angle_70.h5", showers, format="par04-vae")
    again = read_showers(tmp_path / "again_angle_70.h5", small.geometry)
    np.testing.assert_array_equal(again.energies, showers.energies)
    np.testing.assert_array_equal(again.incident_energy, showers.incident_energy)
    with pytest.raises(UserError, match="whole GeV"):
        write_showers(tmp_path / "c.h5", Showers([1234.5], showers.energies[:1], small.geometry), format="par04-vae")


@pytest.mark.parametrize("format", ["par04", "lemurs"])
def test_calochallenge_order_in_a_par04_file_is_noticed(tmp_path, small, format):
    cells = np.stack([labelled((4, 2, 3))])
    path = tmp_path / "a.h5"
    if format == "par04":
        write(path, incident_energy=np.array([1e3]), showers=cells)
    else:
        write(path, events=np.array([(1e3, cells[0])], [("incident_energy", "f4"), ("showers", "f4", (4, 2, 3))]))
    with pytest.raises(UserError, match=r"order \(z, alpha, r\) of the CaloChallenge, but this format stores"):
        read_showers(path, small.geometry)
    with pytest.raises(UserError, match=r"needs \(r, alpha, z\) = \(9, 16, 45\)"):
        read_showers(path, "ds2")
    with pytest.raises(UserError, match="holds equal layers"):
        read_showers(path, "ds1-photons")


def test_par04_order_in_a_calochallenge_file_is_noticed(tmp_path, small):
    cells = labelled((4, 2, 3)).transpose(2, 1, 0)
    path = write(tmp_path / "a.h5", incident_energies=np.array([[1e3]]), showers=cells[None])
    with pytest.raises(UserError, match=r"axes \(3, 2, 4\) but geometry 'small' needs \(4, 2, 3\).*transpose"):
        read_showers(path, small.geometry)


def test_lemurs_without_fields(tmp_path, small):
    path = write(tmp_path / "a.h5", events=np.zeros(2, [("showers", "f4", (3, 2, 4))]))
    with pytest.raises(UserError, match="lacks incident_energy"):
        read_showers(path, small.geometry)


def test_showerdata_round_trip(tmp_path, electrons):
    pytest.importorskip("showerdata")
    showers = electrons(20)
    write_showers(tmp_path / "a.h5", showers, format="showerdata")
    assert sniff(tmp_path / "a.h5") == "showerdata"
    again = read_showers(tmp_path / "a.h5", "ds2")
    np.testing.assert_allclose(again.energies, showers.energies, rtol=1e-6)
    np.testing.assert_allclose(again.incident_energy, showers.incident_energy, rtol=1e-6)
    assert again.condition_names == ()
    part = read_showers(tmp_path / "a.h5", "ds2", start=5, stop=7)
    np.testing.assert_array_equal(part.energies, again.energies[5:7])


def test_showerdata_as_the_library_writes_it(tmp_path):
    library = pytest.importorskip("showerdata")
    ring = geometry("ds1-photons")
    points = np.zeros((2, 3, 5), np.float32)
    # x, y [mm], layer, E [GeV], time
    points[0, :2] = [[3, 0, 0, 0.2, 1], [0, 7, 1, 0.3, 2]]
    points[1] = [[-7, 0, 2, 0.4, 1], [-7, 0, 2, 0.1, 3], [9000, 0, 2, 0.1, 3]]
    directions = np.array([[0, 0, 1], [0, 1, 0]], np.float32)
    library.save(library.Showers(points, [[1.0], [2.0]], [22, 11], directions), tmp_path / "a.h5")
    showers = read_showers(tmp_path / "a.h5", "ds1-photons")
    np.testing.assert_allclose(showers.incident_energy, [[1e3], [2e3]])
    assert showers.condition_names == ("direction_x", "direction_y", "direction_z", "pdg")
    np.testing.assert_allclose(showers.conditions, [[0, 0, 1, 22], [0, 1, 0, 11]])
    assert showers.energies[0, 0] == pytest.approx(200)
    # The hit at y = 7 mm is in ring 6-8 mm, sector pi/2; hits in one voxel add; the one far outside is left out.
    voxel = int(np.flatnonzero(showers.energies[0])[1])
    assert (ring.layer[voxel], ring.r[voxel]) == (1, 7.0)
    assert abs(ring.alpha[voxel] - np.pi / 2) <= np.pi / 10
    assert showers.energies[1].sum() == pytest.approx(500)
    assert (showers.energies[1] > 0).sum() == 1
    write_showers(tmp_path / "b.h5", showers, format="showerdata")
    again = read_showers(tmp_path / "b.h5", "ds1-photons")
    np.testing.assert_array_equal(again.conditions, showers.conditions)
    np.testing.assert_allclose(again.energies, showers.energies)


def test_showerdata_hits_in_mev(tmp_path):
    library = pytest.importorskip("showerdata")
    points = np.array([[[3, 0, 0, 200.0]], [[3, 0, 0, 400.0]]], np.float32)
    library.save(library.Showers(points, [[5.0], [10.0]], 22), tmp_path / "a.h5")
    showers = read_showers(tmp_path / "a.h5", "ds1-photons")
    np.testing.assert_allclose(showers.total_energies(), [200, 400])


def test_showerdata_needs_its_library(tmp_path, monkeypatch, small):
    path = write(
        tmp_path / "a.h5", energies=np.ones((1, 1)), showers=np.ones((1, 4)), num_points=[1], shape=[1, 1, 4], pdg=[22]
    )
    monkeypatch.setitem(__import__("sys").modules, "showerdata", None)
    with pytest.raises(UserError, match=r"pip install 'cathode-hep\[showerdata\]'"):
        read_showers(path, small.geometry)


@pytest.mark.parametrize("name", FORMATS)
def test_formats_without_room_for_conditions_say_so(tmp_path, small, name):
    if name == "calochallenge":
        pytest.skip("has room")
    if name == "showerdata":
        pytest.importorskip("showerdata")
    showers = Showers(small.incident_energy, small.energies, small.geometry, np.ones((5, 1)), ("colour",))
    with pytest.raises(UserError, match=rf"the format '{name}' has no room for the conditions \['colour'\]"):
        write_showers(tmp_path / "a.h5", showers, format=name)
    assert list(tmp_path.iterdir()) == []
