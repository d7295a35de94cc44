r"""Densities of showers as clouds of points.

.. math:: p(v \mid c, E) = p(n_1 \dots n_L \mid c, E)\; p(x_1 \dots x_n \mid n_1 \dots n_L, c, E)

with the energies E of the layers given: first how many points each layer has, then the points, by the same
:class:`~cathode.density.point_cloud.PointCloud` that makes jets of their constituents.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity, noise_shape
from cathode.density.point_cloud import PointCloud
from cathode.density.registry import buildable
from fastsim.generators.points.grid import PointGrid
from fastsim.geometry import Geometry

__all__ = ["LayerCounts", "PointShowers", "PointsStage"]

# Points, with padding, that go through the network together: showers of similar size, at least so many.
_TOGETHER, _LEAST = 16_384, 8


@buildable("layer-counts")
class LayerCounts(ConditionalDensity):
    """Points of each layer ``(B, 1 + L)``, their sum first, given ``(B, C + L)``: conditions, then energies of layers.

    Counts are whole numbers, spread uniformly over ``[n - 1/2, n + 1/2)`` for ``density`` to learn.  What is decoded is
    always possible: no points where a layer has no energy, else at least one, at most as many as it has voxels, and as
    its energy makes of the threshold.

    Args:
        density: Of the spread counts ``(B, L)``.
        cells: Voxels of each layer.
        threshold: Smallest energy of a voxel [MeV].
        most: Most points of a shower; where there are more, all layers lose the same fraction.
    """

    def __init__(self, density: ConditionalDensity, cells: list[int], threshold: float, most: int) -> None:
        super().__init__()
        if density.event_shape != (len(cells),):
            raise ValueError(f"counts of shape {density.event_shape} do not fit {len(cells)} layers")
        self.density = density
        self.cells, self.threshold, self.most = list(cells), float(threshold), int(most)
        self.event_shape = (1 + len(cells),)
        self.context_features = density.context_features

    @property
    def loss_is_nll(self) -> bool:
        """Whether :meth:`loss` bounds ``-log P(counts | c)`` from above."""
        return bool(getattr(self.density, "loss_is_nll", False))

    @staticmethod
    def fill(counts: Tensor, *, generator: torch.Generator | None) -> Tensor:
        """Counts ``(B, L)`` spread over one unit."""
        device = counts.device if generator is None else generator.device
        u = torch.rand(counts.shape, generator=generator, device=device, dtype=counts.dtype)
        return counts + u.to(counts.device) - 0.5

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        return self.density.noise(count, generator=generator, dtype=dtype)

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return self.density.loss(self.fill(x[:, 1:], generator=generator), context, generator=generator)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        if context is None:
            raise ValueError("the numbers of points need the energies of the layers as context")
        counts = self.density.decode(noise, context).round()
        energies = context[:, -len(self.cells) :]
        # The same rounding as where energies are conserved.
        most = torch.floor(energies / self.threshold * (1 + 1e-6)).minimum(counts.new_tensor(self.cells))
        counts = torch.where(most < 1, torch.zeros_like(counts), counts.clamp(min=1.0).minimum(most.clamp(min=1.0)))
        total = counts.sum(1, keepdim=True)
        counts = torch.where(total > self.most, (counts * (self.most / total)).floor(), counts)
        return torch.cat([counts.sum(1, keepdim=True), counts], 1)


@buildable("point-showers")
class PointShowers(ConditionalDensity):
    """Voxel energies ``(B, V)`` [MeV] given ``(B, C + L)``: conditions, then layer energies [MeV].

    Decoded showers have about the energies of the layers that they were given; the generator conserves them exactly.

    Args:
        cloud: Of points (x, y, depth, energy), see :mod:`fastsim.generators.points.grid`; its summary is that of
            :class:`LayerCounts`.
        geometry: ``{"layout": …}``, plain data.
        threshold: Smallest energy of a voxel [MeV].
        collisions: ``move`` or ``add``, see :meth:`PointGrid.to_voxels`.
        turns: Number of turns in alpha under which showers look the same; 1 for none.
        mirror: Whether they look the same mirrored.

    Raises:
        ValueError: A cloud that does not fit the geometry.
    """

    def __init__(
        self,
        cloud: PointCloud,
        geometry: dict[str, Any],
        threshold: float,
        collisions: str = "move",
        turns: int = 1,
        mirror: bool = False,
    ) -> None:
        super().__init__()
        self.grid = PointGrid(Geometry.from_dict(geometry["layout"]))
        layers = self.grid.n_layers
        if cloud.event_shape[1:] != (4,) or cloud.summary.event_shape != (1 + layers,) or cloud.multiplicity != 0:
            raise ValueError(
                f"the cloud does not describe points of 4 numbers with a count for each of {layers} layers"
            )
        self.cloud = cloud
        self.threshold, self.collisions = float(threshold), collisions
        self.turns, self.mirror = turns, mirror
        self.event_shape = (self.grid.n_voxels,)
        self.context_features = cloud.context_features
        self._shapes = [noise_shape(cloud.summary), noise_shape(cloud.points)]
        self._widths = [math.prod(shape) for shape in self._shapes]

    def summary(self, energies: Tensor) -> Tensor:
        """Points of the shower and of each layer, ``(B, V)`` to ``(B, 1 + L)``."""
        counts = self.grid.counts(energies)
        return torch.cat([counts.sum(1, keepdim=True), counts], 1)

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        return self.cloud.noise(count, generator=generator, dtype=dtype)

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Sum of the losses of the stages ``(B,)``, which training fits one by one instead."""
        first = self.cloud.summary_loss(self.summary(x), context, generator=generator)
        return first + self.points_loss(x, context, generator=generator)

    def points_loss(
        self, x: Tensor, context: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Loss of the points ``(B,)``; places within voxels, turns and times are new in every call."""
        stream = torch.default_generator if generator is None else generator
        points, mask, _ = self.grid.to_points(x, generator=stream, turns=self.turns, mirror=self.mirror)
        summary = self.summary(x)
        losses = x.new_zeros(len(x))
        for rows, size in self._alike(summary[:, 0]):
            given = None if context is None else context[rows]
            part = self.cloud.points_loss(
                points[rows, :size], summary[rows], given, mask=mask[rows, :size], generator=generator
            )
            losses = losses.index_copy(0, rows, part)
        return losses

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Energies ``(B, V)``: 0 or at least the threshold."""
        first, second = noise.split(self._widths, 1)
        summary = self.cloud.summary.decode(first.unflatten(1, self._shapes[0]), context)
        draws = second.unflatten(1, self._shapes[1])
        given = self.cloud.given(context, summary)
        showers = noise.new_zeros((len(noise), *self.event_shape))
        for rows, size in self._alike(summary[:, 0]):
            own = self.cloud.mask(summary[rows], size)
            points = self.cloud.points.decode(draws[rows, :size], given[rows], mask=own)
            points = torch.cat([points[..., :3], points[..., 3:].clamp(min=self.threshold)], 2)
            showers[rows] = self.grid.to_voxels(points, own, summary[rows, 1:], collisions=self.collisions)
        return showers

    def _alike(self, counts: Tensor) -> Iterator[tuple[Tensor, int]]:
        """Rows of similar numbers of points, and the largest of these."""
        order = torch.argsort(counts, stable=True)
        sizes = counts[order].nan_to_num(1.0).clamp(min=1.0).tolist()
        start = 0
        while start < len(sizes):
            stop = min(start + _LEAST, len(sizes))
            while stop < len(sizes) and (stop + 1 - start) * sizes[stop] <= _TOGETHER:
                stop += 1
            yield order[start:stop], int(sizes[stop - 1])
            start = stop


class PointsStage(ConditionalDensity):
    """The points of ``showers`` alone, for training: its loss is theirs, the counts stand still."""

    def __init__(self, showers: PointShowers) -> None:
        super().__init__()
        self.showers = showers
        showers.cloud.summary.requires_grad_(False)
        self.event_shape = showers.event_shape
        self.context_features = showers.context_features

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return self.showers.points_loss(x, context, generator=generator)
