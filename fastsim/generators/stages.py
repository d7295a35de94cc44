"""From the settings of a stage to its untrained density with fitted preprocessing."""

from __future__ import annotations

from cathode.density.base import ConditionalDensity
from cathode.training import TrainingData
from fastsim.generators.autoregressive import autoregressive_energies, autoregressive_shape
from fastsim.generators.settings import AutoregressiveEnergies, AutoregressiveShape
from fastsim.geometry import Geometry

__all__ = ["energy_density", "shape_density"]


def energy_density(settings: AutoregressiveEnergies, train: TrainingData, *, threshold: float) -> ConditionalDensity:
    """Density of layer energies given the context.

    Args:
        settings: Of the model.
        train: Layer energies ``(N, L)`` [MeV] and context ``(N, C)`` of the training showers.
        threshold: [MeV].
    """
    assert train.context is not None
    return autoregressive_energies(settings, train.x, train.context, threshold=threshold)


def shape_density(
    settings: AutoregressiveShape, geometry: Geometry, train: TrainingData, *, threshold: float
) -> ConditionalDensity:
    """Density of voxel energies given context and layer energies.

    Args:
        settings: Of the model.
        geometry: Layout of the voxels.
        train: Voxel energies ``(N, V)`` [MeV] and ``(N, C + L)`` context with layer energies of the training showers.
        threshold: [MeV].
    """
    assert train.context is not None
    return autoregressive_shape(settings, geometry, train.context, threshold=threshold)
