"""Substructure of jets: one number per jet and name, computed from the constituents in blocks of bounded memory."""

from __future__ import annotations

from cathode.jets.observables.correlators import energy_correlators, narrow_correlators
from cathode.jets.observables.dijets import DIJET_OBSERVABLES, dijet_observables
from cathode.jets.observables.efps import Graph, connected_graphs, efps, graphs, w1efp_graphs
from cathode.jets.observables.groomed import soft_drop
from cathode.jets.observables.shapes import angularity, kinematics, shapes
from cathode.jets.observables.subjets import Subjets, subjets
from cathode.jets.observables.table import DEFAULT_OBSERVABLES, OBSERVABLES, Observable, observables

__all__ = [
    "DEFAULT_OBSERVABLES",
    "DIJET_OBSERVABLES",
    "OBSERVABLES",
    "Graph",
    "Observable",
    "Subjets",
    "angularity",
    "connected_graphs",
    "dijet_observables",
    "efps",
    "energy_correlators",
    "graphs",
    "kinematics",
    "narrow_correlators",
    "observables",
    "shapes",
    "soft_drop",
    "subjets",
    "w1efp_graphs",
]
