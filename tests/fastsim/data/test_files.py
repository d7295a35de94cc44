from __future__ import annotations

import h5py
import numpy as np
import pytest

from cathode.support.errors import UserError
from fastsim.data import SAMPLES, ShowerFile, read_showers, sample, sample_path, sniff, write_showers


@pytest.fixture
def file(tmp_path, small):
    write_showers(tmp_path / "a.hdf5", small)
    return tmp_path / "a.hdf5"


def test_pieces_are_the_whole(file, small):
    one = ShowerFile(file, small.geometry)
    assert len(one) == 5
    assert one.format == "calochallenge"
    np.testing.assert_array_equal(one.read(1, 3).energies, small.energies[1:3])
    np.testing.assert_array_equal(one.read().energies, small.energies)
    assert [len(chunk) for chunk in one.chunks(2)] == [2, 2, 1]
    assert len(one.read(2, 2)) == 0
    np.testing.assert_array_equal(one.incident_energies(), small.incident_energy)


def test_several_files_follow_each_other(tmp_path, file, small):
    write_showers(tmp_path / "b.hdf5", small[:2])
    one = ShowerFile([file, tmp_path / "b.hdf5"], small.geometry)
    assert len(one) == 7
    np.testing.assert_array_equal(one.read(4, 6).energies, small.energies[[4, 0]])
    np.testing.assert_array_equal(one.incident_energies()[:, 0], [1e3, 2e3, 3e3, 4e3, 5e3, 1e3, 2e3])


def test_rows_must_be_there(file, small):
    for start, stop in ((0, 6), (3, 2), (-1, 2)):
        with pytest.raises(UserError, match="are not within its 5 showers"):
            ShowerFile(file, small.geometry).read(start, stop)


def test_wrong_geometry_names_the_right_one(tmp_path):
    write_showers(tmp_path / "a.hdf5", sample("ds1-photons")[:3])
    with pytest.raises(
        UserError, match=r"a.hdf5: showers have 368 voxels but geometry 'ds2' needs \(N, 6480\); ds1-photons would fit"
    ):
        read_showers(tmp_path / "a.hdf5", "ds2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["showers"].__setitem__((1, 3), np.nan), "1 of 5 showers have NaN"),
        (lambda s: s["showers"].__setitem__((1, 3), -1), "1 of 5 showers have negative"),
        (lambda s: s["incident_energies"].__setitem__(slice(None), 1.0), "look like GeV"),
        (lambda s: s["showers"].resize(4, axis=0), "datasets differ in length: incident_energies 5, showers 4"),
        (lambda s: s.move("incident_energies", "energy"), "no known format.*energy, showers"),
        (lambda s: s.move("showers", "voxels"), "no known format.*incident_energies, voxels"),
    ],
)
def test_bad_content_is_one_line_with_the_file(file, small, change, message):
    with h5py.File(file, "r+") as stream:
        change(stream)
    with pytest.raises(UserError, match=message) as caught:
        read_showers(file, small.geometry)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_truncated_file(tmp_path):
    path = tmp_path / "a.hdf5"
    path.write_bytes(sample_path("ds1-photons").read_bytes()[:100_000])
    with pytest.raises(UserError, match="damaged or truncated HDF5") as caught:
        read_showers(path, "ds1-photons")
    assert "\n" not in str(caught.value)


def test_damaged_chunk(tmp_path):
    content = bytearray(sample_path("ds1-photons").read_bytes())
    content[2_000_000:2_100_000] = bytes(100_000)
    path = tmp_path / "a.hdf5"
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged or truncated HDF5"):
        read_showers(path, "ds1-photons")


def test_other_files(tmp_path, small):
    with pytest.raises(UserError, match="no such file"):
        read_showers(tmp_path / "missing.hdf5", "ds2")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(UserError, match="not an HDF5 file"):
        sniff(tmp_path / "a.txt")
    with h5py.File(tmp_path / "strings.h5", "w") as stream:
        stream["showers"] = ["a", "b"]
        stream["incident_energies"] = [1.0, 2.0]
    with pytest.raises(UserError, match="holds object, not numbers"):
        read_showers(tmp_path / "strings.h5", small.geometry)
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(UserError, match="no known format of showers has these datasets: none"):
        sniff(tmp_path / "empty.h5")
    with pytest.raises(UserError, match="no file of showers"):
        ShowerFile([], small.geometry)


def test_unknown_format(file, small):
    with pytest.raises(UserError, match="unknown format 'root'; expected auto or one of calochallenge"):
        read_showers(file, small.geometry, format="root")


@pytest.mark.parametrize(
    ("name", "rows", "threshold"), [("ds1-photons", 12000, 1.0), ("ds2-electrons", 250, 0.5), ("images", 1000, 1.0)]
)
def test_samples(name, rows, threshold):
    showers = sample(name)
    assert len(showers) == rows
    assert showers.energies[showers.energies > 0].min() >= threshold
    # At the electromagnetic scale showers give their energy back.
    assert np.median(showers.total_energies() / showers.incident_energy[:, 0]) == pytest.approx(1, abs=0.05)
    again = read_showers(f"sample:{name}", SAMPLES[name], stop=3)
    np.testing.assert_array_equal(again.energies, showers.energies[:3])


def test_samples_are_small():
    assert sum(sample_path(name).stat().st_size for name in SAMPLES) < 6e6


def test_images_have_x_as_the_slow_axis():
    images = sample("images")
    assert images.condition_names == ("px", "py", "pz", "x", "y")
    energy = images.total_energies()
    for axis, position in (("x", images.geometry.x), ("y", images.geometry.y)):
        centre = images.energies @ position / energy
        impact = images.conditions[:, images.condition_names.index(axis)]
        other = images.conditions[:, images.condition_names.index("y" if axis == "x" else "x")]
        assert np.corrcoef(centre, impact)[0, 1] > 0.8
        assert abs(np.corrcoef(centre, other)[0, 1]) < 0.15


def test_unknown_sample():
    with pytest.raises(UserError, match="no sample called 'ds9'; there are ds1-photons"):
        read_showers("sample:ds9", "ds2")
