"""Mean showers: energy per voxel, along the depth, the radius and the angle, and in the plane of depth and radius.

Energies are fractions of the incident energy, averaged over showers: every shower counts alike whatever its energy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastsim.data import Showers
from fastsim.geometry import Geometry
from fastsim.geometry.layers import PolarLayer

__all__ = ["MeanShower", "Profile", "Rings", "mean_shower", "profiles", "radius_against_depth", "rings"]

Array = NDArray[np.float64]

# Showers converted to double precision at a time.
_ROWS = 2000
# Rings that a Cartesian or cell geometry is cut into.
_RINGS = 20


@dataclass(frozen=True)
class MeanShower:
    """Average over the showers of both samples, voxel by voxel.

    Attributes:
        reference: Mean energy over incident energy ``(V,)``.
        generated: The same of the generated showers.
        reference_hit: Fraction of showers in which the voxel is not zero ``(V,)``.
        generated_hit: The same of the generated showers.
        showers: Number of reference and generated showers.
    """

    reference: Array
    generated: Array
    reference_hit: Array
    generated_hit: Array
    showers: tuple[int, int]


@dataclass(frozen=True)
class Profile:
    """A mean of both samples in bins, with standard errors.

    Attributes:
        name: ``longitudinal``, ``radial``, ``radial-LAYER`` or ``azimuthal``.
        label: What is on the vertical axis.
        axis: What is on the horizontal axis, with its unit.
        edges: Bin edges ``(n + 1,)``.
        ticks: Names of the bins where they are more than numbers; empty otherwise.
        reference, reference_error, generated, generated_error: Per bin ``(n,)``.
    """

    name: str
    label: str
    axis: str
    edges: Array
    reference: Array
    reference_error: Array
    generated: Array
    generated_error: Array
    ticks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rings:
    """Common rings of all layers, and the share of every voxel that falls into each.

    Attributes:
        edges: Radii in mm ``(n + 1,)``.
        share: Fraction of each voxel's area in each ring ``(V, n)``.
    """

    edges: Array
    share: Array


def mean_shower(reference: Showers, generated: Showers) -> MeanShower:
    """Mean energy fraction and occupancy of each voxel."""
    (first, first_hit), (second, second_hit) = (_means(s) for s in (reference, generated))
    return MeanShower(first, second, first_hit, second_hit, (len(reference), len(generated)))


def profiles(reference: Showers, generated: Showers) -> tuple[Profile, ...]:
    """Longitudinal, radial (all layers, and each layer with several rings) and azimuthal profiles."""
    geometry = reference.geometry
    n = geometry.n_layers
    made = [
        _profile(
            reference,
            generated,
            np.eye(n)[geometry.layer],
            name="longitudinal",
            label="energy / incident energy",
            axis="layer",
            edges=np.arange(n + 1, dtype=np.float64) - 0.5,
            ticks=tuple(str(i) for i in geometry.layer_ids) if n <= 24 else (),
        )
    ]
    ring = rings(geometry)
    area = np.pi * np.diff(ring.edges**2)
    if len(area) > 1:
        made.append(
            _profile(
                reference,
                generated,
                ring.share / area,
                name="radial",
                label="energy / incident energy per mm²",
                axis="radius [mm]",
                edges=ring.edges,
            )
        )
    if geometry.kind == "polar" and n <= 24:
        for index, part in enumerate(geometry.slices):
            layer = geometry.layers[index]
            if not isinstance(layer, PolarLayer) or layer.n_fast < 2:
                continue
            weights = np.zeros((geometry.n_voxels, layer.n_fast))
            position = np.arange(part.start, part.stop)
            weights[position, (position - part.start) % layer.n_fast] = 1.0
            edges = layer.fast_edges
            made.append(
                _profile(
                    reference,
                    generated,
                    weights / (np.pi * np.diff(edges**2)),
                    name=f"radial-{geometry.layer_ids[index]}",
                    label="energy / incident energy per mm²",
                    axis=f"radius in layer {geometry.layer_ids[index]} [mm]",
                    edges=edges,
                )
            )
    sectors = max(geometry.n_alpha) if geometry.kind == "polar" else 1
    if sectors > 1:
        weights = np.zeros((geometry.n_voxels, sectors))
        for part, divisions, fast in zip(geometry.slices, geometry.n_alpha, geometry.n_r, strict=True):
            if divisions == sectors:
                position = np.arange(part.start, part.stop)
                weights[position, (position - part.start) // fast] = 1.0
        made.append(
            _profile(
                reference,
                generated,
                weights,
                name="azimuthal",
                label="energy / incident energy",
                axis="angle [rad]",
                edges=np.linspace(-np.pi, np.pi, sectors + 1),
            )
        )
    return tuple(made)


def radius_against_depth(geometry: Geometry, mean: Array) -> tuple[Array, Array]:
    """Mean energy per mm² in the plane of radius and depth.

    Args:
        geometry: Where the voxels are.
        mean: Mean energy of each voxel ``(V,)``.

    Returns:
        Densities ``(n_rings, n_layers)`` and the edges of the rings ``(n_rings + 1,)``.
    """
    ring = rings(geometry)
    density = np.zeros((len(ring.edges) - 1, geometry.n_layers))
    for index, part in enumerate(geometry.slices):
        density[:, index] = mean[part] @ ring.share[part]
    return density / (np.pi * np.diff(ring.edges**2))[:, None], ring.edges


def rings(geometry: Geometry) -> Rings:
    """Rings that all layers share: the union of their edges in a polar geometry, equal steps otherwise.

    Within a voxel the energy is taken as uniform in area.
    """
    if geometry.kind != "polar":
        radius = geometry.r
        edges = np.linspace(0.0, float(radius.max()) * (1 + 1e-9) + 1e-9, min(_RINGS, geometry.n_voxels) + 1)
        index = np.searchsorted(edges, radius, side="right") - 1
        return Rings(edges, np.eye(len(edges) - 1)[index])
    layers = [layer for layer in geometry.layers if isinstance(layer, PolarLayer)]
    edges = np.unique(np.concatenate([layer.fast_edges for layer in layers]))
    share = np.zeros((geometry.n_voxels, len(edges) - 1))
    for layer, part in zip(layers, geometry.slices, strict=True):
        inner, outer = layer.fast_edges[:-1, None], layer.fast_edges[1:, None]
        overlap = np.minimum(outer, edges[1:]) ** 2 - np.maximum(inner, edges[:-1]) ** 2
        overlap[(edges[1:] <= inner) | (edges[:-1] >= outer)] = 0.0
        share[part] = np.tile(overlap / (outer**2 - inner**2), (layer.n_slow, 1))
    return Rings(edges, share)


def _profile(
    reference: Showers,
    generated: Showers,
    weights: Array,
    *,
    name: str,
    label: str,
    axis: str,
    edges: Array,
    ticks: tuple[str, ...] = (),
) -> Profile:
    """Means over showers of ``fractions @ weights``, ``weights (V, n)``."""
    values: list[Array] = []
    for showers in (reference, generated):
        total, squares = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
        for fractions in _fractions(showers):
            projected = fractions @ weights
            total += projected.sum(axis=0)
            squares += (projected**2).sum(axis=0)
        mean = total / len(showers)
        values += [mean, np.sqrt(np.maximum(squares / len(showers) - mean**2, 0.0) / len(showers))]
    first, first_error, second, second_error = values
    return Profile(name, label, axis, edges, first, first_error, second, second_error, ticks)


def _means(showers: Showers) -> tuple[Array, Array]:
    total, hits = np.zeros(showers.geometry.n_voxels), np.zeros(showers.geometry.n_voxels)
    for fractions in _fractions(showers):
        total += fractions.sum(axis=0)
        hits += (fractions > 0).sum(axis=0)
    return total / len(showers), hits / len(showers)


def _fractions(showers: Showers) -> Iterator[Array]:
    """Energies over incident energy, block by block."""
    for start in range(0, len(showers), _ROWS):
        block = slice(start, start + _ROWS)
        yield showers.energies[block].astype(np.float64) / showers.incident_energy[block].astype(np.float64)
