"""Bijections that act on each feature alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from cathode.density.bijections.base import Elementwise, refuse_constant
from cathode.density.bijections.domain import Bounded
from cathode.density.registry import buildable
from cathode.support.errors import UserError

__all__ = ["Affine", "Arcsinh", "Identity", "Log", "Logit", "MinMax", "Power", "Standardize"]


@buildable("identity")
class Identity(Elementwise):
    """``y = x``."""

    def __init__(self, features: int) -> None:
        super().__init__(features)

    def _value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, torch.zeros_like(x)

    def _inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return y, torch.zeros_like(y)


class _ShiftScale(Elementwise):
    """``y = (x - shift) / scale`` for each feature."""

    shift: Tensor
    scale: Tensor

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.register_buffer("shift", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(features, dtype=torch.float64))

    def _value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scale = self.scale.double()
        return (x - self.shift.double()) / scale, -scale.abs().log().expand_as(x)

    def _inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        scale = self.scale.double()
        return y * scale + self.shift.double(), scale.abs().log().expand_as(y)


@buildable("affine")
class Affine(_ShiftScale):
    """``y = (x - shift) / scale`` with given numbers: for a change of unit, or a range known beforehand.

    Args:
        features: F.
        shift: One number, or F numbers.
        scale: One number, or F numbers; not 0.
    """

    def __init__(self, features: int, shift: float | list[float] = 0.0, scale: float | list[float] = 1.0) -> None:
        super().__init__(features)
        self.shift.copy_(torch.as_tensor(shift, dtype=torch.float64).expand(features))
        self.scale.copy_(torch.as_tensor(scale, dtype=torch.float64).expand(features))
        if not bool(torch.isfinite(self.shift).all() & torch.isfinite(self.scale).all() & (self.scale != 0).all()):
            raise UserError(f"shift {shift} and scale {scale} must be finite, and scale not 0")


@buildable("standardize")
class Standardize(_ShiftScale):
    """``y = (x - mean) / std`` with the weighted mean and (population) standard deviation of the fitted rows."""

    def __init__(self, features: int) -> None:
        super().__init__(features)

    def _learn(self, rows: Tensor, weight: Tensor) -> None:
        w = (weight / weight.sum()).unsqueeze(1)
        mean = (w * rows).sum(0)
        std = (w * (rows - mean).square()).sum(0).sqrt()
        refuse_constant(rows)
        self.shift.copy_(mean)
        self.scale.copy_(std)


@buildable("min-max")
class MinMax(_ShiftScale):
    """Map the fitted range of each feature, widened by ``margin`` of its width on both sides, onto (0, 1).

    The map itself is affine and defined everywhere: what lies beyond the fitted range leaves (0, 1) and meets the
    domain policy of the next member (:class:`Logit`).

    Args:
        features: F.
        margin: Fraction of the width added below and above; 0 puts the extreme rows exactly on the edges.
    """

    def __init__(self, features: int, margin: float = 0.0) -> None:
        super().__init__(features)
        if not (math.isfinite(margin) and margin >= 0):
            raise UserError(f"margin is {margin}: give a fraction of the width that is 0 or more")
        self.margin = margin

    def _learn(self, rows: Tensor, weight: Tensor) -> None:
        refuse_constant(rows)
        low, high = rows.amin(0), rows.amax(0)
        self.shift.copy_(low - self.margin * (high - low))
        self.scale.copy_((high - low) * (1 + 2 * self.margin))


@buildable("logit")
class Logit(Bounded):
    r"""``y = ln(x / (1 - x))`` on ``[epsilon, 1 - epsilon]``.

    .. math:: \ln |dy/dx| = -\ln x - \ln(1 - x)

    Args:
        features: F.
        epsilon: Distance from 0 and 1 that counts as the edge; finite so that no value becomes infinite.
        policy: See :mod:`cathode.density.bijections.domain`.
    """

    def __init__(self, features: int, epsilon: float = 1e-6, policy: str = "clip") -> None:
        if not 1e-12 <= epsilon < 0.5:
            raise UserError(f"epsilon of the logit is {epsilon}: give a number from 1e-12 to below 0.5")
        super().__init__(features, lower=epsilon, upper=1 - epsilon, policy=policy)

    def _anchor(self) -> float:
        return 0.5

    def _value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low, high = x.log(), torch.log1p(-x)
        return low - high, -low - high

    def _inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return torch.sigmoid(y), -softplus(y) - softplus(-y)


@buildable("log")
class Log(Bounded):
    """``y = ln(x + offset)`` for ``x + offset >= epsilon``.

    Args:
        features: F.
        offset: Added before the logarithm, in the unit of ``x``.
        epsilon: Smallest argument of the logarithm, in the unit of ``x``.
        policy: See :mod:`cathode.density.bijections.domain`.
    """

    def __init__(self, features: int, offset: float = 0.0, epsilon: float = 1e-6, policy: str = "clip") -> None:
        if not (math.isfinite(offset) and math.isfinite(epsilon) and epsilon > 0):
            raise UserError(f"offset {offset} and epsilon {epsilon} of the logarithm must be finite and epsilon > 0")
        super().__init__(features, lower=epsilon - offset, upper=torch.finfo(torch.float64).max, policy=policy)
        self.offset, self.epsilon = offset, epsilon

    def _anchor(self) -> float:
        return max(1.0, self.epsilon) - self.offset

    def _value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # The clipped edge itself may round to just below epsilon.
        y = (x + self.offset).clamp(min=self.epsilon).log()
        return y, -y

    def _inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return y.exp() - self.offset, y


@buildable("arcsinh")
class Arcsinh(Elementwise):
    """``y = s arcsinh(x / s)``: linear well below ``s``, logarithmic above, smooth everywhere.

    Args:
        features: F.
        scale: s, in the unit of ``x``.
    """

    def __init__(self, features: int, scale: float = 1.0) -> None:
        super().__init__(features)
        if not (math.isfinite(scale) and scale > 0):
            raise UserError(f"scale of the arcsinh is {scale}: give a positive number in the unit of the data")
        self.scale = scale

    def _value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u = x / self.scale
        return self.scale * torch.asinh(u), -0.5 * torch.log1p(u.square())

    def _inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        u = y / self.scale
        # ln cosh u without overflow.
        size = u.abs()
        return self.scale * torch.sinh(u), size + torch.log1p(torch.exp(-2 * size)) - math.log(2)


@buildable("power")
class Power(Elementwise):
    r"""Signed power with unit slope at 0, to draw in (or push out) both tails.

    .. math:: y = \mathrm{sign}(x)\, \frac{s}{p} \left[ (1 + |x| / s)^p - 1 \right]

    (:math:`s \ln(1 + |x|/s)` for :math:`p = 0`), the two-sided form of Yeo & Johnson (2000), strictly increasing and
    differentiable everywhere.

    Args:
        features: F.
        exponent: p, 0 or more.
        scale: s, where the power sets in, in the unit of ``x``.
    """

    def __init__(self, features: int, exponent: float = 0.5, scale: float = 1.0) -> None:
        super().__init__(features)
        if not (math.isfinite(exponent) and exponent >= 0 and math.isfinite(scale) and scale > 0):
            raise UserError(f"exponent {exponent} must be 0 or more and scale {scale} positive, both finite")
        self.exponent, self.scale = exponent, scale

    def _value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        p, s = self.exponent, self.scale
        sign = _sign(x)
        log_base = torch.log1p(sign * x / s)
        size = log_base if p == 0 else torch.expm1(p * log_base) / p
        return sign * s * size, (p - 1) * log_base

    def _inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        p, s = self.exponent, self.scale
        sign = _sign(y)
        size = sign * y / s
        log_base = size if p == 0 else torch.log1p(p * size) / p
        return sign * s * torch.expm1(log_base), (1 - p) * log_base


def _sign(x: Tensor) -> Tensor:
    # Unlike torch.sign and abs, this has the right derivative at 0.
    return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)
