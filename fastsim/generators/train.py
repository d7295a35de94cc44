"""Training of a shower generator: two fits that know nothing of each other."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pandas as pd

from cathode.run.folder import RunFolder
from cathode.support.files import write_json
from fastsim.data.streaming import training_data
from fastsim.generators.data import training_showers
from fastsim.generators.generator import ShowerGenerator, load_generator, save_generator
from fastsim.generators.settings import GeneratorSettings
from fastsim.generators.stages import StageData, check_stages, fit_energy, fit_shape

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
    check_stages(settings, data.train.geometry)
    energy_data, shape_data = (
        StageData(training_data(data.train, stage), training_data(data.validation, stage))
        for stage in ("energy", "shape")
    )
    common: dict[str, Any] = {"threshold": threshold, "seed": settings.seed}
    with folder.open(settings):
        logger.info("%d showers to train on, %d to validate", len(data.train), len(data.validation))
        started = time.perf_counter()
        first = fit_energy(settings.energy, energy_data, checkpoint_dir=folder.tasks / "energy", **common)
        second = fit_shape(
            settings.shape, data.train.geometry, shape_data, checkpoint_dir=folder.tasks / "shape", **common
        )
        context = energy_data.train.context
        assert context is not None
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
            "stages": {"energy": first.summary, "shape": second.summary},
            "seconds": time.perf_counter() - started,
        }
        stages = (("energy", first.history), ("shape", second.history))
        history = pd.concat([table.assign(stage=name) for name, table in stages if table is not None])
        save_generator(
            generator, folder / MODEL, history=history, provenance={"seed": settings.seed, **summary}, config=settings
        )
        write_json(folder / "results.json", summary)
        folder.finish()
    return generator
