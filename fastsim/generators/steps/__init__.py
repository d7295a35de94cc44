"""Quality against steps of a shower generator."""

from __future__ import annotations

from fastsim.generators.steps.curve import METRICS, Metric, steps_curve, with_steps

__all__ = ["METRICS", "Metric", "steps_curve", "with_steps"]
