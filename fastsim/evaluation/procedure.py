"""Which evaluation: the CaloChallenge's as published, or the same with its faults mended.

``calochallenge`` is the procedure of the public evaluation code of the Fast Calorimeter Challenge (arXiv:2410.21611),
with its features, bins and cuts, so that numbers can stand beside the published ones.  ``strict`` keeps the definitions
and mends what loses information: values outside the bins and exact zeros are counted, zeros lie below every energy that
is not zero, and every number comes with its error and with what samples of one distribution would give.
"""

from __future__ import annotations

from typing import Literal, get_args

from cathode.support.errors import UserError
from fastsim.geometry import Geometry

__all__ = ["DATASETS", "Dataset", "Mode", "checked_mode", "dataset_of", "voxel_threshold"]

Mode = Literal["strict", "calochallenge"]
Dataset = Literal["ds1-photons", "ds1-pions", "ds2", "ds3"]

DATASETS: tuple[Dataset, ...] = get_args(Dataset)

#: Readout threshold [MeV] of the public datasets: 0.5 keV over the sampling fraction 0.033 for datasets 2 and 3.
_THRESHOLDS: dict[Dataset, float] = {"ds1-photons": 1.0, "ds1-pions": 1.0, "ds2": 0.5e-3 / 0.033, "ds3": 0.5e-3 / 0.033}


def checked_mode(mode: str) -> Mode:
    """``mode`` if it is one.

    Raises:
        UserError: Unknown mode.
    """
    if mode not in get_args(Mode):
        raise UserError(f"unknown evaluation mode {mode!r}: use 'strict' or 'calochallenge'")
    return mode  # type: ignore[return-value]


def dataset_of(geometry: Geometry) -> Dataset | None:
    """The public dataset whose binning this is, whatever the geometry is called; None for any other."""
    from fastsim.geometry import geometry as public

    return next((name for name in DATASETS if _alike(geometry, public(name))), None)


def voxel_threshold(geometry: Geometry, mode: Mode = "strict", threshold: float | None = None) -> float:
    """Energy [MeV] below which a voxel counts as empty.

    Args:
        geometry: Of the showers.
        mode: ``calochallenge`` knows the public datasets only.
        threshold: Overrides the dataset's own.  Without either, ``strict`` cuts nothing.

    Raises:
        UserError: A negative threshold, or ``calochallenge`` for another geometry without one.
    """
    if threshold is not None:
        if not threshold >= 0:
            raise UserError(f"threshold {threshold} MeV: the readout threshold must be zero or positive")
        return float(threshold)
    dataset = dataset_of(geometry)
    if dataset is not None:
        return _THRESHOLDS[dataset]
    if checked_mode(mode) == "calochallenge":
        raise UserError(
            f"mode 'calochallenge' is defined for {', '.join(DATASETS)}, not for geometry {geometry.name!r}: "
            "use mode 'strict' or give the readout threshold"
        )
    return 0.0


def _alike(one: Geometry, two: Geometry) -> bool:
    # Depths are not part of the binning files, so a geometry that knows them is still the same binning.
    return one.kind == two.kind and one.n_voxels == two.n_voxels and one.layers == two.layers
