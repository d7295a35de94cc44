r"""The generator of showers: layer energies given the incident particle, then the shape given both.

.. math:: p(v \mid c) = p(E_1 \dots E_L \mid c)\; p(v \mid E_1 \dots E_L, c)

Both stages are densities of the core, over physical quantities (MeV): whatever preprocessing they need is inside them.
The generator adds the geometry, the threshold and exact energy conservation, and is itself a density of the core, so it
is sampled, saved, loaded and exported like any other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity, noise_shape
from cathode.density.folder import load_density, save_density
from cathode.density.registry import buildable
from cathode.support.errors import UserError
from fastsim.generators.conserve import conserve
from fastsim.generators.points import PointShowers as _PointShowers  # noqa: F401 (folders may hold one)
from fastsim.geometry import Geometry

__all__ = ["ShowerGenerator", "load_generator", "save_generator"]


@buildable("shower-generator")
class ShowerGenerator(ConditionalDensity):
    """Density of showers ``(B, V)`` [MeV] given ``(B, C)``: incident energy [MeV], then further conditions.

    Args:
        energy_stage: Density of the layer energies ``(B, L)`` [MeV] given the context.
        shape_stage: Density of the voxel energies ``(B, V)`` [MeV] given context and layer energies, ``(B, C + L)``.
        geometry: ``{"layout": …}`` with the plain data of :meth:`fastsim.geometry.Geometry.to_dict`.
        threshold: Voxels are 0 or at least this [MeV].
        incident_range: Lowest and highest incident energy of the training showers [MeV].
        condition_names: Names of the context columns after the incident energy.
        condition_ranges: Their lowest and highest values in training.

    Raises:
        ValueError: Stages that do not fit the geometry or each other.
    """

    def __init__(
        self,
        energy_stage: ConditionalDensity,
        shape_stage: ConditionalDensity,
        geometry: dict[str, Any],
        threshold: float,
        incident_range: list[float],
        condition_names: list[str] | None = None,
        condition_ranges: list[list[float]] | None = None,
    ) -> None:
        super().__init__()
        self.geometry = Geometry.from_dict(geometry["layout"])
        self.energy_stage, self.shape_stage = energy_stage, shape_stage
        self.threshold = float(threshold)
        self.incident_range = (float(incident_range[0]), float(incident_range[1]))
        self.condition_names = tuple(condition_names or ())
        self.condition_ranges = tuple((float(a), float(b)) for a, b in condition_ranges or ())
        self.event_shape = (self.geometry.n_voxels,)
        self.context_features = 1 + len(self.condition_names)
        layers = self.geometry.n_layers
        if energy_stage.event_shape != (layers,) or shape_stage.event_shape != self.event_shape:
            raise ValueError(
                f"stages for {energy_stage.event_shape} layers and {shape_stage.event_shape} voxels do not fit "
                f"{layers} layers and {self.geometry.n_voxels} voxels"
            )
        expected = (self.context_features, self.context_features + layers)
        if (energy_stage.context_features, shape_stage.context_features) != expected:
            raise ValueError(f"stages must be conditioned on {expected} columns")
        self.slices = [(part.start, part.stop) for part in self.geometry.slices]
        self._shapes = [noise_shape(energy_stage), noise_shape(shape_stage)]
        self._widths = [math.prod(shape) for shape in self._shapes]

    @property
    def noise_widths(self) -> tuple[int, int]:
        """How many of the noise numbers belong to the layer energies and how many to the shape."""
        return self._widths[0], self._widths[1]

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        """``(count, M)``: noise of the energy stage, then that of the shape stage."""
        stages = (self.energy_stage, self.shape_stage)
        return torch.cat([s.noise(count, generator=generator, dtype=dtype).flatten(1) for s in stages], 1)

    def layer_energies(self, x: Tensor) -> Tensor:
        """Energy of each layer ``(B, L)`` of showers ``(B, V)``, MeV, summed in float64."""
        return torch.stack([x[:, a:b].sum(1, dtype=torch.float64) for a, b in self.slices], 1).to(x.dtype)

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Sum of the losses of the stages ``(B,)``; training fits them one by one instead."""
        if context is None:
            raise ValueError("a shower needs its incident energy as context")
        layers = self.layer_energies(x)
        first = self.energy_stage.loss(layers, context, generator=generator)
        return first + self.shape_stage.loss(x, torch.cat([context, layers], 1), generator=generator)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Voxel energies ``(B, V)`` [MeV] from noise ``(B, M)``: 0 or at least the threshold, layers add up."""
        if context is None:
            raise ValueError("a shower needs its incident energy as context")
        first, second = noise.split(self._widths, 1)
        layers = self.energy_stage.decode(first.unflatten(1, self._shapes[0]), context)
        layers = torch.where(layers < self.threshold, torch.zeros_like(layers), layers)
        voxels = self.shape_stage.decode(second.unflatten(1, self._shapes[1]), torch.cat([context, layers], 1))
        return conserve(voxels, layers, slices=self.slices, threshold=self.threshold)


def save_generator(
    generator: ShowerGenerator,
    folder: str | Path,
    *,
    history: pd.DataFrame | None = None,
    provenance: Mapping[str, Any] | None = None,
    config: Any = None,
) -> Path:
    """Write a model folder; see :func:`cathode.density.folder.save_density`."""
    return save_density(generator, folder, history=history, provenance=provenance, config=config)


def load_generator(folder: str | Path, *, device: str | torch.device = "cpu") -> ShowerGenerator:
    """The generator in a model folder.

    Raises:
        UserError: No complete model folder, or one of another density.
    """
    density = load_density(folder, device=device)
    if not isinstance(density, ShowerGenerator):
        raise UserError(f"{folder}: holds a {type(density).__name__}, not a shower generator")
    return density
