r"""The generator of jets: the jet as a whole, then its constituents.

.. math:: p(\mathrm{jet} \mid t) = p(p_T, \eta, \phi, m, n \mid t)\; p(x_1 \dots x_n \mid p_T, \eta, \phi, m, n, t)

Both stages are densities of the core, put together by :class:`~cathode.density.point_cloud.PointCloud`; whatever
preprocessing they need is inside them.  The generator adds what is not a density: types by name, cells of the detector,
momentum conservation and the ranges it was trained in.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity
from cathode.density.folder import load_density, save_density
from cathode.density.point_cloud import PointCloud
from cathode.density.registry import buildable
from cathode.jets.generators.cells import Cells
from cathode.jets.generators.context import MULTIPLICITY, SUMMARY
from cathode.jets.generators.particle_features import ParticleFeatures
from cathode.support.errors import UserError

__all__ = ["JetGenerator", "load_generator", "save_generator"]

CONSERVE = ("none", "axis", "momentum")


@buildable("jet-generator")
class JetGenerator(ConditionalDensity):
    """Density of constituents ``(B, P, F)`` given one column for each type, ``(B, K)``.

    Args:
        cloud: Summary (see :data:`cathode.jets.generators.context.SUMMARY`) and constituents (pT fraction, distances in
            eta and phi[, flag of the lattice]).
        types: Types of jets, in the order of the columns of the context; empty without types.
        type_shares: Share of each type in training.
        complete: Whether the constituents of a jet are all there is of it.
        conserve: ``none``, ``axis`` or ``momentum``.
        cells: ``{"pitch": …, "offset": …, "tolerance": …}`` of the lattice, or None.
        ranges: Lowest and highest value of each column of the summary in training.
        radius: Largest distance to the axis in eta or phi in training.
        extras: ``{"displacements": …, "errors": …}`` of the particle features, or None.

    Raises:
        ValueError: Stages that do not fit.
    """

    def __init__(
        self,
        cloud: PointCloud,
        types: list[int],
        type_shares: list[float],
        complete: bool,
        conserve: str,
        cells: dict[str, float] | None,
        ranges: list[list[float]],
        radius: float,
        extras: dict[str, bool] | None = None,
    ) -> None:
        super().__init__()
        self.extras = None if extras is None else ParticleFeatures(**extras)
        features = 3 + (cells is not None) + (0 if self.extras is None else self.extras.size)
        if cloud.event_shape[1] != features or cloud.summary.event_shape != (len(SUMMARY),):
            raise ValueError(f"constituents of {cloud.event_shape[1]} numbers: {features} are needed")
        if cloud.multiplicity != MULTIPLICITY or cloud.context_features != len(types) or len(ranges) != len(SUMMARY):
            raise ValueError("the stages do not have the columns of jets")
        if conserve not in CONSERVE:
            raise ValueError(f"conserve is {conserve!r}; known: {', '.join(CONSERVE)}")
        self.cloud = cloud
        self.types, self.type_shares = tuple(types), tuple(type_shares)
        self.complete, self.conserve = complete, conserve
        self.cells = None if cells is None else Cells(**cells)
        self.ranges = [(float(low), float(high)) for low, high in ranges]
        self.radius = float(radius)
        self.event_shape, self.context_features = cloud.event_shape, cloud.context_features

    @property
    def particles(self) -> int:
        """Largest number of constituents P."""
        return self.event_shape[0]

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Of :class:`PointCloud`."""
        return self.cloud.noise(count, mask=mask, generator=generator, dtype=dtype)

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        summary: Tensor | None = None,
    ) -> Tensor:
        """Of :class:`PointCloud`; training fits the stages one by one instead."""
        return self.cloud.loss(x, context, mask=mask, generator=generator, summary=summary)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Constituents ``(B, P, F)`` in relative coordinates, as the stages make them."""
        return self.cloud.decode(noise, context)

    def with_points(self, points: ConditionalDensity) -> JetGenerator:
        """The same generator with another stage of the constituents."""
        cells = None
        if self.cells is not None:
            cells = {"pitch": self.cells.pitch, "offset": self.cells.offset, "tolerance": self.cells.tolerance}
        return JetGenerator(
            PointCloud(self.cloud.summary, points, MULTIPLICITY),
            list(self.types),
            list(self.type_shares),
            self.complete,
            self.conserve,
            cells,
            [list(pair) for pair in self.ranges],
            self.radius,
            None if self.extras is None else asdict(self.extras),
        ).eval()


def save_generator(generator: JetGenerator, folder: Any, **facts: Any) -> Any:
    """Write a model folder; arguments as :func:`cathode.density.folder.save_density`."""
    return save_density(generator, folder, **facts)


def load_generator(folder: Any, *, device: str | torch.device = "cpu") -> JetGenerator:
    """The generator in a model folder.

    Raises:
        UserError: No complete model folder, or one of another density.
    """
    density = load_density(folder, device=device)
    if not isinstance(density, JetGenerator):
        raise UserError(f"{folder}: holds a {type(density).__name__}, not a jet generator")
    return density
