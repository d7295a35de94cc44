"""Training of a shower generator: two fits that know nothing of each other."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cathode.density.base import ConditionalDensity
from cathode.run.folder import RunFolder
from cathode.support.files import write_json
from cathode.support.seeding import derive_seed
from cathode.training import FitConfig, FitResult, TrainingData, fit
from fastsim.data.streaming import training_data
from fastsim.generators.data import training_showers
from fastsim.generators.generator import ShowerGenerator, load_generator, save_generator
from fastsim.generators.settings import GeneratorSettings
from fastsim.generators.stages import energy_density, shape_density

__all__ = ["MODEL", "train"]

logger = logging.getLogger(__name__)

#: Folder of the trained generator inside the folder of a training run.
MODEL = "model"


def train(settings: GeneratorSettings, *, output: str | Path, resume: bool = False) -> ShowerGenerator:
    """Train a generator and write it to ``output/model``.

    Args:
        settings: The whole configuration.
        output: Run folder: resolved configuration, log, checkpoints while it runs, ``model/`` and ``results.json``.
        resume: Continue a run that was killed, to the same result; a finished one is only loaded.

    Raises:
        UserError: Unusable settings, data or output folder; nothing is written then.
    """
    folder = RunFolder(output)
    folder.check(settings, resume=resume)
    if resume and folder.finished:
        return load_generator(folder / MODEL)
    data = training_showers(settings.data, seed=settings.seed)
    threshold = settings.data.threshold
    # What cannot be built must end before anything is written.
    energy_train, energy_validation = (training_data(s, "energy") for s in (data.train, data.validation))
    shape_train, shape_validation = (training_data(s, "shape") for s in (data.train, data.validation))
    assert energy_train.context is not None
    assert shape_train.context is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(settings.seed, "energy", "weights"))
        energies = energy_density(settings.energy.model, energy_train, threshold=threshold)
        torch.manual_seed(derive_seed(settings.seed, "shape", "weights"))
        shape = shape_density(settings.shape.model, data.train.geometry, shape_train, threshold=threshold)
    with folder.open(settings):
        logger.info("%d showers to train on, %d to validate", len(data.train), len(data.validation))
        started = time.perf_counter()
        first = _fit("energy", energies, energy_train, energy_validation, settings.energy.training, settings, folder)
        second = _fit("shape", shape, shape_train, shape_validation, settings.shape.training, settings, folder)
        context = energy_train.context
        generator = ShowerGenerator(
            first.density,
            second.density,
            {"layout": data.train.geometry.to_dict()},
            threshold,
            [float(context[:, 0].min()), float(context[:, 0].max())],
            list(data.train.condition_names),
            [[float(c.min()), float(c.max())] for c in context[:, 1:].T],
        ).eval()
        summary: dict[str, Any] = {
            "schema": 1,
            "showers": {"train": len(data.train), "validation": len(data.validation), "left_out": data.left_out},
            "parameters": sum(p.numel() for p in generator.parameters()),
            "stages": {name: _summary(result) for name, result in (("energy", first), ("shape", second))},
            "seconds": time.perf_counter() - started,
        }
        history = pd.concat([r.history.assign(stage=n) for n, r in (("energy", first), ("shape", second))])
        save_generator(
            generator, folder / MODEL, history=history, provenance={"seed": settings.seed, **summary}, config=settings
        )
        write_json(folder / "results.json", summary)
        folder.finish()
    return generator


def _fit(
    stage: str,
    density: ConditionalDensity,
    train: TrainingData,
    validation: TrainingData,
    config: FitConfig,
    settings: GeneratorSettings,
    folder: RunFolder,
) -> FitResult:
    logger.info("stage %s: %d weights", stage, sum(p.numel() for p in density.parameters()))
    seed = derive_seed(settings.seed, stage, "fit")
    return fit(density, train, validation, config, seed=seed, checkpoint_dir=folder.tasks / stage)


def _summary(result: FitResult) -> dict[str, Any]:
    return {
        "epochs": int(result.history["epoch"].max()),
        "validation_loss": result.validation_loss,
        "selection": result.selection,
        "stopped": result.stopped_reason,
        "seconds": result.seconds,
        "cpu_seconds": result.cpu_seconds,
    }
