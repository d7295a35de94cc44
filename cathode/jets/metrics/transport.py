r"""Energy mover's distance: the least work that turns one jet into another.

.. math::
    \mathrm{EMD} = \min_{f_{ij} \ge 0} \sum_{ij} f_{ij} \frac{\theta_{ij}}{R} + \Big| \sum_i z_i - \sum_j z'_j \Big|

with flows :math:`f` that move the smaller of both momenta (Komiske, Metodiev, Thaler, https://arxiv.org/abs/1902.02346,
eq. 1), :math:`R = 1` and the Euclidean distance of (eta, phi), as the JetNet library has it.  The rest of the larger
momentum flows to a place at distance :math:`R` from everywhere, so it is a linear program, which HiGHS solves exactly.

Lower bounds are cheap: for any function that changes by at most the distance and lies within :math:`\pm R`, the
difference of its momentum-weighted sums is no more than the EMD (Kantorovich and Rubinstein).
"""

from __future__ import annotations

import numpy as np

from cathode.jets.observables.padded import Floats
from cathode.support.errors import UserError

__all__ = ["emd", "lower_bounds"]

_ANCHORS = 13
_REACH = 0.6
_HEIGHTS = (0.1, 0.3, 1.0)
_DIRECTIONS = 16


def emd(first: Floats, second: Floats) -> float:
    """Energy mover's distance of two jets ``(P, 3)`` and ``(Q, 3)``: weight, eta, phi; weight 0 is padding.

    Raises:
        UserError: The program could not be solved: weights that are negative or not finite.
    """
    from scipy.optimize import linprog
    from scipy.sparse import csc_array

    a, b = first[first[:, 0] > 0], second[second[:, 0] > 0]
    p, q = a[:, 0], b[:, 0]
    if not len(p) or not len(q):
        return float(abs(p.sum() - q.sum()))
    cost = np.hypot(a[:, 1, None] - b[None, :, 1], a[:, 2, None] - b[None, :, 2])
    missing = p.sum() - q.sum()
    if missing > 0:
        q, cost = np.append(q, missing), np.pad(cost, ((0, 0), (0, 1)), constant_values=1.0)
    elif missing < 0:
        p, cost = np.append(p, -missing), np.pad(cost, ((0, 1), (0, 0)), constant_values=1.0)
    m, n = cost.shape
    if min(m, n) == 1:
        return float(np.sum(cost * p[:, None] * q[None, :]) / p.sum())
    scale = p.sum()
    # Row i of the constraints is the momentum that leaves i, row m + j what arrives at j; the last follows from all
    # others.
    flow = np.arange(m * n)
    rows = np.stack([flow // n, m + flow % n], axis=1)
    kept = rows < m + n - 1
    indptr = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    constraints = csc_array((np.ones(int(indptr[-1])), rows[kept], indptr), shape=(m + n - 1, m * n))
    solved = linprog(cost.ravel(), A_eq=constraints, b_eq=np.concatenate([p, q])[:-1] / scale, method="highs")
    if solved.status != 0:
        raise UserError(f"no energy mover's distance of two jets ({solved.message.strip()}): are all weights finite?")
    return float(solved.fun * scale)


def lower_bounds(first: Floats, second: Floats) -> Floats:
    """Bounds ``(N, M)`` that the distances of jets ``(N, P, 3)`` and ``(M, Q, 3)`` do not fall below."""
    one, two = _sums(first), _sums(second)
    bounds = np.zeros((len(one), len(two)))
    for k in range(one.shape[1]):
        np.maximum(bounds, np.abs(one[:, k, None] - two[None, :, k]), out=bounds)
    return bounds


def _sums(jets: Floats) -> Floats:
    """Momentum-weighted sums ``(N, F)`` of functions with slope <= 1 and values in [-1, 1]."""
    z, eta, phi = np.moveaxis(np.asarray(jets, dtype=np.float64), -1, 0)
    axis = np.linspace(-_REACH, _REACH, _ANCHORS)
    columns = [z.sum(axis=1)]
    for x in axis:
        for y in axis:
            distance = np.hypot(eta - x, phi - y)
            columns += [(z * (np.minimum(distance, 2 * height) - height)).sum(axis=1) for height in _HEIGHTS]
    for angle in np.linspace(0.0, np.pi, _DIRECTIONS, endpoint=False):
        columns.append((z * np.clip(eta * np.cos(angle) + phi * np.sin(angle), -1.0, 1.0)).sum(axis=1))
    return np.stack(columns, axis=1)
