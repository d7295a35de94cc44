"""Bijections made of bijections."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn

from cathode.density.bijections.base import Bijection
from cathode.density.bijections.domain import Bounded
from cathode.density.registry import buildable

__all__ = ["Columns", "Compose", "bounded_members"]


def bounded_members(bijection: nn.Module) -> Iterator[Bounded]:
    """The members with a domain, at any depth: where ``policy`` and ``clipped_events`` are found."""
    for module in bijection.modules():
        if isinstance(module, Bounded):
            yield module


@buildable("compose")
class Compose(Bijection):
    """One bijection after another: ``y = f_n(… f_1(x))``.

    ``fit`` fits each member on the output of the members before it.  Events that a member with the policy ``mask``
    rejects are left out of the statistics of the members after it.

    Args:
        bijections: Members, the first is applied first.
    """

    def __init__(self, bijections: list[Bijection]) -> None:
        if not bijections:
            raise ValueError("Compose needs at least one bijection; use Identity for none")
        super().__init__(bijections[0].features)
        sizes = [b.features for b in bijections]
        if len(set(sizes)) > 1:
            raise ValueError(f"members act on different numbers of features: {sizes}")
        self.bijections = nn.ModuleList(bijections)

    def fit(
        self,
        x: Tensor,
        *,
        context: Tensor | None = None,
        weight: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Self:
        new = copy.deepcopy(self)
        members: list[Bijection] = []
        for member in self._members():
            fitted = member.fit(x, context=context, weight=weight, mask=mask)
            members.append(fitted)
            with torch.no_grad():
                rejected = fitted.rejects(x, mask=mask, context=context)
                # In float64, so that statistics do not depend on the dtype of the data.
                x, _ = fitted._map(x.double(), context, mask)
            if bool(rejected.any()):
                keep = ~rejected
                x = x[keep]
                weight = None if weight is None else weight[keep]
                mask = None if mask is None else mask[keep]
                context = None if context is None else context[keep]
        new.bijections = nn.ModuleList(members)
        return new

    def forward_and_log_det(
        self, x: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        self._check(x)
        return self._chain(x, context, mask, enforce=True)

    @torch.no_grad()
    def _flag(self, x: Tensor, mask: Tensor | None, *, rejected_only: bool, context: Tensor | None = None) -> Tensor:
        flags = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for member in self._members():
            flags |= member._flag(x, mask, rejected_only=rejected_only, context=context)
            x, _ = member._map(x, context, mask)
        return flags

    def _members(self) -> Iterator[Bijection]:
        for member in self.bijections:
            assert isinstance(member, Bijection)
            yield member

    def _chain(self, x: Tensor, context: Tensor | None, mask: Tensor | None, *, enforce: bool) -> tuple[Tensor, Tensor]:
        # float64 all along: rounding between members would undo the care inside them.
        y = x.double()
        total = torch.zeros(x.shape[0], dtype=torch.float64, device=x.device)
        for member in self._members():
            step = member.forward_and_log_det(y, context, mask=mask) if enforce else member._map(y, context, mask)
            y, total = step[0], total + step[1]
        return y.to(x.dtype), total.to(x.dtype)

    def _map(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        return self._chain(x, context, mask, enforce=False)

    def _unmap(self, y: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        x = y.double()
        total = torch.zeros(y.shape[0], dtype=torch.float64, device=y.device)
        for member in reversed(list(self._members())):
            x, log_det = member.inverse_and_log_det(x, context, mask=mask)
            total = total + log_det
        return x.to(y.dtype), total.to(y.dtype)

    def extra_repr(self) -> str:
        return ""


@buildable("columns")
class Columns(Bijection):
    """A bijection for each column, or block of neighbouring columns, in order.

    ``Columns([Logit(1), Standardize(2)])`` acts on three features.

    Args:
        bijections: Each takes as many columns as it has ``features``.
    """

    def __init__(self, bijections: list[Bijection]) -> None:
        if not bijections:
            raise ValueError("Columns needs at least one bijection")
        super().__init__(sum(b.features for b in bijections))
        self.bijections = nn.ModuleList(bijections)
        self.sizes = [b.features for b in bijections]

    def fit(
        self,
        x: Tensor,
        *,
        context: Tensor | None = None,
        weight: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Self:
        self._check(x)
        new = copy.deepcopy(self)
        new.bijections = nn.ModuleList(
            [member.fit(part, context=context, weight=weight, mask=mask) for member, part in self._parts(x)]
        )
        return new

    def forward_and_log_det(
        self, x: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        self._check(x)
        return self._join([m.forward_and_log_det(part, context, mask=mask) for m, part in self._parts(x)])

    def _flag(self, x: Tensor, mask: Tensor | None, *, rejected_only: bool, context: Tensor | None = None) -> Tensor:
        flags = [m._flag(p, mask, rejected_only=rejected_only, context=context) for m, p in self._parts(x)]
        return torch.stack(flags).any(0)

    def _parts(self, x: Tensor) -> Iterator[tuple[Bijection, Tensor]]:
        for member, part in zip(self.bijections, x.split(self.sizes, dim=-1), strict=True):
            assert isinstance(member, Bijection)
            yield member, part

    @staticmethod
    def _join(pieces: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        return torch.cat([value for value, _ in pieces], dim=-1), torch.stack([ld for _, ld in pieces]).sum(0)

    def _map(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        return self._join([m._map(part, context, mask) for m, part in self._parts(x)])

    def _unmap(self, y: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        return self._join([m.inverse_and_log_det(part, context, mask=mask) for m, part in self._parts(y)])

    def extra_repr(self) -> str:
        return f"sizes={self.sizes}"
