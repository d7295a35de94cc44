"""What users get wrong with files of jets ends in one line that says what, where and what to do."""

from __future__ import annotations

import sys

import h5py
import numpy as np
import pytest

from cathode.jets.readers import (
    JaggedLayout,
    JetFile,
    PaddedLayout,
    read_constituent_events,
    read_constituent_truth,
    read_jets,
)
from cathode.support.errors import UserError


def refused(message, path, reader=read_jets, **arguments):
    with pytest.raises(UserError, match=message) as error:
        reader(path, **arguments)
    assert "\n" not in str(error.value)
    assert path is None or str(path) in str(error.value)


def array(path, **arrays):
    """An HDF5 file of these datasets; ``values`` is called ``points``."""
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file["points" if name == "values" else name] = values
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "the file is empty"),
        (b"pt,eta,phi\n1,2,3\n", "HDF5, ROOT and Parquet files, this is text"),
        (b"PK\x03\x04" + bytes(60), "HDF5, ROOT and Parquet files, this is npz"),
        (b"\x80\x04" + bytes(60), "a pickle can run any code"),
        (b"<!DOCTYPE html><html>", "a web page, not data"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "cannot read this HDF5 file"),
        (b"root" + bytes(100), "has no trees"),
        (b"PAR1" + bytes(100), "cannot read this Parquet file"),
    ],
)
def test_files_that_are_no_jets(tmp_path, content, message):
    path = tmp_path / "jets.h5"
    if content is not None:
        path.write_bytes(content)
    refused(message, path)


def test_truncated_files(tmp_path, write, jets):
    pytest.importorskip("uproot")
    for made, message in (
        (write.jetclass(tmp_path / "a.root", jets), "ROOT file"),
        (write.jetclass2(tmp_path / "a.parquet", jets), "Parquet file"),
        (write.jetnet(tmp_path / "g.hdf5", jets), "HDF5 file"),
    ):
        cut = made.with_name("cut" + made.suffix)
        cut.write_bytes(made.read_bytes()[: made.stat().st_size * 2 // 3])
        refused(f"cannot read this {message}", cut)


def test_wrong_requests(tmp_path, write, jets):
    path = write.jetnet(tmp_path / "g.hdf5", jets)
    with pytest.raises(UserError, match=r"no format 'jetnt' of jets.*jetnet"):
        read_jets(path, format="jetnt")
    refused("is a hdf5 file, but jetclass files are root", path, format="jetclass")
    refused("rows 0 to 13 are not within the 12 rows", path, stop=13)
    refused("rows 5 to 4 are not within", path, start=5, stop=4)
    refused("rows -1 to 12", path, start=-1)
    refused("holds single jets .jetnet., not events", path, read_constituent_events)
    refused("holds single jets", path, read_constituent_truth)
    refused("layout of a hdf5 file is a PaddedLayout", path, layout=JaggedLayout({"pt": "a", "eta": "b", "phi": "c"}))
    refused("need a layout: give a PaddedLayout", path, format="padded")
    with pytest.raises(UserError, match="constituents to keep must be at least 1"):
        read_jets(path, particles=0)
    with pytest.raises(UserError, match="give at least one path"):
        read_jets([])
    with pytest.raises(UserError, match="a piece must have at least 1 row"):
        next(JetFile(path).chunks(0))
    events = write.constituents(tmp_path / "e.h5", jets)
    with pytest.raises(UserError, match="files of events and files of jets"):
        read_jets([path, events])


def test_swapped_axes(tmp_path, jets):
    swapped = jets.points.swapaxes(1, 2)
    path = array(tmp_path / "a.h5", values=swapped)
    refused(r"has shape \(12, 3, 8\).*axes look swapped", path)
    events = jets.points.reshape(6, 2, 8, 3).swapaxes(2, 3)
    refused(r"\(events, jets, constituents, 3.*swapped", array(tmp_path / "b.h5", constituents=events))
    refused("'points' has shape", path, layout=PaddedLayout("points", columns=("pt", "eta", "phi", "mask")))


def test_columns_in_another_order(tmp_path, jets):
    refused("columns in the (right )?order", array(tmp_path / "a.h5", values=jets.points[..., [1, 2, 0]]))
    refused("columns in the (right )?order", array(tmp_path / "b.h5", values=jets.points[..., [0, 2, 1]] * [1, 9, 1]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_constituents(tmp_path, jets, bad):
    for slot, column in ((0, 0), (1, 1), (1, 2)):
        points = jets.points.copy()
        points[7, slot, column] = bad
        path = array(tmp_path / f"{column}.h5", values=points)
        refused(r"rows 0 to 11: 1 of 12 jets .first: row 7. have constituents that are NaN or infinite", path)
        assert len(read_jets(path, stop=7)) == 7


def test_negative_momenta_and_masks_that_disagree(tmp_path, jets):
    points = jets.points.copy()
    points[3, 1, 0] *= -1
    refused("1 of 12 jets .first: row 3. have constituents of negative pT", array(tmp_path / "a.h5", values=points))
    mask = jets.mask.copy()
    mask[5, 0] = False
    layout = PaddedLayout("points", mask="mask")
    path = array(tmp_path / "b.h5", values=jets.points, mask=mask)
    refused("mask and pT disagree in 1 of 12 jets .first: row 5.", path, layout=layout)
    path = array(tmp_path / "c.h5", values=jets.points, mask=np.ones((12, 8)))
    refused("mask and pT disagree", path, layout=layout)
    path = array(tmp_path / "d.h5", values=jets.points, mask=np.full((12, 8), 0.3))
    refused("mask has values other than 0 and 1", path, layout=layout)
    path = array(tmp_path / "e.h5", values=jets.points, mask=np.ones((12, 7)))
    refused(r"'mask' has shape \(12, 7\); it must be \(12, 8\)", path, layout=layout)


@pytest.mark.parametrize(("scale", "unit"), [(1e3, "MeV"), (1e-3, "TeV")])
def test_other_units(tmp_path, jets, scale, unit):
    points = jets.points * np.array([scale, 1, 1], "f4")
    path = array(tmp_path / "a.h5", values=points)
    refused(f"looks like {unit}: declare the units", path)
    found = read_jets(path, layout=PaddedLayout("points", units=unit))
    np.testing.assert_allclose(found.points, jets.points, rtol=3e-7)
    events = array(tmp_path / "b.h5", constituents=points.reshape(6, 2, 8, 3))
    refused(f"looks like {unit}|looks like GeV", events, read_constituent_events)


def test_datasets_that_are_missing_or_do_not_fit(tmp_path, write, jets):
    path = array(tmp_path / "a.h5", values=jets.points, other=jets.points)
    refused("do not have exactly one class|type has shape", path, layout=PaddedLayout("points", type="other"))
    refused(r"not a known layout of jets .it has .*points \(12, 8, 3\)", path)
    refused("no dataset 'point'.*points", path, layout=PaddedLayout("point"))
    refused("not a known layout of jets", array(tmp_path / "b.h5", table=np.zeros((5, 3))))
    refused("it has no arrays", array(tmp_path / "c.h5"))
    changed = write.jetnet(tmp_path / "g.hdf5", jets, features=np.ones((11, 4)))
    refused(r"'jet_features' has shape \(11, 4\); it must be \(12, 4\)", changed)
    changed = write.jetnet(tmp_path / "q.hdf5", jets, particles=np.zeros((12, 8, 3)))
    refused(r"'particle_features' has shape \(12, 8, 3\); it must be", changed)
    weights = write.constituents(tmp_path / "e.h5", jets, weight=np.ones(5))
    refused(r"'weight' has shape \(5,\); it must be \(6,\)", weights, read_constituent_events)
    ids = write.constituents(tmp_path / "f.h5", jets, event_id=np.zeros(6, int))
    refused("event ids repeat", ids, read_constituent_events)


def test_damage_inside_jetnet(tmp_path, write, jets):
    relative = jets.relative(np.float32)
    particles = np.concatenate([relative[..., [1, 2, 0]], jets.mask[..., None].astype("f4")], axis=-1)
    particles[2, 0, 3] = 0
    refused("mask and pT disagree in 1 of 12 jets", write.jetnet(tmp_path / "g.hdf5", jets, particles=particles))
    features = np.ones((12, 4)) * [500, 0.1, 50, 8]
    features[4, 0] = 0
    refused("row 4. have constituents but no positive pT|pT 0 where", write.jetnet(
        tmp_path / "q.hdf5", jets, features=features
    ))  # fmt: skip
    features[4] = [500, np.nan, 50, 8]
    refused("NaN or infinite", write.jetnet(tmp_path / "t.hdf5", jets, features=features))


def test_missing_branches_and_lists_that_disagree(tmp_path, write, jets):
    pytest.importorskip("uproot")
    path = write.jetclass(tmp_path / "a.root", jets, drop=("part_dzerr",))
    # Without one of its branches it is a tree of usual names, but not JetClass.
    assert JetFile(path).formats == ("root",)
    refused("no branch 'part_dzerr'", path, format="jetclass")
    import pyarrow as pa
    import pyarrow.parquet as pq

    lists = {"pt": [[5.0, 4.0], [3.0]], "eta": [[0.1, 0.2], [0.3]], "phi": [[0.1], [0.2]]}
    pq.write_table(pa.table(lists), tmp_path / "a.parquet")
    refused("'phi' and 'pt' have lists of different lengths .first: row 0.", tmp_path / "a.parquet")
    pq.write_table(pa.table(lists | {"phi": [1.0, 2.0]}), tmp_path / "b.parquet")
    refused("'phi' is not one list of numbers per jet, but double", tmp_path / "b.parquet")
    pq.write_table(pa.table(lists | {"phi": [[0.1, None], [0.2]]}), tmp_path / "c.parquet")
    refused("'phi' has 1 empty values inside its lists", tmp_path / "c.parquet")
    pq.write_table(pa.table({"mass": [1.0]}), tmp_path / "d.parquet")
    refused("usual names .* are not among mass: describe the file", tmp_path / "d.parquet")
    refused("no column 'part_px'", tmp_path / "d.parquet", format="jetclass2")


def test_missing_extra_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.root"
    path.write_bytes(b"root" + bytes(100))
    monkeypatch.setitem(sys.modules, "uproot", None)
    with pytest.raises(UserError, match=r"pip install 'cathode-hep\[root\]'"):
        read_jets(path)
