"""Bins of every observable: those of the CaloChallenge, or, for other detectors, from the reference's range."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastsim.evaluation.observables import Observable
from fastsim.evaluation.procedure import Dataset

__all__ = ["energy_bins", "is_logarithmic", "observable_edges", "response_edges"]

Array = NDArray[np.float64]

#: Half range of centres, range of widths, range of radial centres and widths [mm], of the public evaluation code.
_RANGES = {"electrons": (30.0, 30.0, 20.0), "usual": (100.0, 100.0, 500.0), "hadronic": (500.0, 400.0, 1500.0)}
_HADRONIC_LAYERS = (12, 13)


def observable_edges(reference: Observable, dataset: Dataset | None, threshold: float) -> Array:
    """Bin edges ``(bins + 1,)`` of an observable.

    The CaloChallenge gives no range for the radial centre of energy; that of the radial width is used.

    Args:
        reference: The observable of the reference sample.
        dataset: The public dataset whose bins to use; None takes ranges that hold the reference but for some per mille.
        threshold: Readout threshold [MeV], the lowest edge of energies.
    """
    kind, values = reference.kind, reference.values
    if kind == "energy-total":
        return np.linspace(0.5, 1.5, 101) if dataset else _spanned(values, 100)
    if kind in ("energy-layer", "energy-voxel"):
        return energy_bins(values, threshold, 40 if kind == "energy-layer" else 50)
    if kind == "sparsity":
        return np.linspace(0.0, 1.0, 21)
    if kind == "asymmetry":
        return np.linspace(-1.0, 1.0, 41)
    if kind == "hottest":
        return np.linspace(0.0, 1.0, 51)
    if dataset and reference.layer is not None:
        centre, width, radius = _range(dataset, reference.layer)
        if kind in ("centre-x", "centre-y"):
            return np.linspace(-centre, centre, 101)
        return np.linspace(0.0, width if kind in ("width-x", "width-y") else radius, 101)
    return _spanned(values, 100 if reference.layer is not None else 50)


def response_edges(values: np.ndarray, dataset: Dataset | None, energy: float) -> Array:
    """Bin edges ``(21,)`` of total over incident energy at one incident energy [MeV].

    The CaloChallenge uses 0.4 to 1.4, and 0.9 to 1.1 for photons from 4.096 GeV on.
    """
    if dataset == "ds1-photons" and energy >= 4095.0:
        return np.linspace(0.9, 1.1, 21)
    return np.linspace(0.4, 1.4, 21) if dataset in ("ds1-photons", "ds1-pions") else _spanned(values, 20)


def energy_bins(values: np.ndarray, threshold: float, edges: int) -> Array:
    """``edges`` edges equally spaced in the logarithm, from the threshold to the largest value."""
    positive = values[values > 0]
    lowest = threshold if threshold > 0 else (float(positive.min()) if len(positive) else 1.0)
    highest = max(float(values.max()) if len(values) else 0.0, lowest * (1.0 + 1e-3))
    result = np.geomspace(lowest, highest, edges)
    result[0], result[-1] = lowest, highest
    return result


def is_logarithmic(edges: Array) -> bool:
    """Whether the edges are equally spaced in the logarithm."""
    return bool(edges[0] > 0 and np.ptp(np.diff(np.log(edges))) < 1e-6 * np.log(edges[-1] / edges[0]))


def _range(dataset: Dataset, layer: int) -> tuple[float, float, float]:
    if dataset in ("ds2", "ds3"):
        return _RANGES["electrons"]
    return _RANGES["hadronic" if layer in _HADRONIC_LAYERS else "usual"]


def _spanned(values: np.ndarray, bins: int) -> Array:
    """Equal bins from the 2 to the 998 per mille quantile of the values that are not exactly zero."""
    filled = values[values != 0]
    low, high = np.quantile(filled.astype(np.float64), [0.002, 0.998]) if len(filled) else (0.0, 1.0)
    if not high - low > 1e-9 * max(abs(low), abs(high)):
        half = max(abs(low), 1.0) * 0.5
        low, high = low - half, high + half
    return np.linspace(low, high, bins + 1)
