"""Classifier refinement of a trained generator as a command."""

from __future__ import annotations

from fastsim.generators.refinement.commands import Refine, run_refine

__all__ = ["Refine", "run_refine"]
