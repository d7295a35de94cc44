"""Distillation: students that decode in one or a few evaluations what their teacher decodes in many.

Teachers are trained densities of the core.  Flow matching and diffusion have few-step students
(:class:`ConsistencyModel`, :class:`MeanFlow`); autoregressive flows have a student that decodes in one pass
(:class:`InverseAutoregressive`).  They are trained by :func:`cathode.training.fit` with the step of
:mod:`cathode.training.distillation`.
"""

from __future__ import annotations

from cathode.density.distillation.angles import Angles, TeacherFlow
from cathode.density.distillation.build import STUDENTS, student_of
from cathode.density.distillation.consistency import ConsistencyModel
from cathode.density.distillation.mean_flow import MeanFlow
from cathode.density.distillation.probability import InverseAutoregressive, inverse_student_of
from cathode.density.distillation.steps import (
    StepQuality,
    at_steps,
    evaluations,
    has_steps,
    measure_quality,
    quality_against_steps,
)
from cathode.density.distillation.student import Student, widened
from cathode.density.distillation.wrapped import core_of, inward, rewrapped

__all__ = [
    "STUDENTS",
    "Angles",
    "ConsistencyModel",
    "InverseAutoregressive",
    "MeanFlow",
    "StepQuality",
    "Student",
    "TeacherFlow",
    "at_steps",
    "core_of",
    "evaluations",
    "has_steps",
    "inward",
    "inverse_student_of",
    "measure_quality",
    "quality_against_steps",
    "rewrapped",
    "student_of",
    "widened",
]
