r"""Momentum of the whole jet and how it is spread about its axis.

With :math:`z_i = p_{T,i} / \sum_j p_{T,j}` and the distance :math:`\theta_i` in rapidity and azimuth of a constituent
from the jet's momentum (E-scheme), the generalised angularities [1] are

.. math:: \lambda^\kappa_\beta = \sum_i z_i^\kappa (\theta_i / R_0)^\beta, \qquad R_0 = 1.

``width`` (girth) is :math:`\lambda^1_1`, ``lha`` (Les Houches angularity) :math:`\lambda^1_{1/2}`, ``thrust``
:math:`\lambda^1_2`, ``ptd`` :math:`\sqrt{\lambda^2_0}`.  The width is :math:`\tau_1 / \sum_i p_{T,i}` of
:mod:`cathode.jets.substructure`.

References:
    [1] A. Larkoski, J. Thaler, W. Waalewijn, Gaining (mutual) information about quark/gluon discrimination,
        https://arxiv.org/abs/1408.3122
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cathode.jets.observables.padded import Floats, blocks, padded, quotient
from cathode.jets.schema import Jets
from cathode.jets.schema.kinematics import jet_axis, massless_momenta

__all__ = ["angularity", "kinematics", "shapes"]


def kinematics(jets: Jets) -> dict[str, Floats]:
    """``pt``, ``mass`` [GeV], ``eta``, ``mass_over_pt``, ``multiplicity`` of the constituents' sum, each ``(N,)``.

    They come from the constituents alone, whatever axis the file gave.
    """
    total = np.concatenate([jet_axis(jets.points[rows]) for rows in blocks(jets)] or [np.zeros((0, 4))])
    return {
        "pt": total[:, 0],
        "eta": total[:, 1],
        "mass": total[:, 3],
        "mass_over_pt": quotient(total[:, 3], total[:, 0]),
        "multiplicity": jets.multiplicity().astype(np.float64),
    }


def angularity(jets: Jets, *, kappa: float = 1.0, beta: float = 1.0) -> Floats:
    """``lambda^kappa_beta (N,)`` about the momentum of the constituents; 0 for a jet without constituents."""
    found = np.zeros(len(jets))
    for rows in blocks(jets):
        block = padded(jets.points[rows])
        z = np.power(block.fractions(), kappa, where=block.mask, out=np.zeros(block.z.shape))
        theta = _distances(jets.points[rows])
        # 0^0 is 1 here: a constituent on the axis counts in sums of momenta.
        found[rows] = (z * theta**beta).sum(axis=1)
    return found


def shapes(jets: Jets) -> dict[str, Floats]:
    """``ptd``, ``width``, ``lha``, ``thrust`` and ``leading_share``, the hardest constituent's share; each ``(N,)``."""
    found = {name: np.zeros(len(jets)) for name in ("ptd", "width", "lha", "thrust", "leading_share")}
    for rows in blocks(jets):
        z = padded(jets.points[rows]).fractions()
        theta = _distances(jets.points[rows])
        found["ptd"][rows] = np.sqrt((z**2).sum(axis=1))
        found["width"][rows] = (z * theta).sum(axis=1)
        found["lha"][rows] = (z * np.sqrt(theta)).sum(axis=1)
        found["thrust"][rows] = (z * theta**2).sum(axis=1)
        found["leading_share"][rows] = z.max(axis=1, initial=0.0)
    return found


def _distances(points: NDArray[np.float32]) -> Floats:
    """Distance in rapidity and azimuth of each constituent from the jet ``(B, P)``; 0 for padding."""
    block = padded(points)
    px, py, pz, energy = np.moveaxis(massless_momenta(points).sum(axis=1), -1, 0)
    mass_squared = np.maximum((energy - pz) * (energy + pz) - px * px - py * py, 0.0)
    rapidity = np.arcsinh(quotient(pz, np.sqrt(px * px + py * py + mass_squared)))
    delta_eta = block.eta - rapidity[:, None]
    delta_phi = np.abs(block.phi - np.arctan2(py, px)[:, None]) % (2 * np.pi)
    distance = np.hypot(delta_eta, np.minimum(delta_phi, 2 * np.pi - delta_phi))
    return np.where(block.mask, distance, 0.0)
