r"""Energy correlation functions and the ratios that find two prongs.

With :math:`z_i = p_{T,i} / \sum_j p_{T,j}` and distances :math:`\theta_{ij}` in rapidity and azimuth,

.. math::
    e_2 = \sum_{i<j} z_i z_j \theta_{ij}^\beta, \quad
    e_3 = \sum_{i<j<k} z_i z_j z_k (\theta_{ij} \theta_{ik} \theta_{jk})^\beta, \quad
    C_2 = e_3 / e_2^2\ [1], \quad D_2 = e_3 / e_2^3\ [2],

and, with the two smallest of the three angles only, :math:`{}_2e_3 = \sum_{i<j<k} z_i z_j z_k \min(\theta_{ij}
\theta_{ik}, \theta_{ij} \theta_{jk}, \theta_{ik} \theta_{jk})^\beta` and :math:`N_2 = {}_2e_3 / e_2^2` [3].

:math:`e_3` takes one product of matrices per jet, :math:`{}_2e_3` a loop over constituents.  Ratios are 0 where
:math:`e_2` is 0.

References:
    [1] A. Larkoski, G. Salam, J. Thaler, Energy correlation functions for jet substructure,
        https://arxiv.org/abs/1305.0007
    [2] A. Larkoski, I. Moult, D. Neill, Power counting to better jet observables, https://arxiv.org/abs/1409.6298
    [3] I. Moult, L. Necib, J. Thaler, New angles on energy correlation functions, https://arxiv.org/abs/1609.07483
"""

from __future__ import annotations

import numpy as np

from cathode.jets.observables.padded import Floats, angles, blocks, padded, quotient
from cathode.jets.schema import Jets
from cathode.support.errors import UserError

__all__ = ["energy_correlators", "narrow_correlators"]


def energy_correlators(jets: Jets, *, beta: float = 1.0) -> dict[str, Floats]:
    """``e2``, ``e3``, ``c2``, ``d2``, each ``(N,)``, dimensionless.

    Raises:
        UserError: ``beta`` is not positive.
    """
    _check(beta)
    e2, e3 = np.zeros(len(jets)), np.zeros(len(jets))
    for rows in blocks(jets):
        block = padded(jets.points[rows])
        z = block.fractions()
        theta = _power(angles(block), beta)
        e2[rows] = 0.5 * np.einsum("bi,bi->b", z, np.matmul(theta, z[:, :, None])[..., 0])
        # Every unordered triple occurs six times; triples with a repeated index have a vanishing angle.
        open_triangles = np.matmul(theta * z[:, None, :], theta)
        open_triangles *= theta
        e3[rows] = np.einsum("bi,bi->b", z, np.matmul(open_triangles, z[:, :, None])[..., 0]) / 6.0
    return {"e2": e2, "e3": e3, "c2": quotient(e3, e2**2), "d2": quotient(e3, e2**3)}


def narrow_correlators(jets: Jets, *, beta: float = 1.0) -> dict[str, Floats]:
    """``e3_2`` (the two smallest angles of each triple) and ``n2``, each ``(N,)``.

    Raises:
        UserError: ``beta`` is not positive.
    """
    _check(beta)
    e2, e3 = np.zeros(len(jets)), np.zeros(len(jets))
    for rows in blocks(jets):
        block = padded(jets.points[rows])
        z = block.fractions()
        theta = _power(angles(block), beta)
        e2[rows] = 0.5 * np.einsum("bi,bi->b", z, np.matmul(theta, z[:, :, None])[..., 0])
        for i in range(z.shape[1] - 2):
            weight, near, others = z[:, i + 1 :], theta[:, i, i + 1 :], theta[:, i + 1 :, i + 1 :]
            both = near[:, :, None] * near[:, None, :]
            smallest = near[:, :, None] * others
            np.minimum(smallest, both, out=smallest)
            np.minimum(smallest, np.multiply(near[:, None, :], others, out=both), out=smallest)
            pairs = np.einsum("bj,bj->b", weight, np.matmul(smallest, weight[:, :, None])[..., 0])
            e3[rows] += 0.5 * z[:, i] * pairs
    return {"e3_2": e3, "n2": quotient(e3, e2**2)}


def _power(theta: Floats, beta: float) -> Floats:
    return theta if beta == 1.0 else theta**beta


def _check(beta: float) -> None:
    if not (np.isfinite(beta) and beta > 0):
        raise UserError(f"energy correlators need a positive exponent beta, got {beta!r}")
