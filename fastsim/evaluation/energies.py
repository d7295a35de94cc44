"""Incident energies of two samples: are they comparable, and how are showers grouped by energy?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cathode.support.errors import UserError
from cathode.support.seeding import numpy_generator

__all__ = ["EnergyGroup", "at_energy", "check_spectra", "energy_groups", "is_discrete", "matched_rows"]

Array = NDArray[np.float64]

# A spectrum with at most so many values, each used at least twice on average, is a list of points.
_MOST_POINTS = 64
# Files store single precision, sometimes after a change of units.
_TOLERANCE = 1e-4
# A spectrum that differs with a smaller probability is another one, not a fluctuation.
_SMALLEST_P_VALUE = 1e-6


@dataclass(frozen=True)
class EnergyGroup:
    """Showers of one energy, or of one interval of energies.

    Attributes:
        energy: Incident energy in MeV: the point, or the geometric mean of the interval.
        low: Lower edge in MeV; equal to ``energy`` for a point.
        high: Upper edge in MeV.
    """

    energy: float
    low: float
    high: float

    def rows(self, incident_energy: ArrayLike) -> NDArray[np.int64]:
        """Rows whose incident energy belongs to the group."""
        values = np.asarray(incident_energy, dtype=np.float64).ravel()
        if self.low == self.high:
            return np.flatnonzero(np.abs(values / self.energy - 1.0) < _TOLERANCE)
        return np.flatnonzero((values >= self.low) & (values < self.high))


def is_discrete(incident_energy: ArrayLike) -> bool:
    """Whether the incident energies are a short list of points rather than a continuum."""
    values = np.asarray(incident_energy, dtype=np.float64).ravel()
    points = _points(values)
    return len(points) <= _MOST_POINTS and len(values) >= 2 * len(points)


def energy_groups(incident_energy: ArrayLike, *, bins: int = 8) -> tuple[EnergyGroup, ...]:
    """Groups of incident energies, ascending: the points, or ``bins`` intervals of equal width in the logarithm."""
    values = np.asarray(incident_energy, dtype=np.float64).ravel()
    if is_discrete(values):
        return tuple(EnergyGroup(float(p), float(p), float(p)) for p in _points(values))
    edges = np.geomspace(values.min(), values.max(), bins + 1)
    edges[-1] = np.nextafter(edges[-1], np.inf)
    return tuple(EnergyGroup(float(np.sqrt(a * b)), float(a), float(b)) for a, b in pairwise(edges))


def check_spectra(reference: ArrayLike, generated: ArrayLike) -> None:
    """Refuse samples whose incident energies follow different spectra: every metric would see that, not the generator.

    Raises:
        UserError: Energies that only one sample has, or frequencies that differ by more than a fluctuation.
    """
    from scipy.stats import chi2_contingency, ks_2samp

    first, second = (np.asarray(e, dtype=np.float64).ravel() for e in (reference, generated))
    scale = float(np.median(second) / np.median(first))
    for unit, factor in (("GeV", 1e-3), ("keV", 1e3)):
        if 1 / 3 < scale / factor < 3:
            raise UserError(
                f"incident energies of the generated showers (median {np.median(second):g}) are {scale:.3g} times "
                f"those of the reference (median {np.median(first):g}): one file is in {unit}, write both in MeV"
            )
    cure = "generate with the reference's energies (fastsim generate --like REFERENCE), or add --match-energies"
    if is_discrete(first) and is_discrete(second):
        groups = energy_groups(np.concatenate([first, second]))
        counts = np.array([[len(g.rows(first)), len(g.rows(second))] for g in groups])
        for k, (one, other) in enumerate((("reference", "generated"), ("generated", "reference"))):
            lonely = [g.energy for g, c in zip(groups, counts, strict=True) if c[k] > 0 and c[1 - k] == 0]
            if lonely:
                shown = ", ".join(f"{e:g}" for e in lonely[:4]) + (", …" if len(lonely) > 4 else "")
                raise UserError(
                    f"{len(lonely)} incident energies of the {one} showers ({shown} MeV) do not occur among the "
                    f"{other} ones: {cure}"
                )
        p_value = float(chi2_contingency(counts).pvalue) if len(groups) > 1 else 1.0
        if p_value < _SMALLEST_P_VALUE:
            ratio = counts[:, 1] / counts[:, 0] / (len(second) / len(first))
            worst = int(np.argmax(np.abs(np.log(ratio))))
            raise UserError(
                f"incident energies are mixed differently: {counts[worst, 0]} reference and {counts[worst, 1]} "
                f"generated showers at {groups[worst].energy:g} MeV (of {len(first)} and {len(second)}): {cure}"
            )
        return
    test = ks_2samp(first, second)
    if test.pvalue < _SMALLEST_P_VALUE:
        raise UserError(
            f"incident energies follow different spectra (reference {first.min():g} to {first.max():g} MeV, generated "
            f"{second.min():g} to {second.max():g} MeV, largest difference of the cumulative distributions "
            f"{test.statistic:.3f}): {cure}"
        )


def matched_rows(reference: ArrayLike, generated: ArrayLike, *, seed: int) -> tuple[Array, Array]:
    """Rows of both samples that follow one spectrum: in each group of energies equally many of either.

    A continuous spectrum is matched in 64 intervals of equal width in the logarithm.

    Raises:
        UserError: No energies in common.
    """
    first, second = (np.asarray(e, dtype=np.float64).ravel() for e in (reference, generated))
    rows: tuple[list[Array], list[Array]] = ([], [])
    generator = numpy_generator(seed, "evaluation", "match energies")
    for group in energy_groups(np.concatenate([first, second]), bins=64):
        found = group.rows(first), group.rows(second)
        n = min(map(len, found))
        for kept, candidates in zip(rows, found, strict=True):
            kept.append(np.sort(generator.choice(candidates, size=n, replace=False)))
    if not sum(map(len, rows[0])):
        raise UserError("reference and generated showers have no incident energies in common")
    return np.sort(np.concatenate(rows[0])), np.sort(np.concatenate(rows[1]))


def at_energy(incident_energy: ArrayLike, energy: float) -> NDArray[np.int64]:
    """Rows at one incident energy: the point of a discrete spectrum, within 5 % of it in a continuous one."""
    values = np.asarray(incident_energy, dtype=np.float64).ravel()
    width = 1e-3 if is_discrete(values) else 0.05
    return np.flatnonzero(np.abs(values / energy - 1.0) < width)


def _points(values: Array) -> Array:
    """Distinct values, those within the tolerance of their neighbour taken as one."""
    ordered = np.unique(values)
    if len(ordered) < 2:
        return ordered
    return ordered[np.append(True, np.diff(ordered) > _TOLERANCE * ordered[1:])]
