"""Tiny files in the exact layouts of the public data sets."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from cathode.jets.schema import Jets

JETCLASS_LABELS = ["QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl"]
FLAGS = ["isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon"]


def make_jets(jets: int = 12, slots: int = 8, seed: int = 0) -> Jets:
    """Jets of a few hundred GeV, at least two constituents each."""
    rng = np.random.default_rng(seed)
    points = np.empty((jets, slots, 3), np.float32)
    points[..., 0] = rng.lognormal(3.5, 1, (jets, slots))
    axis = np.stack([rng.uniform(-2, 2, jets), rng.uniform(-np.pi, np.pi, jets)], axis=-1)
    points[..., 1:] = axis[:, None] + rng.normal(0, 0.2, (jets, slots, 2))
    mask = np.arange(slots) < rng.integers(2, slots + 1, jets)[:, None]
    return Jets.from_points(points, mask)


@pytest.fixture
def jets() -> Jets:
    return make_jets()


def write_jetnet(path: Path, jets: Jets, **changed: np.ndarray) -> Path:
    relative = jets.relative(np.float32)
    particles = np.concatenate([relative[..., [1, 2, 0]], jets.mask[..., None].astype("f4")], axis=-1)
    features = np.stack([jets.axis[:, 0], jets.axis[:, 1], jets.axis[:, 3], jets.multiplicity()], axis=1)
    with h5py.File(path, "w") as file:
        file["particle_features"] = changed.get("particles", particles)
        file["jet_features"] = changed.get("features", features.astype("f4"))
    return path


def jetclass_columns(jets: Jets) -> tuple[dict[str, list[np.ndarray]], dict[str, np.ndarray]]:
    """Columns with one list per jet, and with one number per jet, of JetClass."""
    rng = np.random.default_rng(5)
    momenta = jets.four_momenta().astype("f4")
    rank = np.broadcast_to(np.arange(jets.particles), jets.mask.shape)
    per = {"part_px": momenta[..., 0], "part_py": momenta[..., 1], "part_pz": momenta[..., 2]}
    per["part_energy"] = momenta[..., 3]
    sign = np.where(jets.axis[:, 1] > 0, 1, -1)[:, None]
    per["part_deta"] = (jets.relative()[..., 1] * sign).astype("f4")
    per["part_dphi"] = jets.relative(np.float32)[..., 2]
    for name in ("d0val", "d0err", "dzval", "dzerr"):
        per[f"part_{name}"] = rng.normal(0, 1, jets.mask.shape).astype("f4")
    per["part_charge"] = ((rank % 3) - 1).astype("f4")
    for index, flag in enumerate(FLAGS):
        per[f"part_{flag}"] = (rank % 6 == index).astype("f4")
    lists = {name: [row[kept] for row, kept in zip(values, jets.mask, strict=True)] for name, values in per.items()}
    axis = jets.axis
    energy = np.sqrt((axis[:, 0] * np.cosh(axis[:, 1])) ** 2 + axis[:, 3] ** 2)
    flat = {"jet_pt": axis[:, 0], "jet_eta": axis[:, 1], "jet_phi": axis[:, 2], "jet_energy": energy}
    flat = {name: values.astype("f4") for name, values in flat.items()}
    flat["jet_nparticles"] = jets.multiplicity().astype("f4")
    flat["jet_sdmass"] = np.zeros(len(jets), "f4")
    return lists, flat


def write_jetclass(path: Path, jets: Jets, drop: tuple[str, ...] = (), **changed: np.ndarray) -> Path:
    ak, uproot = pytest.importorskip("awkward"), pytest.importorskip("uproot")
    lists, flat = jetclass_columns(jets)
    for index, name in enumerate(JETCLASS_LABELS):
        flat[f"label_{name}"] = np.arange(len(jets)) % 10 == index
    flat |= changed
    with uproot.recreate(path) as file:
        jagged = {name: ak.Array([row.tolist() for row in rows]) for name, rows in lists.items() if name not in drop}
        jagged = {name: ak.values_astype(array, np.float32) for name, array in jagged.items()}
        kinds = dict.fromkeys(jagged, "var * float32") | {name: values.dtype for name, values in flat.items()}
        file.mktree("tree", kinds)
        file["tree"].extend(jagged | flat)
    return path


def write_jetclass2(path: Path, jets: Jets, row_group_size: int = 5) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    lists, flat = jetclass_columns(jets)
    columns = {name: pa.array([row.tolist() for row in rows], pa.list_(pa.float32())) for name, rows in lists.items()}
    table = pa.table(columns | flat | {"jet_label": (np.arange(len(jets)) + 161).astype("i4")})
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def write_top_tagging(path: Path, jets: Jets) -> Path:
    pytest.importorskip("tables")
    import pandas as pd

    momenta = np.zeros((len(jets), 200, 4), "f4")
    momenta[:, : jets.particles] = jets.four_momenta()[..., [3, 0, 1, 2]]
    names = [f"{name}_{slot}" for slot in range(200) for name in ("E", "PX", "PY", "PZ")]
    frame = pd.DataFrame(momenta.reshape(len(jets), 800), columns=names)
    truth = pd.DataFrame(np.zeros((len(jets), 4), "f4"), columns=["truthE", "truthPX", "truthPY", "truthPZ"])
    flags = pd.DataFrame({"ttv": 0, "is_signal_new": np.arange(len(jets)) % 2})
    with warnings.catch_warnings():
        # Of PyTables, about names and speed.
        warnings.simplefilter("ignore")
        pd.concat([frame, truth, flags], axis=1).to_hdf(path, key="table", format="table")
    return path


def write_constituents(path: Path, jets: Jets, **more: np.ndarray) -> Path:
    points = jets.points.reshape(-1, 2, jets.particles, 3)
    with h5py.File(path, "w") as file:
        file["constituents"] = more.pop("constituents", points)
        for name, values in more.items():
            file[name] = values
        file.attrs["label"] = 1
    return path


@pytest.fixture
def write() -> SimpleNamespace:
    """Writers of the layouts, by name."""
    return SimpleNamespace(
        jets=make_jets,
        jetnet=write_jetnet,
        jetclass=write_jetclass,
        jetclass2=write_jetclass2,
        top_tagging=write_top_tagging,
        constituents=write_constituents,
    )
