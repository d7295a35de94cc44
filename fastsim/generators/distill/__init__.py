"""Students of trained shower generators that decode in one or a few network evaluations."""

from __future__ import annotations

from fastsim.generators.distill.shape import (
    Distilled,
    DistillSettings,
    distil_shape,
    distill,
    milliseconds_per_shower,
    with_shape_stage,
)

__all__ = ["DistillSettings", "Distilled", "distil_shape", "distill", "milliseconds_per_shower", "with_shape_stage"]
