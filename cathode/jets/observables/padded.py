"""Padded constituents as double-precision columns, in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cathode.jets.schema import Jets

__all__ = ["Padded", "angles", "blocks", "padded", "quotient"]

Floats = NDArray[np.float64]

# One matrix per pair of constituents, for all jets of a block: a few of them fit into the processor's cache.
_BLOCK_BYTES = 4 << 20
_LARGEST_BLOCK = 4096


@dataclass(frozen=True)
class Padded:
    """Constituents of a block of jets; padding has weight 0 and sits at the origin.

    Attributes:
        z: Weights ``(B, P)``: transverse momenta, in GeV or relative to the jet.
        eta: Rapidities ``(B, P)``; of massless constituents these are pseudorapidities.
        phi: Azimuths ``(B, P)``.
        mask: ``(B, P)``, True where there is a constituent.
    """

    z: Floats
    eta: Floats
    phi: Floats
    mask: NDArray[np.bool_]

    def fractions(self) -> Floats:
        """Weights ``(B, P)`` that sum to 1; zeros for an empty jet."""
        return quotient(self.z, self.z.sum(axis=1, keepdims=True))


def padded(points: NDArray[Any]) -> Padded:
    """``points (B, P, 3)`` pT, eta, phi as columns; a constituent is what has positive pT."""
    values = np.asarray(points, dtype=np.float64)
    mask = values[..., 0] > 0
    z, eta, phi = (np.where(mask, values[..., k], 0.0) for k in range(3))
    return Padded(z, eta, phi, mask)


def blocks(jets: Jets | NDArray[Any]) -> Iterator[slice]:
    """Rows in blocks whose matrices of pairs have bounded size, whatever the number of slots."""
    points = jets if isinstance(jets, np.ndarray) else jets.points
    rows, width = points.shape[:2]
    size = int(np.clip(_BLOCK_BYTES // (8 * max(width, 1) ** 2), 1, _LARGEST_BLOCK))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def angles(block: Padded) -> Floats:
    """Distances ``(B, P, P)`` in rapidity and azimuth of all pairs of constituents."""
    turn = np.mod(block.phi, 2 * np.pi)
    distance = turn[:, :, None] - turn[:, None, :]
    np.abs(distance, out=distance)
    np.minimum(distance, 2 * np.pi - distance, out=distance)
    np.square(distance, out=distance)
    delta_eta = block.eta[:, :, None] - block.eta[:, None, :]
    distance += np.square(delta_eta, out=delta_eta)
    return np.sqrt(distance, out=distance)


def quotient(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """Ratio, 0 where the denominator is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(numerator, dtype=np.float64), denominator)
    return np.divide(top, bottom, out=np.zeros(top.shape), where=bottom != 0)
