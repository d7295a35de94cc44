from __future__ import annotations

import h5py
import numpy as np
import pytest

from cathode.jets.layouts import write_constituents, write_raw
from cathode.jets.readers import (
    JETCLASS_TYPES,
    PIDS,
    JetFile,
    jetnet_split,
    read_constituent_events,
    read_constituent_truth,
    read_jets,
)
from cathode.support.errors import UserError


@pytest.mark.parametrize(("name", "type"), [("g", 0), ("t150", 2), ("z30", 4), ("mine", None)])
def test_jetnet(tmp_path, write, jets, name, type):
    path = write.jetnet(tmp_path / f"{name}.hdf5", jets)
    file = JetFile(path)
    assert (file.formats, len(file), file.particles) == (("jetnet",), 12, 8)
    found = file.read()
    assert np.array_equal(found.mask, jets.mask)
    # The file has no phi of the jet: it is put at 0.
    np.testing.assert_allclose(found.axis[:, [0, 1, 3]], jets.axis[:, [0, 1, 3]], rtol=1e-6)
    assert not found.axis[:, 2].any()
    np.testing.assert_allclose(found.relative(), jets.relative(), rtol=1e-5, atol=1e-6)
    if type is None:
        assert found.type is None
    else:
        assert (found.type == type).all()


def test_types_of_several_jetnet_files(tmp_path, write):
    paths = [write.jetnet(tmp_path / f"{name}.hdf5", write.jets(6, seed=seed)) for seed, name in enumerate("gqtwz")]
    found = read_jets(paths, start=3, stop=15, particles=2)
    assert found.points.shape == (12, 2, 3)
    assert np.array_equal(found.type, [0] * 3 + [1] * 6 + [2] * 3)
    one = read_jets(paths[1], particles=2)
    assert np.array_equal(found.points[3:9], one.points)


def test_published_split_of_jetnet():
    parts = [jetnet_split(880000, part) for part in ("train", "valid", "test")]
    assert [len(part) for part in parts] == [616000, 132000, 132000]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(880000))
    # permutation(10) of NumPy's generators with seed 42, the present and the legacy one.
    for legacy, expected in ((False, [5, 6, 0, 7, 3, 2, 4, 9, 1, 8]), (True, [8, 1, 5, 0, 7, 2, 9, 4, 3, 6])):
        found = [jetnet_split(10, part, legacy=legacy) for part in ("train", "valid", "test")]
        assert np.array_equal(np.concatenate(found), expected)
        assert [len(part) for part in found] == [7, 1, 2]
    with pytest.raises(UserError, match="no part 'validation'"):
        jetnet_split(10, "validation")
    with pytest.raises(UserError, match="add up to at most 1"):
        jetnet_split(10, "train", fractions=(0.9, 0.2, 0.0))


def check_jetclass(found, jets):
    assert np.array_equal(found.mask, jets.mask)
    np.testing.assert_allclose(found.points, jets.points, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(found.axis[:, :3], jets.axis[:, :3], rtol=1e-6)
    # From an energy in single precision: m^2 = E^2 - p^2 loses digits.
    np.testing.assert_allclose(found.axis[:, 3], jets.axis[:, 3], rtol=1e-3)
    assert found.extras.keys() == {"charge", "d0", "d0_err", "dz", "dz_err", "pid"}
    rank = np.broadcast_to(np.arange(8), jets.mask.shape)
    assert found.extras["pid"].dtype == found.extras["charge"].dtype == np.int8
    # The constituents of the file are by falling pT, so the slot is the number in the file.
    assert np.array_equal(found.extras["charge"], np.where(jets.mask, rank % 3 - 1, 0))
    assert np.array_equal(found.extras["pid"], np.where(jets.mask & (rank % 6 < 5), rank % 6 + 1, 0))
    assert len(PIDS) == 5
    d0 = np.random.default_rng(5).normal(0, 1, jets.mask.shape).astype("f4")
    assert np.array_equal(found.extras["d0"], np.where(jets.mask, d0, 0))


def test_jetclass(tmp_path, write, jets):
    path = write.jetclass(tmp_path / "HToBB_100.root", jets)
    file = JetFile(path)
    assert (file.formats, len(file), file.particles) == (("jetclass",), 12, None)
    found = file.read()
    check_jetclass(found, jets)
    assert np.array_equal(found.type, np.arange(12) % 10)
    assert JETCLASS_TYPES[1] == "Hbb"
    part = read_jets(path, start=4, stop=9, particles=3)
    assert part.points.shape == (5, 3, 3)
    assert np.array_equal(part.points, found.points[4:9, :3])
    assert np.array_equal(part.extras["pid"], found.extras["pid"][4:9, :3])
    assert np.array_equal(part.axis, found.axis[4:9])


def test_jetclass_without_exactly_one_label(tmp_path, write, jets):
    path = write.jetclass(tmp_path / "a.root", jets, label_Hbb=np.ones(12, bool))
    with pytest.raises(UserError, match=r"a\.root, rows 0 to 11: 10 of 12 jets .* exactly one class"):
        read_jets(path)


def test_jetclass2(tmp_path, write, jets):
    path = write.jetclass2(tmp_path / "Res2P_0000.parquet", jets)
    file = JetFile(path)
    assert (file.formats, len(file)) == (("jetclass2",), 12)
    found = file.read()
    check_jetclass(found, jets)
    assert np.array_equal(found.type, np.arange(12) + 161)
    # Row groups of 5: pieces that lie across them.
    part = file.read(4, 11)
    slots = part.particles
    assert np.array_equal(part.points, found.points[4:11, :slots])
    assert np.array_equal(part.type, found.type[4:11])


def test_top_tagging(tmp_path, write, jets):
    path = write.top_tagging(tmp_path / "train.h5", jets)
    file = JetFile(path, particles=8)
    assert (file.formats, len(file), file.particles) == (("top-tagging",), 12, 8)
    found = file.read()
    assert np.array_equal(found.mask, jets.mask)
    np.testing.assert_allclose(found.points, jets.points, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(found.axis[:, :3], jets.axis[:, :3], rtol=1e-6)
    assert np.array_equal(found.type, np.arange(12) % 2)
    assert JetFile(path).particles == 200
    assert np.array_equal(file.read(3, 5).points, found.points[3:5])


def test_constituents_of_events(tmp_path, write, jets):
    path = write.constituents(tmp_path / "events.h5", jets)
    found = read_jets(path)
    assert np.array_equal(found.points, jets.points)
    assert (found.type == 1).all()
    assert np.array_equal(read_jets(path, start=2, stop=4).points, jets.points[4:8])
    events = read_constituent_events(path, start=2, particles=3)
    assert np.array_equal(events.points.reshape(8, 3, 3), jets.points[4:, :3])
    assert np.array_equal(events.event_id, [2, 3, 4, 5])
    assert np.array_equal(read_constituent_truth(path, start=2).of(events), np.ones(4, bool))


def test_axes_of_the_generator_layout_are_those_of_the_file(tmp_path, jets):
    """The layout that generated events are written in, jet features with it."""
    full = jets.total()
    momenta = jets.four_momenta().sum(axis=1)
    features = np.zeros((12, 7))
    features[:, :3], features[:, 3] = momenta[:, :3], full[:, 3]
    cut = jets.leading(3).points.astype(float).reshape(6, 2, 3, 3)
    write_constituents(tmp_path / "g.h5", [(cut, features.reshape(6, 14))], label=0, events=6)
    found = read_jets(tmp_path / "g.h5")
    np.testing.assert_allclose(found.axis, full, rtol=1e-5, atol=1e-5)
    own = read_jets(tmp_path / "g.h5", own_axis=True)
    np.testing.assert_allclose(own.axis, jets.leading(3).total(), rtol=1e-6, atol=1e-4)
    assert (own.axis[:, 0] <= found.axis[:, 0] + 1e-2).all()
    # The mass of events is that of the constituents, whatever the file says of its jets.
    events = read_constituent_events(tmp_path / "g.h5")
    np.testing.assert_allclose(events.jets(1).axis, own.axis[1::2], rtol=1e-12)


def test_ids_and_weights_of_the_file_are_kept(tmp_path, write, jets):
    path = write.constituents(
        tmp_path / "a.h5", jets, event_id=np.arange(6)[::-1] + 100, weight=np.full(6, 0.5), label=np.arange(6) % 2
    )
    events = read_constituent_events(path, stop=3)
    assert np.array_equal(events.event_id, [105, 104, 103])
    assert np.array_equal(events.weight, [0.5] * 3)
    truth = read_constituent_truth(path)
    assert np.array_equal(truth.of(events), [False, True, False])


def test_row_numbers_go_on_from_file_to_file(tmp_path, write, jets):
    paths = [write.constituents(tmp_path / "a.h5", jets), write.constituents(tmp_path / "b.h5", write.jets(4))]
    events = read_constituent_events(paths, start=4)
    assert np.array_equal(events.event_id, [4, 5, 6, 7])
    assert len(read_constituent_truth(paths)) == 8


def test_raw_events_are_clustered(tmp_path):
    pytest.importorskip("fastjet")
    rng = np.random.default_rng(0)
    particles = np.zeros((3, 700, 3))
    # Two narrow jets far apart, and one soft particle away from both.
    for event in range(3):
        for jet, (eta, phi, count) in enumerate([(0.5, 0.0, 20), (-0.5, 3.0, 15)]):
            rows = slice(40 * jet, 40 * jet + count)
            particles[event, rows, 0] = rng.uniform(10, 60, count)
            particles[event, rows, 1] = eta + rng.normal(0, 0.1, count)
            particles[event, rows, 2] = phi + rng.normal(0, 0.05, count)
        particles[event, 100] = [1.0, 2.4, 1.5]
    write_raw(tmp_path / "raw.h5", [particles], label=1.0, events=3)
    file = JetFile(tmp_path / "raw.h5")
    assert (file.formats, len(file), file.jets_per_row, file.particles) == (("lhco-raw",), 3, 2, None)
    jets = file.read()
    assert sorted(jets.multiplicity()[:2]) == [15, 20]
    np.testing.assert_allclose(jets.axis, jets.total(), rtol=1e-6, atol=1e-6)
    assert (jets.axis[0::2, 0] >= jets.axis[1::2, 0]).all()
    assert (jets.type == 1).all()
    events = read_constituent_events(tmp_path / "raw.h5", particles=10)
    assert events.points.shape == (3, 2, 10, 3)
    assert read_constituent_truth(tmp_path / "raw.h5").is_signal.all()


def test_samples():
    events = read_constituent_events("sample:lhco_constituents", stop=200)
    signal = read_constituent_events("sample:lhco_constituents_signal", stop=200)
    assert events.points.shape == signal.points.shape == (200, 2, 64, 3)
    # The selection of the simulation: m_JJ > 2 TeV (a few lie below without the constituents that were cut).
    assert events.mass.min() > 1.7
    assert np.median(signal.mass) == pytest.approx(3.4, abs=0.15)
    jets = events.flat()
    assert 0.10 < (jets.axis[:, 3] / jets.axis[:, 0]).mean() < 0.18
    assert not read_constituent_truth("sample:lhco_constituents", stop=9).is_signal.any()
    assert read_constituent_truth("sample:lhco_constituents_signal", stop=9).is_signal.all()
    # Neutral constituents sit in the middle of cells of 0.1, up to 12 bits.
    offset = np.mod(jets.points[jets.mask][:, 1] + 0.05, 0.1)
    # (2 % of any would be so near.)
    assert (np.minimum(offset, 0.1 - offset) < 1e-3).mean() > 0.1
    with pytest.raises(UserError, match="no sample called 'lhco_jets'; there are lhco_constituents"):
        read_jets("sample:lhco_jets")


def test_readers_and_the_file_agree_bit_for_bit(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        jets = read_jets("sample:lhco_constituents", stop=20)
        file["constituents"] = jets.points.reshape(20, 2, 64, 3)
    assert np.array_equal(read_jets(tmp_path / "a.h5").points, jets.points)
