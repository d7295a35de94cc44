"""Calorimeters with a name."""

from __future__ import annotations

from collections.abc import Callable

from cathode.support.errors import UserError
from fastsim.data.gflash.calorimeter import Calorimeter
from fastsim.data.gflash.medium import (
    LEAD_TUNGSTATE,
    LIQUID_ARGON,
    SILICON,
    TUNGSTEN,
    Medium,
    homogeneous,
    sampling,
)
from fastsim.geometry import Geometry

__all__ = ["PRESETS", "calorimeter_for", "preset"]

# Absorber, gap [mm] and number of cells of the PbWO4/LAr stack that all shipped full simulation was made with.
_STACK_MM = (4.5, 3.0)
_STACK_CELLS = 50
# Its cells in each of the five layers of ds1-photons.
_DS1_CELLS = (1, 5, 36, 4, 4)
# Where the layers end that its 50 cells are grouped into is inferred from their energies.
# c = 0.108 is the resolution of the shipped photons at 256 MeV.
_STACK_FLUCTUATION = 0.108


def _behind(medium: Medium, cells: tuple[int, ...]) -> tuple[float, ...]:
    """Layer edges [X0] of stacks of ``cells``: half a cell deeper than the metal.

    The gap of a cell lies behind its absorber and stands for the whole cell, so n cells read what a continuous profile
    deposits up to the depth of n + 1/2 cells.
    """
    stops, edges = 0, [0.0]
    for count in cells:
        stops += count
        edges.append((stops + 0.5) * medium.inverse_frequency)
    return tuple(edges)


def _stack(name: str, cells: tuple[int, ...]) -> Calorimeter:
    medium = sampling(LEAD_TUNGSTATE, _STACK_MM[0], LIQUID_ARGON, _STACK_MM[1])
    return Calorimeter(name, medium, _behind(medium, cells), sampling_fluctuation=_STACK_FLUCTUATION)


def _silicon_tungsten() -> Calorimeter:
    """Par04's SiW calorimeter, with which DS2 and DS3 were made: 90 x (1.4 mm W + 0.3 mm Si), two per layer."""
    medium = sampling(TUNGSTEN, 1.4, SILICON, 0.3)
    # A typical value for gaps this thin; the public files can be calibrated to.
    return Calorimeter("siw-45", medium, _behind(medium, (2,) * 45), sampling_fluctuation=0.2)


def _lead_tungstate() -> Calorimeter:
    """A homogeneous block of 24 layers of 1 cm."""
    medium = homogeneous(LEAD_TUNGSTATE)
    edges = tuple(10.0 * index / medium.x0_mm for index in range(25))
    return Calorimeter("pbwo4-24", medium, edges)


#: Builder of each named calorimeter.
PRESETS: dict[str, Callable[[], Calorimeter]] = {
    "pbwo4-lar-5": lambda: _stack("pbwo4-lar-5", _DS1_CELLS),
    "pbwo4-lar-45": lambda: _stack("pbwo4-lar-45", (1,) * 45),
    "pbwo4-lar-1": lambda: _stack("pbwo4-lar-1", (_STACK_CELLS,)),
    "siw-45": _silicon_tungsten,
    "pbwo4-24": _lead_tungstate,
}

# The full simulation that ships in the DS2 layout was made in the PbWO4/LAr stack; the public DS2 and DS3 in SiW.
_DEFAULT = {
    "ds1-photons": "pbwo4-lar-5",
    "ds2": "siw-45",
    "ds3": "siw-45",
    "grid-24x24x24": "pbwo4-24",
    "image-30x30": "pbwo4-lar-1",
}


def preset(name: str) -> Calorimeter:
    """A calorimeter of :data:`PRESETS`.

    Raises:
        UserError: No such preset.
    """
    if name not in PRESETS:
        raise UserError(f"unknown material {name!r}; give one of {', '.join(PRESETS)}")
    return PRESETS[name]()


def calorimeter_for(geometry: Geometry, material: Calorimeter | str | None = None) -> Calorimeter:
    """``material`` itself, the preset it names, or the one that belongs to ``geometry``.

    Raises:
        UserError: No such preset, or none belongs to this geometry.
    """
    if isinstance(material, Calorimeter):
        return material
    if material is not None:
        return preset(material)
    from fastsim.geometry import geometry as named

    for name, calorimeter in _DEFAULT.items():
        if named(name) == geometry:
            return preset(calorimeter)
    raise UserError(
        f"no calorimeter belongs to geometry {geometry.name!r}: give a material with its {geometry.n_layers} layers, "
        f"for example one of {', '.join(PRESETS)}"
    )
