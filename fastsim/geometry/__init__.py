"""Layouts of calorimeters: binning files, regular grids, tables of cells."""

from fastsim.geometry.geometry import PARTICLES, Geometry
from fastsim.geometry.names import NAMES, geometries_with, geometry
from fastsim.geometry.xml import write_xml

__all__ = ["NAMES", "PARTICLES", "Geometry", "geometries_with", "geometry", "write_xml"]
