from __future__ import annotations

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from cathode.support.errors import UserError
from fastsim.data import Showers, ShowerWriter, read_showers, write_showers


def test_written_file_is_whole_or_absent(tmp_path, small, monkeypatch):
    write_showers(tmp_path / "a.hdf5", small)

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(h5py.Group, "create_dataset", fail)
    with pytest.raises(UserError, match=r"cannot write .*a.hdf5: No space left on device"):
        write_showers(tmp_path / "a.hdf5", small[:1])
    monkeypatch.undo()
    assert len(read_showers(tmp_path / "a.hdf5", small.geometry)) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["a.hdf5"]


def test_unknown_format(tmp_path, small):
    with pytest.raises(UserError, match="unknown format 'root'"):
        write_showers(tmp_path / "a.hdf5", small, format="root")


def test_appended_pieces_are_the_whole(tmp_path, small):
    with ShowerWriter(tmp_path / "a.hdf5", small.geometry, piece_rows=2) as writer:
        for row in range(5):
            writer.append(small[row])
            assert len(writer) == row + 1
            assert not (tmp_path / "a.hdf5").exists()
    again = read_showers(tmp_path / "a.hdf5", small.geometry)
    np.testing.assert_array_equal(again.energies, small.energies)
    np.testing.assert_array_equal(again.incident_energy, small.incident_energy)
    assert [path.name for path in tmp_path.iterdir()] == ["a.hdf5"]


def test_conditions_are_kept(tmp_path, small):
    showers = Showers(small.incident_energy, small.energies, small.geometry, np.arange(5.0)[:, None], ("theta",))
    with ShowerWriter(tmp_path / "a.hdf5", small.geometry, condition_names=("theta",), piece_rows=1) as writer:
        writer.append(showers[:3])
        writer.append(showers[3:])
    again = read_showers(tmp_path / "a.hdf5", small.geometry)
    np.testing.assert_array_equal(again.conditions, showers.conditions)
    assert again.condition_names == ("theta",)


def test_resumed_after_an_error(tmp_path, small):
    path = tmp_path / "a.hdf5"

    def interrupted():
        with ShowerWriter(path, small.geometry, identity={"seed": 1}) as writer:
            writer.append(small[:3])
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        interrupted()
    assert not path.exists()
    with ShowerWriter(path, small.geometry, identity={"seed": 1}, resume=True) as writer:
        assert len(writer) == 3
        writer.append(small[len(writer) :])
    np.testing.assert_array_equal(read_showers(path, small.geometry).energies, small.energies)


def test_resumed_after_a_kill(tmp_path, small):
    path = tmp_path / "a.hdf5"
    write_showers(tmp_path / "source.hdf5", small)
    code = f"""
import os, signal
from fastsim.data import ShowerWriter, read_showers
from fastsim.geometry import Geometry
small = read_showers({str(tmp_path / "source.hdf5")!r}, Geometry.from_dict({small.geometry.to_dict()!r}))
writer = ShowerWriter({str(path)!r}, small.geometry, piece_rows=2)
writer.append(small[:2]); writer.append(small[2:3])
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == -9
    # A file that was being written when the process died is not taken for a piece.
    folder = next(tmp_path.glob(".writing-*.pieces"))
    (folder / ".writing-junk.hdf5").write_bytes(b"half")
    with ShowerWriter(path, small.geometry, resume=True) as writer:
        assert len(writer) == 2
        writer.append(small[2:])
    np.testing.assert_array_equal(read_showers(path, small.geometry).energies, small.energies)
    assert not folder.exists()


def test_other_settings_are_not_continued(tmp_path, small):
    path = tmp_path / "a.hdf5"
    with ShowerWriter(path, small.geometry, identity={"seed": 1}) as writer:
        writer.append(small)
        writer.flush()
        with pytest.raises(UserError, match="unfinished work of other settings"):
            ShowerWriter(path, small.geometry, identity={"seed": 2}, resume=True)
        # Without resuming it starts over.
        other = ShowerWriter(path, small.geometry, identity={"seed": 2})
        assert len(other) == 0
        other.discard()
        writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_foreign_showers_are_refused(tmp_path, small, electrons):
    with ShowerWriter(tmp_path / "a.hdf5", small.geometry) as writer:
        with pytest.raises(UserError, match=r"do not go into a file of Geometry.'small'"):
            writer.append(electrons(1))
        writer.append(small)
    with pytest.raises(UserError, match="the writer is closed"):
        writer.append(small)


def test_unwritable_folder(tmp_path, small):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        ShowerWriter(tmp_path / "file" / "a.hdf5", small.geometry)
    with pytest.raises(UserError, match="cannot write"):
        write_showers(tmp_path / "file" / "a.hdf5", small)


def test_empty_file(tmp_path, small):
    with ShowerWriter(tmp_path / "a.hdf5", small.geometry):
        pass
    assert len(read_showers(tmp_path / "a.hdf5", small.geometry)) == 0
