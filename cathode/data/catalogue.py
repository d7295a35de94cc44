"""Public data sets that can be downloaded, by name. Sizes and checksums are asked from Zenodo, not kept here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cathode.data.expressions import near_matches
from cathode.support.errors import UserError

__all__ = ["CATALOGUE", "Dataset", "find_dataset"]


@dataclass(frozen=True)
class Dataset:
    """Files of one Zenodo record.

    Attributes:
        name: Name for the command line.
        record: Zenodo record number.
        files: File names in the record; empty means all of them.
        description: One line.
    """

    name: str
    record: int
    files: tuple[str, ...]
    description: str


_DATASETS = (
    Dataset(
        "lhco-rnd", 4536377, ("events_anomalydetection_v2.features.h5",),
        "R&D data: 1,000,000 QCD dijets and 100,000 W' -> X(qq) Y(qq), features",
    ),
    Dataset(
        "lhco-rnd-raw", 6466204, ("events_anomalydetection_v2.h5",),
        "R&D data, 700 particles per event",
    ),
    Dataset(
        "lhco-rnd-3prong", 6466204, ("events_anomalydetection_Z_XY_qqq.features.h5",),
        "W' -> X(qqq) Y(qqq) signal, features",
    ),
    Dataset(
        "lhco-rnd-3prong-raw", 6466204, ("events_anomalydetection_Z_XY_qqq.h5",),
        "W' -> X(qqq) Y(qqq) signal, 700 particles per event",
    ),
    Dataset(
        "lhco-qcd-extra", 8370758, ("events_anomalydetection_qcd_extra_inneronly_features.h5",),
        "612,858 more QCD dijets in the signal region of the R&D benchmark, features",
    ),
    Dataset(
        "lhco-qcd-extra-raw", 8370758, ("events_anomalydetection_qcd_extra_inneronly_4vecs_and_features.h5",),
        "the same with constituents",
    ),
    Dataset(
        "lhco-parametric", 11188685, ("events_anomalydetection_Z_XY_qq_parametric.h5",),
        "W' -> X(qq) Y(qq) signals of many masses",
    ),
    Dataset(
        "lhco-parametric-3prong", 11188685, ("events_anomalydetection_Z_XY_qqq_parametric.h5",),
        "W' -> X(qq) Y(qqq) signals of many masses",
    ),
    Dataset(
        "lhco-blackbox-1", 4536624, ("events_LHCO2020_BlackBox1.h5", "events_LHCO2020_BlackBox1.masterkey"),
        "black box 1 and its key, 700 particles per event",
    ),
    Dataset(
        "lhco-blackbox-2", 4536624, ("events_LHCO2020_BlackBox2.h5",),
        "black box 2 (no signal), 700 particles per event",
    ),
    Dataset(
        "lhco-blackbox-3", 4536624, ("events_LHCO2020_BlackBox3.h5", "events_LHCO2020_BlackBox3.masterkey"),
        "black box 3 and its key, 700 particles per event",
    ),
    Dataset(
        "lhco-blackbox-background", 4536624, ("events_LHCO2020_backgroundMC_Pythia.h5",),
        "simulated background for the black boxes, 700 particles per event",
    ),
)  # fmt: skip

#: Data sets of the LHC Olympics 2020 (arXiv 2101.08320) and its extensions.
CATALOGUE: Mapping[str, Dataset] = {dataset.name: dataset for dataset in _DATASETS}

_RECORD = re.compile(r"zenodo:(\d+)(?:/(.+))?")


def find_dataset(name: str) -> Dataset:
    """A data set of the catalogue, or of any record: ``zenodo:RECORD`` or ``zenodo:RECORD/FILE``.

    Raises:
        UserError: No such name; near matches are listed.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    if match := _RECORD.fullmatch(name):
        files = (match[2],) if match[2] else ()
        return Dataset(name, int(match[1]), files, "a Zenodo record")
    raise UserError(f"no data set {name!r}{near_matches(name, CATALOGUE)}; zenodo:RECORD/FILE fetches any record")
