"""Values relative to amounts that the context holds."""

from __future__ import annotations

import math

from torch import Tensor

from cathode.density.bijections.base import Bijection
from cathode.density.registry import buildable
from cathode.support.errors import UserError

__all__ = ["Relative"]


@buildable("relative")
class Relative(Bijection):
    r"""``y_i = x_i / c``, with c the context column that feature i belongs to: parts as fractions of their group.

    .. math:: \ln |\det \partial y / \partial x| = - \sum_i \ln c_{k(i)}

    A group that is empty in the context counts as ``floor``: its parts are then divided by that, and come back
    unchanged.  Nothing is normalised: fractions that sum to 1 come back as parts that sum to the context's amount.

    Args:
        features: F.
        columns: F numbers: the context column of each feature.
        floor: Smallest divisor, in the unit of ``x``.
    """

    def __init__(self, features: int, columns: list[int], floor: float = 1.0) -> None:
        super().__init__(features)
        if len(columns) != features or min(columns) < 0:
            raise UserError(f"columns must be {features} indices of context columns, one for each feature")
        if not (math.isfinite(floor) and floor > 0):
            raise UserError(f"floor is {floor}: give a positive number in the unit of the data")
        self.columns, self.floor = list(columns), floor

    def _divisor(self, context: Tensor | None) -> Tensor:
        if context is None or context.shape[-1] <= max(self.columns):
            raise ValueError(f"Relative needs a context with column {max(self.columns)}")
        return context.double()[:, self.columns].clamp(min=self.floor)

    def _check(self, x: Tensor) -> None:
        if x.ndim != 2 or x.shape[-1] != self.features:
            raise ValueError(f"x has shape {tuple(x.shape)}, expected (B, {self.features})")

    def _map(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        divisor = self._divisor(context)
        return (x.double() / divisor).to(x.dtype), -divisor.log().sum(1).to(x.dtype)

    def _unmap(self, y: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        divisor = self._divisor(context)
        return (y.double() * divisor).to(y.dtype), divisor.log().sum(1).to(y.dtype)
