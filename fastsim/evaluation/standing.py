"""Numbers of an evaluation in the columns of the published tables, and the rank they give."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cathode.comparison.estimate import Estimate
from cathode.comparison.prdc import PRDC
from fastsim.evaluation.classifiers.results import ClassifierResults
from fastsim.evaluation.leaderboard import METRICS
from fastsim.evaluation.timing import Timing

__all__ = ["table_columns"]

_CLASSIFIERS = {"low_dnn": "auc_low", "high_dnn": "auc_high", "cnn": "auc_cnn"}
_KINDS = {
    "energy-layer": "layer_energy",
    "energy-total": "total_energy",
    "energy-voxel": "voxel",
    "centre-x": "centre_eta",
    "centre-y": "centre_phi",
    "centre-r": "centre_r",
    "width-x": "width_eta",
    "width-y": "width_phi",
    "width-r": "width_r",
    "sparsity": "sparsity",
}


def table_columns(
    classifiers: ClassifierResults | None,
    fpd: Estimate,
    kpd: Estimate,
    prdc: PRDC,
    mean_separations: Mapping[str, Estimate],
    timing: Timing | None,
) -> dict[str, float]:
    """This generator's values in the columns of :data:`~fastsim.evaluation.leaderboard.METRICS`, as far as known."""
    found = {"fpd_e3": 1000.0 * fpd.value, "kpd_e3": 1000.0 * kpd.value}
    if classifiers is not None:
        found |= {
            column: classifiers.auc[name].value for name, column in _CLASSIFIERS.items() if name in classifiers.auc
        }
    found |= {name: getattr(prdc, name).value for name in ("precision", "recall", "density", "coverage")}
    for kind, column in _KINDS.items():
        if kind in mean_separations:
            found[f"separation_{column}_e3"] = 1000.0 * mean_separations[kind].value
    if timing is not None:
        found |= {f"ms_{name}": value for name, value in timing.milliseconds.items()}
    return {name: value for name, value in found.items() if name in METRICS and math.isfinite(value)}
