from __future__ import annotations

import json
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pandas as pd
import pytest

from cathode.data.features import JET_COLUMNS, LHCO_COLUMNS, dijet_features
from cathode.data.lhco import write_lhco_features, write_pandas_fixed
from cathode.data.readers import iterate_raw, open_table, raw_shape, read_events, read_truth, sniff
from cathode.data.writers import write_columns
from cathode.support.errors import UserError

ROWS = 300


def lhco_frame(rows: int = ROWS, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = {name: random.normal(scale=1500, size=rows) for name in JET_COLUMNS if name[0] == "p"}
    frame |= {name: random.uniform(1, 500, rows) for name in JET_COLUMNS if name[0] in "mt"}
    frame["label"] = (np.arange(rows) % 3 == 0).astype(float)
    return pd.DataFrame(frame)[list(LHCO_COLUMNS)]


def plain_columns(rows: int = ROWS, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "mjj": random.uniform(2, 5, rows),
        "mj1": random.uniform(0, 1, rows),
        "tau": random.uniform(0, 1, rows),
        "label": (np.arange(rows) % 2).astype(float),
    }


@pytest.fixture
def lhco(tmp_path):
    write_lhco_features(lhco_frame(), tmp_path / "features.h5")
    return tmp_path / "features.h5"


@pytest.fixture
def plain(tmp_path):
    write_columns(plain_columns(), tmp_path / "plain.h5")
    return tmp_path / "plain.h5"


def test_lhco_features_become_dijet_features_in_tev(lhco):
    events = read_events(lhco)
    raw = {name: lhco_frame()[name].to_numpy() for name in JET_COLUMNS}
    expected = dijet_features(raw)
    assert events.names == ("mj1", "dmj", "tau21_j1", "tau21_j2")
    for name in events.names:
        np.testing.assert_allclose(events.column(name), expected[name], rtol=1e-13, err_msg=name)
    np.testing.assert_allclose(events.mass, expected["mjj"], rtol=1e-13)
    np.testing.assert_array_equal(events.event_id, np.arange(ROWS))


@pytest.mark.parametrize("rows_per_chunk", [1, 7, 299, 300, 1000])
def test_chunks_do_not_matter(lhco, rows_per_chunk):
    features = ["mj1", "r = log(mj1 / mjj)", "dr_jj", "pxj1"]
    whole = read_events(lhco, features=features)
    pieces = read_events(lhco, features=features, rows_per_chunk=rows_per_chunk)
    assert whole.names == ("mj1", "r", "dr_jj", "pxj1")
    np.testing.assert_array_equal(pieces.features, whole.features)
    np.testing.assert_array_equal(pieces.mass, whole.mass)
    np.testing.assert_allclose(whole.column("pxj1"), lhco_frame()["pxj1"] / 1000, rtol=1e-15)


def test_truth_is_apart_and_aligned(lhco):
    events, truth = read_events(lhco), read_truth(lhco)
    np.testing.assert_array_equal(truth.of(events), np.arange(ROWS) % 3 == 0)
    for features in (["label"], ["x = label"], ["log(1 + label)"], ["mj1", "mj2 * label"]):
        with pytest.raises(UserError, match="truth label"):
            read_events(lhco, features=features)
    with pytest.raises(UserError, match="truth label"):
        read_events(lhco, features=["harmless"], columns={"harmless": "label"})
    with pytest.raises(UserError, match="truth label"):
        read_events(lhco, mass="mjj + label")
    with pytest.raises(UserError, match="truth label"):
        read_events(lhco, weight="label")


def test_files_made_by_pandas_and_pytables_are_read(tmp_path):
    pytest.importorskip("tables")
    frame = lhco_frame()
    mixed = frame.astype({"label": np.int64, "tau3j2": np.float32})
    frame.to_hdf(tmp_path / "fixed.h5", key="df")
    frame.to_hdf(tmp_path / "blosc.h5", key="df", complib="blosc", complevel=5)
    frame.to_hdf(tmp_path / "other_key.h5", key="events")
    mixed.to_hdf(tmp_path / "blocks.h5", key="df")
    frame.to_hdf(tmp_path / "table.h5", key="df", format="table")
    mixed.to_hdf(tmp_path / "searchable.h5", key="df", format="table", data_columns=["mj1", "label"])
    frame.astype({"label": str}).to_hdf(tmp_path / "strings.h5", key="df", format="table")
    write_lhco_features(frame, tmp_path / "ours.h5")
    expected = read_events(tmp_path / "ours.h5")
    for name in ("fixed", "blosc", "other_key", "blocks", "table", "searchable", "strings"):
        events = read_events(tmp_path / f"{name}.h5")
        assert open_table(tmp_path / f"{name}.h5").format == "lhco-features", name
        np.testing.assert_array_equal(events.features, expected.features, err_msg=name)
        np.testing.assert_array_equal(events.mass, expected.mass, err_msg=name)
        if name != "strings":
            np.testing.assert_array_equal(read_truth(tmp_path / f"{name}.h5").is_signal, frame["label"] == 1)


def test_what_we_write_pandas_reads(tmp_path):
    pytest.importorskip("tables")
    write_lhco_features(lhco_frame(), tmp_path / "ours.h5")
    again = pd.read_hdf(tmp_path / "ours.h5")
    assert list(again.columns) == list(LHCO_COLUMNS)
    np.testing.assert_array_equal(again.to_numpy(), lhco_frame().to_numpy())
    np.testing.assert_array_equal(again.index, np.arange(ROWS))
    part = pd.read_hdf(tmp_path / "ours.h5", key="df", start=10, stop=20)
    np.testing.assert_array_equal(part.to_numpy(), lhco_frame().to_numpy()[10:20])


@pytest.mark.parametrize("suffix", ["h5", "parquet", "csv", "npz", "root"])
def test_every_format_gives_the_same_events(tmp_path, suffix):
    if suffix == "root":
        pytest.importorskip("uproot")
    path = tmp_path / "events.with_no_telling_suffix"
    write_columns(plain_columns(), tmp_path / f"events.{suffix}")
    (tmp_path / f"events.{suffix}").rename(path)
    events = read_events(path, rows_per_chunk=64)
    assert events.names == ("mj1", "tau")
    np.testing.assert_array_equal(events.mass, plain_columns()["mjj"])
    np.testing.assert_array_equal(events.column("tau"), plain_columns()["tau"])
    np.testing.assert_array_equal(read_truth(path).is_signal, np.arange(ROWS) % 2 == 1)


@pytest.mark.parametrize("separator", [",", ";", "\t", "  "])
def test_text_tables_with_any_separator_and_comments(tmp_path, separator):
    path = tmp_path / "table.txt"
    lines = ["# made by hand", separator.join(["mjj", "x", "process"])]
    lines += [separator.join([f"{2 + 0.1 * row:.1f}", str(row), "qcd"]) for row in range(10)]
    path.write_text("\n".join(lines))
    events = read_events(path)
    assert events.names == ("x",)
    np.testing.assert_allclose(events.mass, 2 + 0.1 * np.arange(10))


def test_hdf5_layouts(tmp_path):
    columns = plain_columns()
    record = np.zeros(ROWS, dtype=[("mjj", "f8"), ("mj1", "f4"), ("name", "S3")])
    record["mjj"], record["mj1"] = columns["mjj"], columns["mj1"]
    with h5py.File(tmp_path / "nested.h5", "w") as file:
        file["events"] = record
        file["jets/mjj"] = columns["mjj"]
        file["jets/shape"] = np.stack([columns["mj1"], columns["tau"]], axis=1)
        file["muons/mass"] = columns["mjj"]
        file["image"] = np.zeros((ROWS, 30, 30))
    assert read_events(tmp_path / "nested.h5").names == ("mj1",)
    jets = read_events(f"{tmp_path}/nested.h5:jets")
    assert jets.names == ("shape_0", "shape_1")
    np.testing.assert_array_equal(jets.column("shape_1"), columns["tau"])
    assert len(read_events(f"{tmp_path}/nested.h5:muons", features=["x = mass ** 2"])) == ROWS
    with pytest.raises(UserError, match="nothing called 'jet' inside; did you mean 'jets'"):
        read_events(f"{tmp_path}/nested.h5:jet")
    with h5py.File(tmp_path / "groups.h5", "w") as file:
        file["a/x"], file["b/x"] = np.arange(3), np.arange(3)
    with pytest.raises(UserError, match="it has the groups a, b: choose one as"):
        read_events(tmp_path / "groups.h5")
    with h5py.File(tmp_path / "ragged.h5", "w") as file:
        file["x"], file["y"] = np.arange(3), np.arange(4)
    with pytest.raises(UserError, match=r"different lengths \(x 3, y 4\)"):
        read_events(tmp_path / "ragged.h5")


def test_several_trees(tmp_path):
    uproot = pytest.importorskip("uproot")
    columns = {name: values for name, values in plain_columns().items() if name != "label"}
    with uproot.recreate(tmp_path / "trees.root") as file:
        for name in ("one", "two"):
            file.mktree(name, dict.fromkeys(columns, np.float64))
            file[name].extend(columns)
    with pytest.raises(UserError, match="several trees"):
        read_events(tmp_path / "trees.root")
    with pytest.raises(UserError, match="no tree 'three'; there are one, two"):
        read_events(f"{tmp_path}/trees.root:three")
    assert len(read_events(f"{tmp_path}/trees.root:two")) == ROWS


def test_a_tree_that_disagrees_with_its_branches(tmp_path):
    """A damaged number of entries must not become a walk through billions of empty chunks."""
    pytest.importorskip("uproot")
    write_columns({"mjj": np.linspace(2, 4, 1234), "x": np.arange(1234.0)}, tmp_path / "t.root")
    data = bytearray((tmp_path / "t.root").read_bytes())
    counts = [place for place in range(len(data)) if data[place : place + 8] == (1234).to_bytes(8, "big")]
    refused = 0
    for place in counts:
        hurt = data.copy()
        hurt[place : place + 8] = (10**12).to_bytes(8, "big")
        (tmp_path / "hurt.root").write_bytes(hurt)
        try:
            read_events(tmp_path / "hurt.root")
        except UserError as error:
            refused += "the tree has" in str(error)
    assert refused >= 1


def test_units(tmp_path):
    columns = plain_columns()
    write_columns({**columns, "mjj": 1000 * columns["mjj"]}, tmp_path / "gev.h5")
    with pytest.raises(UserError, match="looks like GeV: declare the file's units"):
        read_events(tmp_path / "gev.h5")
    events = read_events(tmp_path / "gev.h5", units="GeV")
    np.testing.assert_allclose(events.mass, columns["mjj"], rtol=1e-15)
    np.testing.assert_allclose(events.column("mj1"), columns["mj1"] / 1000, rtol=1e-15)
    np.testing.assert_array_equal(events.column("tau"), columns["tau"])
    events = read_events(tmp_path / "gev.h5", units={"mjj": "GeV"})
    np.testing.assert_allclose(events.mass, columns["mjj"], rtol=1e-15)
    np.testing.assert_array_equal(events.column("mj1"), columns["mj1"])
    for unit in ("furlong", {"mjj": "furlong"}):
        with pytest.raises(UserError, match="unknown unit 'furlong'"):
            read_events(tmp_path / "gev.h5", units=unit)
    with pytest.raises(UserError, match="units given for 'mj', no such column"):
        read_events(tmp_path / "gev.h5", units={"mj": "GeV"})


@pytest.mark.parametrize("suffix", ["h5", "parquet", "csv", "npz", "root"])
def test_units_declared_in_the_file(tmp_path, suffix):
    if suffix == "root":
        pytest.importorskip("uproot")
    columns = plain_columns()
    in_gev = {**columns, "mjj": 1000 * columns["mjj"], "mj1": 1000 * columns["mj1"]}
    write_columns(in_gev, tmp_path / f"gev.{suffix}", units={"mjj": "GeV", "mj1": "GeV"})
    events = read_events(tmp_path / f"gev.{suffix}")
    np.testing.assert_allclose(events.mass, columns["mjj"], rtol=1e-14)
    np.testing.assert_allclose(events.column("mj1"), columns["mj1"], rtol=1e-14)
    np.testing.assert_array_equal(events.column("tau"), columns["tau"])


def test_own_names_and_units_of_the_mass(tmp_path):
    columns = plain_columns()
    write_columns({"dijet mass": 1000 * columns["mjj"], "x": columns["tau"], "w": columns["mj1"]}, tmp_path / "f.h5")
    events = read_events(tmp_path / "f.h5", mass="dijet mass", features=["x"], units="GeV", weight="w")
    np.testing.assert_allclose(events.mass, columns["mjj"], rtol=1e-15)
    np.testing.assert_array_equal(events.weight, columns["mj1"])
    write_columns({"M": 1000 * columns["mjj"], "x": columns["tau"]}, tmp_path / "g.h5")
    named = read_events(tmp_path / "g.h5", features=["r = x / mjj"], units="GeV", columns={"mjj": "M"})
    np.testing.assert_allclose(named.mass, columns["mjj"], rtol=1e-15)
    np.testing.assert_allclose(named.column("r"), columns["tau"] / columns["mjj"], rtol=1e-14)
    computed = read_events(tmp_path / "g.h5", features=["x"], units="GeV", mass="sqrt(M * M)")
    np.testing.assert_allclose(computed.mass, columns["mjj"], rtol=1e-14)


def test_several_files_and_ids(tmp_path, plain):
    write_columns(plain_columns(50, seed=1), tmp_path / "more.csv")
    paths = [plain, tmp_path / "more.csv"]
    events, truth = read_events(paths), read_truth(paths)
    np.testing.assert_array_equal(events.event_id, np.arange(ROWS + 50))
    np.testing.assert_array_equal(truth.of(events)[ROWS:], np.arange(50) % 2 == 1)
    big = np.arange(ROWS) + 2**62
    write_columns({**plain_columns(), "event_id": big, "number": big[::-1]}, tmp_path / "ids.h5")
    np.testing.assert_array_equal(read_events(tmp_path / "ids.h5", features=["tau"]).event_id, big)
    np.testing.assert_array_equal(
        read_events(tmp_path / "ids.h5", features=["tau"], event_id="number").event_id, big[::-1]
    )
    np.testing.assert_array_equal(
        read_events(tmp_path / "ids.h5", features=["tau"], event_id="row").event_id, np.arange(ROWS)
    )
    np.testing.assert_array_equal(read_truth(tmp_path / "ids.h5").event_id, big)
    with pytest.raises(UserError, match="no column 'numbr'; did you mean 'number'"):
        read_events(tmp_path / "ids.h5", event_id="numbr")
    with pytest.raises(UserError, match="whole numbers"):
        read_events(tmp_path / "ids.h5", event_id="tau", features=["mj1"])
    with pytest.raises(UserError, match="at least one path"):
        read_events([])


def test_unusable_columns(tmp_path, plain, lhco):
    with pytest.raises(UserError, match=r"plain.h5: no column 'mJ1'; did you mean 'mj1'"):
        read_events(plain, features=["mJ1"])
    with pytest.raises(UserError, match=r"no column 'tau21j1' in 'log\(tau21j1\)'; did you mean 'tau21_j1'"):
        read_events(lhco, features=["log(tau21j1)"])
    with pytest.raises(UserError, match="no column 'm_jjj'"):
        read_events(plain, mass="m_jjj")
    with pytest.raises(UserError, match="listed more than once"):
        read_events(plain, features=["mj1", "mj1"])
    columns = plain_columns()
    columns["tau"][3] = np.nan
    columns["mj1"][[4, 5]] = np.inf
    write_columns(columns, tmp_path / "nan.h5")
    with pytest.raises(
        UserError, match=r"nan.h5: non-finite values among 300 events in 'mj1' \(2 inf.*'tau' \(1 NaN\)"
    ):
        read_events(tmp_path / "nan.h5")
    write_columns({**plain_columns(), "flat": np.ones(ROWS)}, tmp_path / "flat.h5")
    with pytest.raises(UserError, match=r"constant feature 'flat' \(= 1\)"):
        read_events(tmp_path / "flat.h5")
    assert "flat" in read_events(tmp_path / "flat.h5", allow_constant=True).names
    write_columns({name: values[:0] for name, values in plain_columns().items()}, tmp_path / "empty.h5")
    with pytest.raises(UserError, match="there are no events in this file"):
        read_events(tmp_path / "empty.h5")


def test_unusable_labels(tmp_path, plain, lhco):
    with pytest.raises(UserError, match="300 values of 'tau' are not labels"):
        read_truth(plain, "tau")
    with pytest.raises(UserError, match="no column 'labl'; did you mean 'label'"):
        read_truth(lhco, "labl")
    (tmp_path / "box.masterkey").write_text("0\n1\n2\n0\n")
    np.testing.assert_array_equal(read_truth(tmp_path / "box.masterkey").is_signal, [0, 1, 1, 0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\x00\x01\x02\x03" * 100, "not a format known here"),
        (b"\x93NUMPY\x01\x00", "numpy.savez"),
        (b"\x1f\x8b\x08\x00", "unpack it first"),
        (pickle.dumps({"mjj": [1, 2]}), "a pickle can run any code and is never opened"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"1.0,2.0\n3.0,4.0\n", "add a header line"),
        (b"just some prose\n", "no columns of numbers"),
        (b"mjj,mjj\n1,2\n", "occurs twice"),
        (b"mjj,x\n1,2\n1,2,3,4\n", "cannot read this text table"),
        (b"PAR1 and then nothing", "cannot read this Parquet file"),
        (b"PK\x03\x04 and then nothing", "cannot read this npz file"),
        (b"root and then nothing", "cannot read this ROOT file"),
        (b"\x89HDF\r\n\x1a\n and then nothing", "cannot read this HDF5 file"),
        ("mjj,x\n1,é\n".encode("latin-1"), "cannot read this text|neither a known binary format"),
    ],
)
def test_foreign_files(tmp_path, content, message):
    if content.startswith(b"root"):
        pytest.importorskip("uproot")
    path = tmp_path / "thing.h5"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_events(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_events(tmp_path / "missing.h5")
    with pytest.raises(UserError, match="is a folder"):
        read_events(tmp_path)
    with pytest.raises(UserError, match="no sample called 'lhco'; there are lhco_background, lhco_signal"):
        read_events("sample:lhco")


@pytest.mark.parametrize("suffix", ["h5", "parquet", "npz", "root"])
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_truncated_files(tmp_path, suffix, keep):
    if suffix == "root":
        pytest.importorskip("uproot")
    path = tmp_path / f"whole.{suffix}"
    write_columns(plain_columns(20_000), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(UserError, match="cannot read this"):
        read_events(path)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_truncated_lhco_file(lhco, keep):
    data = lhco.read_bytes()
    lhco.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(UserError, match=r"truncated|download or copy it again"):
        read_events(lhco)


def test_damage_inside_is_met_while_reading(tmp_path):
    write_lhco_features(lhco_frame(30_000), tmp_path / "hurt.h5")
    with h5py.File(tmp_path / "hurt.h5") as file:
        info = file["df/block0_values"].id.get_chunk_info(3)
    data = bytearray((tmp_path / "hurt.h5").read_bytes())
    data[info.byte_offset : info.byte_offset + info.size] = bytes(info.size)
    (tmp_path / "hurt.h5").write_bytes(data)
    with pytest.raises(UserError, match="cannot read this HDF5 file"):
        read_events(tmp_path / "hurt.h5")


def test_pickled_arrays_in_npz_are_refused(tmp_path):
    np.savez(tmp_path / "objects.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="never loaded"):
        read_events(tmp_path / "objects.npz")


def test_a_number_broken_deep_in_a_text_table_is_named(tmp_path):
    lines = ["mjj,x"] + [f"{2 + row / 1000},{row}" for row in range(500)]
    lines[400] = "3.0,oops"
    (tmp_path / "t.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"column 'x' has a value that is not a number.*oops"):
        read_events(tmp_path / "t.csv")
    lines[400] = "3.0,"
    (tmp_path / "t.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"'x' \(1 NaN\)"):
        read_events(tmp_path / "t.csv")


def raw_file(path, rows: int, *, label: bool) -> np.ndarray:
    random = np.random.default_rng(0)
    values = np.zeros((rows, 2100))
    values[:, :300] = random.uniform(0.1, 100, (rows, 300))
    columns = tuple(str(index) for index in range(2100))
    if label:
        values = np.concatenate([values, (np.arange(rows) % 2)[:, None]], axis=1)
        columns = (*columns, "2100")
    write_pandas_fixed(values, columns, path, compression_level=1)
    return values


@pytest.mark.parametrize("label", [True, False])
def test_raw_particles_come_in_chunks_with_labels_apart(tmp_path, label):
    values = raw_file(tmp_path / "raw.h5", 25, label=label)
    assert raw_shape(tmp_path / "raw.h5") == (25, 2101 if label else 2100)
    chunks = list(iterate_raw(tmp_path / "raw.h5", chunk=10))
    assert [particles.shape for particles, _ in chunks] == [(10, 700, 3), (10, 700, 3), (5, 700, 3)]
    np.testing.assert_array_equal(
        np.concatenate([particles for particles, _ in chunks]).reshape(25, 2100), values[:, :2100]
    )
    if label:
        np.testing.assert_array_equal(np.concatenate([labels for _, labels in chunks]), np.arange(25) % 2)
        np.testing.assert_array_equal(read_truth(tmp_path / "raw.h5").is_signal, np.arange(25) % 2)
    else:
        assert all(labels is None for _, labels in chunks)
        with pytest.raises(UserError, match="no labels"):
            read_truth(tmp_path / "raw.h5")
    part = list(iterate_raw(tmp_path / "raw.h5", chunk=4, start=3, stop=9))
    np.testing.assert_array_equal(np.concatenate([p for p, _ in part]).reshape(6, 2100), values[3:9, :2100])
    with pytest.raises(UserError, match="cluster its jets first"):
        read_events(tmp_path / "raw.h5")


def test_raw_errors(tmp_path, lhco):
    with pytest.raises(UserError, match="not an LHC Olympics raw file"):
        iterate_raw(lhco)
    with pytest.raises(UserError, match="at least one event"):
        iterate_raw(lhco, chunk=0)
    values = raw_file(tmp_path / "raw.h5", 8, label=True)
    values[5, 7] = np.nan
    write_pandas_fixed(values, tuple(map(str, range(2101))), tmp_path / "raw.h5")
    with pytest.raises(UserError, match="1 events with NaN or infinite values in rows 4 to 7"):
        list(iterate_raw(tmp_path / "raw.h5", chunk=4))


def test_sniffing_looks_inside(tmp_path, lhco):
    assert sniff(lhco) == "hdf5"
    with h5py.File(tmp_path / "user_block.h5", "w", userblock_size=512) as file:
        file["mjj"], file["x"] = np.linspace(2, 4, 5), np.arange(5)
    assert len(read_events(tmp_path / "user_block.h5")) == 5


_MEASURE = """
import json, resource, sys
from cathode.data.readers import read_events
import h5py, hdf5plugin
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
events = read_events(sys.argv[1], features=["mj1", "dmj", "tau21_j1", "tau21_j2", "r = log(1 + mj1 / mjj)"])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"rows": len(events), "megabytes": (after - before) / 1024, "total": after / 1024}))
"""


def test_a_million_events_need_little_memory(tmp_path):
    rows = 1_000_000
    block = lhco_frame(10_000).to_numpy()
    with h5py.File(tmp_path / "large.h5", "w") as file:
        group = file.create_group("df")
        group["axis0"] = group["block0_items"] = np.array([name.encode() for name in LHCO_COLUMNS])
        group.create_dataset("axis1", data=np.arange(rows), chunks=(100_000,))
        values = group.create_dataset("block0_values", shape=(rows, 15), dtype="f8", chunks=(10_000, 15))
        for start in range(0, rows, 10_000):
            values[start : start + 10_000] = block
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path / "large.h5")], capture_output=True, text=True, check=True
    )
    measured = json.loads(done.stdout)
    assert measured["rows"] == rows
    # The result itself has 1e6 x (5 + mass + id) x 8 bytes = 56 MB, and is concatenated from its chunks.
    assert measured["megabytes"] < 400, measured


def test_where_selects_rows_and_keeps_their_numbers(tmp_path):
    frame = pd.DataFrame({"mass": [3.0, 3.1, 3.2, 3.3], "x": [0.1, 0.2, 0.3, 0.4], "label": [0, 1, 0, 1]})
    path = tmp_path / "events.csv"
    frame.to_csv(path, index=False)
    events = read_events([path, path], mass="mass", features=["x"], where="label == 1")
    assert events.event_id.tolist() == [1, 3, 5, 7]
    assert events.column("x").tolist() == [0.2, 0.4, 0.2, 0.4]
    with pytest.raises(UserError, match="no column 'lable'"):
        read_events(path, mass="mass", features=["x"], where="lable == 1")
