"""A recipe for full simulation with Geant4, for those who have its data; README.md in this folder says how.

Needs the extra ``geant4`` (the package ``geant4-pybind``) and Geant4's data files, which no package brings.
"""

from __future__ import annotations

from fastsim.data.geant4.calorimeter import SamplingCalorimeter
from fastsim.data.geant4.installation import check_installation
from fastsim.data.geant4.simulation import Geant4Simulation

__all__ = ["Geant4Simulation", "SamplingCalorimeter", "check_installation"]
