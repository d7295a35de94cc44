"""Constituents on a lattice: detectors put neutral objects at the centres of their cells.

A density of positions cannot have atoms.  Points at centres of cells are flagged; a model that knows the position of
the jet axis within its cell knows where the centres are, learns how probable each cell is and puts points back to
centres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cathode.support.errors import UserError

__all__ = ["Cells"]


@dataclass(frozen=True)
class Cells:
    """A square lattice in eta and phi.

    Args:
        pitch: Size of a cell.
        offset: Centre of one of the cells, in eta and phi alike.
        tolerance: Points nearer to a centre, in both directions, count as on the lattice.  Files may be rounded: the
            tolerance grows in proportion to coordinates beyond 1.

    Raises:
        UserError: A pitch that is not positive, or a tolerance that covers a cell.
    """

    pitch: float = 0.1
    offset: float = 0.05
    tolerance: float = 3e-4

    def __post_init__(self) -> None:
        if not self.pitch > 0:
            raise UserError(f"cells.pitch: must be positive, got {self.pitch!r}")
        if not 0 < self.tolerance < 0.25 * self.pitch:
            raise UserError(
                f"cells.tolerance: must be positive and below a quarter of the pitch, got {self.tolerance!r}"
            )

    def centre(self, coordinate: NDArray[np.float64]) -> NDArray[np.float64]:
        """Centre of the cell of each eta or phi, same shape."""
        return np.round((coordinate - self.offset) / self.pitch) * self.pitch + self.offset

    def on_lattice(self, eta: NDArray[np.float64], phi: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which points are at a centre, same shape."""

        def near(x: NDArray[np.float64]) -> NDArray[np.bool_]:
            return np.abs(x - self.centre(x)) < self.tolerance * np.maximum(1.0, np.abs(x))

        eta, phi = np.asarray(eta, dtype=np.float64), np.asarray(phi, dtype=np.float64)
        return near(eta) & near(phi)

    def phase(self, axis: NDArray[np.float64]) -> NDArray[np.float64]:
        """Position of jet axes (eta, phi) ``(N, 2)`` relative to the centre of their cell, in +- half a pitch."""
        axis = np.asarray(axis, dtype=np.float64)
        return axis - self.centre(axis)

    def snap(self, relative: NDArray[np.float64], axis: NDArray[np.float64]) -> NDArray[np.float64]:
        """Relative positions ``(N, P, 2)`` moved to the centres of their cells; ``axis (N, 2)`` is eta and phi.

        Azimuths are not wrapped: the lattice is taken to go on beyond pi, where a real one may have a seam.
        """
        phase = self.phase(axis)[:, None, :]
        return np.round((relative + phase) / self.pitch) * self.pitch - phase
