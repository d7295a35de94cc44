"""Generators in other programs: files with the inputs that simulation frameworks give, INT8, timing.

* :mod:`fastsim.deployment.contracts`: what Geant4 Par04, DDML and ATLAS FastCaloSim hand in and expect back;
* :mod:`fastsim.deployment.export`: a generator and a contract to a verified file with its description beside it;
* :mod:`fastsim.deployment.agreement`: are the showers of a file those of the generator;
* :mod:`fastsim.deployment.quantisation`: INT8 weights, and what they cost in quality;
* :mod:`fastsim.deployment.latency`: milliseconds per shower of each backend.
"""

from __future__ import annotations

from fastsim.deployment.agreement import Agreement, agreement
from fastsim.deployment.contracts import CONTRACTS, Contract, make_contract
from fastsim.deployment.export import Exported, export_generator, inputs_of
from fastsim.deployment.latency import Latency, LatencySettings, measure_latency
from fastsim.deployment.quality import QualityLoss, quality_loss
from fastsim.deployment.quantisation import Quantised, quantise

__all__ = [
    "CONTRACTS",
    "Agreement",
    "Contract",
    "Exported",
    "Latency",
    "LatencySettings",
    "QualityLoss",
    "Quantised",
    "agreement",
    "export_generator",
    "inputs_of",
    "make_contract",
    "measure_latency",
    "quality_loss",
    "quantise",
]
