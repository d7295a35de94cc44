"""Showers in memory: incident energies, voxel energies, and the geometry that says where each voxel is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cathode.support.errors import UserError
from fastsim.data.plausibility import check_axes, check_units, check_values
from fastsim.geometry import Geometry, geometries_with

__all__ = ["Showers"]

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Showers:
    """``N`` showers in one geometry.

    Args:
        incident_energy: Energy of the incident particle [MeV], ``(N, 1)`` (or ``(N,)``).
        energies: Energy of each voxel [MeV], ``(N, V)``, r fastest, then alpha, then layer.
        geometry: Layout of the ``V`` voxels.
        conditions: Further conditions, ``(N, K)``; None when there are none.
        condition_names: Their ``K`` names.

    Floats of any width are accepted and kept as float32.

    Raises:
        UserError: Shapes that do not fit the geometry or each other, NaN or negative energies, energies in GeV, or
            voxels in another axis order.
    """

    incident_energy: Floats
    energies: Floats
    geometry: Geometry
    conditions: Floats | None = None
    condition_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        incident, energies = (
            _floats(self.incident_energy, "incident energies"),
            _floats(self.energies, "voxel energies"),
        )
        if incident.ndim == 1:
            incident = incident[:, None]
        if incident.ndim != 2 or incident.shape[1] != 1:
            raise UserError(f"incident energies must have shape (N, 1), got {incident.shape}")
        if energies.ndim != 2 or energies.shape[1] != self.geometry.n_voxels:
            raise UserError(voxel_mismatch(energies.shape, self.geometry))
        conditions = None if self.conditions is None else _floats(self.conditions, "conditions")
        names = tuple(self.condition_names)
        if conditions is not None and conditions.ndim != 2:
            raise UserError(f"conditions must have shape (N, K), got {conditions.shape}")
        columns = 0 if conditions is None else conditions.shape[1]
        if len(names) != columns or len(set(names)) < len(names):
            raise UserError(f"{columns} conditions need as many different names, got {list(names)}")
        for what, array in (("voxel energies", energies), ("conditions", conditions)):
            if array is not None and len(array) != len(incident):
                raise UserError(f"{len(incident)} incident energies but {len(array)} rows of {what}")
        self._set(incident, energies, conditions, names)
        check_values(incident, energies, conditions)
        check_units(incident, energies)
        check_axes(incident, energies, self.geometry)

    @classmethod
    def unchecked(
        cls,
        incident_energy: Floats,
        energies: Floats,
        geometry: Geometry,
        conditions: Floats | None = None,
        condition_names: tuple[str, ...] = (),
    ) -> Showers:
        """The same from float32 arrays of the right shapes, without looking at the values."""
        self = object.__new__(cls)
        object.__setattr__(self, "geometry", geometry)
        self._set(incident_energy, energies, conditions, condition_names)
        return self

    def __len__(self) -> int:
        return len(self.energies)

    def __getitem__(self, rows: slice | Sequence[int] | NDArray[Any]) -> Showers:
        """The given rows: a slice, indices or a boolean mask ``(N,)``."""
        if isinstance(rows, (int, np.integer)):
            rows = slice(int(rows), int(rows) + 1 or None)
        conditions = None if self.conditions is None else self.conditions[rows]
        return Showers.unchecked(
            self.incident_energy[rows], self.energies[rows], self.geometry, conditions, self.condition_names
        )

    def cut(self, threshold: float) -> Showers:
        """The same with energies below ``threshold`` [MeV] set to 0."""
        energies = np.where(self.energies < np.float32(threshold), np.float32(0), self.energies)
        return Showers.unchecked(self.incident_energy, energies, self.geometry, self.conditions, self.condition_names)

    def layer_energies(self) -> Floats:
        """Energy of each layer [MeV], ``(N, L)``, summed in float64."""
        sums = [self.energies[:, part].sum(1, dtype=np.float64) for part in self.geometry.slices]
        return np.stack(sums, 1).astype(np.float32)

    def total_energies(self) -> Floats:
        """Energy of each shower [MeV], ``(N,)``, summed in float64."""
        return self.energies.sum(1, dtype=np.float64).astype(np.float32)

    def context(self) -> Floats:
        """Incident energy [MeV] and the conditions side by side, ``(N, 1 + K)``: what a generator is conditioned on."""
        if self.conditions is None:
            return self.incident_energy
        return np.concatenate([self.incident_energy, self.conditions], 1)

    @classmethod
    def concatenate(cls, parts: Sequence[Showers]) -> Showers:
        """One after the other.

        Raises:
            UserError: No parts, different geometries or different conditions.
        """
        if not parts:
            raise UserError("there are no showers to concatenate")
        first = parts[0]
        for part in parts[1:]:
            if part.geometry != first.geometry:
                raise UserError(f"showers of geometries {first.geometry.name!r} and {part.geometry.name!r} do not mix")
            if part.condition_names != first.condition_names:
                raise UserError(
                    f"showers with conditions {list(first.condition_names)} and {list(part.condition_names)} do not mix"
                )
        conditions = None
        if first.conditions is not None:
            conditions = np.concatenate([part.conditions for part in parts if part.conditions is not None])
        return cls.unchecked(
            np.concatenate([part.incident_energy for part in parts]),
            np.concatenate([part.energies for part in parts]),
            first.geometry,
            conditions,
            first.condition_names,
        )

    def __repr__(self) -> str:
        return f"Showers({len(self)} in {self.geometry!r}, conditions {list(self.condition_names)})"

    def _set(self, incident: Floats, energies: Floats, conditions: Floats | None, names: tuple[str, ...]) -> None:
        object.__setattr__(self, "incident_energy", incident)
        object.__setattr__(self, "energies", energies)
        object.__setattr__(self, "conditions", conditions)
        object.__setattr__(self, "condition_names", names)


def voxel_mismatch(shape: tuple[int, ...], geometry: Geometry) -> str:
    """One line about showers of a shape that ``geometry`` does not have."""
    expected = f"geometry {geometry.name!r} needs (N, {geometry.n_voxels})"
    if len(shape) != 2:
        return f"voxel energies have shape {tuple(shape)}; {expected}"
    fitting = geometries_with(shape[1])
    hint = f"{', '.join(fitting)} would fit" if fitting else "no known geometry has that many voxels"
    return f"showers have {shape[1]} voxels but {expected}; {hint}"


def _floats(values: Any, what: str) -> Floats:
    array = np.asarray(values)
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise UserError(f"{what} must be numbers, got {array.dtype}")
    return array.astype(np.float32, copy=False)
