"""Linear maps that mix features, and reorderings."""

from __future__ import annotations

import torch
from torch import Tensor

from cathode.density.bijections.base import Bijection, refuse_constant
from cathode.density.registry import buildable
from cathode.support.errors import UserError

__all__ = ["Permute", "Rotate"]


@buildable("rotate")
class Rotate(Bijection):
    r"""Rotation onto the principal axes of the fitted rows, ``y = W (x - mean)``.

    With the covariance :math:`V \Lambda V^T`, :math:`W = \Lambda^{-1/2} V^T` (whitening) or :math:`V^T` (rotation);
    axes in falling order of variance, each with its largest component positive, so the fit is unique.

    Args:
        features: F.
        whiten: Also scale each axis to unit variance.
    """

    mean: Tensor
    axes: Tensor
    spread: Tensor

    def __init__(self, features: int, whiten: bool = True) -> None:
        super().__init__(features)
        self.whiten = whiten
        self.register_buffer("mean", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("axes", torch.eye(features, dtype=torch.float64))
        self.register_buffer("spread", torch.ones(features, dtype=torch.float64))

    def _learn(self, rows: Tensor, weight: Tensor) -> None:
        refuse_constant(rows)
        w = (weight / weight.sum()).unsqueeze(1)
        mean = (w * rows).sum(0)
        centred = rows - mean
        std = (w * centred.square()).sum(0).sqrt()
        # The eigenvalue problem is solved for the covariance itself; only its rank is judged on the correlation matrix,
        # where units do not matter.
        correlation = (w * centred / std).T @ (centred / std)
        if float(torch.linalg.eigvalsh(correlation)[0]) < 1e-12:
            raise UserError(f"the {self.features} features are linearly dependent in {len(rows)} rows: leave one out")
        values, vectors = torch.linalg.eigh((w * centred).T @ centred)
        axes = vectors.flip(1).T
        largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
        self.mean.copy_(mean)
        self.axes.copy_(axes * torch.sign(largest))
        if self.whiten:
            self.spread.copy_(values.flip(0).sqrt())

    def _map(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        spread = self.spread.double()
        work = x.double() if mask is None else torch.where(mask.unsqueeze(-1), x.double(), 0.0)
        y = (work - self.mean.double()) @ self.axes.double().T / spread
        return _with_constant_log_det(y, -spread.log().sum(), mask, x.dtype)

    def _unmap(self, y: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        spread = self.spread.double()
        work = y.double() if mask is None else torch.where(mask.unsqueeze(-1), y.double(), 0.0)
        x = (work * spread) @ self.axes.double() + self.mean.double()
        return _with_constant_log_det(x, spread.log().sum(), mask, y.dtype)


@buildable("permute")
class Permute(Bijection):
    """Reorder the features: ``y[..., i] = x[..., order[i]]``.

    Args:
        features: F.
        order: A permutation of 0 … F-1.
    """

    def __init__(self, features: int, order: list[int]) -> None:
        super().__init__(features)
        if sorted(order) != list(range(features)):
            raise UserError(f"order {list(order)} is not a permutation of 0 … {features - 1}")
        self.order = list(order)
        self.inverse_order = [self.order.index(i) for i in range(features)]

    def _map(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        return _with_constant_log_det(x[..., self.order], x.new_zeros(()), mask, x.dtype)

    def _unmap(self, y: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        return _with_constant_log_det(y[..., self.inverse_order], y.new_zeros(()), mask, y.dtype)


def _with_constant_log_det(
    value: Tensor, log_det: Tensor, mask: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    if mask is not None:
        points = mask.sum(1).to(log_det.dtype)
        return torch.where(mask.unsqueeze(-1), value, 0.0).to(dtype), (points * log_det).to(dtype)
    points_each = value.shape[1] if value.ndim == 3 else 1
    return value.to(dtype), (points_each * log_det).to(dtype).expand(value.shape[0])
