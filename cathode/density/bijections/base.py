r"""What a bijection is, and the two bases that members are built on.

A bijection is a strictly monotone (or linear) change of variables :math:`y = f(x)` with its log-determinant.  Members
act on the last axis of ``(B, D)`` vectors and of ``(B, P, F)`` sets with a boolean ``mask (B, P)`` (True = real).
Masked entries are never looked at, contribute nothing to the log-determinant and come out as 0.

* Statistics come from :meth:`Bijection.fit`, which returns a *new* bijection, and live in float64 buffers, also in a
  module that is cast to another dtype.  Before ``fit`` a member with statistics is the identity map of its kind (mean
  0, scale 1).
* Arithmetic is done in float64 and returned in the dtype of the input: a logit in float32 has no digits left near 1.
* Values outside the domain of a bounded member follow its ``policy``; see :mod:`cathode.density.bijections.domain`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from cathode.support.errors import UserError

__all__ = ["Bijection", "Elementwise", "data_rows", "refuse_constant"]


def data_rows(
    x: Tensor, *, features: int, weight: Tensor | None = None, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The rows that statistics are made from.

    Args:
        x: ``(N, F)``, or ``(B, P, F)`` with ``mask``.
        features: F, checked.
        weight: ``(N,)`` or ``(B,)``, not negative; 1 without it.  A set's weight counts for each of its points.
        mask: ``(B, P)``, True = real.

    Returns:
        ``(M, F)`` rows and ``(M,)`` weights, float64, rows of zero weight left out.

    Raises:
        UserError: No rows, non-finite values, or weights that are negative or not finite.
        ValueError: Shapes that do not fit.
    """
    if x.shape[-1] != features:
        raise ValueError(f"the last axis of x has {x.shape[-1]} features, expected {features}")
    w = torch.ones(len(x), dtype=torch.float64, device=x.device) if weight is None else weight.detach().double()
    if w.shape != (len(x),):
        raise ValueError(f"weight has shape {tuple(w.shape)}, expected ({len(x)},)")
    if not bool(torch.isfinite(w).all()) or bool((w < 0).any()):
        raise UserError("event weights must be finite and not negative to fit a preprocessing")
    rows = x.detach().double()
    if rows.ndim == 3:
        w = w.unsqueeze(1).expand(rows.shape[:2])
        keep = torch.ones(rows.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask
        rows, w = rows[keep], w[keep]
    elif rows.ndim != 2:
        raise ValueError(f"x has shape {tuple(x.shape)}, expected (N, F) or (B, P, F)")
    rows, w = rows[w > 0], w[w > 0]
    if len(rows) == 0:
        raise UserError("no rows to fit a preprocessing on: check the selection")
    bad = ~torch.isfinite(rows)
    if bool(bad.any()):
        column = int(bad.any(0).nonzero()[0, 0])
        raise UserError(
            f"{int(bad.any(1).sum())} of {len(rows)} rows are NaN or infinite (first in column {column}): "
            "remove or mend them"
        )
    return rows, w


def _context_rows(
    context: Tensor | None, x: Tensor, weight: Tensor | None, mask: Tensor | None, device: torch.device
) -> Tensor | None:
    """The context of each row that :func:`data_rows` keeps, ``(M, C)`` float64."""
    if context is None:
        return None
    if context.ndim != 2 or len(context) != len(x):
        raise ValueError(f"context has shape {tuple(context.shape)}, expected ({len(x)}, C)")
    rows = context.detach().double()
    positive = torch.ones(len(x), dtype=torch.bool, device=x.device) if weight is None else weight > 0
    if x.ndim == 3:
        keep = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask
        rows = rows.unsqueeze(1).expand(*x.shape[:2], -1)[keep & positive.unsqueeze(1)]
    else:
        rows = rows[positive]
    if not bool(torch.isfinite(rows).all()):
        raise UserError("the context holds NaN or infinite values: remove or mend these rows")
    return rows.to(device)


def refuse_constant(rows: Tensor) -> None:
    """Raise ``UserError`` with the index of the first column of ``(M, F)`` rows that has one value only."""
    low, high = rows.amin(0), rows.amax(0)
    # Wider than the rounding of the values themselves, or the scale would be made of noise.
    tolerance = 4 * torch.finfo(torch.float64).eps * torch.maximum(low.abs(), high.abs())
    constant = ~(high - low > tolerance)
    if bool(constant.any()):
        column = int(constant.nonzero()[0, 0])
        raise UserError(
            f"feature column {column} is constant ({float(low[column]):g} in all {len(rows)} rows): leave it out"
        )


class Bijection(nn.Module):
    """Base of every bijection.

    Attributes:
        features: Size of the last axis of ``x``.
    """

    features: int

    def __init__(self, features: int) -> None:
        super().__init__()
        if features < 1:
            raise ValueError(f"features is {features}, must be at least 1")
        self.features = int(features)

    def fit(
        self,
        x: Tensor,
        *,
        context: Tensor | None = None,
        weight: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Self:
        """A new bijection of the same kind whose statistics are those of ``x``.

        Args:
            x: ``(N, F)``, or ``(B, P, F)`` with ``mask (B, P)``; finite.
            context: ``(N, C)``; only members whose map depends on the context look at it.
            weight: ``(N,)`` event weights.
            mask: True = real.

        Raises:
            UserError: The rows cannot be used (none, not finite, a constant feature, outside the domain).
        """
        new = copy.deepcopy(self)
        rows, w = data_rows(x, features=self.features, weight=weight, mask=mask)
        device = new._device(rows)
        new._learn_given(rows.to(device), _context_rows(context, x, weight, mask, device), w.to(device))
        return new

    def forward_and_log_det(
        self, x: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """``y = f(x)`` and log|dy/dx| summed over features (and real points): ``(B, …)`` and ``(B,)``.

        Raises:
            UserError: Values outside the domain under the policy ``raise``, or NaN under ``clip``.
        """
        self._check(x)
        self._enforce(x, mask)
        return self._map(x, context, mask)

    def inverse_and_log_det(
        self, y: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """``x = f⁻¹(y)`` and log|dx/dy| summed over features (and real points): ``(B, …)`` and ``(B,)``."""
        self._check(y)
        return self._unmap(y, context, mask)

    def out_of_domain(self, x: Tensor, *, mask: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """``(B,)``, True where any (real) value is not finite or outside the domain.  Counts and raises nothing."""
        self._check(x)
        return self._flag(x.detach().double(), mask, rejected_only=False, context=context)

    def rejects(self, x: Tensor, *, mask: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """``(B,)``, True where a member with the policy ``mask`` flags the event: leave it out of data and samples."""
        self._check(x)
        return self._flag(x.detach().double(), mask, rejected_only=True, context=context)

    def extra_repr(self) -> str:
        return f"features={self.features}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # module.float() and module.to(dtype) are about networks: statistics keep their digits and only change device.
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, value in before.items():
            after = self._buffers[name]
            if value is not None and after is not None and after.dtype != value.dtype:
                self._buffers[name] = value.to(after.device)
        return self

    # What members define.

    def _learn(self, rows: Tensor, weight: Tensor) -> None:
        """Set the buffers from ``(M, F)`` finite float64 rows and ``(M,)`` positive weights."""

    def _learn_given(self, rows: Tensor, context: Tensor | None, weight: Tensor) -> None:
        """Like ``_learn``, for members that also need the ``(M, C)`` context rows."""
        self._learn(rows, weight)

    def _map(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Forward map; values outside the domain are moved inside without a word."""
        raise NotImplementedError

    def _unmap(self, y: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _outside(self, x: Tensor) -> Tensor:
        """Entries of float64 ``x`` that are outside the domain, bool of the shape of ``x``."""
        return ~torch.isfinite(x)

    def _flag(self, x: Tensor, mask: Tensor | None, *, rejected_only: bool, context: Tensor | None = None) -> Tensor:
        """``(B,)``: events outside the domain, or only those that the policy ``mask`` rejects."""
        if rejected_only:
            return torch.zeros(len(x), dtype=torch.bool, device=x.device)
        return self._any_per_event(self._outside(x), mask)

    def _enforce(self, x: Tensor, mask: Tensor | None) -> None:
        """Apply the domain policy to ``x``: count and warn, or raise."""

    # Shared helpers.

    def _device(self, fallback: Tensor) -> torch.device:
        return next((b.device for b in self.buffers()), fallback.device)

    def _check(self, x: Tensor) -> None:
        if x.ndim not in (2, 3) or x.shape[-1] != self.features:
            raise ValueError(f"x has shape {tuple(x.shape)}, expected (B, {self.features}) or (B, P, {self.features})")

    @staticmethod
    def _any_per_event(flags: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:
            flags = flags & mask.unsqueeze(-1)
        return flags.flatten(1).any(1)


class Elementwise(Bijection):
    """Base of bijections that act on each entry alone: members define ``_value`` and ``_inverse`` in float64."""

    def _value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``y`` and elementwise ``log|dy/dx|`` of float64 ``x`` inside the domain, both of the shape of ``x``."""
        raise NotImplementedError

    def _inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` and elementwise ``log|dx/dy|`` of float64 ``y``."""
        raise NotImplementedError

    def _inside(self, x: Tensor) -> Tensor:
        """``x`` moved into the domain."""
        return x

    def _anchor(self) -> float:
        """A value inside the domain that stands in for masked entries, so that they can be anything."""
        return 0.0

    def _map(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        work = x.double()
        if mask is not None:
            work = torch.where(mask.unsqueeze(-1), work, torch.full_like(work, self._anchor()))
        y, log_det = self._value(self._inside(work))
        return _finish(y, log_det, mask, x.dtype)

    def _unmap(self, y: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        work = y.double()
        if mask is not None:
            work = torch.where(mask.unsqueeze(-1), work, torch.zeros_like(work))
        x, log_det = self._inverse(work)
        return _finish(x, log_det, mask, y.dtype)


def _finish(value: Tensor, log_det: Tensor, mask: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    log_det = log_det.expand_as(value)
    if mask is not None:
        keep = mask.unsqueeze(-1)
        value, log_det = torch.where(keep, value, 0.0), torch.where(keep, log_det, 0.0)
    return value.to(dtype), log_det.flatten(1).sum(1).to(dtype)
