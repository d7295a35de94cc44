r"""Momentum conservation: a generated jet was asked for with a momentum and has nearly, not exactly, that one.

First the constituents that may move, those not on the lattice of a calorimeter, are shifted and scaled together until
direction and mass are about right (two prongs where they are have one mass, whatever their weights).  Then all
(massless, with directions :math:`n_i` and transverse momenta :math:`w_i`) keep their directions and are reweighted as
little as possible:

.. math:: w_i' = w_i\, e^{\lambda \cdot w_i n_i}, \qquad \sum_i w_i' n_i = P

Among all positive weights with the right sum these have the smallest :math:`\sum_i r_i \ln r_i - r_i + 1` of the ratios
:math:`r_i = w_i' / w_i` (exponential tilting; Csiszar, Ann. Probab. 3 (1975) 146): relative changes count alike for all
constituents, so a jet is mended by its hard ones, not by multiplying a soft one far away, as the Kullback-Leibler
divergence of the weights themselves would.  :math:`\lambda` minimises the convex dual :math:`\sum_i e^{\lambda \cdot
w_i n_i} - \lambda \cdot P`, which Newton's method does in a few steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Conserved", "conserve"]

_STEPS = 40
_TOLERANCE = 1e-10
# A constituent is changed by no more than this factor: a jet that needs more is another jet.
_LARGEST_FACTOR = 4.0
# Constituents are moved no further than this in eta and in phi, and their distances change by no more than this factor:
# what is left is done by the weights.
_FARTHEST_SHIFT, _LARGEST_SCALE, _ROUNDS = 0.05, 1.5, 8
# Changes of the dual that one step may not exceed, in nats of a constituent.
_LONGEST_STEP = 1.0


class Conserved(NamedTuple):
    """Shifted and reweighted constituents.

    Attributes:
        relative: ``(N, P, 3)``: pT over that of the jet, and distances to its axis in eta and phi.
        exact: ``(N,)``, whether the jet has what was asked of it; the pT alone where not.
    """

    relative: NDArray[np.float64]
    exact: NDArray[np.bool_]


def conserve(
    relative: NDArray[np.float64],
    mask: NDArray[np.bool_],
    axis: NDArray[np.float64],
    *,
    mass: bool = True,
    movable: NDArray[np.bool_] | None = None,
) -> Conserved:
    """Constituents that add up to the jet.

    Args:
        relative: ``(N, P, 3)``: pT over that of the jet, and distances to its axis in eta and phi.
        mask: ``(N, P)``.
        axis: ``(N, 4)``: pT, eta, phi and mass [GeV] of the jets.
        mass: Whether the mass is to be right too, or pT and direction alone.
        movable: ``(N, P)``, constituents whose direction may change; all if not given.
    """
    # A boost along the beam shifts the pseudorapidity of massless particles.  In the frame in which the jet, were it
    # massless, would be central, in units of its pT: E - pT, and p_z.
    pt, jet_eta, jet_mass = axis[:, 0], axis[:, 1], axis[:, 3]
    energy = np.sqrt(np.cosh(jet_eta) ** 2 + (jet_mass / np.where(pt > 0, pt, 1.0)) ** 2)
    excess = energy * np.cosh(jet_eta) - np.sinh(jet_eta) ** 2 - 1.0
    slope = -np.tanh(jet_eta)
    relative = _moved(relative, mask, mask if movable is None else mask & movable, slope, excess if mass else None)
    weight = relative[..., 0]
    eta, phi = relative[..., 1], relative[..., 2]
    more = np.cosh(eta) - np.cos(phi)
    one, zero = np.ones_like(pt), np.zeros_like(pt)
    if mass:
        direction = np.stack([np.cos(phi), np.sin(phi), np.sinh(eta), more], -1)
        target = np.stack([one, zero, slope * excess, excess], -1)
    else:
        # The direction alone, whatever the mass is: p_z = slope (E - pT) in this frame.
        direction = np.stack([np.cos(phi), np.sin(phi), np.sinh(eta) - slope[:, None] * more], -1)
        target = np.stack([one, zero, zero], -1)
    fraction, exact = _tilted(weight, np.where(mask[..., None], direction, 0.0), target)
    total = np.hypot((weight * np.cos(phi)).sum(1), (weight * np.sin(phi)).sum(1))
    scaled = weight / np.where(total > 0, total, 1.0)[:, None]
    relative[..., 0] = np.where(exact[:, None], fraction, scaled)
    return Conserved(relative, exact)


def _moved(
    relative: NDArray[np.float64],
    mask: NDArray[np.bool_],
    movable: NDArray[np.bool_],
    slope: NDArray[np.float64],
    excess: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """A copy in which what may move has been shifted and scaled together, until direction and mass are about right.

    Args:
        relative: ``(N, P, 3)``.
        mask: ``(N, P)``.
        movable: ``(N, P)``.
        slope: ``(N,)``, p_z over E - pT.
        excess: ``(N,)``, E - pT that is asked for, in units of pT; None: any.
    """
    relative = np.where(mask[..., None], relative, 0.0)
    start = relative[..., 1:].copy()
    eta, phi = start[..., 0].copy(), start[..., 1].copy()
    size = np.ones(len(relative))
    for _ in range(_ROUNDS):
        along = (relative[..., 0] * np.cos(phi)).sum(1)
        weight = relative[..., 0] / np.where(along > 0, along, 1.0)[:, None]
        loose = np.where(movable, weight, 0.0)
        total = np.maximum(loose.sum(1), 1e-300)
        distance = np.cosh(eta) - np.cos(phi)
        now = (weight * distance).sum(1)
        if excess is not None:
            moving = (loose * distance).sum(1)
            factor = np.sqrt(np.maximum(excess - now + moving, 0.0) / np.maximum(moving, 1e-300))
            factor = (size * factor).clip(1 / _LARGEST_SCALE, _LARGEST_SCALE) / size
            size = size * factor
            eta, phi = (np.where(movable, x * factor[:, None], x) for x in (eta, phi))
        eta_shift = (slope * (now if excess is None else excess) - (weight * np.sinh(eta)).sum(1)) / total
        phi_shift = -(weight * np.sin(phi)).sum(1) / total
        eta, phi = (
            np.where(movable, x + shift.clip(-_FARTHEST_SHIFT, _FARTHEST_SHIFT)[:, None], x)
            for x, shift in ((eta, eta_shift), (phi, phi_shift))
        )
    place = np.stack([eta, phi], -1)
    low, high = start / _LARGEST_SCALE, start * _LARGEST_SCALE
    place = place.clip(np.minimum(low, high) - _FARTHEST_SHIFT, np.maximum(low, high) + _FARTHEST_SHIFT)
    relative[..., 1:] = np.where(movable[..., None], place, start)
    return relative


def _tilted(
    weight: NDArray[np.float64], direction: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    size = len(weight)
    constraints = target.shape[1]
    # Columns of one size, so that the matrix of second derivatives is well conditioned.
    scale = np.sqrt((weight[..., None] * direction**2).sum(1))
    scale = np.where(scale > 1e-12, scale, 1.0)
    f, t = direction / scale[:, None], target / scale
    lever = weight[..., None] * f
    tilt = np.zeros((size, constraints))
    active = np.ones(size, dtype=bool)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(_STEPS):
            rows = np.flatnonzero(active)
            if not len(rows):
                break
            now = weight[rows] * np.exp(np.einsum("npk,nk->np", lever[rows], tilt[rows]))
            gradient = np.einsum("np,npk->nk", now, f[rows]) - t[rows]
            done = np.abs(gradient).max(1) < _TOLERANCE
            active[rows[done]] = False
            rows, now, gradient = rows[~done], now[~done], gradient[~done]
            if not len(rows):
                break
            second = np.einsum("np,npk,npl->nkl", now, f[rows], lever[rows])
            second += 1e-13 * np.trace(second, axis1=1, axis2=2)[:, None, None] * np.eye(constraints)
            finite = np.isfinite(second).all((1, 2)) & np.isfinite(gradient).all(1)
            active[rows[~finite]] = False
            rows, second, gradient = rows[finite], second[finite], gradient[finite]
            if not len(rows):
                break
            step = -np.linalg.solve(second + _singular(second), gradient[..., None])[..., 0]
            longest = np.abs(np.einsum("npk,nk->np", lever[rows], step)).max(1)
            tilt[rows] += step * np.minimum(1.0, _LONGEST_STEP / np.maximum(longest, 1e-300))[:, None]
        factor = np.einsum("npk,nk->np", lever, tilt)
        made = weight * np.exp(factor)
        residual = np.abs(np.einsum("np,npk->nk", made, f) - t).max(1)
        there = weight > 0
        largest = np.where(there, np.abs(factor), 0.0).max(1, initial=0.0)
    exact = (residual < 1e3 * _TOLERANCE) & (largest < np.log(_LARGEST_FACTOR)) & there.any(1)
    return np.where(exact[:, None], made, weight), exact


def _singular(second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Something to add where all derivatives are 0 (an empty jet), so that it can be solved."""
    nothing = np.abs(second).max((1, 2)) == 0
    return nothing[:, None, None] * np.eye(second.shape[-1])
