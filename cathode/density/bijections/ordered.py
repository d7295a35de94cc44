"""Changes of variables for ordered sets, whose first points are unlike the last ones."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from cathode.density.bijections.base import Bijection, _finish, data_rows
from cathode.density.registry import buildable
from cathode.support.errors import UserError

__all__ = ["PlaceStandardize"]

# Places that so few sets have are standardised like the last one with more.
_FEWEST = 50


@buildable("place-standardize")
class PlaceStandardize(Bijection):
    """``y = (x - mean) / std`` with the mean and standard deviation of each place in an ordered set.

    The places of ``(B, P, F)`` are those of the second axis: constituents by falling pT, for example.  With it each
    noise starts where its point is to be found.

    Args:
        features: F.
        places: Largest number of points.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, features: int, places: int) -> None:
        super().__init__(features)
        if places < 1:
            raise UserError(f"places is {places}: give at least 1")
        self.places = places
        self.register_buffer("shift", torch.zeros(places, features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(places, features, dtype=torch.float64))

    def fit(
        self, x: Tensor, *, context: Tensor | None = None, weight: Tensor | None = None, mask: Tensor | None = None
    ) -> Self:
        if x.ndim != 3 or not 1 <= x.shape[1] <= self.places:
            raise ValueError(f"x has shape {tuple(x.shape)}, expected ordered sets (N, P, F) of 1 to {self.places}")
        new = super().fit(x, context=context, weight=weight, mask=mask)
        rows, w = data_rows(x, features=self.features, weight=weight, mask=mask)
        real = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask
        if weight is not None:
            real = real & (weight > 0).unsqueeze(1)
        place = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])[real]
        shape = (self.places, self.features)
        total = torch.zeros(self.places, dtype=torch.float64, device=x.device).index_add(0, place, w)
        mean = torch.zeros(shape, dtype=torch.float64, device=x.device).index_add(0, place, w[:, None] * rows)
        mean = mean / total.clamp(min=1e-300)[:, None]
        square = (rows - mean[place]).square() * w[:, None]
        std = torch.zeros(shape, dtype=torch.float64, device=x.device).index_add(0, place, square)
        std = (std / total.clamp(min=1e-300)[:, None]).sqrt()
        count = torch.bincount(place, minlength=self.places)
        overall = (w[:, None] * (rows - (w[:, None] * rows).sum(0) / w.sum()).square()).sum(0) / w.sum()
        if not bool((overall > 0).all()):
            raise UserError(f"feature column {int((overall <= 0).nonzero()[0, 0])} is constant: leave it out")
        for k in range(self.places):
            if int(count[k]) < _FEWEST and k > 0:
                mean[k], std[k] = mean[k - 1], std[k - 1]
        # A column that is constant at one place keeps a scale that noise cannot blow up.
        new.shift.copy_(mean)
        new.scale.copy_(torch.maximum(std, 1e-3 * overall.sqrt()))
        return new

    def _here(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.ndim != 3 or x.shape[1] > self.places:
            raise ValueError(f"x has shape {tuple(x.shape)}, expected ordered sets (N, P, F) of at most {self.places}")
        return self.shift[: x.shape[1]], self.scale[: x.shape[1]]

    def _map(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        shift, scale = self._here(x)
        work = x.double() if mask is None else torch.where(mask.unsqueeze(-1), x.double(), 0.0)
        return _finish((work - shift) / scale, -scale.log(), mask, x.dtype)

    def _unmap(self, y: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        shift, scale = self._here(y)
        work = y.double() if mask is None else torch.where(mask.unsqueeze(-1), y.double(), 0.0)
        return _finish(work * scale + shift, scale.log(), mask, y.dtype)

    def extra_repr(self) -> str:
        return f"features={self.features}, places={self.places}"
