from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from cathode.support.errors import UserError
from cathode.training import BatchSource, FitConfig, HDF5Source, evaluation, fit


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "events.h5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as stream:
        stream["x"] = np.stack([np.arange(1000.0), -np.arange(1000.0)], 1)
        stream["mass"] = np.arange(1000.0)
        stream["other"] = 2 * np.arange(1000.0)
        stream["weight"] = rng.uniform(0.5, 1.5, 1000)
        stream["short"] = np.zeros(3)
        stream["broken"] = np.where(np.arange(1000) == 7, np.nan, 1.0)
    return path


def rows(source, **arguments):
    batches = list(source.batches(**{"batch_size": 64, "seed": 5, "epoch": 1, **arguments}))
    return batches, torch.cat([batch.context[:, 0] for batch in batches])


def test_every_row_once_shuffled_with_its_columns_together(file):
    source = HDF5Source(file, "x", context=["mass", "other"], weight="weight", block_rows=90, blocks_in_memory=3)
    assert isinstance(source, BatchSource)
    batches, index = rows(source)
    assert torch.equal(index.sort().values, torch.arange(1000.0, dtype=torch.float64))
    assert len(batches) == source.steps(batch_size=64) == 16
    assert all(len(batch) == 64 for batch in batches[:-1])
    weight = torch.from_numpy(h5py.File(file)["weight"][:])
    for batch in batches:
        assert torch.equal(batch.x[:, 1], -batch.context[:, 0])
        assert torch.equal(batch.context[:, 1], 2 * batch.context[:, 0])
        assert torch.equal(batch.weight, weight[batch.context[:, 0].long()])
    assert source.mean_weight == pytest.approx(float(weight.mean()))
    assert torch.equal(rows(source)[1], index)
    assert not torch.equal(rows(source, epoch=2)[1], index)
    # Rows of far-apart blocks share a batch.
    assert float(batches[0].context[:, 0].std()) > 90


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_rows_equally(file, world):
    source = HDF5Source(file, "x", context=["mass"], block_rows=90, blocks_in_memory=3)
    shares = [rows(source, rank=rank, world=world) for rank in range(world)]
    assert len({len(batches) for batches, _ in shares}) == 1
    assert len({len(index) for _, index in shares}) == 1
    everything = torch.cat([index for _, index in shares])
    assert len(everything.unique()) == len(everything) > 1000 - 4 * world


def test_row_range_and_mask(tmp_path):
    path = tmp_path / "sets.h5"
    with h5py.File(path, "w") as stream:
        stream["points"] = np.ones((50, 4, 3), dtype="f4")
        stream["real"] = np.tile(np.array([1, 1, 0, 0], dtype="i1"), (50, 1))
    source = HDF5Source(path, "points", mask="real", rows=(10, 40))
    assert source.events == 30
    (batch,) = list(source.batches(1, batch_size=100, seed=1))
    assert batch.x.shape == (30, 4, 3)
    assert batch.x.dtype == torch.float32
    assert batch.mask.dtype == torch.bool
    assert int(batch.mask.sum()) == 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": "z"}, "no dataset 'z'; there are: broken, mass, other, short, weight, x"),
        ({"x": "x", "context": ["short"]}, "datasets of different length"),
        ({"x": "x", "rows": (0, 2000)}, r"rows \(0, 2000\) are not within its 1000 rows"),
        ({"x": "x", "weight": "broken"}, "sum of the weights is nan"),
    ],
)
def test_unusable_files_are_refused(file, arguments, message):
    with pytest.raises(UserError, match=message):
        HDF5Source(file, **arguments)


def test_non_finite_rows_are_found_while_reading(file):
    source = HDF5Source(file, ["broken"], block_rows=100)
    with pytest.raises(UserError, match=r"events\.h5: 1 of 800 rows of x are NaN"):
        list(HDF5Source(file, ["broken"], rows=(0, 800)).batches(1, batch_size=10, seed=0))
    assert source.events == 1000


def test_not_hdf5(tmp_path):
    path = tmp_path / "text.h5"
    path.write_text("no")
    with pytest.raises(UserError, match="not readable as HDF5"):
        HDF5Source(path, "x")


def test_fit_from_a_stream_resumes_and_learns(gaussian, tmp_path):
    data = gaussian.make_data(2000, weighted=True)
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as stream:
        stream["x"], stream["context"], stream["weight"] = data.x, data.context, data.weight
    names = {"context": "context", "weight": "weight", "block_rows": 200, "blocks_in_memory": 3}
    train = HDF5Source(path, "x", rows=(0, 1500), **names)
    validation = HDF5Source(path, "x", rows=(1500, 2000), **names)
    settings = FitConfig(epochs=4, batch_size=128, learning_rate=5e-3, ema_halflife_events=2000.0, device="cpu")
    result = fit(gaussian.make_density(), train, validation, settings, seed=1, checkpoint_dir=tmp_path / "c")
    assert result.history["validation_loss"].iloc[-1] < result.history["validation_loss"].iloc[0] - 0.1
    assert (result.history.loc[1:, "events"] == 1500).all()
    memory = fit(gaussian.make_density(), data.take(slice(0, 1500)), data.take(slice(1500, 2000)), settings, seed=1)
    assert memory.history["validation_loss"][0] == pytest.approx(result.history["validation_loss"][0], rel=1e-6)


def test_statistics_of_a_source_are_bounded(file, monkeypatch):
    """Rows with tens of thousands of numbers would fill the memory long before the bound on rows."""
    source = HDF5Source(file, "x", context=["mass"], block_rows=90, blocks_in_memory=3)
    assert len(evaluation.statistics_rows(source, 64, seed=1)) == 1000
    monkeypatch.setattr(evaluation, "_STATISTICS_NUMBERS", 300)
    assert len(evaluation.statistics_rows(source, 64, seed=1)) == 192
