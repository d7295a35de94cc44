"""Judging generated jets: every metric with the value that truth has against truth, in one frozen result."""

from __future__ import annotations

from cathode.jets.evaluation.pipeline import evaluate_jets
from cathode.jets.evaluation.results import JetsEvaluation
from cathode.jets.evaluation.settings import JetsEvaluationSettings

__all__ = ["JetsEvaluation", "JetsEvaluationSettings", "evaluate_jets"]
