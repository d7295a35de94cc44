from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pytest

from cathode.data.commands import convert, datasets, info
from cathode.data.events import Events
from cathode.data.features import DIJET_FEATURES, JET_COLUMNS, LHCO_COLUMNS
from cathode.data.injection import Truth
from cathode.data.lhco import write_lhco_features
from cathode.data.readers import open_table, read_events, read_truth
from cathode.data.writers import write_columns, write_events, write_truth
from cathode.support.errors import UserError

SUFFIXES = ["h5", "hdf5", "parquet", "csv", "npz", "root"]


def make(rows: int = 200) -> Events:
    random = np.random.default_rng(0)
    return Events(
        features=random.normal(size=(rows, 3)) * [1e-300, 1, 1e300],
        names=("tiny", "mj1", "huge"),
        mass=random.uniform(2, 5, rows),
        event_id=random.permutation(rows) + 2**60,
        weight=random.normal(size=rows),
    )


def lhco_frame(rows: int = 100) -> pd.DataFrame:
    random = np.random.default_rng(1)
    frame = pd.DataFrame({name: random.uniform(1, 900, rows) for name in JET_COLUMNS})
    frame["label"] = (np.arange(rows) < 30).astype(float)
    return frame


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_events_come_back_bit_for_bit(tmp_path, suffix):
    if suffix == "root":
        pytest.importorskip("uproot")
    events = make()
    write_events(events, tmp_path / f"events.{suffix}")
    again = read_events(tmp_path / f"events.{suffix}", weight="weight")
    assert again.names == events.names
    for name in ("features", "mass", "event_id", "weight"):
        np.testing.assert_array_equal(getattr(again, name), getattr(events, name), err_msg=name)
    assert [path.name for path in tmp_path.iterdir()] == [f"events.{suffix}"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truth_comes_back(tmp_path, suffix):
    if suffix == "root":
        pytest.importorskip("uproot")
    truth = Truth(event_id=np.array([5, 2, 9]), is_signal=np.array([True, False, True]))
    write_truth(truth, tmp_path / f"truth.{suffix}")
    again = read_truth(tmp_path / f"truth.{suffix}")
    np.testing.assert_array_equal(again.event_id, truth.event_id)
    np.testing.assert_array_equal(again.is_signal, truth.is_signal)


def test_no_output_is_left_behind_on_errors(tmp_path):
    with pytest.raises(UserError, match=r"suffix must be one of .h5, .hdf5"):
        write_events(make(), tmp_path / "events.txt")
    with pytest.raises(UserError, match="different lengths"):
        write_columns({"a": np.ones(2), "b": np.ones(3)}, tmp_path / "x.h5")
    with pytest.raises(UserError, match="one unit for all energies"):
        write_columns({"a": np.ones(2), "b": np.ones(2)}, tmp_path / "x.csv", units={"a": "GeV", "b": "TeV"})
    with pytest.raises(TypeError):
        write_columns({"a": np.array([object(), object()])}, tmp_path / "x.h5")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        write_events(make(), tmp_path / "file" / "events.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_lhco_layout_is_checked(tmp_path):
    frame = lhco_frame()
    with pytest.raises(UserError, match="needs the column 'tau1j2'"):
        write_lhco_features(frame.drop(columns="tau1j2"), tmp_path / "x.h5")
    with pytest.raises(UserError, match="has no column 'extra'"):
        write_lhco_features(frame.assign(extra=1.0), tmp_path / "x.h5")
    write_lhco_features(frame.drop(columns="label"), tmp_path / "unlabelled.h5")
    assert open_table(tmp_path / "unlabelled.h5").columns == JET_COLUMNS
    write_lhco_features(frame[list(reversed(frame.columns))], tmp_path / "reversed.h5")
    with h5py.File(tmp_path / "reversed.h5") as file:
        assert [name.decode() for name in file["df/axis0"]] == list(LHCO_COLUMNS)
        np.testing.assert_array_equal(file["df/block0_values"], frame[list(LHCO_COLUMNS)])
    write_lhco_features(frame.iloc[:0], tmp_path / "empty.h5")
    assert open_table(tmp_path / "empty.h5").rows == 0


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_conversion_keeps_features_and_puts_truth_apart(tmp_path, suffix):
    if suffix == "root":
        pytest.importorskip("uproot")
    write_lhco_features(lhco_frame(), tmp_path / "in.h5")
    done = convert(tmp_path / "in.h5", tmp_path / f"out.{suffix}", truth=tmp_path / f"truth.{suffix}")
    assert done.rows == 100
    assert "label" not in open_table(done.output).columns
    assert {name for name in DIJET_FEATURES if name != "mjj"} < set(done.columns)
    names = ["mj1", "dmj", "tau21_j1", "dr_jj"]
    before, after = read_events(tmp_path / "in.h5", features=names), read_events(done.output, features=names)
    np.testing.assert_array_equal(after.features, before.features)
    np.testing.assert_array_equal(after.mass, before.mass)
    np.testing.assert_array_equal(read_truth(done.truth).of(after), np.arange(100) < 30)
    assert "100 events" in str(done)
    assert "truth in" in str(done)


def test_conversion_to_the_lhco_layout(tmp_path):
    frame = lhco_frame()
    frame.to_csv(tmp_path / "in.csv", index=False)
    done = convert(tmp_path / "in.csv", tmp_path / "out.h5", layout="lhco")
    assert done.columns == LHCO_COLUMNS
    direct = read_events(tmp_path / "in.csv")
    np.testing.assert_allclose(read_events(done.output).features, direct.features, rtol=1e-12)
    write_columns({name: frame[name] / 1000 for name in JET_COLUMNS}, tmp_path / "tev.h5")
    convert(tmp_path / "tev.h5", tmp_path / "gev.h5", layout="lhco", units="TeV")
    np.testing.assert_allclose(read_events(tmp_path / "gev.h5").features, direct.features, rtol=1e-9)


def test_conversion_errors(tmp_path):
    write_lhco_features(lhco_frame(), tmp_path / "in.h5")
    with pytest.raises(UserError, match="is also the input"):
        convert(tmp_path / "in.h5", tmp_path / "in.h5")
    with pytest.raises(UserError, match="unknown layout 'olympic'"):
        convert(tmp_path / "in.h5", tmp_path / "out.h5", layout="olympic")
    with pytest.raises(UserError, match=r"its suffix must be .h5"):
        convert(tmp_path / "in.h5", tmp_path / "out.csv", layout="lhco")
    with pytest.raises(UserError, match="suffix must be one of"):
        convert(tmp_path / "in.h5", tmp_path / "out.dat")
    write_columns({"mjj": np.linspace(2, 3, 5)}, tmp_path / "few.h5")
    with pytest.raises(UserError, match="no column 'pxj1'"):
        convert(tmp_path / "few.h5", tmp_path / "out.h5", layout="lhco")
    assert not (tmp_path / "out.h5").exists()


def test_info_of_an_lhco_file(tmp_path):
    write_lhco_features(lhco_frame(), tmp_path / "in.h5")
    described = info(tmp_path / "in.h5")
    assert (described.format, described.rows, described.units) == ("lhco-features", 100, "GeV")
    by_name = {(column.name, column.derived): column for column in described.columns}
    frame = lhco_frame()
    assert by_name["pxj1", False].mean == pytest.approx(frame["pxj1"].mean())
    assert by_name["pxj1", False].maximum == frame["pxj1"].max()
    events = read_events(tmp_path / "in.h5")
    assert by_name["mjj", True].minimum == pytest.approx(events.mass.min())
    assert by_name["mj1", True].maximum == pytest.approx(events.column("mj1").max())
    text = str(described)
    assert "truth label: never read as a feature" in text
    assert "lighter" in text


def test_info_counts_what_is_wrong_and_guesses_units(tmp_path):
    values = np.linspace(2000, 5000, 50)
    x = np.arange(50.0)
    x[:3], x[3:5] = np.nan, np.inf
    write_columns({"mjj": values, "x": x, "flat": np.ones(50), "void": np.full(50, np.nan)}, tmp_path / "f.csv")
    described = info(tmp_path / "f.csv")
    columns = {column.name: column for column in described.columns}
    assert (columns["x"].nan, columns["x"].infinite, columns["x"].minimum, columns["x"].maximum) == (3, 2, 5, 49)
    assert columns["void"].nan == 50
    assert described.units == "GeV"
    assert "guess" in described.units_reason
    for expected in ("3 NaN, 2 infinite", "constant", "50 NaN"):
        assert expected in str(described)
    write_columns({"mjj": values / 1000}, tmp_path / "tev.h5", units={"mjj": "TeV"})
    assert info(tmp_path / "tev.h5").units_reason == "declared in the file"
    write_columns({"y": values}, tmp_path / "y.h5")
    assert info(tmp_path / "y.h5").units == "unknown"


def test_info_of_raw_particles(tmp_path):
    from cathode.data.lhco import write_pandas_fixed

    values = np.zeros((6, 2101))
    values[:, 0:30:3] = 5.0
    write_pandas_fixed(values, tuple(map(str, range(2101))), tmp_path / "raw.h5")
    described = info(tmp_path / "raw.h5")
    assert (described.format, described.rows) == ("lhco-raw", 6)
    columns = {column.name: column for column in described.columns}
    assert columns["particles"].mean == 10
    assert columns["pT"].mean == 5
    assert "with a label column" in described.notes


def test_samples_are_what_their_readme_says():
    background, signal = info("sample:lhco_background"), info("sample:lhco_signal")
    assert (background.rows, signal.rows) == (200_000, 5_000)
    assert background.size_bytes + signal.size_bytes < 5_800_000
    events = read_events(["sample:lhco_background", "sample:lhco_signal"])
    truth = read_truth(["sample:lhco_background", "sample:lhco_signal"]).of(events)
    assert truth.sum() == 5_000
    assert events.mass.min() > 1.99, "the selection is m_JJ > 2 TeV, up to rounding"
    # W' of 3.5 TeV to jets of 100 and 500 GeV.
    assert np.median(events.mass[truth]) == pytest.approx(3.5, abs=0.05)
    assert np.median(events.column("mj1")[truth]) == pytest.approx(0.1, abs=0.02)
    assert np.median((events.column("mj1") + events.column("dmj"))[truth]) == pytest.approx(0.5, abs=0.03)


def test_samples_are_read_by_pandas_too():
    pytest.importorskip("tables")
    from cathode.data.samples import sample_path

    frame = pd.read_hdf(sample_path("lhco_signal"))
    assert list(frame.columns) == list(LHCO_COLUMNS)
    assert len(frame) == 5_000


def test_datasets_are_listed():
    assert "lhco-blackbox-1" in datasets()
