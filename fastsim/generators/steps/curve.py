"""Quality against steps of a shower generator: solvers of its shape stage, and distilled students of it.

Few-step sampling is a choice between speed and quality that should be measured: :func:`steps_curve` generates the same
showers with every choice and compares them with a reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from torch import Tensor

from cathode.comparison.c2st import c2st
from cathode.comparison.distances import sliced_wasserstein
from cathode.density.distillation import StepQuality, at_steps, evaluations, has_steps, measure_quality
from cathode.support.errors import UserError
from cathode.support.progress import progress
from fastsim.data import Showers
from fastsim.evaluation.features import high_level_features, low_level_features
from fastsim.generators.distill import with_shape_stage
from fastsim.generators.generate import check_incident
from fastsim.generators.generator import ShowerGenerator

__all__ = ["METRICS", "Metric", "steps_curve", "with_steps"]

Metric = Literal["wasserstein", "auc-high", "auc-low"]
METRICS = ("wasserstein", "auc-high", "auc-low")


def with_steps(generator: ShowerGenerator, steps: int, *, solver: str | None = None) -> ShowerGenerator:
    """The generator with a shape stage that decodes in ``steps`` steps; the energy stage is as it was.

    Raises:
        UserError: The shape stage has no steps to choose.
    """
    return with_shape_stage(generator, at_steps(generator.shape_stage, steps, solver=solver))


def steps_curve(
    generator: ShowerGenerator,
    reference: Showers,
    *,
    students: Mapping[str, ShowerGenerator] | None = None,
    metric: Metric = "wasserstein",
    solvers: Sequence[str] = ("euler", "midpoint", "rk4"),
    teacher_steps: Sequence[int] = (2, 4, 8, 16),
    student_steps: Sequence[int] = (1, 2, 4),
    seed: int = 0,
    batch_size: int = 1000,
    repeats: int = 2,
) -> list[StepQuality]:
    """Time per shower and distance to the reference for every choice of solver and steps, and for the students.

    Args:
        generator: With a flow matching or EDM as its shape stage, or one without steps, which is measured once.
        reference: Showers whose incident energies are repeated and which the distance is to.
        students: Name -> generator with a distilled shape stage.
        metric: ``wasserstein``: sliced Wasserstein distance of the high-level vector; ``auc-high`` and ``auc-low``:
            AUC of cross-fitted boosted trees on the high-level or low-level vector, which takes longer.
        solvers: Methods of the shape stage.
        teacher_steps: Their steps.
        student_steps: Steps of the students.
        seed: Of noise and classifiers.
        batch_size: Showers decoded at once.
        repeats: Measurements of the time, of which the shortest is kept.

    Raises:
        UserError: Reference showers that do not fit the generator, unknown metrics, solvers or steps.
    """
    if reference.geometry.n_voxels != generator.geometry.n_voxels:
        raise UserError(
            f"the reference has {reference.geometry.n_voxels} voxels, the generator {generator.geometry.n_voxels}"
        )
    context = check_incident(generator, reference.incident_energy, reference.conditions)
    distance = _distance(reference, metric, threshold=generator.threshold, seed=seed)

    common: dict[str, Any] = {"context": context, "seed": seed, "repeats": repeats, "chunk": batch_size}
    candidates: list[tuple[str, str, int | None, ShowerGenerator]] = []
    if has_steps(generator.shape_stage):
        candidates += [("teacher", solver, count, generator) for solver in solvers for count in teacher_steps]
    else:
        candidates.append(("teacher", "", None, generator))
    for name, student in (students or {}).items():
        choices = student_steps if has_steps(student.shape_stage) else [None]
        candidates += [(name, "", count, student) for count in choices]
    rows = []
    for name, solver, count, candidate in progress(candidates, description="steps", total=len(candidates)):
        chosen = candidate if count is None else with_steps(candidate, count, solver=solver or None)
        row = measure_quality(chosen, distance, name=name, solver=solver, steps=count or 1, **common)
        # The energy stage may have steps of its own, which do not change along the curve.
        rows.append(replace(row, evaluations=evaluations(chosen.shape_stage)))
    return rows


def _distance(reference: Showers, metric: str, *, threshold: float, seed: int) -> Callable[[Tensor], float]:
    if metric not in METRICS:
        raise UserError(f"unknown metric {metric!r}; known: {', '.join(METRICS)}")

    def vector(showers: Showers) -> np.ndarray:
        if metric == "auc-low":
            return low_level_features(showers, normed=True, threshold=threshold)
        return high_level_features(showers, threshold=threshold)[0]

    expected = vector(reference)

    def distance(energies: Tensor) -> float:
        showers = Showers.unchecked(
            reference.incident_energy,
            energies.float().cpu().numpy(),
            reference.geometry,
            reference.conditions,
            reference.condition_names,
        )
        found = vector(showers)
        if metric == "wasserstein":
            return sliced_wasserstein(found, expected, seed=seed)
        return c2st(expected, found, seed=seed).auc

    return distance
