"""Padded and jagged files of no known data set, and what this package writes."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from cathode.jets.readers import (
    JaggedLayout,
    JetFile,
    PaddedLayout,
    jets_from_awkward,
    read_constituent_events,
    read_constituent_truth,
    read_jets,
)
from cathode.jets.schema import ConstituentEvents, Jets
from cathode.jets.writers import write_constituent_events, write_jets
from cathode.support.errors import UserError


def same(found, jets):
    assert np.array_equal(found.points, jets.points)
    assert np.array_equal(found.mask, jets.mask)


def test_jets_are_written_and_read_bit_for_bit(tmp_path, jets):
    rng = np.random.default_rng(0)
    charge = rng.integers(-1, 2, jets.mask.shape).astype(np.int8) * jets.mask
    full = Jets(
        jets.points, jets.mask, jets.axis * 1.01, {"charge": charge, "d0": 0.1 * charge.astype("f4")}, np.arange(12)
    )
    write_jets(full, tmp_path / "jets.h5")
    file = JetFile(tmp_path / "jets.h5")
    assert file.formats == ("cathode-jets",)
    found = file.read()
    same(found, full)
    assert np.array_equal(found.axis, full.axis)
    assert np.array_equal(found.type, full.type)
    for name in ("charge", "d0"):
        assert np.array_equal(found.extras[name], full.extras[name])
        assert found.extras[name].dtype == full.extras[name].dtype
    write_jets(jets, tmp_path / "plain.h5")
    assert read_jets(tmp_path / "plain.h5").type is None
    write_jets(jets.select([]), tmp_path / "none.h5")
    assert len(read_jets(tmp_path / "none.h5")) == 0
    with pytest.raises(UserError, match="suffix must be"):
        write_jets(jets, tmp_path / "jets.root")


def test_events_are_written_and_read_bit_for_bit(tmp_path, jets):
    events = ConstituentEvents.from_jets(jets, event_id=np.arange(6) + 10, weight=np.linspace(0.5, 1, 6))
    write_constituent_events(events, tmp_path / "events.h5")
    found = read_constituent_events(tmp_path / "events.h5")
    for name in ("points", "mask", "mass", "event_id", "weight"):
        assert np.array_equal(getattr(found, name), getattr(events, name))
    with h5py.File(tmp_path / "events.h5") as file:
        assert not {"label", "type", "truth"} & (set(file) | set(file.attrs))
    with pytest.raises(UserError, match="has no truth labels"):
        read_constituent_truth(tmp_path / "events.h5")


def test_the_only_array_of_sets_is_found(tmp_path, jets):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["particles"] = jets.points
        file["met"] = np.zeros(12)
    file = JetFile(tmp_path / "a.h5")
    assert file.formats == ("padded",)
    same(file.read(), jets)


def test_padded_with_names(tmp_path, jets):
    charge = np.where(jets.mask, 1, 0).astype("f4")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.stack([jets.points[..., 2], charge, jets.points[..., 1], 1e3 * jets.points[..., 0]], axis=-1)
        file["real"] = jets.mask.astype("i1")
        file["kin"] = np.stack([jets.axis[:, 3], jets.axis[:, 0], jets.axis[:, 1], jets.axis[:, 2]], axis=1) * [
            1e3, 1e3, 1, 1,
        ]  # fmt: skip
        file["hot"] = np.eye(3)[np.arange(12) % 3]
    layout = PaddedLayout(
        "x",
        columns=("phi", "charge", "eta", "pt"),
        mask="real",
        axis="kin",
        axis_columns=("mass", "pt", "eta", "phi"),
        type="hot",
        units="MeV",
    )
    found = read_jets(tmp_path / "a.h5", layout=layout)
    np.testing.assert_allclose(found.points, jets.points, rtol=3e-7)
    np.testing.assert_allclose(found.axis, jets.axis, rtol=1e-12)
    assert np.array_equal(found.extras["charge"], charge)
    assert np.array_equal(found.type, np.arange(12) % 3)


def test_padded_momenta_of_events(tmp_path, jets):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["p4"] = jets.four_momenta().reshape(6, 2, 8, 4)[..., [3, 0, 1, 2]]
    layout = PaddedLayout("p4", columns=("energy", "px", "py", "pz"))
    events = read_constituent_events(tmp_path / "a.h5", layout=layout)
    np.testing.assert_allclose(events.points.reshape(12, 8, 3), jets.points, rtol=1e-6, atol=1e-7)


RECORDS = JaggedLayout(
    columns={"pt": "con.pt", "eta": "con.eta", "phi": "con.phi"}, extras={"charge": "con.q"}, integers=("charge",)
)


def records(ak, jets):
    def lists(values):
        return ak.unflatten(values[jets.mask], jets.multiplicity())

    return ak.zip(
        {
            "pt": lists(jets.points[..., 0]),
            "eta": lists(jets.points[..., 1]),
            "phi": lists(jets.points[..., 2]),
            "q": lists(np.ones(jets.mask.shape, "i4")),
        }
    )


def test_awkward_arrays(jets):
    ak = pytest.importorskip("awkward")
    found = jets_from_awkward(ak.Array({"con": records(ak, jets)}), RECORDS)
    same(found, jets)
    assert np.array_equal(found.extras["charge"], jets.mask.astype(np.int8))
    with pytest.raises(UserError, match=r"no field 'con\.pt' in the array"):
        jets_from_awkward(ak.Array({"cons": records(ak, jets)}), RECORDS)
    with pytest.raises(UserError, match="not one list of numbers per jet"):
        jets_from_awkward(ak.Array({"con": records(ak, jets)[:, 0]}), RECORDS)


def test_parquet_written_by_awkward(tmp_path, jets):
    ak = pytest.importorskip("awkward")
    ak.to_parquet(ak.Array({"con": records(ak, jets)}), tmp_path / "a.parquet", row_group_size=5)
    found = read_jets(tmp_path / "a.parquet", layout=RECORDS, start=3)
    assert np.array_equal(found.points, jets.points[3:, : found.particles])
    assert found.extras["charge"].dtype == np.int8


def test_common_names_are_found(tmp_path, jets):
    import pyarrow as pa
    import pyarrow.parquet as pq

    four = jets.four_momenta()
    lists = {
        name: pa.array([row[kept].tolist() for row, kept in zip(four[..., index], jets.mask, strict=True)])
        for index, name in enumerate(["constituents_px", "constituents_py", "constituents_pz", "constituents_E"])
    }
    pq.write_table(pa.table(lists), tmp_path / "a.parquet")
    found = read_jets(tmp_path / "a.parquet")
    np.testing.assert_allclose(found.points, jets.points, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.axis, jets.axis, rtol=1e-6, atol=1e-6)


def test_root_with_names(tmp_path, jets):
    ak, uproot = pytest.importorskip("awkward"), pytest.importorskip("uproot")
    with uproot.recreate(tmp_path / "a.root") as file:
        for tree in ("signal", "background"):
            array = records(ak, jets)
            columns = {f"Jet_{name}": array[name] for name in ("pt", "eta", "phi")}
            file.mktree(tree, dict.fromkeys(columns, "var * float32"))
            file[tree].extend(columns)
    layout = JaggedLayout(columns={"pt": "Jet_pt", "eta": "Jet_eta", "phi": "Jet_phi"}, tree="signal")
    same(read_jets(tmp_path / "a.root", layout=layout), jets)
    with pytest.raises(UserError, match=r"has the trees signal, background: say which"):
        read_jets(tmp_path / "a.root")
    other = JaggedLayout(columns={"pt": "Jet_pt", "eta": "Jet_eta", "phi": "Jet_ph"}, tree="signal")
    with pytest.raises(UserError, match=r"no branch 'Jet_ph'.*Jet_phi"):
        read_jets(tmp_path / "a.root", layout=other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": ("pt", "eta")}, "they must have pt, eta, phi or px, py, pz, energy or ptrel"),
        ({"columns": ("pt", "eta", "phi", "pt")}, "named twice"),
        ({"columns": ("ptrel", "etarel", "phirel")}, "relative constituents need the axis"),
        ({"axis": "a", "axis_columns": ("pt", "eta")}, "axis_columns are pt, eta: they must have"),
        ({"units": "keV"}, "unknown unit 'keV'"),
    ],
)
def test_layouts_that_say_nothing(arguments, message):
    with pytest.raises(UserError, match=message):
        PaddedLayout("x", **arguments)


def test_jagged_layouts_that_say_nothing():
    with pytest.raises(UserError, match="columns are pt: they must have"):
        JaggedLayout(columns={"pt": "pt"})
    with pytest.raises(UserError, match="axis are pt: they must have"):
        JaggedLayout(columns={"pt": "a", "eta": "b", "phi": "c"}, axis={"pt": "d"})
    with pytest.raises(UserError, match="unknown unit"):
        JaggedLayout(columns={"pt": "a", "eta": "b", "phi": "c"}, units="keV")


def test_records_in_an_rntuple(tmp_path, jets):
    ak, uproot = pytest.importorskip("awkward"), pytest.importorskip("uproot")
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mkrntuple("jets", ak.Array({"con": records(ak, jets)}))
    found = read_jets(tmp_path / "a.root", layout=RECORDS, start=2)
    assert np.array_equal(found.points, jets.points[2:, : found.particles])
    other = JaggedLayout(columns={"pt": "con.pt", "eta": "con.eta", "phi": "con.ph"})
    with pytest.raises(UserError, match=r"records of 'con' have no field 'ph'"):
        read_jets(tmp_path / "a.root", layout=other)
