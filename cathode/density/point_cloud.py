r"""Clouds of points in two stages: what describes the cloud as a whole, then its points given that.

.. math:: p(n, s, x_1 \dots x_n \mid c) = p(n, s \mid c)\; p(x_1 \dots x_n \mid n, s, c)

The first factor is a density of vectors, the *summary*: a handful of numbers with the number of points among them.  The
second is a density of masked sets.  They are trained separately: neither sees what the other learns.  Jets are such
clouds (kinematics, constituents), and so are showers in a calorimeter (visible energy, hits).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity, NonFiniteError, noise_shape
from cathode.density.noise import NoiseRows
from cathode.density.registry import buildable

__all__ = ["PointCloud", "PointClouds"]

# Clouds that are sorted by their number of points before they are decoded batch by batch.
_WINDOW = 16384


class PointClouds(NamedTuple):
    """Clouds of points.

    Attributes:
        points: ``(N, P, F)``, 0 in padded entries, which come last.
        mask: ``(N, P)``, True = a point.
        summary: ``(N, S)``, with the number of points in the column ``multiplicity`` of the density.
    """

    points: Tensor
    mask: Tensor
    summary: Tensor


@buildable("point-cloud")
class PointCloud(ConditionalDensity):
    """Density of clouds given the context ``(B, C)``: up to P points of F numbers, and the summary of S.

    :meth:`decode` returns points alone, as every density does; :meth:`clouds` and :meth:`generate` return all three
    parts.  Noise is ``(B, M)``: that of the summary, then that of the points.

    Args:
        summary: Density of ``(B, S)`` given ``(B, C)``; its column ``multiplicity`` holds whole numbers from 0 to P,
            see :class:`~cathode.density.multiplicity.DequantisedCount`.
        points: Density of sets ``(B, P, F)`` given ``(B, C + S)``, the context and then the summary.  Its noise is
            either ``(B, …, P, K)``, where the entries of a point belong to it alone, and is then cut together with the
            mask, or of any other shape and is passed on whole.
        multiplicity: Column of the summary.

    Raises:
        ValueError: Densities that do not fit each other.
    """

    def __init__(self, summary: ConditionalDensity, points: ConditionalDensity, multiplicity: int = 0) -> None:
        super().__init__()
        if len(summary.event_shape) != 1 or len(points.event_shape) != 2:
            raise ValueError(
                f"a cloud needs a density of vectors and one of sets, got events of shape {summary.event_shape} and "
                f"{points.event_shape}"
            )
        if not 0 <= multiplicity < summary.event_shape[0]:
            raise ValueError(f"the multiplicity is column {multiplicity} of {summary.event_shape[0]}: there is none")
        if points.context_features != summary.context_features + summary.event_shape[0]:
            raise ValueError(
                f"the points are given {points.context_features} columns, not the {summary.context_features} of the "
                f"context and the {summary.event_shape[0]} of the summary"
            )
        self.summary, self.points, self.multiplicity = summary, points, multiplicity
        self.event_shape = points.event_shape
        self.context_features = summary.context_features
        self._shapes = [noise_shape(summary), noise_shape(points)]
        self._widths = [math.prod(shape) for shape in self._shapes]

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        """``(count, M)``; which of the points are there is decided by the summary, so a mask is not looked at."""
        stages = (self.summary, self.points)
        return torch.cat([s.noise(count, generator=generator, dtype=dtype).flatten(1) for s in stages], 1)

    def given(self, context: Tensor | None, summary: Tensor) -> Tensor:
        """What the points are conditioned on: ``(B, C + S)``."""
        return summary if context is None else torch.cat([context, summary], 1)

    def mask(self, summary: Tensor, points: int | None = None) -> Tensor:
        """``(B, P)``: the first ``n`` entries of each cloud; P is that of the density unless given."""
        size = self.event_shape[0] if points is None else points
        return torch.arange(size, device=summary.device) < summary[:, self.multiplicity, None]

    def summary_loss(
        self, summary: Tensor, context: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Loss of the first stage, ``(B,)``."""
        return self.summary.loss(summary, context, generator=generator)

    def points_loss(
        self,
        points: Tensor,
        summary: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Loss of the second stage, ``(B,)``; without a mask the first ``n`` entries are the points."""
        if mask is None:
            mask = self.mask(summary, points.shape[1])
        return self.points.loss(points, self.given(context, summary), mask=mask, generator=generator)

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        summary: Tensor | None = None,
    ) -> Tensor:
        """Sum of the losses of the stages ``(B,)``, which training fits one by one instead.

        Raises:
            ValueError: No summary: it cannot be computed from the points.
        """
        if summary is None:
            raise ValueError("the loss of a cloud needs its summary")
        first = self.summary_loss(summary, context, generator=generator)
        return first + self.points_loss(x, summary, context, mask=mask, generator=generator)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Points ``(B, P, F)``, 0 in padded entries; the mask follows from the noise."""
        return self.clouds(noise, context).points

    def clouds(self, noise: Tensor, context: Tensor | None = None, *, summary: Tensor | None = None) -> PointClouds:
        """Clouds from noise ``(B, M)``, deterministic; a summary that is given is not decoded."""
        first, second = noise.split(self._widths, 1)
        if summary is None:
            summary = self.summary.decode(first.unflatten(1, self._shapes[0]), context)
        mask = self.mask(summary)
        points = self._decode_points(second.unflatten(1, self._shapes[1]), context, summary, mask)
        return PointClouds(points, mask, summary)

    def _decode_points(self, noise: Tensor, context: Tensor | None, summary: Tensor, mask: Tensor) -> Tensor:
        # Attention without a mask is faster; sorted clouds often need none.
        needed = None if bool(mask.all()) else mask
        points = self.points.decode(noise, self.given(context, summary), mask=needed)
        return torch.where(mask.unsqueeze(-1), points, 0.0)

    @torch.no_grad()
    def generate(
        self,
        context: Tensor | None = None,
        *,
        count: int | None = None,
        summary: Tensor | None = None,
        seed: int,
        batch: int = 1000,
        first: int = 0,
        leading: int | None = None,
    ) -> PointClouds:
        """Clouds for rows of the context, for given summaries, or any number of them.

        Clouds are decoded in batches of similar multiplicity, so that little is spent on padding, and returned in the
        order asked for.  Each depends on the seed and its row alone, not on the batches (up to rounding).

        Args:
            context: ``(N, C)``, one cloud for each row.
            count: Number of clouds of a density without context, where no summary is given.
            summary: ``(N, S)``; the first stage is then left out.
            seed: Of the noise.
            batch: Clouds decoded at once; bounds the memory.
            first: Number of the first row in a larger sample: rows that are generated piece by piece are those of one
                call.
            leading: Only so many points of each cloud, the first ones, from a density of points that draws them in
                order (attribute ``in_order``); the summary remains that of the whole cloud.

        Returns:
            N clouds on the CPU.

        Raises:
            ValueError: Arguments that do not fit the density or each other.
            NonFiniteError: Some clouds are NaN or infinite; the message has their number.
        """
        total = self._rows(context, count, summary)
        if leading is not None and not (leading >= 1 and getattr(self.points, "in_order", False)):
            raise ValueError(
                "the leading points alone can be drawn from densities that draw points in order, 1 or more"
            )
        reference = next(self.parameters())
        noises = NoiseRows(self.summary, seed, "summary"), NoiseRows(self.points, seed, "points")
        pieces = []
        for start in range(0, total, _WINDOW):
            stop = min(start + _WINDOW, total)
            given = None if context is None else context[start:stop].to(reference)
            if summary is None:
                drawn = []
                for a in range(start, stop, batch):
                    b = min(a + batch, stop)
                    rows = None if given is None else given[a - start : b - start]
                    drawn.append(self.summary.decode(noises[0].rows(first + a, first + b).to(reference), rows))
                here = torch.cat(drawn)
            else:
                here = summary[start:stop].to(reference)
            pieces.append(self._window(given, here, noises[1], first + start, batch, leading))
        if not pieces:
            size = self.event_shape[0]
            empty = torch.zeros(0, size, dtype=torch.bool)
            return PointClouds(torch.zeros(0, *self.event_shape), empty, torch.zeros(0, *self.summary.event_shape))
        made = PointClouds(*(torch.cat([piece[k] for piece in pieces]) for k in range(3)))
        broken = ~torch.isfinite(made.points).flatten(1).all(1) | ~torch.isfinite(made.summary).all(1)
        if bool(broken.any()):
            raise NonFiniteError(f"{int(broken.sum())} of {total} generated clouds are not finite")
        return made

    def _rows(self, context: Tensor | None, count: int | None, summary: Tensor | None) -> int:
        columns = 0 if context is None else context.shape[-1]
        if columns != self.context_features:
            raise ValueError(f"context has {columns} columns, the density was built for {self.context_features}")
        if summary is not None and summary.shape[1:] != self.summary.event_shape:
            raise ValueError(f"summary has shape {tuple(summary.shape)}, expected (N, {self.summary.event_shape[0]})")
        if summary is not None and not bool((summary[:, self.multiplicity] <= self.event_shape[0]).all()):
            raise ValueError(f"a cloud has more than {self.event_shape[0]} points")
        sizes = {len(part) for part in (context, summary) if part is not None}
        if count is not None:
            sizes.add(count)
        if len(sizes) != 1:
            raise ValueError("give context, summary or count, of one length")
        return sizes.pop()

    def _window(
        self, context: Tensor | None, summary: Tensor, noise: NoiseRows, first: int, batch: int, leading: int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        size, features = self.event_shape
        counts = summary[:, self.multiplicity]
        order = torch.argsort(counts, stable=True)
        points = torch.zeros((len(summary), size, features), dtype=summary.dtype)
        mask = self.mask(summary)
        most = size if leading is None else min(leading, size)
        mask[:, most:] = False
        # In float32 a window of noise is as large as the clouds themselves.
        drawn = noise.rows(first, first + len(summary))
        for rows in order.split(batch):
            # NaN is found by the caller; an empty set still has one padded entry.
            longest = int(counts[rows].nan_to_num(float(size)).max().clamp(1, most))
            part = drawn[rows.cpu()].to(summary)
            if part.ndim > 2 and part.shape[-2] == size:
                part = part[..., :longest, :]
            given = None if context is None else context[rows]
            made = self._decode_points(part, given, summary[rows], mask[rows, :longest])
            points[rows.cpu(), :longest] = made.to(points)
        return points, mask.cpu(), summary.cpu()
