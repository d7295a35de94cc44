"""Is this sample a public dataset?  Only then may its numbers stand beside the published ones."""

from __future__ import annotations

import numpy as np

from cathode.support.errors import UserError
from fastsim.data import Showers
from fastsim.evaluation.procedure import DATASETS, dataset_of

__all__ = ["check_public"]

# Showers at 2^8, 2^9, ... 2^22 MeV in the files of dataset 1.
_PHOTONS = np.array([10_000] * 11 + [5_000, 3_000, 2_000, 1_000])
_PIONS = np.array([10_000] * 10 + [9_800, 5_000, 3_000, 2_000, 1_000])
_POINTS = 2.0 ** np.arange(8, 23)

# Datasets 2 and 3: uniform in the logarithm from 1 GeV to 1 TeV.
_LOW, _HIGH = 1e3, 1e6

_SMALLEST_P_VALUE = 1e-6
_LEAST = 1000


def check_public(reference: Showers, dataset: str) -> None:
    """Refuse a reference that is not (a part of) the public dataset whose results it shall be ranked with.

    It must be in that dataset's binning and follow its spectrum of incident energies: 15 points from 256 MeV to
    4.2 TeV in the published shares for dataset 1, uniform in the logarithm from 1 GeV to 1 TeV for datasets 2 and 3.
    That the showers themselves are those of the files is the user's word, given with the name.

    Raises:
        UserError: Why not.
    """
    if dataset not in DATASETS:
        raise UserError(f"no ranking for {dataset!r}: results were published for {', '.join(DATASETS)} only")
    found = dataset_of(reference.geometry)
    if found != dataset:
        raise UserError(
            f"no ranking as {dataset}: the showers are in "
            + (f"the binning of {found}" if found else f"geometry {reference.geometry.name!r}, not in its binning")
        )
    if len(reference) < _LEAST:
        raise UserError(f"no ranking with {len(reference)} showers: at least {_LEAST} are needed to know the spectrum")
    energies = np.asarray(reference.incident_energy, dtype=np.float64).ravel()
    if dataset in ("ds1-photons", "ds1-pions"):
        _check_points(energies, _PHOTONS if dataset == "ds1-photons" else _PIONS, dataset)
    else:
        _check_uniform(energies, dataset)


def _check_points(energies: np.ndarray, shares: np.ndarray, dataset: str) -> None:
    from scipy.stats import chisquare

    place = np.rint(np.log2(energies / _POINTS[0])).astype(int)
    inside = (place >= 0) & (place < len(_POINTS))
    exact = inside & (np.abs(energies / _POINTS[np.clip(place, 0, len(_POINTS) - 1)] - 1.0) < 1e-4)
    if not exact.all():
        wrong = energies[~exact][0]
        raise UserError(
            f"no ranking as {dataset}: {int((~exact).sum())} showers have an incident energy that it lacks, such as "
            f"{wrong:g} MeV; its energies are 2^8, 2^9, ... 2^22 MeV"
        )
    counts = np.bincount(place, minlength=len(_POINTS))
    missing = _POINTS[counts == 0]
    expected = shares / shares.sum() * len(energies)
    if chisquare(counts, expected).pvalue < _SMALLEST_P_VALUE:
        why = f"none at {missing[0]:g} to {missing[-1]:g} MeV" if len(missing) else "its shares of energies differ"
        raise UserError(
            f"no ranking as {dataset}: the showers have its binning but not its spectrum of incident energies ({why}), "
            "so they are another sample"
        )


def _check_uniform(energies: np.ndarray, dataset: str) -> None:
    from scipy.stats import kstest

    place = np.log(energies / _LOW) / np.log(_HIGH / _LOW)
    if place.min() < -1e-6 or place.max() > 1.0 + 1e-6 or kstest(place, "uniform").pvalue < _SMALLEST_P_VALUE:
        raise UserError(
            f"no ranking as {dataset}: the showers have its binning but not its spectrum of incident energies (from "
            f"{energies.min():g} to {energies.max():g} MeV instead of uniform in the logarithm from 1 GeV to 1 TeV), "
            "so they are another sample"
        )
