"""Inputs of classifiers and of FPD and KPD: the CaloChallenge's low-level and high-level vectors.

The high-level vector has 30 inputs for dataset 1 photons, 46 for pions and 362 for datasets 2 and 3
(arXiv:2410.21611 and its public evaluation code): log10 E_inc, log10 of the layer energies, centres of energy and
widths in both transverse directions (layers with angular bins), log10 of the total energy, and sparsity, radial centre
and radial width of each layer.  Energies are in MeV, lengths in units of 100 mm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastsim.evaluation.moments import LayerMoments, has_transverse_plane, layer_moments
from fastsim.evaluation.procedure import Mode, checked_mode, voxel_threshold
from fastsim.geometry import Geometry

if TYPE_CHECKING:
    from fastsim.data import Showers

__all__ = [
    "axes_of",
    "centre_and_width",
    "high_level_features",
    "log_voxels",
    "low_level_features",
    "sparsity",
    "zero_level",
]

_TINY = 1e-16  # MeV, of the public code: an empty layer has its centre at 0
_FLOOR = 1e-8  # MeV, of the public code: log10 of an empty layer is -8


def high_level_features(
    showers: Showers, mode: Mode = "strict", *, threshold: float | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The high-level vector of every shower, float32 ``(N, F)``, and the names ``(F,)`` of its columns.

    Both modes give the same columns; sums are float64 in both.  Layers of whole rings have no transverse centre.

    Args:
        showers: Of any geometry in mode ``strict``.
        mode: Decides which geometries have a threshold of their own; see :func:`voxel_threshold`.
        threshold: Voxels below it [MeV] count as empty; default: that of the public dataset.

    Raises:
        UserError: As :func:`voxel_threshold`.
    """
    geometry = showers.geometry
    cut = voxel_threshold(geometry, checked_mode(mode), threshold)
    moments = layer_moments(showers, threshold=cut)
    plane = has_transverse_plane(geometry)
    first, second = axes_of(geometry)
    centre_x, width_x = centre_and_width(moments.energy, moments.x, moments.xx)
    centre_y, width_y = centre_and_width(moments.energy, moments.y, moments.yy)
    centre_r, width_r = centre_and_width(moments.energy, moments.r, moments.rr)
    columns = [
        np.log10(np.asarray(showers.incident_energy, dtype=np.float64).reshape(-1, 1)),
        np.log10(moments.energy + _FLOOR),
        centre_x[:, plane] / 100.0,
        centre_y[:, plane] / 100.0,
        width_x[:, plane] / 100.0,
        width_y[:, plane] / 100.0,
        np.log10(moments.energy.sum(axis=1, keepdims=True) + _FLOOR),
        sparsity(moments, geometry),
        centre_r / 100.0,
        width_r / 100.0,
    ]
    ids = geometry.layer_ids
    in_plane = [i for i, divided in zip(ids, plane, strict=True) if divided]
    names = (
        "log10_e_inc",
        *(f"log10_e_layer_{i}" for i in ids),
        *(f"centre_{first}_layer_{i}" for i in in_plane),
        *(f"centre_{second}_layer_{i}" for i in in_plane),
        *(f"width_{first}_layer_{i}" for i in in_plane),
        *(f"width_{second}_layer_{i}" for i in in_plane),
        "log10_e_tot",
        *(f"sparsity_layer_{i}" for i in ids),
        *(f"centre_r_layer_{i}" for i in ids),
        *(f"width_r_layer_{i}" for i in ids),
    )
    return np.concatenate(columns, axis=1).astype(np.float32), names


def low_level_features(
    showers: Showers, normed: bool = False, *, mode: Mode = "strict", threshold: float | None = None
) -> np.ndarray:
    """The low-level vector of every shower, float32.

    ``[log10 E_inc, voxels / E_inc]``, ``(N, 1 + V)``; with ``normed`` ``[log10 E_inc, voxels / E_layer,
    log10 (E_layer + 1e-8)]``, ``(N, 1 + V + L)``.  Energies are in MeV.

    Raises:
        UserError: As :func:`voxel_threshold`.
    """
    geometry = showers.geometry
    cut = np.float32(voxel_threshold(geometry, checked_mode(mode), threshold))
    incident = np.asarray(showers.incident_energy, dtype=np.float32).reshape(-1, 1)
    voxels = geometry.n_voxels
    result = np.empty((len(showers), 1 + voxels + (geometry.n_layers if normed else 0)), dtype=np.float32)
    result[:, :1] = np.log10(incident)
    cells = result[:, 1 : 1 + voxels]
    np.copyto(cells, showers.energies)
    cells[cells < cut] = 0.0
    if not normed:
        cells /= incident
        return result
    for index, part in enumerate(geometry.slices):
        energy = cells[:, part].sum(axis=1, dtype=np.float64, keepdims=True)
        result[:, 1 + voxels + index] = np.log10(energy[:, 0] + _FLOOR)
        cells[:, part] /= np.where(energy > 0, energy, 1.0).astype(np.float32)
    return result


def log_voxels(
    showers: Showers, mode: Mode = "strict", *, threshold: float | None = None, zero: float | None = None
) -> np.ndarray:
    """log10 of the voxel energies [MeV], float32 ``(N, V)``, that neighbours are looked up with (PRDC, support size).

    ``calochallenge`` sets zeros to 0.1 MeV, which in datasets 2 and 3 lies *above* the threshold of 0.015 MeV, between
    the energies.  ``strict`` sets them to ``zero``; see :func:`zero_level`.

    Args:
        showers: Showers of one sample.
        mode: Evaluation mode.
        threshold: As for :func:`high_level_features`.
        zero: Energy [MeV] that stands for none in mode ``strict``; both samples must use the same.

    Raises:
        UserError: As :func:`voxel_threshold`.
    """
    cut = np.float32(voxel_threshold(showers.geometry, checked_mode(mode), threshold))
    stand_in = 0.1 if mode == "calochallenge" else (zero_level(showers, threshold=threshold) if zero is None else zero)
    voxels = np.array(showers.energies, dtype=np.float32)
    voxels[(voxels < cut) | (voxels <= 0)] = stand_in
    return np.log10(voxels, out=voxels)


def zero_level(reference: Showers, *, threshold: float | None = None) -> float:
    """Energy [MeV] that stands for an empty voxel in logarithms: a tenth of the smallest that a voxel can have.

    The smallest is that of the reference's first showers, or the threshold, if it is within 10 % of that; for dataset 1
    this gives the published 0.1 MeV.  Without a threshold, 1 per mille of the voxels may be smaller.

    Raises:
        UserError: As :func:`voxel_threshold`.
    """
    cut = voxel_threshold(reference.geometry, "strict", threshold)
    some = reference.energies[:2000]
    filled = some[(some >= np.float32(cut)) & (some > 0)]
    if not len(filled):
        return 0.1 * (cut or 1.0)
    smallest = float(filled.min()) if cut > 0 else float(np.quantile(filled, 1e-3))
    return 0.1 * (cut if smallest < 1.1 * cut else smallest)


def centre_and_width(energy: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energy-weighted mean and standard deviation from the sums of ``E``, ``E x`` and ``E x^2``; 0 without energy."""
    centre = first / (energy + _TINY)
    return centre, np.sqrt(np.clip(second / (energy + _TINY) - centre**2, 0.0, None))


def sparsity(moments: LayerMoments, geometry: Geometry) -> np.ndarray:
    """Fraction of empty voxels in each layer ``(N, L)``."""
    return 1.0 - moments.active / np.array([part.stop - part.start for part in geometry.slices])


def axes_of(geometry: Geometry) -> tuple[str, str]:
    """Names of the transverse axes: the CaloChallenge calls x = r cos(alpha) eta and y = r sin(alpha) phi, in mm."""
    return ("eta", "phi") if geometry.kind == "polar" else ("x", "y")
