"""Students that fit their teacher: same coordinates, same preprocessing, its network as the start."""

from __future__ import annotations

from typing import Any

from torch import nn

from cathode.density.base import ConditionalDensity
from cathode.density.distillation.angles import TeacherFlow
from cathode.density.distillation.consistency import ConsistencyModel
from cathode.density.distillation.mean_flow import MeanFlow
from cathode.density.distillation.student import Student, widened
from cathode.density.distillation.wrapped import core_of, rewrapped
from cathode.support.errors import UserError

__all__ = ["STUDENTS", "student_of"]

# The class and the columns of context that its network has beyond the density's.
STUDENTS: dict[str, tuple[type[ConsistencyModel] | type[MeanFlow], int]] = {
    "consistency": (ConsistencyModel, 0),
    "mean-flow": (MeanFlow, 1),
}


def student_of(
    teacher: ConditionalDensity, kind: str = "mean-flow", *, network: nn.Module | None = None, **settings: Any
) -> ConditionalDensity:
    """An untrained few-step student of a trained flow-matching or EDM density.

    Args:
        teacher: The density, alone or inside :class:`Preprocessed`, :class:`~cathode.density.dequantised.Dequantised`
            and :class:`~cathode.density.canonical.Canonical`, which are copied.
        kind: ``"consistency"`` or ``"mean-flow"``.
        network: The student's network; without it a copy of the teacher's (for mean flow with one more column of
            context).  A teacher without preconditioning has a network of another meaning: its student starts there
            too, but gains less.
        settings: Further arguments of :class:`ConsistencyModel` or :class:`MeanFlow`.

    Raises:
        UserError: Unknown kind, or a teacher of another family.
    """
    if kind not in STUDENTS:
        raise UserError(f"unknown student {kind!r}; known: {', '.join(STUDENTS)}")
    core = core_of(teacher)
    flow = TeacherFlow(core)
    cls, columns = STUDENTS[kind]
    own = widened(flow.density.network, columns) if network is None else network  # type: ignore[arg-type]
    own.requires_grad_(True)
    student: Student = cls(
        list(core.event_shape) if len(core.event_shape) > 1 else core.event_shape[0],
        core.context_features,
        network=own,
        angles=flow.angles,
        **settings,
    )
    return rewrapped(teacher, student)
