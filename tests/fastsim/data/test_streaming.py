from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

from cathode.support.errors import UserError
from cathode.training.data import BatchSource
from fastsim.data import ShowerFile, write_showers
from fastsim.data.streaming import ShowerSource, training_data


@pytest.fixture
def file(tmp_path, electrons):
    showers = electrons(50)
    write_showers(tmp_path / "a.hdf5", showers[:30])
    write_showers(tmp_path / "b.hdf5", showers[30:])
    return ShowerFile([tmp_path / "a.hdf5", tmp_path / "b.hdf5"], "ds2"), showers


def source(file, stage="shape", **changes):
    return ShowerSource(file, stage, **({"memory_mb": 2.0, "blocks_in_memory": 3} | changes))


def test_every_shower_once_per_epoch(file):
    stream, showers = file
    one = source(stream)
    assert isinstance(one, BatchSource)
    assert 1 < one.block_rows < 10
    batches = list(one.batches(0, batch_size=7, seed=1))
    assert [len(batch) for batch in batches] == [7] * 7 + [1]
    assert len(batches) == one.steps(batch_size=7)
    seen = torch.cat([batch.context[:, 0] for batch in batches])
    np.testing.assert_array_equal(np.sort(seen.numpy()), np.sort(showers.incident_energy[:, 0]))
    assert not torch.equal(seen, torch.from_numpy(showers.incident_energy[:, 0]))


def test_rows_stay_together(file):
    stream, showers = file
    by_energy = {float(e): i for i, e in enumerate(showers.incident_energy[:, 0])}
    layers = showers.layer_energies()
    for batch in source(stream, "shape").batches(0, batch_size=7, seed=1):
        rows = [by_energy[float(e)] for e in batch.context[:, 0]]
        np.testing.assert_array_equal(batch.x.numpy(), showers.energies[rows])
        np.testing.assert_array_equal(batch.context[:, 1:].numpy(), layers[rows])
    for batch in source(stream, "energy").batches(0, batch_size=7, seed=1):
        rows = [by_energy[float(e)] for e in batch.context[:, 0]]
        np.testing.assert_array_equal(batch.x.numpy(), layers[rows])
        assert batch.context.shape[1] == 1


def test_seed_and_epoch_decide_the_order(file):
    stream, _ = file
    orders = [
        torch.cat([batch.context[:, 0] for batch in source(stream).batches(epoch, batch_size=7, seed=seed)])
        for epoch, seed in ((0, 1), (0, 1), (1, 1), (0, 2))
    ]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert not torch.equal(orders[0], orders[3])


def test_ranks_share_the_showers(file):
    stream, showers = file
    one = source(stream, rows=(0, 48))
    ranks = [list(one.batches(0, batch_size=5, seed=1, rank=rank, world=2)) for rank in range(2)]
    assert [len(b) for b in ranks[0]] == [len(b) for b in ranks[1]]
    seen = torch.cat([batch.context[:, 0] for batches in ranks for batch in batches])
    assert len(seen.unique()) == len(seen)
    assert set(seen.tolist()) <= set(showers.incident_energy[:48, 0].tolist())


def test_threshold_and_rows(file):
    stream, showers = file
    one = source(stream, rows=(10, 20), threshold=5.0)
    x = torch.cat([batch.x for batch in one.batches(0, batch_size=4, seed=1)])
    assert ((x == 0) | (x >= 5)).all()
    assert x.sum() == pytest.approx(showers[10:20].cut(5.0).energies.sum(), rel=1e-5)
    assert one.events == 10
    assert "rows 10-20; shape; threshold 5.0" in one.fingerprint()


def test_any_rows(file):
    stream, showers = file
    rows = np.array([1, 2, 9, 10, 11, 29, 30, 49])
    one = source(stream, rows=rows)
    assert one.events == 8
    seen = torch.cat([batch.context[:, 0] for batch in one.batches(0, batch_size=3, seed=1)])
    np.testing.assert_array_equal(np.sort(seen), np.sort(showers.incident_energy[rows, 0]))
    x = torch.cat([batch.x for batch in one.batches(0, batch_size=3, seed=1)])
    assert torch.equal(x.sum(1).sort().values, torch.from_numpy(showers.energies[rows]).sum(1).sort().values)
    assert "rows 1-50 without some" in one.fingerprint()
    assert one.fingerprint() != source(stream, rows=np.array([1, 49])).fingerprint()


@pytest.mark.parametrize("rows", [[], [3, 3], [5, 2], [-1, 2], [2, 50]])
def test_rows_that_are_none(file, rows):
    with pytest.raises(UserError, match=r"rising row numbers|not within the 50 showers"):
        source(file[0], rows=np.array(rows, dtype=int))


def test_whole_showers(file):
    _, showers = file
    data = training_data(showers, "shower")
    assert data.x.shape == (50, 6480)
    assert data.context.shape == (50, 1)


def test_bad_settings(file):
    stream, _ = file
    with pytest.raises(UserError, match="unknown stage 'layer'"):
        source(stream, "layer")
    with pytest.raises(UserError, match="unknown stage 'layer'"):
        training_data(file[1], "layer")
    with pytest.raises(UserError, match="not within the 50 showers"):
        source(stream, rows=(0, 51))
    with pytest.raises(UserError, match="give more memory"):
        source(stream, memory_mb=0.1)


def test_memory_is_bounded(tmp_path):
    """Streaming 1,500 showers of dataset 3 (243 MB) takes less than 120 MB beside the program itself."""
    path = tmp_path / "ds3.hdf5"
    with h5py.File(path, "w") as stream:
        stream["incident_energies"] = np.full((1500, 1), 1e4, np.float32)
        stream.create_dataset(
            "showers", (1500, 40500), np.float32, chunks=(10, 40500), compression="lzf", fillvalue=0.25
        )
    code = f"""
import resource, torch
from fastsim.data import ShowerFile
from fastsim.data.streaming import ShowerSource
source = ShowerSource(ShowerFile({str(path)!r}, "ds3"), "shape", memory_mb=60)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = sum(len(batch) for batch in source.batches(0, batch_size=32, seed=0))
assert rows == 1500, rows
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 120 * 1024
