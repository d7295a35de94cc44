"""Parametrised electromagnetic showers after Grindhammer and Peters (GFlash), hep-ex/0001020.

Demo and test data with known means, and the classical baseline of every generator: gamma-distributed longitudinal
profiles with correlated fluctuations, core-and-tail radial profiles, and energy spots, in any geometry.
"""

from fastsim.data.gflash.beam import Beam
from fastsim.data.gflash.calibration import Calibration, Deviations, calibrate
from fastsim.data.gflash.calorimeter import Calorimeter, Tuning
from fastsim.data.gflash.expected import expected_containment, expected_layer_energies, expected_profile
from fastsim.data.gflash.medium import Medium, Substance, homogeneous, sampling
from fastsim.data.gflash.presets import PRESETS, calorimeter_for, preset
from fastsim.data.gflash.simulator import simulate, simulate_chunks

__all__ = [
    "PRESETS",
    "Beam",
    "Calibration",
    "Calorimeter",
    "Deviations",
    "Medium",
    "Substance",
    "Tuning",
    "calibrate",
    "calorimeter_for",
    "expected_containment",
    "expected_layer_energies",
    "expected_profile",
    "homogeneous",
    "preset",
    "sampling",
    "simulate",
    "simulate_chunks",
]
