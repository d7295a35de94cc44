"""Training of a shower generator: two fits that know nothing of each other."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pandas as pd

from cathode.run.folder import RunFolder
from cathode.support.files import write_json
from fastsim.generators.data import find_geometry, learning_data
from fastsim.generators.generator import ShowerGenerator, load_generator, save_generator
from fastsim.generators.settings import GeneratorSettings
from fastsim.generators.stages import check_stages, fit_energy, fit_shape

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
        folder.finish()
        return load_generator(folder / MODEL)
    check_stages(settings, find_geometry(settings.data))
    data = learning_data(settings.data, seed=settings.seed)
    common: dict[str, Any] = {"threshold": settings.data.threshold, "seed": settings.seed}
    with folder.open(settings, loggers=("cathode", "fastsim")):
        logger.info("%d showers to train on, %d to validate", data.counts["train"], data.counts["validation"])
        started = time.perf_counter()
        first = fit_energy(settings.energy, data.energy, checkpoint_dir=folder.tasks / "energy", **common)
        logger.info("the energy stage is trained: %s", first.summary)
        second = fit_shape(settings.shape, data.geometry, data.shape, checkpoint_dir=folder.tasks / "shape", **common)
        logger.info("the shape stage is trained: %s", second.summary)
        context = data.energy.train.context
        assert context is not None
        ranges = [[float(column.min()), float(column.max())] for column in context.T]
        generator = ShowerGenerator(
            first.density,
            second.density,
            {"layout": data.geometry.to_dict()},
            settings.data.threshold,
            ranges[0],
            list(data.condition_names),
            ranges[1:],
        ).eval()
        summary: dict[str, Any] = {
            "schema": 1,
            "showers": data.counts,
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
