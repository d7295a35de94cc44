"""The command ``fastsim refine``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from cathode.run.folder import RunFolder
from cathode.support.errors import UserError
from cathode.support.files import write_json
from cathode.support.seeding import derive_seed
from fastsim.data import Showers, read_showers, write_showers
from fastsim.generators.commands import find_model
from fastsim.generators.distill.commands import parse_rows
from fastsim.generators.generate import generate
from fastsim.generators.generator import ShowerGenerator, load_generator
from fastsim.generators.refine import (
    Refinement,
    RefinementSettings,
    fit_refinement,
    generate_refined,
    load_refinement,
)

__all__ = ["Refine", "run_refine"]

_REFINEMENT, _SHOWERS = "refinement", "showers.hdf5"


@dataclass(frozen=True)
class Refine:
    """Train a classifier of full simulation against a generator, and correct the generator with it (DCTR).

    The report says what the correction gains on showers that the classifier did not see, and what it costs.
    """

    model: Annotated[Path, tyro.conf.Positional]
    """Model folder, or the folder of a training run."""
    data: str
    """File of showers (or sample:NAME) of full simulation, none of which the final evaluation uses."""
    output: Path
    """Folder for the results: refinement/, results.json, and showers.hdf5 with --like."""
    rows: Annotated[str | None, tyro.conf.arg(metavar="FIRST:STOP")] = None
    """First row of the data to use and the one after the last; default: all."""
    inputs: Literal["high", "low", "both"] = "both"
    """What the classifier sees: the CaloChallenge's high-level or low-level vector, or both."""
    members: int = 3
    """Networks of the classifier, averaged."""
    epochs: int = 40
    """Of each."""
    largest_weight: float = 10.0
    """Cap on the weights; one shower in about so many is kept by rejection."""
    like: str | None = None
    """File of showers (or sample:NAME): also generate refined showers, by rejection, with these energies."""
    like_rows: Annotated[str | None, tyro.conf.arg(metavar="FIRST:STOP")] = None
    """Rows of that file; default: all."""
    batch_size: int = 1000
    """Showers generated at once."""
    seed: int = 1
    """Of everything random."""
    resume: bool = False
    """Continue a run that was killed: a classifier that is trained is used."""


def run_refine(command: Refine) -> None:
    """Write the folder that ``command`` describes.

    Raises:
        UserError: No such model or file, or showers that do not fit the model; nothing is written then.
    """
    model = find_model(command.model)
    settings = {name: value for name, value in asdict(command).items() if name not in ("output", "resume")}
    folder = RunFolder(command.output)
    frozen = _Settings({name: str(value) if isinstance(value, Path) else value for name, value in settings.items()})
    folder.check(frozen, resume=command.resume)
    if command.resume and folder.finished:
        print(f"refinement: {folder / _REFINEMENT}")
        return
    generator = load_generator(model)
    reference = _read(command.data, command.rows, generator)
    like = None if command.like is None else _read(command.like, command.like_rows, generator)
    if like is None and command.like_rows is not None:
        raise UserError("--like-rows needs --like FILE")
    chosen = RefinementSettings(
        {"kind": "mlp", "members": command.members, "epochs": command.epochs},
        inputs=command.inputs,
        largest_weight=command.largest_weight,
    )
    with folder.open(frozen):
        refinement = _refinement(command, folder, generator, reference, chosen)
        results: dict[str, Any] = {"schema": 1, "report": asdict(refinement.report) if refinement.report else None}
        if like is not None:
            made = generate_refined(
                generator,
                refinement,
                like.incident_energy,
                like.conditions,
                seed=command.seed,
                batch_size=command.batch_size,
            )
            write_showers(folder / _SHOWERS, made.showers)
            results["showers"] = {
                name: getattr(made, name)
                for name in ("drawn", "capped", "exhausted", "redrawn", "seconds", "acceptance")
            }
        write_json(folder / "results.json", results)
        folder.finish()
    report = refinement.report
    if report is not None:
        print(
            f"AUC {report.auc:.4f} before, {report.refined_auc:.4f} after; one weighted shower is worth "
            f"{report.weights.efficiency:.2f}, rejection keeps {report.weights.acceptance:.3f}"
        )
    print(f"refinement: {folder / _REFINEMENT}")


def _refinement(
    command: Refine, folder: RunFolder, generator: ShowerGenerator, reference: Showers, settings: RefinementSettings
) -> Refinement:
    path = folder / _REFINEMENT
    if command.resume and path.is_dir():
        return load_refinement(path)
    generated = generate(
        generator,
        reference.incident_energy,
        reference.conditions,
        seed=derive_seed(command.seed, "refinement", "showers"),
        batch_size=command.batch_size,
    ).showers
    refinement = fit_refinement(reference, generated, settings, threshold=generator.threshold, seed=command.seed)
    refinement.save(path)
    return refinement


def _read(file: str, rows: str | None, generator: ShowerGenerator) -> Showers:
    first, stop = parse_rows(rows) or (0, None)
    showers = read_showers(file, generator.geometry, start=first, stop=stop).cut(generator.threshold)
    if showers.condition_names != generator.condition_names:
        raise UserError(
            f"{file} has the conditions {list(showers.condition_names)}, "
            f"the generator needs {list(generator.condition_names)}"
        )
    return showers


@dataclass(frozen=True)
class _Settings:
    """What the folder remembers of the command."""

    refine: dict[str, Any]
