"""The training step of students: a frozen teacher beside the density that is trained."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from cathode.density.base import ConditionalDensity
from cathode.density.distillation import Student
from cathode.density.preprocessed import Preprocessed
from cathode.density.registry import describe
from cathode.support.errors import UserError
from cathode.training.config import FitConfig
from cathode.training.data import TrainingData
from cathode.training.steps import descend, make_optimizer

__all__ = ["DistillationStep"]


class DistillationStep:
    """Trains a student by :func:`cathode.training.fit`: minimises the weighted mean of its ``distillation_loss``.

    The validation loss is the mean squared difference between the student's and the teacher's events of the same noise,
    in the coordinates that the networks see (see :meth:`Student.reference` and :meth:`Student.deviation`): unlike the
    training losses it means the same at all times, so the best epochs can be chosen by it.  The teacher's side of it is
    computed once and kept.

    A checkpoint remembers the teacher, so that no fit is continued with another one.

    A teacher inside :class:`Preprocessed` needs a student inside the same one, as
    :func:`~cathode.density.distillation.student_of` builds it; the loss is then computed behind the bijections.

    Args:
        teacher: The trained density; a frozen copy is kept.
        mean_weight: Mean weight of all training events, see :class:`~cathode.training.steps.LossStep`.

    Raises:
        UserError: At setup: a density that is no student, or only one of the two is preprocessed.
    """

    def __init__(self, teacher: ConditionalDensity, mean_weight: float = 1.0) -> None:
        self._teacher = copy.deepcopy(teacher).requires_grad_(False).eval()
        self._mean_weight = mean_weight
        self._references: dict[bytes, tuple[Tensor, Tensor]] = {}
        self._states: dict[bytes, Tensor] = {}

    def identity(self) -> dict[str, str]:
        """The teacher, as SHA-256 of its description and weights."""
        digest = hashlib.sha256(json.dumps(_description(self._teacher), sort_keys=True).encode())
        for name, value in sorted(self._teacher.state_dict().items()):
            digest.update(name.encode())
            # In double precision, so that casting the teacher to the type of the student makes no other teacher of it.
            digest.update(value.detach().double().cpu().contiguous().numpy().tobytes())
        return {"teacher": digest.hexdigest()}

    def setup(self, density: ConditionalDensity, config: FitConfig) -> Sequence[Optimizer]:
        first = next(density.parameters())
        self._teacher = self._teacher.to(first.device, first.dtype)
        if isinstance(density, Preprocessed) != isinstance(self._teacher, Preprocessed):
            raise UserError("student and teacher must both be preprocessed or both not: build the one from the other")
        _student(density)
        self._density = density
        self._clip = config.gradient_clip
        self._optimizer = make_optimizer(density.parameters(), config)
        return [self._optimizer]

    def step(self, batch: TrainingData, generator: torch.Generator) -> Mapping[str, Tensor | float]:
        x, context = _behind(self._density, batch)
        student, teacher = _student(self._density), _inner(self._teacher)
        losses = student.distillation_loss(teacher, x, context, mask=batch.mask, generator=generator)
        if batch.weight is None:
            loss = losses.mean()
        else:
            loss = torch.dot(batch.weight, losses) / (len(losses) * self._mean_weight)
        return descend(loss, self._optimizer, clip=self._clip, average_gradients=True)._asdict()

    def validation_loss(
        self, density: ConditionalDensity, batch: TrainingData, *, generator: torch.Generator
    ) -> Tensor:
        """Deviation from the teacher, ``(B,)``."""
        x, context = _behind(density, batch)
        student = _student(density)
        # The same events with the same stream have the same reference.
        key = hashlib.sha256(generator.get_state().numpy().tobytes() + x.cpu().numpy().tobytes()).digest()
        if key not in self._references:
            made = student.reference(_inner(self._teacher), x, context, mask=batch.mask, generator=generator)
            self._references[key] = (made[0], made[1])
            self._states[key] = generator.get_state()
        generator.set_state(self._states[key])
        noise, events = self._references[key]
        return student.deviation(noise, events, context, mask=batch.mask)


def _description(density: ConditionalDensity) -> Any:
    try:
        return describe(density)
    except TypeError:
        return type(density).__name__


def _inner(density: ConditionalDensity) -> ConditionalDensity:
    return density.density if isinstance(density, Preprocessed) else density


def _student(density: ConditionalDensity) -> Student:
    inner = _inner(density)
    if not isinstance(inner, Student):
        raise UserError(f"{type(inner).__name__} is no student of another density; build one with student_of")
    return inner


def _behind(density: ConditionalDensity, batch: TrainingData) -> tuple[Tensor, Tensor | None]:
    """Events and context in the coordinates of the student."""
    if not isinstance(density, Preprocessed):
        return batch.x, batch.context
    with torch.no_grad():
        x, _ = density.bijection.forward_and_log_det(batch.x, batch.context, mask=batch.mask)
        return x, density.transform_context(batch.context)
