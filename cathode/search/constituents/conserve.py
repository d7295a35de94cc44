r"""Generated constituents made to add up to what was asked for.

Positions are left alone: constituents may sit on a lattice of cells, which a shift would leave.  Transverse momenta are
stretched away from the threshold of the detector, :math:`p_T \to q + f (p_T - q)` with q the threshold: a plain
factor would put constituents below it, where data have none.  The momentum of a jet, and of an event, is then
linear in f, so both f of the jets' :math:`p_T` and the final f of the event's mass solve quadratic equations.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cathode.jets.schema.kinematics import massless_momenta

__all__ = ["conserved"]

Array = NDArray[np.float64]


def conserved(points: Array, mask: NDArray[np.bool_], axes: Array, mass: Array, *, threshold: float) -> Array:
    """Constituents ``(N, 2, P, 3)`` whose mass is ``mass`` to rounding and whose jets have the pT of ``axes``.

    The last step, on the mass, moves the jets' pT a little again where the generated jet masses and directions are not
    those of ``axes``.

    Args:
        points: pT [GeV], eta, phi of generated constituents ``(N, 2, P, 3)``; padding is zero.
        mask: ``(N, 2, P)``.
        axes: Jets that were asked for ``(N, 2, 4)``: pT [GeV], eta, phi, m [GeV].
        mass: Dijet mass ``(N,)`` in TeV.
        threshold: Smallest pT of a constituent in data, GeV; 0 for none.

    Returns:
        In the order of ``points``; an event for which no stretch gives the mass is NaN.
    """
    made = points.astype(np.float64)
    made = _stretched(made, axes[..., 0], threshold, _transverse, (2,))
    made = _stretched(made, mass * 1e3, threshold, _invariant, (1, 2))
    made[~mask] = 0.0
    return made


def _transverse(a: Array, b: Array) -> Array:
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1]


def _invariant(a: Array, b: Array) -> Array:
    return a[..., 3] * b[..., 3] - a[..., 2] * b[..., 2] - _transverse(a, b)


def _stretched(
    points: Array, wanted: Array, threshold: float, square: Callable[[Array, Array], Array], over: tuple[int, ...]
) -> Array:
    """Stretch transverse momenta by one factor per jet or event, so that the norm of their sum becomes ``wanted``."""
    fixed = np.minimum(points[..., 0], threshold)
    directions = massless_momenta(np.concatenate([np.ones_like(points[..., :1]), points[..., 1:]], axis=-1))
    below = (directions * fixed[..., None]).sum(axis=over)
    above = (directions * (points[..., 0] - fixed)[..., None]).sum(axis=over)
    a, b, c = square(above, above), square(above, below), square(below, below) - wanted**2
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(b**2 - a * c)
        # The positive root of a f^2 + 2 b f + c, without cancellation; b is positive but for jets at wide angles.
        factor = np.where(b > 0, -c / (b + root), (root - b) / a)
    factor = np.where(factor > 0, factor, np.nan)
    stretched = points.copy()
    factor = factor.reshape(factor.shape + (1,) * (points.ndim - 1 - factor.ndim))
    stretched[..., 0] = fixed + factor * (points[..., 0] - fixed)
    return stretched
