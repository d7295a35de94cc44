"""Training of a jet generator: two fits that know nothing of each other."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cathode.density.point_cloud import PointCloud
from cathode.jets.generators.context import MULTIPLICITY
from cathode.jets.generators.data import LearningJets, learning_jets
from cathode.jets.generators.generator import JetGenerator
from cathode.jets.generators.settings import JetGeneratorSettings
from cathode.jets.generators.stages import StageFit, fit_constituents, fit_kinematics

__all__ = ["TrainedGenerator", "fit_generator", "learn_from"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedGenerator:
    """A trained generator.

    Attributes:
        generator: In eval mode, on the CPU.
        history: One row per epoch of either stage, which the column ``stage`` names.
        summary: Plain numbers about data and fits.
    """

    generator: JetGenerator
    history: pd.DataFrame
    summary: dict[str, Any]


def learn_from(settings: JetGeneratorSettings) -> LearningJets:
    """The jets that :func:`fit_generator` learns from.

    Raises:
        UserError: Anything wrong with files, rows or types.
    """
    return learning_jets(settings.data, seed=settings.seed)


def fit_generator(
    settings: JetGeneratorSettings, data: LearningJets, *, checkpoint_dir: str | Path | None = None
) -> TrainedGenerator:
    """Train both stages and put them together.

    Args:
        settings: The whole configuration.
        data: From :func:`learn_from` of the same settings.
        checkpoint_dir: Where a killed training finds its way back, to the same result.

    Raises:
        UserError: A training that fails numerically.
    """
    started = time.perf_counter()
    folders = [
        None if checkpoint_dir is None else Path(checkpoint_dir) / name for name in ("kinematics", "constituents")
    ]
    logger.info("%d jets to train on, %d to validate", len(data.train.points), len(data.validation.points))
    first = fit_kinematics(settings.kinematics, data, seed=settings.seed, checkpoint_dir=folders[0])
    logger.info("the kinematics stage is trained: %s", first.summary)
    second = fit_constituents(
        settings.constituents, data, description=settings.data, seed=settings.seed, checkpoint_dir=folders[1]
    )
    logger.info("the constituents stage is trained: %s", second.summary)
    generator = _assembled(settings, data, first, second)
    summary: dict[str, Any] = {
        "schema": 1,
        "jets": {"train": len(data.train.points), "validation": len(data.validation.points)},
        "parameters": sum(p.numel() for p in generator.parameters()),
        "stages": {"kinematics": first.summary, "constituents": second.summary},
        "seconds": time.perf_counter() - started,
    }
    history = pd.concat([first.history.assign(stage="kinematics"), second.history.assign(stage="constituents")])
    return TrainedGenerator(generator, history, summary)


def _assembled(settings: JetGeneratorSettings, data: LearningJets, first: StageFit, second: StageFit) -> JetGenerator:
    train = data.train
    shares = [] if train.types is None else train.types.double().mean(0).tolist()
    cells = settings.data.cells
    return JetGenerator(
        PointCloud(first.density, second.density, MULTIPLICITY),
        list(data.type_names),
        shares,
        settings.data.axis == "constituents",
        settings.conserve,
        None if cells is None else asdict(cells),
        [[float(column.min()), float(column.max())] for column in train.summary.T],
        float(train.points[..., 1:3].abs().max()),
        None if settings.data.extras is None else asdict(settings.data.extras),
    ).eval()
