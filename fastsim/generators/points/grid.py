r"""Voxels to points and back.

A voxel with energy becomes one point, uniform within the voxel in (r, alpha) (or x, y) and in depth, so that a smooth
density can learn it; on the way back points go to the voxel that they lie in.  Columns of a point are

* x, y: of a polar geometry with the radius :math:`\sqrt{r R}`, R the outer edge, in mm: a shower's points per ring fall
  gently with r, so their density per *area* has a peak like 1/r, which this radius flattens;
* depth: index of the layer plus a number in [0, 1);
* energy [MeV].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cathode.support.errors import UserError
from fastsim.geometry import Geometry
from fastsim.geometry.layers import CellLayer, PolarLayer

__all__ = ["HitPoints", "PointGrid"]


class HitPoints(NamedTuple):
    """Showers as points.

    Attributes:
        points: ``(B, P, 4)``: x, y [mm], depth, energy [MeV]; 0 in padded entries, which come last.
        mask: ``(B, P)``.
        counts: ``(B, L)``, points of each layer.
    """

    points: Tensor
    mask: Tensor
    counts: Tensor


class PointGrid(nn.Module):
    """The voxels of a geometry as places of points; holds nothing that is learned.

    Args:
        geometry: Polar or Cartesian.

    Raises:
        UserError: A list of cells, whose shapes are not known.
    """

    low: Tensor
    high: Tensor
    layer: Tensor
    centre: Tensor

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        if geometry.kind == "cells":
            raise UserError(f"points: geometry {geometry.name!r} is a list of cells, whose shapes are not known")
        self.polar = geometry.kind == "polar"
        self.n_layers, self.n_voxels = geometry.n_layers, geometry.n_voxels
        self.slices = [(part.start, part.stop) for part in geometry.slices]
        self.sizes = [b - a for a, b in self.slices]
        self.sectors = list(geometry.n_alpha)
        self._swapped: list[bool] = []
        edges: list[tuple[np.ndarray, np.ndarray]] = []
        for one in geometry.layers:
            assert not isinstance(one, CellLayer)
            edges.append((one.slow_edges, one.fast_edges))
            self._swapped.append(not isinstance(one, PolarLayer) and one.fast == "y")
        self.outer = max(float(fast[-1]) for _, fast in edges) if self.polar else 1.0
        # Slow and fast coordinate of the edges of each voxel, in the order of the voxels.
        low, high = (
            np.concatenate(
                [np.stack(np.meshgrid(s[pick], f[pick], indexing="ij"), -1).reshape(-1, 2) for s, f in edges]
            )
            for pick in (slice(None, -1), slice(1, None))
        )
        self._names = [(f"slow_{k}", f"fast_{k}") for k in range(len(edges))]
        for names, pair in zip(self._names, edges, strict=True):
            for name, values in zip(names, pair, strict=True):
                self._constant(name, values)
        self._constant("low", low)
        self._constant("high", high)
        self.register_buffer("layer", torch.from_numpy(geometry.layer.copy()), persistent=False)
        # A whole ring has no middle but its radius.
        ring = np.array(self.sectors)[geometry.layer] == 1 if self.polar else np.zeros(self.n_voxels, dtype=bool)
        x, y = (np.where(ring, other, values) for other, values in ((geometry.r, geometry.x), (0.0, geometry.y)))
        self._constant("centre", np.stack([x, y], 1))

    def _constant(self, name: str, values: np.ndarray) -> None:
        self.register_buffer(name, torch.tensor(values, dtype=torch.get_default_dtype()), persistent=False)

    def counts(self, energies: Tensor) -> Tensor:
        """Voxels with energy in each layer, ``(B, V)`` to ``(B, L)``."""
        return torch.stack([(energies[:, a:b] > 0).sum(1) for a, b in self.slices], 1).to(energies.dtype)

    def to_points(
        self, energies: Tensor, *, generator: torch.Generator | None = None, turns: int = 1, mirror: bool = False
    ) -> HitPoints:
        """Each voxel with energy as a point somewhere within it.

        Args:
            energies: ``(B, V)`` [MeV].
            generator: Of the places; None: all in the middle (in slow and fast coordinate, and depth).
            turns: Turn each shower by a random multiple of ``2 pi / turns``.
            mirror: Mirror half of the showers.
        """
        shower, voxel = (energies > 0).nonzero(as_tuple=True)
        total = torch.bincount(shower, minlength=len(energies))
        first = total.cumsum(0) - total
        place = torch.arange(len(shower), device=energies.device) - first[shower]
        if generator is None:
            u = energies.new_full((len(shower), 3), 0.5)
        else:
            u = torch.rand((len(shower), 3), generator=generator, device=generator.device, dtype=energies.dtype)
            # Never on the far edge, where rounding might put it.
            u = u.to(energies.device).clamp(1e-4, 1 - 1e-4)
        at = self.low[voxel] + u[:, :2] * (self.high - self.low)[voxel]
        if self.polar:
            angle, radius = at[:, 0], (at[:, 1] * self.outer).sqrt()
            if generator is not None and (turns > 1 or mirror):
                draws = torch.rand((2, len(energies)), generator=generator, device=generator.device).to(energies.device)
                sign = torch.where(draws[1] < 0.5, -1.0, 1.0) if mirror else torch.ones_like(draws[1])
                angle = sign.to(angle)[shower] * angle + (2 * math.pi / turns) * (draws[0] * turns).floor()[shower]
            xy = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
        else:
            swapped = torch.tensor(self._swapped, device=at.device)[self.layer[voxel]].unsqueeze(1)
            # The fast axis is x unless swapped.
            xy = torch.where(swapped, at, at.flip(1))
        depth = self.layer[voxel] + u[:, 2]
        rows = torch.cat([xy, depth.unsqueeze(1), energies[shower, voxel].unsqueeze(1)], 1)
        size = max(int(total.max()) if len(total) else 0, 1)
        points = energies.new_zeros((len(energies), size, 4))
        points[shower, place] = rows.to(points)
        mask = torch.arange(size, device=energies.device) < total.unsqueeze(1)
        return HitPoints(points, mask, self.counts(energies))

    def layers(self, depth: Tensor, counts: Tensor) -> Tensor:
        """Layer of each point ``(B, P)``: in the order of depth ``(B, P)``, each layer gets its number of points.

        Padded entries must have an infinite depth; they get the number of layers.
        """
        order = torch.argsort(depth, dim=1, stable=True)
        ends = counts.cumsum(1)
        ranks = torch.arange(depth.shape[1], device=depth.device, dtype=ends.dtype).expand(len(depth), -1).contiguous()
        layer = torch.searchsorted(ends, ranks, right=True)
        return torch.zeros_like(layer).scatter(1, order, layer)

    def to_voxels(
        self, points: Tensor, mask: Tensor, counts: Tensor | None = None, *, collisions: str = "add"
    ) -> Tensor:
        """Energies ``(B, V)`` [MeV]; points beyond the outermost voxels go to these.

        Args:
            points: ``(B, P, 4)``.
            mask: ``(B, P)``.
            counts: Points of each layer ``(B, L)``, handed out in the order of depth; None: depth is the layer.
            collisions: ``add`` the energies of points in the same voxel, or ``move`` all but the most energetic to the
                nearest free voxels of their layer, as long as there are any.
        """
        if counts is None:
            layer = points[..., 2].floor().clamp(0, self.n_layers - 1).long()
        else:
            layer = self.layers(points[..., 2].masked_fill(~mask, torch.inf), counts)
        layer = layer.masked_fill(~mask, self.n_layers)
        parts = []
        for index, size in enumerate(self.sizes):
            shower, place = (layer == index).nonzero(as_tuple=True)
            here = points[shower, place]
            # By falling energy, so that whoever comes first has priority.
            order = torch.argsort(here[:, 3], descending=True, stable=True)
            shower, here = shower[order], here[order]
            voxel, xy = self._find(index, here)
            if collisions == "move":
                voxel = self._moved(index, shower, voxel, xy, len(points))
            out = points.new_zeros(len(points) * size)
            parts.append(out.index_add(0, shower * size + voxel, here[:, 3]).view(len(points), size))
        return torch.cat(parts, 1)

    def _find(self, index: int, points: Tensor) -> tuple[Tensor, Tensor]:
        """Voxel of each point within its layer ``(M,)``, and its place in mm ``(M, 2)``."""
        slow, fast = (getattr(self, name).to(points.dtype) for name in self._names[index])
        x, y = points[:, 0], points[:, 1]
        if self.polar:
            radius = (x.square() + y.square()) / self.outer
            angle = torch.atan2(y, x)
            sector = ((angle + math.pi) * (self.sectors[index] / (2 * math.pi))).floor().long() % self.sectors[index]
            xy = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
            if self.sectors[index] == 1:
                xy = torch.stack([radius, torch.zeros_like(radius)], 1)
            return sector * (len(fast) - 1) + _bin(radius, fast), xy
        first, second = (y, x) if self._swapped[index] else (x, y)
        return _bin(second, slow) * (len(fast) - 1) + _bin(first, fast), points[:, :2]

    def _moved(self, index: int, shower: Tensor, voxel: Tensor, xy: Tensor, showers: int) -> Tensor:
        """Voxels with no two points of a shower in one, while there is room; points come by falling priority."""
        start, stop = self.slices[index]
        size, centre = stop - start, self.centre[start:stop].to(xy.dtype)
        rank = torch.arange(len(shower), device=xy.device)
        final = voxel.clone()
        free = torch.ones(showers * size, dtype=torch.bool, device=xy.device)
        left = rank
        while True:
            key = shower[left] * size + final[left]
            best = torch.full((showers * size,), len(rank), device=xy.device).scatter_reduce(0, key, left, "amin")
            wins = (best[key] == left) & free[key]
            free[key[wins]] = False
            left = left[~wins]
            if not len(left):
                return final
            open_here = free.view(showers, size)[shower[left]]
            distance = (xy[left].unsqueeze(1) - centre).square().sum(2).masked_fill(~open_here, torch.inf)
            # A full layer has nowhere to move to: what is left stays where it was and adds up.
            room = open_here.any(1)
            final[left[~room]] = voxel[left[~room]]
            left, distance = left[room], distance[room]
            final[left] = distance.argmin(1)


def _bin(values: Tensor, edges: Tensor) -> Tensor:
    """Bin of each value; those outside belong to the first or the last."""
    return (torch.bucketize(values.contiguous(), edges, right=True) - 1).clamp(0, len(edges) - 2)
