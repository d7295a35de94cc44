"""The calorimeter that is simulated, and how its deposits become voxels.  No Geant4 in here."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cathode.support.errors import UserError
from fastsim.geometry import Geometry

__all__ = ["SamplingCalorimeter", "Slab", "layer_of_slab", "voxelise"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Slab:
    """One plate: ``z_front`` to ``z_back`` [mm] of a material; ``number`` counts the pairs of plates."""

    material: str
    sensitive: bool
    number: int
    z_front: float
    z_back: float


@dataclass(frozen=True)
class SamplingCalorimeter:
    """A stack of plates across the z axis from z = 0, absorber in front of sensitive material.

    Args:
        absorber: Material of the absorber, by its name in Geant4's NIST database (``G4_Pb``, ``G4_W``, ``G4_PbWO4``).
        sensitive: Material whose deposits are read (``G4_Si``, ``G4_lAr``, ``G4_PbWO4``).
        absorber_mm: Thickness of an absorber plate [mm]; 0 for a homogeneous calorimeter.
        sensitive_mm: Thickness of a sensitive plate [mm].
        slabs: Number of pairs of plates.
        half_width_mm: Half of the extent in x and y [mm].
        slabs_per_layer: How many pairs belong to each layer of the geometry; None shares them equally.

    Raises:
        UserError: Lengths or counts that are not positive, or pairs that do not add up.
    """

    absorber: str
    sensitive: str
    absorber_mm: float
    sensitive_mm: float
    slabs: int
    half_width_mm: float = 2000.0
    slabs_per_layer: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        lengths = (self.absorber_mm, self.sensitive_mm, self.half_width_mm)
        if not all(math.isfinite(length) for length in lengths) or min(self.sensitive_mm, self.half_width_mm) <= 0:
            raise UserError(f"sensitive_mm and half_width_mm must be positive, got {lengths[1:]}")
        if self.absorber_mm < 0 or self.slabs < 1:
            raise UserError(
                f"absorber_mm must be at least 0 and slabs at least 1, got {self.absorber_mm}, {self.slabs}"
            )
        per_layer = self.slabs_per_layer
        if per_layer is not None and (min(per_layer, default=0) < 1 or sum(per_layer) != self.slabs):
            raise UserError(f"slabs_per_layer {list(per_layer)} must be positive and add up to {self.slabs} slabs")

    @property
    def depth_mm(self) -> float:
        """Length of the stack [mm]."""
        return self.slabs * (self.absorber_mm + self.sensitive_mm)

    def plates(self) -> list[Slab]:
        """All plates from front to back."""
        plates = []
        for number in range(self.slabs):
            front = number * (self.absorber_mm + self.sensitive_mm)
            middle = front + self.absorber_mm
            if self.absorber_mm > 0:
                plates.append(Slab(self.absorber, False, number, front, middle))
            plates.append(Slab(self.sensitive, True, number, middle, middle + self.sensitive_mm))
        return plates

    def with_depths(self, geometry: Geometry) -> Geometry:
        """The geometry with the front and back of each layer in this stack [mm]."""
        layer = layer_of_slab(self, geometry)
        pair = self.absorber_mm + self.sensitive_mm
        numbers = [np.flatnonzero(layer == index) for index in range(geometry.n_layers)]
        return geometry.with_depths([(float(n[0] * pair), float((n[-1] + 1) * pair)) for n in numbers])


def layer_of_slab(calorimeter: SamplingCalorimeter, geometry: Geometry) -> Ints:
    """Index of the geometry's layer for each pair of plates, ``(slabs,)``.

    Raises:
        UserError: The pairs cannot be shared out.
    """
    counts = calorimeter.slabs_per_layer
    if counts is None:
        each, rest = divmod(calorimeter.slabs, geometry.n_layers)
        if rest or not each:
            raise UserError(
                f"{calorimeter.slabs} slabs cannot be shared equally by the {geometry.n_layers} layers of geometry "
                f"{geometry.name!r}: give slabs_per_layer"
            )
        counts = (each,) * geometry.n_layers
    if len(counts) != geometry.n_layers:
        raise UserError(
            f"slabs_per_layer has {len(counts)} entries for the {geometry.n_layers} layers of {geometry.name!r}"
        )
    return np.repeat(np.arange(geometry.n_layers), counts)


def voxelise(
    slab: Ints, x: Floats, y: Floats, energy: Floats, calorimeter: SamplingCalorimeter, geometry: Geometry
) -> tuple[Floats, float]:
    """Deposits of one shower in the sensitive plates, summed into voxels.

    Args:
        slab: Number of the pair of plates, ``(M,)``.
        x: Position [mm], ``(M,)``.
        y: Position [mm], ``(M,)``.
        energy: Deposited energy [MeV], ``(M,)``.
        calorimeter: The stack.
        geometry: The voxels.

    Returns:
        Energies ``(V,)`` and what was deposited outside all voxels [MeV].
    """
    voxel = geometry.find(layer_of_slab(calorimeter, geometry)[slab], x, y)
    inside = voxel >= 0
    sums = np.zeros(geometry.n_voxels)
    np.add.at(sums, voxel[inside], energy[inside])
    return sums, float(energy[~inside].sum())
