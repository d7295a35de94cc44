"""Distillation of a trained jet generator: constituents in one or a few network evaluations.

The kinematics stage stays as it is.  Of the stage of the constituents only its core, the flow matching or diffusion, is
replaced: what is around it, cells and mirrors and changes of variables, is the teacher's.  The students are those of
:mod:`cathode.density.distillation`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
import yaml
from torch import nn

from cathode.density.base import ConditionalDensity
from cathode.density.diffusion import EDM
from cathode.density.distillation import STUDENTS, core_of, evaluations, inward, rewrapped, student_of
from cathode.density.matching import FlowMatching
from cathode.density.registry import build, describe
from cathode.jets.generators.context import JetPoints
from cathode.jets.generators.data import JetTensors, LearningJets, learning_jets
from cathode.jets.generators.generate import Conditions, generate
from cathode.jets.generators.generator import JetGenerator
from cathode.jets.generators.settings import JetDataSettings
from cathode.support.errors import UserError
from cathode.support.seeding import derive_seed, torch_generator
from cathode.support.settings import Files
from cathode.training import FitConfig, TrainingData, fit
from cathode.training.distillation import DistillationStep

__all__ = [
    "DistillJetsSettings",
    "DistilledJets",
    "check_teacher",
    "distill_generator",
    "distillation_jets",
    "milliseconds_per_jet",
    "teachers_data",
]

logger = logging.getLogger(__name__)

# Jets that go through the changes of variables at once.
_ROWS = 8192


@dataclass(frozen=True)
class DistillJetsSettings:
    """Everything that decides what ``cathode jets distill`` makes.

    Args:
        model: Model folder of the teacher.
        jets: Files, or ``sample:NAME``: what the teacher was trained on, or other jets like these.
        format: Of the files, as in training.
        rows: First row and the one after the last, of all files together; null: all.
        exclude_mass: As in training.
        validation: Fraction of the jets on which student and teacher are compared.
        method: ``mean-flow`` or ``consistency``.
        objective: Of mean flow: ``identity`` learns from jets, ``trajectory`` from paths of the teacher alone.
        steps: Network evaluations of the student.
        width: Width of the student's network; null: the teacher's network, which is also where the training starts.
        blocks: Its blocks or layers; null: as many as the teacher's.
        draws: Images of each jet: mirrors, and positions within cells.
        training: Of the student.
        seed: Of the split, the images and the training.
    """

    model: str
    jets: Files = ("sample:lhco_constituents",)
    format: str = "auto"
    rows: tuple[int, int] | None = None
    exclude_mass: tuple[float, float] | None = None
    validation: float = 0.05
    method: Literal["mean-flow", "consistency"] = "mean-flow"
    objective: Literal["identity", "trajectory"] = "identity"
    steps: int = 1
    width: int | None = None
    blocks: int | None = None
    draws: int = 2
    training: FitConfig = field(
        default_factory=lambda: FitConfig(
            epochs=10,
            batch_size=256,
            learning_rate=5e-4,
            warmup_epochs=0.2,
            gradient_clip=1.0,
            ema_halflife_events=100_000.0,
            validation_batch=1024,
        )
    )
    seed: int = 1

    def __post_init__(self) -> None:
        if self.method not in STUDENTS:
            raise UserError(f"distillation method: must be one of {', '.join(STUDENTS)}, got {self.method!r}")
        for name in ("steps", "width", "blocks", "draws"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"distillation setting {name}: must be at least 1, got {value}")
        if not 0 < self.validation < 1:
            raise UserError(f"distillation setting validation: must be between 0 and 1, got {self.validation}")
        if self.rows is not None and not 0 <= self.rows[0] < self.rows[1]:
            raise UserError(f"distillation setting rows: must be first < stop, got {list(self.rows)}")


@dataclass(frozen=True)
class DistilledJets:
    """A distilled generator.

    Attributes:
        generator: With a student in the place of the teacher's core.
        history: One row per epoch.
        summary: Plain numbers about the fit and the speed.
    """

    generator: JetGenerator
    history: pd.DataFrame
    summary: dict[str, Any]


def check_teacher(teacher: JetGenerator, settings: DistillJetsSettings) -> None:
    """Refuse what cannot be distilled before anything is computed or written.

    Raises:
        UserError: Constituents that are not made by a flow matching or EDM, or a network that cannot have another size.
    """
    with torch.random.fork_rng(devices=[]):
        _student(_core(teacher), settings)


def teachers_data(folder: str | Path) -> dict[str, Any]:
    """The data section of the configuration that the model in ``folder`` was trained with.

    Raises:
        UserError: The model folder does not say.
    """
    path = Path(folder) / "config.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not readable as YAML: {error}") from error
    config = content.get("config") if isinstance(content, dict) else None
    data = config.get("data") if isinstance(config, dict) else None
    if not isinstance(data, dict) or "jets" not in data:
        raise UserError(f"{path}: does not say which jets the model was trained on: give some with --jets")
    return data


def distillation_jets(teacher: JetGenerator, settings: DistillJetsSettings) -> LearningJets:
    """Jets as the teacher saw them in its training.

    Raises:
        UserError: Anything wrong with files, rows or types.
    """
    data = learning_jets(
        JetDataSettings(
            jets=settings.jets,
            format=settings.format,
            rows=settings.rows,
            exclude_mass=settings.exclude_mass,
            particles=teacher.particles,
            axis="constituents" if teacher.complete else "file",
            types=bool(teacher.types),
            validation=settings.validation,
            cells=teacher.cells,
        ),
        seed=settings.seed,
        type_names=teacher.types,
    )
    if data.train.points.shape[1] != teacher.particles:
        raise UserError(
            f"{settings.jets[0]} has jets of {data.train.points.shape[1]} constituents, the model makes "
            f"{teacher.particles}"
        )
    return data


def distill_generator(
    teacher: JetGenerator,
    data: LearningJets,
    settings: DistillJetsSettings,
    *,
    checkpoint_dir: str | Path | None = None,
) -> DistilledJets:
    """Fit a student to the constituents of ``teacher``.

    Args:
        teacher: With a flow matching or EDM inside.
        data: From :func:`distillation_jets`.
        settings: Of the student and its training.
        checkpoint_dir: Of the training.

    Raises:
        UserError: See :func:`check_teacher`.
    """
    started = time.perf_counter()
    outer = _outer(teacher)
    core = _core(teacher)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(settings.seed, "distillation", "weights"))
        student = _student(core, settings)
    train = [_latents(outer, data.train, settings, "train", draw) for draw in range(settings.draws)]
    held_out = _latents(outer, data.validation, settings, "validation", 0)
    logger.info("%d jets to distil with, %d to validate", len(data.train.points), len(data.validation.points))
    result = fit(
        student,
        TrainingData(*(torch.cat(parts) for parts in zip(*train, strict=True))),
        TrainingData(*held_out),
        settings.training,
        seed=derive_seed(settings.seed, "distillation", "fit"),
        step=DistillationStep(core),
        checkpoint_dir=None if checkpoint_dir is None else Path(checkpoint_dir) / settings.method,
    )
    inner = rewrapped(outer.density, result.density.cpu())
    points = JetPoints(inner, outer.types, outer.pitch, outer.offset)
    made = teacher.with_points(points)
    before, after = milliseconds_per_jet((teacher, made), data.validation)
    summary = {
        "schema": 1,
        "jets": {"train": len(data.train.points), "validation": len(data.validation.points)},
        "parameters": sum(p.numel() for p in made.parameters()),
        "evaluations": {"teacher": evaluations(teacher.cloud.points), "student": evaluations(made.cloud.points)},
        "milliseconds_per_jet": {"teacher": before, "student": after},
        "epochs": int(result.history["epoch"].max()),
        "validation_loss": result.validation_loss,
        "stopped": result.stopped_reason,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": result.cpu_seconds,
        "settings": {name: value for name, value in asdict(settings).items() if name != "training"},
    }
    return DistilledJets(made, result.history, summary)


def milliseconds_per_jet(
    generators: tuple[JetGenerator, ...], like: JetTensors, *, count: int = 200, repeats: int = 5
) -> list[float]:
    """Time per jet of a batch with the kinematics of ``like`` [ms]; the shortest of interleaved measurements.

    Other work on the machine only adds to a time, and adds to the neighbour in the same way.
    """
    rows = slice(0, min(count, len(like.summary)))
    conditions = Conditions(
        like.summary[rows], None if like.types is None else like.types[rows], len(like.summary[rows])
    )
    best = [float("inf")] * len(generators)
    for _ in range(repeats):
        for k, generator in enumerate(generators):
            made = generate(generator, conditions, seed=0, batch_size=count)
            best[k] = min(best[k], 1e3 * made.seconds / len(made.jets))
    return best


def _outer(teacher: JetGenerator) -> JetPoints:
    points = teacher.cloud.points
    if not isinstance(points, JetPoints):
        raise UserError(f"the constituents are made by a {type(points).__name__}, which cannot be distilled")
    return points


def _core(teacher: JetGenerator) -> FlowMatching | EDM:
    core = core_of(_outer(teacher).density)
    if isinstance(core, (FlowMatching, EDM)):
        return core
    if evaluations(core) is not None:
        raise UserError(f"the constituents are made by a {type(core).__name__}, distilled already: give its teacher")
    raise UserError(
        f"the constituents are made by a {type(core).__name__}, which has no differential equation to distil: give a "
        "model that was trained with constituents.model 'flow-matching' or 'edm'"
    )


def _student(core: FlowMatching | EDM, settings: DistillJetsSettings) -> ConditionalDensity:
    further = {"objective": settings.objective} if settings.method == "mean-flow" else {}
    network = _network(core.network, settings)
    return student_of(core, settings.method, network=network, steps=settings.steps, **further)


def _network(teacher: nn.Module, settings: DistillJetsSettings) -> nn.Module | None:
    """A network like the teacher's of another size; None to start from the teacher's."""
    description = describe(teacher)
    depth = "layers" if "layers" in description else "blocks"
    sizes = {name: value for name, value in (("width", settings.width), (depth, settings.blocks)) if value is not None}
    if not sizes:
        return None
    columns = description["context_features"] + STUDENTS[settings.method][1]
    try:
        return build({**description, **sizes, "context_features": columns})
    except ValueError as error:
        raise UserError(f"distillation: the student's network: {error}") from error


def _latents(
    outer: JetPoints, part: JetTensors, settings: DistillJetsSettings, name: str, draw: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Constituents, context and mask as the core sees them."""
    data = part.constituents()
    assert data.context is not None
    assert data.mask is not None
    generator = torch_generator(derive_seed(settings.seed, "distillation", name, draw))
    points, contexts = [], []
    for x, c, mask in zip(data.x.split(_ROWS), data.context.split(_ROWS), data.mask.split(_ROWS), strict=True):
        z, given = inward(outer.density, x, outer.columns(c), mask=mask, generator=generator)
        assert given is not None
        points.append(z.float())
        contexts.append(given.float())
    return torch.cat(points), torch.cat(contexts), data.mask
