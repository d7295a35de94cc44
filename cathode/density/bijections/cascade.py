r"""Positive amounts as a total and the share that each takes of what is left.

For amounts :math:`E_0 \dots E_{L-1} \ge 0` and a reference :math:`R > 0` from the context,

.. math:: u_0 = \sum_j E_j / R, \qquad u_{i} = E_{i-1} / \sum_{j \ge i-1} E_j \quad (i = 1 \dots L-1).

:math:`u_0` may exceed 1, the others lie in [0, 1], and the last amount takes the remainder (Krause & Shih,
arXiv:2106.05285, section III).  With the remainders :math:`S_i = \sum_{j \ge i} E_j`,

.. math:: \ln \left|\det \partial u / \partial E\right| = -\ln R - \sum_{i=0}^{L-2} \ln S_i .
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cathode.density.bijections.base import Bijection
from cathode.density.registry import buildable
from cathode.support.errors import UserError

__all__ = ["Cascade"]


@buildable("cascade")
class Cascade(Bijection):
    """Amounts to total and shares of the remainder, and back; see the module for the formula.

    Exact values are kept: an empty amount is a share of 0, amounts that end early a share of 1.  Where nothing is left
    (0/0) the share is 0, and the way back gives 0 whatever the share: there the map is not invertible in the shares but
    still exact in the amounts.  On the way back a negative total counts as 0 and shares are moved into [0, 1]; the
    amounts then sum to ``u_0 R`` up to rounding.  Fill zeros
    (:class:`cathode.density.dequantised.Dequantised`) before a logit follows.

    Args:
        features: L.
        column: Context column of the reference R.
        floor: Smallest reference and smallest remainder in a division and in the log-determinant, in the unit of x.
    """

    def __init__(self, features: int, column: int = 0, floor: float = 1e-12) -> None:
        super().__init__(features)
        if column < 0 or not (math.isfinite(floor) and floor > 0):
            raise UserError(f"column {column} must not be negative and floor {floor} positive and finite")
        self.column, self.floor = column, floor

    def extra_repr(self) -> str:
        return f"features={self.features}, column={self.column}"

    def _reference(self, context: Tensor | None) -> Tensor:
        if context is None or context.shape[-1] <= self.column:
            raise ValueError(f"Cascade needs a context with column {self.column}")
        return context[:, self.column].double().clamp(min=self.floor)

    def _outside(self, x: Tensor) -> Tensor:
        return ~(torch.isfinite(x) & (x >= 0))

    def _check(self, x: Tensor) -> None:
        if x.ndim != 2 or x.shape[-1] != self.features:
            raise ValueError(f"x has shape {tuple(x.shape)}, expected (B, {self.features})")

    def _map(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        reference = self._reference(context)
        amounts = torch.nan_to_num(x.double(), nan=0.0).clamp(min=0.0)
        # From the last to the first, so that a remainder is never below one of its terms.
        left = amounts.flip(1).cumsum(1).flip(1)
        shares = amounts[:, :-1] / left[:, :-1].clamp(min=self.floor)
        u = torch.cat([left[:, :1] / reference.unsqueeze(1), shares.clamp(max=1.0)], dim=1)
        log_det = -reference.log() - left[:, :-1].clamp(min=self.floor).log().sum(1)
        return u.to(x.dtype), log_det.to(x.dtype)

    def _unmap(self, y: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        reference = self._reference(context)
        u = torch.nan_to_num(y.double(), nan=0.0)
        left = u[:, 0].clamp(min=0.0) * reference
        log_det = reference.log()
        amounts = []
        for i in range(1, self.features):
            log_det = log_det + left.clamp(min=self.floor).log()
            amount = left * u[:, i].clamp(0.0, 1.0)
            amounts.append(amount)
            left = left - amount
        return torch.stack([*amounts, left], dim=1).to(y.dtype), log_det.to(y.dtype)
