"""Runs of ``cathode jets``: configuration in, run folder out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from cathode.jets.commands.distill import DistillJets, distillation_settings
from cathode.jets.commands.train import MODEL, TrainJets
from cathode.run.config import load_settings, settings_yaml
from cathode.run.folder import RunFolder
from cathode.support.files import write_json

__all__ = ["run_distill_jets", "run_train_jets"]


def run_train_jets(command: TrainJets) -> str:
    """Train a jet generator and write it to ``output/model``; returns what there is to say.

    Raises:
        UserError: Unusable configuration, data or output folder; nothing is written then.
    """
    from cathode.jets.generators import JetGeneratorSettings, fit_generator, learn_from, save_generator

    settings = load_settings(JetGeneratorSettings, command.config, command.set)
    if command.print_config:
        return settings_yaml(settings).rstrip("\n")
    folder = RunFolder(command.output or Path("runs") / command.config.stem)
    folder.check(settings, resume=command.resume)
    if command.resume and folder.finished:
        folder.finish()
        return f"this run is finished: {folder / MODEL}"
    data = learn_from(settings)
    with folder.open(settings):
        made = fit_generator(settings, data, checkpoint_dir=folder.tasks)
        save_generator(
            made.generator,
            folder / MODEL,
            history=made.history,
            provenance={"seed": settings.seed, **made.summary},
            config=settings,
        )
        write_json(folder / "results.json", made.summary)
        folder.finish()
    return f"model: {folder / MODEL}"


def run_distill_jets(command: DistillJets) -> str:
    """Distil a jet generator and write the new one to ``output/model``; returns what there is to say.

    Raises:
        UserError: Unusable settings, model, data or output folder; nothing is written then.
    """
    from cathode.jets.generators import load_generator, save_generator
    from cathode.jets.generators.distill import check_teacher, distill_generator, distillation_jets, teachers_data

    settings = distillation_settings(command)
    folder = RunFolder(command.output)
    folder.check(settings, resume=command.resume)
    if command.resume and folder.finished:
        folder.finish()
        return f"this run is finished: {folder / MODEL}"
    teacher = load_generator(settings.model)
    check_teacher(teacher, settings)
    data = distillation_jets(teacher, settings)
    # With other jets than its teacher's, a student has seen more than one section can say.
    config = dataclasses.asdict(settings)
    if not command.jets:
        config = {"data": teachers_data(settings.model), **config}
    with folder.open(settings):
        made = distill_generator(teacher, data, settings, checkpoint_dir=folder.tasks)
        save_generator(
            made.generator,
            folder / MODEL,
            history=made.history,
            provenance={"seed": settings.seed, **made.summary},
            config=config,
        )
        write_json(folder / "results.json", made.summary)
        folder.finish()
    return f"model: {folder / MODEL}"
