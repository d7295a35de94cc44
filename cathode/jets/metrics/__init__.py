"""How far generated jets are from real ones: the metrics of the JetNet library, with its definitions and defaults."""

from __future__ import annotations

from cathode.jets.metrics.bootstrap import Bootstrapped
from cathode.jets.metrics.coverage import CoverageMMD, cov_mmd
from cathode.jets.metrics.fpnd import fpnd
from cathode.jets.metrics.physics import jet_fpd, jet_kpd, physics_features
from cathode.jets.metrics.transport import emd
from cathode.jets.metrics.wasserstein import relative_mass, w1_of_features, w1efp, w1m, w1p

__all__ = [
    "Bootstrapped",
    "CoverageMMD",
    "cov_mmd",
    "emd",
    "fpnd",
    "jet_fpd",
    "jet_kpd",
    "physics_features",
    "relative_mass",
    "w1_of_features",
    "w1efp",
    "w1m",
    "w1p",
]
