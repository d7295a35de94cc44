"""Where and in which direction showers enter the calorimeter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cathode.support.errors import UserError
from fastsim.data.showers import Showers

__all__ = ["CONDITION_NAMES", "Beam"]

Array = npt.NDArray[np.float64]

#: Momentum [MeV] and impact point on the face [mm]; z points into the calorimeter.
CONDITION_NAMES = ("px", "py", "pz", "x", "y")


@dataclass(frozen=True)
class Beam:
    """Impact points ``position`` (N, 2) [mm] on the face z = 0 and unit vectors ``direction`` (N, 3)."""

    position: Array
    direction: Array

    def __post_init__(self) -> None:
        position, direction = np.asarray(self.position, dtype=float), np.asarray(self.direction, dtype=float)
        if position.ndim != 2 or position.shape[1] != 2 or direction.shape != (len(position), 3):
            raise UserError(
                f"a beam needs positions (N, 2) and directions (N, 3), got {position.shape} and {direction.shape}"
            )
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        if not (np.isfinite(position).all() and np.isfinite(direction).all() and (length > 0).all()):
            raise UserError("positions and directions of a beam must be finite, and directions not zero")
        direction = direction / length
        # Half: steps are laid out for paths of up to twice the depth.
        flat = int((direction[:, 2] < 0.5).sum())
        if flat:
            raise UserError(
                f"{flat} directions are more than 60 degrees from the calorimeter axis: check the order px, py, pz"
            )
        object.__setattr__(self, "position", position)
        object.__setattr__(self, "direction", direction)

    @classmethod
    def from_conditions(cls, conditions: npt.ArrayLike, names: tuple[str, ...]) -> Beam:
        """The beam of conditions named px, py, pz, x, y.

        Raises:
            UserError: One of them is missing.
        """
        missing = [name for name in CONDITION_NAMES if name not in names]
        if missing:
            raise UserError(f"simulating these conditions needs {', '.join(CONDITION_NAMES)}; missing: {missing}")
        values = np.asarray(conditions, dtype=float)[:, [names.index(name) for name in CONDITION_NAMES]]
        return cls(values[:, 3:], values[:, :3])

    @classmethod
    def of(cls, showers: Showers) -> Beam | None:
        """The beam of recorded showers; None when they have no conditions."""
        if showers.conditions is None:
            return None
        return cls.from_conditions(showers.conditions, showers.condition_names)

    def conditions(self, energy_mev: Array) -> npt.NDArray[np.float32]:
        """px, py, pz [MeV] of massless particles, x, y [mm]; (N, 5)."""
        return np.concatenate([self.direction * energy_mev[:, None], self.position], axis=1).astype(np.float32)

    def rows(self, rows: slice) -> Beam:
        return Beam(self.position[rows], self.direction[rows])

    def frames(self) -> tuple[Array, Array]:
        """Two unit vectors (N, 3) across each direction."""
        z = np.zeros_like(self.direction)
        z[:, 0] = 1.0
        first = np.cross(self.direction, z)
        steep = np.linalg.norm(first, axis=1) < 0.1
        if steep.any():
            first[steep] = np.cross(self.direction[steep], [0.0, 1.0, 0.0])
        first /= np.linalg.norm(first, axis=1, keepdims=True)
        return first, np.cross(self.direction, first)
