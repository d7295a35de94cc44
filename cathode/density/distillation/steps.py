"""Quality against steps: what each further network evaluation buys, in a teacher's solvers and in its students."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cathode.density.base import ConditionalDensity, sample
from cathode.density.canonical import Canonical
from cathode.density.diffusion import EDM
from cathode.density.distillation.consistency import ConsistencyModel
from cathode.density.distillation.mean_flow import MeanFlow
from cathode.density.matching import FlowMatching
from cathode.density.mixed_matching import MixedMatching
from cathode.density.solvers import ADAPTIVE_METHODS, FIXED_METHODS
from cathode.support.errors import UserError
from cathode.support.progress import progress

__all__ = ["StepQuality", "at_steps", "evaluations", "has_steps", "measure_quality", "quality_against_steps"]

_STAGES = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4}
_STEPPED = (FlowMatching, EDM, MixedMatching, ConsistencyModel, MeanFlow)


@dataclass(frozen=True)
class StepQuality:
    """One point of the curve.

    Attributes:
        name: Which density.
        solver: Of a teacher; empty for a student.
        steps: Steps of the solver, or of the student.
        evaluations: Network evaluations per event; None where the solver adapts.
        seconds_per_event: Least of several measurements of decoding alone.
        distance: What the caller's function said of the events.
    """

    name: str
    solver: str
    steps: int
    evaluations: int | None
    seconds_per_event: float
    distance: float


def at_steps(density: ConditionalDensity, steps: int, *, solver: str | None = None) -> ConditionalDensity:
    """A copy of ``density`` whose teacher or student, however deep inside, decodes in ``steps`` steps.

    Args:
        density: A flow matching, an EDM, a student, or something around exactly such densities.
        steps: Steps of the solver, or evaluations of the student.
        solver: Of flow matching and EDM; theirs is kept without it.

    Raises:
        UserError: Nothing inside has steps, or a solver or number of steps that does not exist.
    """
    result = copy.deepcopy(density)
    found = [module for module in result.modules() if isinstance(module, _STEPPED)]
    if not found:
        raise UserError(f"{type(density).__name__} has no steps to choose: give a flow matching, an EDM or a student")
    if solver is not None and solver not in FIXED_METHODS + ADAPTIVE_METHODS:
        raise UserError(f"unknown solver {solver!r}; known: {', '.join(FIXED_METHODS + ADAPTIVE_METHODS)}")
    for module in found:
        least = 2 if isinstance(module, EDM) else 1
        if steps < least:
            raise UserError(f"{type(module).__name__} needs at least {least} steps, not {steps}")
        module.steps = steps
        if solver is not None and isinstance(module, (FlowMatching, EDM)):
            module.solver = solver
    for outer in reversed(list(result.modules())):
        if isinstance(outer, Canonical):
            outer.measure_noise()  # the steps of a consistency model decide the shape of its noise
    return result


def evaluations(density: ConditionalDensity) -> int | None:
    """Network evaluations per decoded event; None where the solver adapts or the density is of another kind."""
    for module in density.modules():
        if isinstance(getattr(module, "evaluations", None), int):
            return module.evaluations  # type: ignore[return-value]
        if isinstance(module, (ConsistencyModel, MeanFlow)):
            return module.steps
        if isinstance(module, FlowMatching):
            return _STAGES[module.solver] * module.steps if module.solver in _STAGES else None
        if isinstance(module, EDM):
            return _STAGES[module.solver] * (module.steps - 1) + 1 if module.solver in _STAGES else None
    return None


def quality_against_steps(
    teacher: ConditionalDensity | None,
    students: Mapping[str, ConditionalDensity],
    distance: Callable[[Tensor], float],
    *,
    context: Tensor | None = None,
    count: int | None = None,
    mask: Tensor | None = None,
    solvers: Sequence[str] = ("euler", "midpoint", "rk4"),
    teacher_steps: Sequence[int] = (2, 4, 8, 16),
    student_steps: Sequence[int] = (1, 2, 4),
    seed: int = 0,
    repeats: int = 2,
    chunk: int = 16384,
) -> list[StepQuality]:
    """Time and quality of a teacher at several numbers of steps and of its students at few.

    Args:
        teacher: Flow matching or EDM, alone or inside other densities; None measures students only.
        students: Name -> student; one without a choice of steps (a bespoke solver, an inverse flow) is measured once.
        distance: Function of the sampled events, shaped as :func:`cathode.density.base.sample` returns them; smaller is
            better.
        context: ``(B, C)``, one event for each row.
        count: Number of events when there is no context.
        mask: ``(B, P)`` for sets.
        solvers: Fixed-step or adaptive methods; an adaptive one is measured once.
        teacher_steps: Steps of the fixed-step solvers.
        student_steps: Steps of the students.
        seed: Every point draws its noise from this seed.
        repeats: Sampling is repeated so often and the shortest time kept, because other work only adds to it.
        chunk: Events decoded at once.

    Returns:
        Teacher first, in the order of solvers and steps, then the students.

    Raises:
        UserError: Unusable steps, solvers or repeats.
    """
    candidates: list[tuple[str, str, int, ConditionalDensity]] = []
    for solver in solvers if teacher is not None else ():
        assert teacher is not None
        # The number is ignored by adaptive methods, but must be one that the family takes.
        for steps in [2] if solver in ADAPTIVE_METHODS else teacher_steps:
            candidates += [("teacher", solver, steps, at_steps(teacher, steps, solver=solver))]
    for name, student in students.items():
        if has_steps(student):
            candidates += [(name, "", steps, at_steps(student, steps)) for steps in student_steps]
        else:
            candidates += [(name, "", evaluations(student) or 1, student)]
    return [
        measure_quality(
            density,
            distance,
            name=name,
            solver=solver,
            steps=steps,
            context=context,
            count=count,
            mask=mask,
            seed=seed,
            repeats=repeats,
            chunk=chunk,
        )
        for name, solver, steps, density in progress(candidates, description="steps", total=len(candidates))
    ]


def measure_quality(
    density: ConditionalDensity,
    distance: Callable[[Tensor], float],
    *,
    name: str = "",
    solver: str = "",
    steps: int = 1,
    context: Tensor | None = None,
    count: int | None = None,
    mask: Tensor | None = None,
    seed: int = 0,
    repeats: int = 2,
    chunk: int = 16384,
) -> StepQuality:
    """One point of the curve: ``density`` as it is; arguments as :func:`quality_against_steps`.

    Raises:
        UserError: No measurement is asked for.
    """
    if repeats < 1:
        raise UserError(f"repeats is {repeats}; at least one measurement is needed")
    density.eval()
    seconds = []
    for _ in range(repeats):
        generator = torch.Generator().manual_seed(seed)
        began = time.perf_counter()
        events = sample(density, context, count=count, mask=mask, generator=generator, chunk=chunk)
        if events.is_cuda:
            torch.cuda.synchronize(events.device)
        seconds.append(time.perf_counter() - began)
    per_event = min(seconds) / max(len(events), 1)
    return StepQuality(name, solver, steps, evaluations(density), per_event, float(distance(events)))


def has_steps(density: nn.Module) -> bool:
    """Whether :func:`at_steps` has something to choose: not for a solver that was learned around a teacher."""
    fixed = any(isinstance(getattr(module, "evaluations", None), int) for module in density.modules())
    return not fixed and any(isinstance(module, _STEPPED) for module in density.modules())
