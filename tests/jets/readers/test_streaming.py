from __future__ import annotations

import tracemalloc

import h5py
import numpy as np
import pytest
import torch

from cathode.density.matching import FlowMatching
from cathode.density.networks import EPiC
from cathode.jets.readers import JetBatches, JetFile, read_jets, relative_sets
from cathode.jets.schema import Jets
from cathode.support.errors import UserError
from cathode.training import BatchSource, FitConfig, TrainingData, fit


@pytest.fixture
def files(tmp_path, write):
    """Three files of 100, 60 and 90 jets, whose charge column numbers them."""
    paths, first = [], 0
    for seed, count in enumerate((100, 60, 90)):
        jets = write.jets(count, slots=5, seed=seed)
        path = tmp_path / f"{seed}.h5"
        with h5py.File(path, "w") as file:
            file["points"] = jets.points
            file["type"] = np.arange(first, first + count)
        paths.append(path)
        first += count
    return paths


def opened(paths, **arguments):
    from cathode.jets.readers import PaddedLayout

    return JetFile(paths, layout=PaddedLayout("points", type="type"), **arguments)


def numbered(jets):
    data = relative_sets(jets)
    return TrainingData(data.x, torch.from_numpy(jets.type[:, None].astype(np.float64)), data.mask)


def test_pieces_are_the_whole(files):
    file = opened(files)
    whole = file.read()
    assert np.array_equal(whole.type, np.arange(250))
    for rows in (7, 64, 1000):
        pieces = list(file.chunks(rows, start=30, stop=200))
        assert max(len(piece) for piece in pieces) <= rows
        assert np.array_equal(np.concatenate([piece.points for piece in pieces]), whole.points[30:200])
    assert np.array_equal(file.read(95, 165).type, np.arange(95, 165))
    assert len(file.read(50, 50)) == 0
    assert opened(files, particles=3).read(90, 110).points.shape == (20, 3, 3)


def test_every_jet_once_per_epoch_in_another_order(files):
    source = JetBatches(opened(files), numbered, block_rows=20, blocks_in_memory=3)
    assert isinstance(source, BatchSource)
    assert (source.events, source.mean_weight) == (250, 1.0)

    def order(epoch, **arguments):
        return torch.cat([b.context[:, 0] for b in source.batches(epoch, batch_size=32, seed=3, **arguments)])

    first = order(0)
    assert torch.equal(first.sort().values, torch.arange(250.0, dtype=torch.float64))
    assert torch.equal(order(0), first)
    assert not torch.equal(order(1), first)
    assert len(list(source.batches(0, batch_size=32, seed=3))) == source.steps(batch_size=32) == 8
    shares = [order(0, rank=rank, world=2) for rank in range(2)]
    assert len(shares[0]) == len(shares[1])
    assert len(torch.cat(shares).unique()) == len(torch.cat(shares)) >= 240
    # Numbers stay with their jets.
    whole = numbered(opened(files).read())
    batch = next(source.batches(0, batch_size=32, seed=3))
    assert torch.equal(batch.x, whole.x[batch.context[:, 0].long()])
    assert torch.equal(batch.mask, whole.mask[batch.context[:, 0].long()])


def test_events_give_all_their_jets(tmp_path, write):
    path = write.constituents(tmp_path / "a.h5", write.jets(20, slots=4))
    source = JetBatches(JetFile(path), block_rows=3, rows=(2, 10))
    assert source.events == 16
    assert sum(len(batch) for batch in source.batches(0, batch_size=5, seed=0)) == 16


def test_memory_is_bounded_by_the_blocks(tmp_path):
    sample = read_jets("sample:lhco_constituents", stop=250).points
    with h5py.File(tmp_path / "big.h5", "w") as file:
        data = file.create_dataset("points", (20000, 64, 3), "f4", chunks=(500, 64, 3))
        for start in range(0, 20000, 500):
            data[start : start + 500] = sample
    source = JetBatches(JetFile(tmp_path / "big.h5"), block_rows=500, blocks_in_memory=2)
    list(source.batches(0, batch_size=500, seed=0))
    tracemalloc.start()
    count = sum(len(batch) for batch in source.batches(1, batch_size=500, seed=0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20000
    # The whole file has 15 MB in single precision; sorting works in double precision on a thousand jets.
    assert peak < 12e6


def test_a_fit_reads_from_files(files):
    settings = FitConfig(epochs=3, batch_size=32, learning_rate=5e-3, ema_halflife_events=500.0, device="cpu")
    network = EPiC(3, 4, width=16, global_width=4, layers=1)
    density = FlowMatching([5, 3], 4, network=network, solver="midpoint", steps=4)
    file = opened(files)
    train = JetBatches(file, rows=(0, 200), block_rows=25, blocks_in_memory=2)
    result = fit(density, train, JetBatches(file, rows=(200, 250), block_rows=25), settings, seed=1)
    assert result.history["validation_loss"].iloc[-1] < result.history["validation_loss"].iloc[0]
    assert (result.history.loc[1:, "events"] == 200).all()


def test_fingerprints_tell_files_apart(files):
    one = JetBatches(opened(files)).fingerprint()
    assert one == JetBatches(opened(files)).fingerprint()
    assert (
        len({one, JetBatches(opened(files[:2])).fingerprint(), JetBatches(opened(files), numbered).fingerprint()}) == 3
    )


def test_unusable_streams(files, tmp_path, write, jets):
    file = opened(files)
    with pytest.raises(UserError, match="rows 0 to 251 are not within the 250 rows"):
        JetBatches(file, rows=(0, 251))
    with pytest.raises(UserError, match="must be at least 1"):
        JetBatches(file, block_rows=0)
    jagged = JetFile(write.jetclass2(tmp_path / "a.parquet", jets))
    with pytest.raises(UserError, match="open the file with a number of particles"):
        JetBatches(jagged)
    source = JetBatches(JetFile(tmp_path / "a.parquet", particles=4), block_rows=5)
    assert sum(len(batch) for batch in source.batches(0, batch_size=8, seed=0)) == 12
    with pytest.raises(UserError, match="10 events were made of 20"):
        list(JetBatches(file, lambda j: relative_sets(j.select(slice(10))), block_rows=20, blocks_in_memory=1).batches(
            0, batch_size=8, seed=0
        ))  # fmt: skip
    with h5py.File(files[1], "r+") as stream:
        stream["points"][3, 0] = np.nan
    with pytest.raises(UserError, match=r"1\.h5, rows 0 to 19: 1 of 20 jets .first: row 3. have .* NaN"):
        list(JetBatches(file, block_rows=20).batches(0, batch_size=8, seed=0))
    single = relative_sets(jets.leading(1).with_own_axis())
    assert torch.allclose(single.context[:, 2], torch.full((12,), np.log(1e-4)).float())
    with pytest.raises(UserError, match="1 of 2 jets have no constituents"):
        relative_sets(Jets.from_points([[[9.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]]))
