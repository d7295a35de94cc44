"""Raw particles to features, on files made here."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pandas as pd
import pytest

import cathode.jets.raw as raw_module
from cathode.data.features import JET_COLUMNS
from cathode.data.readers.raw import iterate_raw, raw_shape
from cathode.jets.clustering import invariant_mass, leading_jets
from cathode.jets.layouts import write_raw
from cathode.jets.raw import features_from_raw
from cathode.jets.substructure import jet_constituents, n_subjettiness
from cathode.support.errors import UserError


def dijets(events: int, seed: int) -> np.ndarray:
    """Two sprays of particles back to back, ``(events, 700, 3)``, not sorted by pT."""
    generator = np.random.default_rng(seed)
    out = np.zeros((events, 700, 3))
    side = generator.integers(0, 2, (events, 60))
    out[:, :60, 0] = generator.exponential(25.0, (events, 60)) + 0.5
    out[:, :60, 1] = 0.25 * generator.standard_normal((events, 60))
    out[:, :60, 2] = 0.25 * generator.standard_normal((events, 60)) + np.where(side, 2.9, -0.24)
    return out


def write_plain(path: Path, particles: np.ndarray, label: np.ndarray | None) -> Path:
    """A raw file as h5py alone writes it: independent of the package's own writer."""
    rows = particles.reshape(len(particles), 2100)
    if label is not None:
        rows = np.concatenate([rows, label[:, None]], axis=1)
    with h5py.File(path, "w") as file:
        frame = file.create_group("df")
        frame.attrs["pandas_type"] = "frame"
        frame["axis0"] = np.arange(rows.shape[1])
        frame["axis1"] = np.arange(len(rows))
        frame["block0_items"] = np.arange(rows.shape[1])
        frame.create_dataset(
            "block0_values",
            data=rows,
            chunks=(min(7, max(1, len(rows))), rows.shape[1]),
            maxshape=(None, rows.shape[1]),
            compression="gzip",
        )
    return path


def values(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["df/block0_values"][:]


@pytest.fixture
def sample(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    particles = dijets(23, seed=1)
    label = (np.arange(23) % 3 == 0).astype(float)
    return write_plain(tmp_path / "raw.h5", particles, label), particles, label


def test_features_and_label(sample, tmp_path: Path) -> None:
    path, particles, label = sample
    result = features_from_raw(path, tmp_path / "features.h5", chunk=10, axes="kt")
    assert (result.events, result.without_two_jets, result.labelled) == (23, 0, True)
    table = values(result.path)
    jets = leading_jets(particles)
    for jet in range(2):
        np.testing.assert_allclose(table[:, 7 * jet : 7 * jet + 3], jets.momenta[:, jet, :3], rtol=1e-12)
        np.testing.assert_allclose(table[:, 7 * jet + 3], invariant_mass(jets.momenta[:, jet]), rtol=1e-9)
        constituents = jet_constituents(particles, jets.assignment)[:, jet]
        np.testing.assert_allclose(table[:, 7 * jet + 4 : 7 * jet + 7], n_subjettiness(constituents), rtol=1e-9)
    np.testing.assert_array_equal(table[:, 14], label)
    assert np.all(np.hypot(table[:, 0], table[:, 1]) >= np.hypot(table[:, 7], table[:, 8]))
    assert not (tmp_path / "features.h5.parts").exists()


def test_the_label_has_no_influence_on_the_features(sample, tmp_path: Path) -> None:
    path, particles, label = sample
    other = write_plain(tmp_path / "other.h5", particles, 1 - label)
    first = values(features_from_raw(path, tmp_path / "a.h5").path)
    second = values(features_from_raw(other, tmp_path / "b.h5").path)
    np.testing.assert_array_equal(first[:, :14], second[:, :14])
    np.testing.assert_array_equal(first[:, 14], 1 - second[:, 14])


def test_readable_with_pandas(sample, tmp_path: Path) -> None:
    features_from_raw(sample[0], tmp_path / "features.h5")
    frame = pd.read_hdf(tmp_path / "features.h5")
    assert list(frame.columns) == [*JET_COLUMNS, "label"]
    np.testing.assert_array_equal(frame.to_numpy(), values(tmp_path / "features.h5"))


def test_without_labels(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "blackbox.h5", dijets(5, seed=2), None)
    result = features_from_raw(path, tmp_path / "features.h5")
    assert not result.labelled
    assert values(result.path).shape == (5, 14)


def test_same_result_for_any_chunk_and_number_of_processes(sample, tmp_path: Path) -> None:
    path = sample[0]
    expected = values(features_from_raw(path, tmp_path / "one.h5", chunk=100).path)
    for name, chunk, workers in (("two", 7, 1), ("three", 12, 2)):
        found = features_from_raw(path, tmp_path / f"{name}.h5", chunk=chunk, workers=workers)
        np.testing.assert_array_equal(values(found.path), expected)


def test_goes_on_where_it_was(sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sample[0]
    expected = values(features_from_raw(path, tmp_path / "expected.h5", chunk=5).path)
    real, done = raw_module._write_chunk, []

    def interrupted(task) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(task.start)
        real(task)

    monkeypatch.setattr(raw_module, "_write_chunk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        features_from_raw(path, tmp_path / "out.h5", chunk=5)
    assert not (tmp_path / "out.h5").exists()

    def counting(task) -> None:
        done.append(task.start)
        real(task)

    monkeypatch.setattr(raw_module, "_write_chunk", counting)
    with pytest.raises(UserError, match=r"parts of another job \(different: chunk\)"):
        features_from_raw(path, tmp_path / "out.h5", chunk=6)
    features_from_raw(path, tmp_path / "out.h5", chunk=5)
    assert done == [0, 5, 10, 15, 20]
    np.testing.assert_array_equal(values(tmp_path / "out.h5"), expected)


def test_memory_follows_the_chunk_not_the_file(tmp_path: Path) -> None:
    def peak(events: int) -> int:
        path = tmp_path / f"raw{events}.h5"
        write_raw(path, [dijets(events, seed=3)], 0.0, events)
        gc.collect()
        tracemalloc.start()
        features_from_raw(path, tmp_path / f"features{events}.h5", chunk=20)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(20)  # imports and caches
    small, large = peak(40), peak(400)
    assert small < 20 * 200_000 + 2_000_000
    assert large < 1.2 * small + 360 * 600


def test_events_with_one_jet_are_kept_and_counted(tmp_path: Path) -> None:
    particles = dijets(4, seed=4)
    particles[2] = 0
    particles[2, 5] = (50.0, 0.1, 0.2)
    path = write_plain(tmp_path / "raw.h5", particles, np.zeros(4))
    result = features_from_raw(path, tmp_path / "features.h5")
    assert result.without_two_jets == 1
    row = values(result.path)[2]
    assert np.hypot(row[0], row[1]) == pytest.approx(50.0)
    np.testing.assert_array_equal(row[7:], 0)


def test_bad_files(sample, tmp_path: Path) -> None:
    path, particles, label = sample
    output = tmp_path / "features.h5"
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(UserError, match="cannot read this HDF5 file"):
        features_from_raw(tmp_path / "text.h5", output)
    with pytest.raises(UserError, match="cannot read this HDF5 file"):
        features_from_raw(tmp_path / "absent.h5", output)
    features_from_raw(path, tmp_path / "narrow.h5")
    with pytest.raises(UserError, match="not an LHC Olympics raw file"):
        features_from_raw(tmp_path / "narrow.h5", output)
    with pytest.raises(UserError, match="has no events"):
        features_from_raw(write_plain(tmp_path / "empty.h5", particles[:0], label[:0]), output)
    particles[12, 3, 0] = np.inf
    broken = write_plain(tmp_path / "broken.h5", particles, label)
    with pytest.raises(UserError, match="1 events with NaN or infinite values in rows 10 to 19"):
        features_from_raw(broken, output, chunk=10)
    with pytest.raises(UserError, match="chunk must be at least 1"):
        features_from_raw(path, output, chunk=0)
    with pytest.raises(UserError, match="number of processes"):
        features_from_raw(path, output, workers=0)
    assert not output.exists()


def test_raw_layout_round_trip(tmp_path: Path) -> None:
    particles = dijets(9, seed=5)
    write_raw(tmp_path / "raw.h5", [particles[:4], particles[4:]], 1.0, 9)
    assert raw_shape(tmp_path / "raw.h5") == (9, 2101)
    ((found, label),) = iterate_raw(tmp_path / "raw.h5", start=2, stop=8)
    np.testing.assert_array_equal(found, particles[2:8])
    np.testing.assert_array_equal(label, 1)
    frame = pd.read_hdf(tmp_path / "raw.h5")
    np.testing.assert_array_equal(frame.to_numpy()[:, :2100].reshape(9, 700, 3), particles)
