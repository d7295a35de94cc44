from __future__ import annotations

import h5py
import numpy as np
import pytest

from cathode.data.readers import read_truth
from cathode.jets.commands.convert import ConvertJets, run_convert
from cathode.jets.conversion import convert_jets
from cathode.jets.readers import iterate_constituent_events, read_constituent_events, read_jets
from cathode.jets.schema import ConstituentEvents
from cathode.jets.writers import write_constituent_events, write_jets
from cathode.support.errors import UserError


def test_jets_in_pieces_are_the_same_file(tmp_path, write):
    paths = [write.jetnet(tmp_path / f"{name}.hdf5", write.jets(30, seed=seed)) for seed, name in enumerate("gt")]
    result = convert_jets(paths, tmp_path / "all.h5", rows_per_piece=7)
    assert (result.rows, result.kind, result.particles) == (60, "jets", 8)
    assert str(result) == f"{tmp_path / 'all.h5'}: 60 jets of up to 8 constituents"
    wanted, found = read_jets(paths), read_jets(tmp_path / "all.h5")
    for name in ("points", "mask", "axis", "type"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name))


def test_columns_and_types_of_jetclass_survive(tmp_path, write, jets):
    path = write.jetclass2(tmp_path / "a.parquet", jets)
    with pytest.raises(UserError, match="no fixed number of constituents: say how many particles"):
        convert_jets(path, tmp_path / "a.h5")
    convert_jets(path, tmp_path / "a.h5", particles=6, rows_per_piece=5)
    wanted, found = read_jets(path, particles=6), read_jets(tmp_path / "a.h5")
    assert np.array_equal(found.points, wanted.points)
    assert np.array_equal(found.type, wanted.type)
    assert {name: values.dtype for name, values in found.extras.items()} == {
        name: values.dtype for name, values in wanted.extras.items()
    }
    assert np.array_equal(found.extras["pid"], wanted.extras["pid"])


def test_events_lose_their_labels_which_are_written_apart(tmp_path, write):
    paths = [write.constituents(tmp_path / f"{n}.h5", write.jets(8, seed=n), label=np.arange(4) % 2) for n in range(2)]
    result = convert_jets(paths, tmp_path / "out.h5", particles=5, truth=tmp_path / "truth.h5", rows_per_piece=3)
    assert (result.rows, result.kind) == (8, "events")
    assert "truth in" in str(result)
    wanted, found = read_constituent_events(paths, particles=5), read_constituent_events(tmp_path / "out.h5")
    for name in ("points", "mass", "event_id"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name))
    with h5py.File(tmp_path / "out.h5") as file:
        assert set(file) == {"constituents", "event_id", "mass"}
        assert "label" not in file.attrs
    assert np.array_equal(read_truth(tmp_path / "truth.h5").is_signal, np.arange(8) % 2 == 1)
    single = convert_jets(paths, tmp_path / "jets.h5", kind="jets")
    assert (single.rows, read_jets(tmp_path / "jets.h5").type.tolist()) == (16, [0, 0, 1, 1] * 4)


def test_events_piece_by_piece(tmp_path, write):
    path = write.constituents(tmp_path / "a.h5", write.jets(20))
    pieces = list(iterate_constituent_events(path, rows=4, start=1))
    assert [len(piece) for piece in pieces] == [4, 4, 1]
    whole = read_constituent_events(path, start=1)
    assert np.array_equal(ConstituentEvents.concatenate(pieces).points, whole.points)
    with pytest.raises(UserError, match="at least 1 event"):
        iterate_constituent_events(path, rows=0)
    # Weights but no ids: rows are numbered from file to file.
    weighted = write.constituents(tmp_path / "b.h5", write.jets(20), weight=np.ones(10))
    assert np.array_equal(read_constituent_events([weighted, weighted]).event_id, np.arange(20))


def test_pieces_that_do_not_fit_leave_no_file(tmp_path, jets):
    with pytest.raises(UserError, match="pieces differ in their slots or columns"):
        write_jets([jets, jets.leading(3)], tmp_path / "a.h5")
    with pytest.raises(UserError, match="nothing was given"):
        write_constituent_events([], tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


def test_the_command(tmp_path, write):
    path = write.constituents(tmp_path / "in.h5", write.jets(8))
    output = tmp_path / "out.h5"
    said = str(run_convert(ConvertJets((str(path),), output, particles=3)))
    assert said == f"{output}: 4 events of up to 3 constituents"
    with pytest.raises(UserError, match="exists: add --overwrite"):
        run_convert(ConvertJets((str(path),), output))
    run_convert(ConvertJets((str(path),), output, overwrite=True))
    assert read_constituent_events(output).particles == 8
    with pytest.raises(UserError, match="is also the input"):
        run_convert(ConvertJets((str(output),), output, overwrite=True))
    with pytest.raises(UserError, match="give at least one"):
        run_convert(ConvertJets((), tmp_path / "no.h5"))
    with pytest.raises(UserError, match="jets keep their types"):
        run_convert(ConvertJets((str(path),), tmp_path / "no.h5", kind="jets", truth=tmp_path / "t.h5"))
    with pytest.raises(UserError, match="has no truth labels"):
        run_convert(ConvertJets((str(output),), tmp_path / "no.h5", truth=tmp_path / "t.h5"))
    single = write.jetnet(tmp_path / "g.hdf5", write.jets(4))
    with pytest.raises(UserError, match="holds single jets"):
        run_convert(ConvertJets((str(single),), tmp_path / "no.h5", kind="events"))
    assert not (tmp_path / "no.h5").exists()
