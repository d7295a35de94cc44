"""Distillation of a trained shower generator: a shape stage that decodes in one or a few network evaluations.

The energy stage stays as it is.  Of the shape stage only its core, the flow matching or diffusion, is replaced: frame,
changes of variables and thresholds around it are the teacher's.  The students are those of
:mod:`cathode.density.distillation`, and the learned solver of :mod:`cathode.density.bespoke`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from cathode.density.base import ConditionalDensity
from cathode.density.bespoke import BespokeSolver
from cathode.density.diffusion import EDM
from cathode.density.distillation import STUDENTS, core_of, evaluations, inward, rewrapped, student_of
from cathode.density.matching import FlowMatching
from cathode.density.registry import build, describe
from cathode.run.folder import RunFolder
from cathode.support.errors import UserError
from cathode.support.files import write_json
from cathode.support.seeding import derive_seed, numpy_generator, torch_generator
from cathode.support.settings import Files
from cathode.training import FitConfig, TrainingData, fit
from cathode.training.distillation import DistillationStep
from fastsim.data import Showers, read_showers
from fastsim.data.streaming import training_data
from fastsim.generators.generator import ShowerGenerator, load_generator, save_generator
from fastsim.generators.train import MODEL

__all__ = ["DistillSettings", "Distilled", "distill", "distil_shape", "milliseconds_per_shower", "with_shape_stage"]

logger = logging.getLogger(__name__)

# Rows that go through the changes of variables at once.
_ROWS = 2048
# Fewer showers than this cannot be split and learned from in any sensible way.
_FEWEST = 100


@dataclass(frozen=True)
class DistillSettings:
    """Everything that decides what ``fastsim distill`` makes.

    Args:
        model: Model folder of the teacher.
        showers: Files, or ``sample:NAME``: what the teacher was trained on, or other showers of full simulation.
        rows: First row and the one after the last, of all files together; null: all.
        validation: Fraction of the rows on which student and teacher are compared.
        method: ``mean-flow``, ``consistency``, or ``bespoke`` (the teacher's network with a learned solver).
        steps: Network evaluations of the student.
        width: Width of the student's network; null: the teacher's network, which is also where the training starts.
        blocks: Its residual blocks; null: as many as the teacher's.
        draws: Fillings of the zeros of each shower.
        training: Of the student.
        seed: Of the split, the fillings and the training.
    """

    model: str
    showers: Files
    rows: tuple[int, int] | None = None
    validation: float = 0.1
    method: Literal["mean-flow", "consistency", "bespoke"] = "mean-flow"
    steps: int = 1
    width: int | None = None
    blocks: int | None = None
    draws: int = 2
    training: FitConfig = field(
        default_factory=lambda: FitConfig(
            epochs=20, batch_size=512, learning_rate=5e-4, warmup_epochs=0.2, validation_batch=2048
        )
    )
    seed: int = 1

    def __post_init__(self) -> None:
        if self.method not in (*STUDENTS, "bespoke"):
            raise UserError(f"distillation method: must be one of {', '.join(STUDENTS)}, bespoke, got {self.method!r}")
        for name in ("steps", "width", "blocks", "draws"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"distillation setting {name}: must be at least 1, got {value}")
        if not self.showers:
            raise UserError("distillation setting showers: give at least one file")
        if not 0 < self.validation < 1:
            raise UserError(f"distillation setting validation: must be between 0 and 1, got {self.validation}")
        if self.rows is not None and not 0 <= self.rows[0] < self.rows[1]:
            raise UserError(f"distillation setting rows: must be first < stop, got {list(self.rows)}")
        if self.method == "bespoke" and (self.width is not None or self.blocks is not None):
            raise UserError("distillation settings width and blocks: a bespoke solver keeps its teacher's network")


@dataclass(frozen=True)
class Distilled:
    """A distilled shape stage.

    Attributes:
        density: Of voxel energies ``(B, V)`` [MeV], as the teacher.
        history: One row per epoch.
        summary: Plain numbers about the fit.
    """

    density: ConditionalDensity
    history: pd.DataFrame
    summary: dict[str, Any]


def distill(settings: DistillSettings, *, output: str | Path, resume: bool = False) -> ShowerGenerator:
    """Distil the shape stage of a generator and write the new generator to ``output/model``.

    Args:
        settings: The whole configuration.
        output: Run folder, as of :func:`fastsim.generators.train.train`.
        resume: Continue a run that was killed, to the same result; a finished one is only loaded.

    Raises:
        UserError: Unusable settings, model, data or output folder; nothing is written then.
    """
    folder = RunFolder(output)
    folder.check(settings, resume=resume)
    if resume and folder.finished:
        return load_generator(folder / MODEL)
    teacher = load_generator(settings.model)
    _check(teacher, settings)
    showers = _showers(teacher, settings)
    rows = numpy_generator(derive_seed(settings.seed, "validation")).permutation(len(showers))
    held_out = max(1, round(settings.validation * len(showers)))
    train, validation = showers[np.sort(rows[held_out:])], showers[np.sort(rows[:held_out])]
    with folder.open(settings, loggers=("cathode", "fastsim")):
        logger.info("%d showers to distil with, %d to validate", len(train), len(validation))
        shapes = (training_data(train, "shape"), training_data(validation, "shape"))
        made = distil_shape(
            teacher.shape_stage, *shapes, settings=settings, checkpoint_dir=folder.tasks / settings.method
        )
        student = with_shape_stage(teacher, made.density)
        before, after = milliseconds_per_shower((teacher, student), validation)
        summary: dict[str, Any] = {
            "schema": 1,
            "showers": {"train": len(train), "validation": len(validation)},
            "parameters": sum(p.numel() for p in student.parameters()),
            "evaluations": {"teacher": evaluations(teacher.shape_stage), "student": evaluations(student.shape_stage)},
            "milliseconds_per_shower": {"teacher": before, "student": after},
            **made.summary,
        }
        save_generator(
            student,
            folder / MODEL,
            history=made.history,
            provenance={"seed": settings.seed, **summary},
            config=settings,
        )
        write_json(folder / "results.json", summary)
        folder.finish()
    return student


def distil_shape(
    teacher: ConditionalDensity,
    train: TrainingData,
    validation: TrainingData,
    *,
    settings: DistillSettings,
    checkpoint_dir: str | Path | None = None,
) -> Distilled:
    """Fit a student to the core of ``teacher``.

    Args:
        teacher: Shape stage with a flow matching or EDM inside.
        train: Voxel energies ``(N, V)`` [MeV] given context and layer energies ``(N, C + L)``.
        validation: The same, for comparing student and teacher.
        settings: Of the student and its training.
        checkpoint_dir: Of the training.

    Raises:
        UserError: A teacher without a differential equation, or a network that cannot have another size.
    """
    core = _core(teacher)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(settings.seed, "distillation", "weights"))
        student = _student(core, settings)
    latents = [_latents(teacher, train, settings, "train", draw) for draw in range(settings.draws)]
    held_out = _latents(teacher, validation, settings, "validation", 0)
    result = fit(
        student,
        TrainingData(torch.cat([z for z, _ in latents]), torch.cat([c for _, c in latents])),
        TrainingData(*held_out),
        settings.training,
        seed=derive_seed(settings.seed, "distillation", "fit"),
        step=None if settings.method == "bespoke" else DistillationStep(core),
        checkpoint_dir=checkpoint_dir,
    )
    summary = {
        "epochs": int(result.history["epoch"].max()),
        "validation_loss": result.validation_loss,
        "stopped": result.stopped_reason,
        "seconds": result.seconds,
        "cpu_seconds": result.cpu_seconds,
    }
    return Distilled(rewrapped(teacher, result.density.cpu()).eval(), result.history, summary)


def with_shape_stage(generator: ShowerGenerator, shape_stage: ConditionalDensity) -> ShowerGenerator:
    """The same generator with another shape stage, whose noise may have another shape."""
    made = ShowerGenerator(
        generator.energy_stage,
        shape_stage,
        {"layout": generator.geometry.to_dict()},
        generator.threshold,
        list(generator.incident_range),
        list(generator.condition_names),
        [list(pair) for pair in generator.condition_ranges],
    )
    return made.eval()


@torch.no_grad()
def milliseconds_per_shower(
    generators: tuple[ShowerGenerator, ...], like: Showers, *, batch_size: int = 100, repeats: int = 10
) -> list[float]:
    """Time of each whole generator per shower of a batch [ms]; the shortest of interleaved measurements.

    Other work on the machine only adds to a time, and adds to the neighbour in the same way.
    """
    context = torch.as_tensor(like.context()[:batch_size]).float()
    best = [float("inf")] * len(generators)
    for _ in range(repeats):
        for k, generator in enumerate(generators):
            noise = generator.noise(len(context), generator=torch_generator(0))
            started = time.perf_counter()
            generator.decode(noise, context)
            best[k] = min(best[k], 1e3 * (time.perf_counter() - started) / len(context))
    return best


def _showers(teacher: ShowerGenerator, settings: DistillSettings) -> Showers:
    showers = Showers.concatenate([read_showers(file, teacher.geometry) for file in settings.showers])
    if settings.rows is not None:
        first, stop = settings.rows
        if stop > len(showers):
            raise UserError(f"rows {first} to {stop} of {len(showers)} showers; lower the second number")
        showers = showers[first:stop]
    if len(showers) < _FEWEST:
        raise UserError(f"{len(showers)} showers are too few to distil with; give at least {_FEWEST}")
    if showers.condition_names != teacher.condition_names:
        raise UserError(
            f"{settings.showers[0]} has the conditions {list(showers.condition_names)}, "
            f"the model needs {list(teacher.condition_names)}"
        )
    return showers.cut(teacher.threshold)


def _check(teacher: ShowerGenerator, settings: DistillSettings) -> None:
    """Refuse what cannot be distilled before anything is written."""
    with torch.random.fork_rng(devices=[]):
        _student(_core(teacher.shape_stage), settings)


def _core(shape_stage: ConditionalDensity) -> FlowMatching | EDM:
    core = core_of(shape_stage)
    if isinstance(core, (FlowMatching, EDM)):
        return core
    if evaluations(core) is not None:
        raise UserError(f"the shape stage is a {type(core).__name__}, distilled already: give its teacher")
    raise UserError(
        f"the shape stage is a {type(core).__name__}, which has no differential equation to distil: give a model that "
        "was trained with shape.model 'flow-matching' or 'edm'"
    )


def _student(core: FlowMatching | EDM, settings: DistillSettings) -> ConditionalDensity:
    if settings.method == "bespoke":
        try:
            return BespokeSolver(core, settings.steps)
        except ValueError as error:
            raise UserError(f"distillation: {error}") from error
    return student_of(core, settings.method, network=_network(core.network, settings), steps=settings.steps)


def _network(teacher: nn.Module, settings: DistillSettings) -> nn.Module | None:
    """A network like the teacher's of another size; None to start from the teacher's."""
    sizes = {name: getattr(settings, name) for name in ("width", "blocks") if getattr(settings, name) is not None}
    if not sizes:
        return None
    description = describe(teacher)
    unknown = [name for name in sizes if name not in description]
    if unknown:
        raise UserError(f"distillation setting {unknown[0]}: a network of kind {description['kind']!r} has none")
    columns = description["context_features"] + STUDENTS[settings.method][1]
    try:
        return build({**description, **sizes, "context_features": columns})
    except ValueError as error:
        raise UserError(f"distillation: the student's network: {error}") from error


def _latents(
    teacher: ConditionalDensity, data: TrainingData, settings: DistillSettings, part: str, draw: int
) -> tuple[Tensor, Tensor]:
    """Events and context as the core sees them."""
    assert data.context is not None
    generator = torch_generator(derive_seed(settings.seed, "distillation", part, draw))
    pieces = [
        inward(teacher, x, c, generator=generator)
        for x, c in zip(data.x.split(_ROWS), data.context.split(_ROWS), strict=True)
    ]
    return torch.cat([x.float() for x, _ in pieces]), torch.cat([c.float() for _, c in pieces if c is not None])
