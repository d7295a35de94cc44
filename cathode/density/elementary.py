r"""The normal tail from elementary operations, for graphs whose runtime has no error function in float64.

.. math:: \mathrm{erfc}(v) = \frac{e^{-v^2}}{1 + v}\, P(s), \qquad s = \frac{3 - v}{3 + v} \in (-1, 1], \quad v \ge 0,

with a polynomial P through the Chebyshev points of :math:`(1 + v)\, \mathrm{erfcx}(v)`.  The relative error, tails
included, is 7e-15 for degree 20, 2e-9 for degree 12 and 6e-8 for degree 10.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from numpy.polynomial import chebyshev
from scipy.special import erfcx
from torch import Tensor

__all__ = ["elementary_erfc", "normal_upper_tail"]

_SCALE = 3.0


@cache
def _coefficients(degree: int) -> tuple[float, ...]:
    """Of P, the highest power first."""

    s = chebyshev.chebpts1(degree + 1)
    v = _SCALE * (1 - s) / (1 + s)
    series = chebyshev.chebfit(s, (1 + v) * erfcx(v), degree)
    return tuple(float(c) for c in chebyshev.cheb2poly(series)[::-1])


def elementary_erfc(x: Tensor, *, degree: int = 20) -> Tensor:
    """``erfc(x)`` in the dtype of ``x``, from additions, products, a division and an exponential."""
    v = x.abs()
    s = (_SCALE - v) / (_SCALE + v)
    first, *others = _coefficients(degree)
    series = s * first + others[0]
    for coefficient in others[1:]:
        series = series * s + coefficient
    tail = torch.exp(-v * v) * series / (1.0 + v)
    return torch.where(x < 0, 2.0 - tail, tail)


def normal_upper_tail(u: Tensor, *, degree: int = 20) -> Tensor:
    """``1 - Phi(u)``; see :func:`elementary_erfc`."""
    return 0.5 * elementary_erfc(u * math.sqrt(0.5), degree=degree)
