"""Showers as clouds of points: each voxel with energy is a point (x, y, depth, energy)."""

from fastsim.generators.points.density import LayerCounts, PointShowers
from fastsim.generators.points.grid import PointGrid
from fastsim.generators.points.settings import PointsShape

__all__ = ["LayerCounts", "PointGrid", "PointShowers", "PointsShape"]
