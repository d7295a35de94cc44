"""Generators of jets as sets of constituents, built from the density core."""

from __future__ import annotations

from cathode.jets.generators.cells import Cells
from cathode.jets.generators.generate import (
    Conditions,
    GeneratedJets,
    conditions_like,
    drawn_conditions,
    generate,
    generate_chunks,
)
from cathode.jets.generators.generator import JetGenerator, load_generator, save_generator
from cathode.jets.generators.settings import JetGeneratorSettings
from cathode.jets.generators.train import TrainedGenerator, fit_generator, learn_from

__all__ = [
    "Cells",
    "Conditions",
    "GeneratedJets",
    "JetGenerator",
    "JetGeneratorSettings",
    "TrainedGenerator",
    "conditions_like",
    "drawn_conditions",
    "fit_generator",
    "generate",
    "generate_chunks",
    "learn_from",
    "load_generator",
    "save_generator",
]
