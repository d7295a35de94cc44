"""Coordinates of jets and constituents."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cathode.jets.clustering import four_momenta, invariant_mass, pseudorapidity

__all__ = ["jet_axis", "massless_momenta", "momenta_axis", "wrap_phi"]

Floats = NDArray[np.float64]


def wrap_phi(phi: ArrayLike) -> Floats:
    """Angles in [-pi, pi); values that are there already keep every bit."""
    phi = np.array(phi, dtype=np.float64)
    inside = (phi >= -np.pi) & (phi < np.pi)
    if inside.all():
        return phi
    # Rounding can bring the remainder of a tiny negative number to 2 pi itself.
    wrapped = np.minimum(np.mod(phi + np.pi, 2 * np.pi) - np.pi, np.nextafter(np.pi, 0))
    return np.where(inside, phi, wrapped)


def massless_momenta(points: NDArray[np.floating]) -> Floats:
    """``(..., 4)`` px, py, pz, E [GeV] of ``points (..., 3)`` pT [GeV], eta, phi; padding (pT 0) is zero."""
    return four_momenta(np.asarray(points, dtype=np.float64))


def momenta_axis(momenta: Floats) -> Floats:
    """``(..., 4)`` pT [GeV], pseudorapidity, phi, mass [GeV] of momenta px, py, pz, E; zeros for a null momentum.

    A mass squared that rounding makes negative gives mass zero.
    """
    pt = np.hypot(momenta[..., 0], momenta[..., 1])
    phi = wrap_phi(np.arctan2(momenta[..., 1], momenta[..., 0]))
    return np.stack([pt, pseudorapidity(momenta), phi, np.maximum(invariant_mass(momenta), 0.0)], axis=-1)


def jet_axis(points: NDArray[np.floating]) -> Floats:
    """``(..., 4)`` pT, pseudorapidity, phi, mass of the E-scheme sum of massless ``points (..., P, 3)``."""
    return momenta_axis(massless_momenta(points).sum(axis=-2))
