"""What happens to values outside the domain of a bounded bijection.

The policy is declared at construction and never silent:

* ``clip``: moved to just inside the edge; counted in ``clipped_events`` and reported by ``logger.warning``;
* ``mask``: evaluated just inside the edge and flagged by ``rejects`` (and ``out_of_domain``): the caller leaves these
  events out (a :class:`~cathode.density.preprocessed.Preprocessed` density gives them log-density minus infinity);
* ``raise``: :class:`~cathode.support.errors.UserError` with the count.

NaN has no nearest edge: it is an error under ``clip`` and ``raise`` and flagged under ``mask``.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from cathode.density.bijections.base import Elementwise
from cathode.support.errors import UserError

__all__ = ["POLICIES", "Bounded"]

logger = logging.getLogger(__name__)

POLICIES = ("clip", "mask", "raise")


class Bounded(Elementwise):
    """Base of elementwise bijections with a domain ``[lower, upper]`` that is the same for all features.

    Attributes:
        policy: ``clip``, ``mask`` or ``raise``.
        clipped_events: Events with at least one value moved by ``clip`` since the last :meth:`reset_count`.
    """

    def __init__(self, features: int, *, lower: float, upper: float, policy: str) -> None:
        super().__init__(features)
        if policy not in POLICIES:
            raise UserError(f"unknown domain policy {policy!r}: use one of {', '.join(POLICIES)}")
        self.lower, self.upper, self.policy = lower, upper, policy
        self.clipped_events = 0
        self._next_warning = 1

    def reset_count(self) -> None:
        """Set ``clipped_events`` back to 0."""
        self.clipped_events, self._next_warning = 0, 1

    def extra_repr(self) -> str:
        return f"features={self.features}, domain=[{self.lower:g}, {self.upper:g}], policy={self.policy}"

    def _learn(self, rows: Tensor, weight: Tensor) -> None:
        if self.policy == "raise":
            self._enforce(rows, None)

    def _inside(self, x: Tensor) -> Tensor:
        return torch.nan_to_num(x, nan=self._anchor(), posinf=None, neginf=None).clamp(self.lower, self.upper)

    def _outside(self, x: Tensor) -> Tensor:
        return ~((x >= self.lower) & (x <= self.upper) & torch.isfinite(x))

    def _flag(self, x: Tensor, mask: Tensor | None, *, rejected_only: bool, context: Tensor | None = None) -> Tensor:
        if rejected_only and self.policy != "mask":
            return torch.zeros(len(x), dtype=torch.bool, device=x.device)
        return self._any_per_event(self._outside(x), mask)

    def _enforce(self, x: Tensor, mask: Tensor | None) -> None:
        if self.policy == "mask":
            return
        work = x.detach().double()
        outside = self._any_per_event(self._outside(work), mask)
        count = int(outside.sum())
        if count == 0:
            return
        where = f"the domain [{self.lower:g}, {self.upper:g}] of {type(self).__name__}"
        if self.policy == "raise":
            raise UserError(
                f"{count} of {len(x)} events are outside {where}: remove them, widen the fitted margin, "
                "or choose the policy 'clip' or 'mask'"
            )
        missing = int(self._any_per_event(torch.isnan(work), mask).sum())
        if missing:
            raise UserError(f"{missing} of {len(x)} events are NaN before {type(self).__name__}: remove or mend them")
        self.clipped_events += count
        # One line per decade: a training loop meets the same events in every epoch.
        if self.clipped_events >= self._next_warning:
            logger.warning("%d events outside %s were clipped to its edge so far", self.clipped_events, where)
            while self._next_warning <= self.clipped_events:
                self._next_warning *= 10
