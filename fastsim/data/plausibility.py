"""Are these showers what they are said to be?  Values, units and the order of the axes.

Every check raises a UserError with one line that says what is wrong and what to do, and costs little beside reading.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from cathode.support.errors import UserError
from fastsim.geometry import Geometry

__all__ = ["check_axes", "check_units", "check_values"]

Floats = NDArray[np.float32]

# Rows looked at together, so that the masks stay small beside the showers.
_BLOCK = 2048
# Showers whose mean is looked at for the order of axes; fewer than the minimum say too little.
_AXES_ROWS, _AXES_MINIMUM = 256, 16
# Below about 10 MeV (the critical energy of heavy absorbers) there is no shower to speak of.
_LOWEST_MEV = 5.0
# Deposited over incident energy is within [0.01, 10] for every calorimeter, sampling fraction applied or not; a factor
# 1000 leaves that range.  Fewer non-empty showers than the minimum say too little.
_GEV_INCIDENT, _GEV_VOXELS = 50.0, 2e-3
_UNITS_MINIMUM = 4


def check_values(incident: Floats, energies: Floats, conditions: Floats | None) -> None:
    """Refuse what is not finite, negative voxels, and incident energies that are not positive."""
    if not np.isfinite(incident).all():
        raise UserError(
            f"{int((~np.isfinite(incident)).sum())} of {len(incident)} incident energies are NaN or infinite"
        )
    if (incident <= 0).any():
        raise UserError(f"{int((incident <= 0).sum())} of {len(incident)} incident energies are not positive")
    if conditions is not None and not np.isfinite(conditions).all():
        broken = int((~np.isfinite(conditions).all(1)).sum())
        raise UserError(f"conditions of {broken} of {len(conditions)} showers are NaN or infinite")
    broken = negative = 0
    for first in range(0, len(energies), _BLOCK):
        block = energies[first : first + _BLOCK]
        # The minimum of a row is NaN when one of its values is; infinities show in the maximum.
        low, high = block.min(1, initial=0), block.max(1, initial=0)
        broken += int((~np.isfinite(low) | ~np.isfinite(high)).sum())
        negative += int((low < 0).sum())
    if broken:
        raise UserError(
            f"{broken} of {len(energies)} showers have NaN or infinite voxel energies; drop or mend them first"
        )
    if negative:
        raise UserError(
            f"{negative} of {len(energies)} showers have negative voxel energies; set them to 0 or drop them"
        )


def check_units(incident: Floats, energies: Floats) -> None:
    """Refuse energies a factor 1000 apart, and incident energies that can only be in GeV."""
    if not len(energies):
        return
    lowest = float(incident.min())
    if lowest < _LOWEST_MEV:
        raise UserError(
            f"incident energies start at {lowest:.4g}, too low for a shower in MeV: they look like GeV, but all "
            "energies must be in MeV (multiply by 1000)"
        )
    rows = slice(0, _BLOCK)
    deposited = energies[rows].sum(1, dtype=np.float64)
    hit = deposited > 0
    if hit.sum() < _UNITS_MINIMUM:
        return
    ratio = float(np.median(deposited[hit] / incident[rows, 0][hit]))
    if ratio > _GEV_INCIDENT:
        raise UserError(
            f"showers deposit {ratio:.4g} times their incident energy: the incident energies (median "
            f"{float(np.median(incident)):.4g}) look like GeV, but all energies must be in MeV"
        )
    if ratio < _GEV_VOXELS:
        raise UserError(
            f"showers deposit {ratio:.4g} of their incident energy: the voxel energies look like GeV beside incident "
            "energies in MeV, but all energies must be in MeV"
        )


def check_axes(incident: Floats, energies: Floats, geometry: Geometry) -> None:
    """Refuse voxels that make a sensible mean shower only in another order of the axes.

    Rings: the mean shower hardly depends on alpha; read in a wrong order it does.  Compared is the part of the mean
    shower's square that varies with alpha, in this order and in the five others; the product of the means of two halves
    is taken instead of the square, so that fluctuations of few showers do not count (measured on electrons in the
    binning of dataset 2: below 0.01 against 0.1 to 0.7).  A cube of cells: the mean shower must not be much shorter
    along the first axis, depth, than across.  Other layouts are not looked at.
    """
    shape = geometry.shape
    if shape is None or shape[0] < 2 or len(energies) < _AXES_MINIMUM:
        return
    fractions = energies[:_AXES_ROWS] / incident[:_AXES_ROWS]
    halves = np.stack([fractions[half::2].mean(0, dtype=np.float64) for half in range(2)])
    mean = halves.mean(0)
    if not halves.any(1).all():
        return
    if geometry.kind == "polar" and shape[1] > 2:
        declared = _varying(halves.reshape(2, *shape))
        if declared < 0.08:
            return
        scores = {
            # The stored axes are `order`; put back into the expected one.
            order: _varying(halves.reshape(2, *(shape[axis] for axis in order)).transpose(0, *(1 + np.argsort(order))))
            for order in permutations(range(3))
        }
        # Exchanging z and r alone changes nothing in the score; of equals the one most unlike the expected is meant.
        order = min(scores, key=lambda one: (round(scores[one], 9), one != (2, 1, 0)))
        if scores[order] < 0.3 * declared:
            names = ("z", "alpha", "r")
            raise UserError(
                f"voxels look stored in the order ({', '.join(names[axis] for axis in order)}), last axis fastest, but "
                f"(z, alpha, r) with r fastest is expected: transpose the showers"
            )
    elif geometry.kind == "cartesian" and len(set(shape)) == 1:
        lengths = [_spread(mean.reshape(shape), axis) for axis in range(3)]
        if lengths[0] < 0.5 * max(lengths[1:]):
            raise UserError(
                f"showers extend over {lengths[0]:.2g} cells along the first axis and {max(lengths[1:]):.2g} across, "
                "but the first axis should be depth: transpose the showers"
            )


def _varying(halves: NDArray[np.float64]) -> float:
    """Part of the square of the mean that varies with alpha, from two independent means ``(2, z, alpha, r)``."""
    one, two = halves - halves.mean(2, keepdims=True)
    product = float((halves[0] * halves[1]).sum())
    return float((one * two).sum()) / product if product > 0 else 0.0


def _spread(mean: NDArray[np.float64], axis: int) -> float:
    profile = mean.sum(tuple(other for other in range(3) if other != axis))
    position = np.arange(len(profile))
    centre = (profile * position).sum() / profile.sum()
    return float(np.sqrt((profile * (position - centre) ** 2).sum() / profile.sum()))
