"""Geometries that have a name."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path

from cathode.support.errors import UserError
from fastsim.geometry.geometry import PARTICLES, Geometry
from fastsim.geometry.layers import CartesianLayer

__all__ = ["NAMES", "geometry", "geometries_with"]


def _shipped(name: str) -> Geometry:
    return Geometry.from_xml(Path(str(files("fastsim.geometry"))) / "binnings" / f"{name}.xml", name=name)


def _calogan() -> Geometry:
    """Three layers of 3 x 96, 12 x 12 and 12 x 6 cells on 480 x 480 mm (arXiv 1712.10321, table 1)."""

    def edges(count: int) -> tuple[float, ...]:
        return tuple(480.0 * i / count - 240.0 for i in range(count + 1))

    divisions = ((3, 96), (12, 12), (12, 6))
    layers = tuple(CartesianLayer(i, edges(fast), edges(slow)) for i, (slow, fast) in enumerate(divisions))
    return Geometry("calogan", None, layers, ((0.0, 90.0), (90.0, 437.0), (437.0, 480.0)))


#: Builder of each named geometry.
NAMES: dict[str, Callable[[], Geometry]] = {
    "ds1-photons": lambda: _shipped("ds1-photons"),
    "ds1-pions": lambda: _shipped("ds1-pions"),
    "ds2": lambda: _shipped("ds2"),
    "ds3": lambda: _shipped("ds3"),
    "calogan": _calogan,
    "grid-24x24x24": lambda: Geometry.from_grid((24, 24, 24), cell=10.0, particle="electron"),
    # Its files have x as the slow index.
    "image-30x30": lambda: Geometry.from_grid((30, 30), cell=20.0, fast="y", particle="electron", name="image-30x30"),
}


@cache
def _named(name: str) -> Geometry:
    return NAMES[name]()


def geometry(name: str | Path | Geometry) -> Geometry:
    """A named geometry, or one from a binning file.

    Args:
        name: A name of :data:`NAMES` (``ds1-photons``, ``ds1-pions``, ``ds2``, ``ds3``, ``calogan``, ``grid-24x24x24``,
            ``image-30x30``), ``FILE.xml`` or ``FILE.xml:PARTICLE``.  A Geometry is returned as it is.

    Raises:
        UserError: No such name or file, or the file is unusable.
    """
    if isinstance(name, Geometry):
        return name
    text = str(name)
    if text in NAMES:
        return _named(text)
    path, _, particle = text.partition(".xml:")
    if particle:
        if particle not in PARTICLES:
            raise UserError(f"unknown particle {particle!r} in {text!r}; expected one of {', '.join(PARTICLES)}")
        return Geometry.from_xml(path + ".xml", particle)
    if text.endswith(".xml"):
        return Geometry.from_xml(text)
    raise UserError(f"unknown geometry {text!r}; give one of {', '.join(NAMES)}, or a binning file FILE.xml[:PARTICLE]")


def geometries_with(n_voxels: int) -> tuple[str, ...]:
    """Names of the known geometries with that many voxels."""
    return tuple(name for name in NAMES if _named(name).n_voxels == n_voxels)
