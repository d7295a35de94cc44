"""The commands ``fastsim train`` and ``fastsim generate``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from cathode.run.config import load_settings, settings_yaml
from cathode.support.errors import UserError
from cathode.support.files import sha256_of
from cathode.support.progress import progress
from cathode.support.seeding import numpy_generator
from cathode.training.environment import choose_device
from fastsim.data import ShowerFile, ShowerWriter, check_output
from fastsim.data.formats.base import unnamed
from fastsim.data.incident import incident_energies
from fastsim.generators.generate import check_incident, generate_chunks
from fastsim.generators.generator import ShowerGenerator, load_generator
from fastsim.generators.settings import GeneratorSettings
from fastsim.generators.train import MODEL, train

__all__ = ["Generate", "Train", "find_model", "run_generate", "run_train"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Train:
    """Train a shower generator: layer energies, then voxels given these."""

    config: Annotated[Path, tyro.conf.Positional]
    """Configuration file (YAML)."""
    output: Path | None = None
    """Folder for the results; default: runs/NAME-OF-CONFIG."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Settings that override the file, for example shape.training.epochs=10 data.rows=[0,40000]."""
    resume: bool = False
    """Continue a run that was killed, to the same result."""
    print_config: bool = False
    """Print the full resolved configuration and stop."""


@dataclass(frozen=True)
class Generate:
    """Generate showers with a trained model."""

    model: Annotated[Path, tyro.conf.Positional]
    """Model folder, or the folder of a training run."""
    output: Path
    """File to write (CaloChallenge HDF5)."""
    energies: tuple[str, ...] = ()
    """Incident energies [MeV]: one or more values, taken in turn, or LOW:HIGH (log-uniform), or LOW:HIGH:flat."""
    like: str | None = None
    """File of showers (or sample:NAME) whose incident energies and conditions are repeated in order."""
    start: int = 0
    """With --like: first row to repeat."""
    n: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None
    """Number of showers; default: as many as --like has, or 1000."""
    batch_size: int = 1000
    """Showers generated at once; bounds the memory, and does not change the showers."""
    seed: int = 1
    """Seed of the showers."""
    device: str = "auto"
    """auto, cpu or cuda."""
    resume: bool = False
    """Continue a run that was killed, to the same file."""
    overwrite: bool = False
    """Replace a file that is there."""


def run_train(command: Train) -> None:
    """Train as ``command`` says.

    Raises:
        UserError: Unusable configuration, data or output folder.
    """
    settings = load_settings(GeneratorSettings, command.config, command.set)
    if command.print_config:
        print(settings_yaml(settings), end="")
        return
    output = command.output or Path("runs") / command.config.stem
    train(settings, output=output, resume=command.resume)
    print(f"model: {output / MODEL}")


def find_model(path: Path) -> Path:
    """The model folder: ``path`` itself, or the one inside a training run."""
    return path / MODEL if (path / MODEL).is_dir() else path


def run_generate(command: Generate) -> None:
    """Write the file that ``command`` describes.

    Raises:
        UserError: No such model, or energies and conditions that do not fit it; nothing is written then.
    """
    if command.n is not None and command.n < 1:
        raise UserError(f"the number of showers must be positive, got -n {command.n}")
    if (command.like is None) == (not command.energies):
        raise UserError("give either --energies or --like FILE")
    folder = find_model(command.model)
    if command.batch_size < 1 or command.seed < 0:
        raise UserError(
            f"the batch size must be positive and the seed not negative, got {command.batch_size} and {command.seed}"
        )
    generator = load_generator(folder, device=choose_device(command.device))
    incident, conditions = _incident(command, generator)
    context = check_incident(generator, incident, conditions)
    identity = {
        "model": [sha256_of(folder / name) for name in ("config.yaml", "weights.safetensors")],
        "seed": command.seed,
        "energies": list(command.energies),
        "like": command.like,
        "start": command.start,
        "n": len(context),
    }
    if check_output(command.output, overwrite=command.overwrite, resume=command.resume, identity=identity):
        print(f"finished already: {command.output}")
        return
    names = generator.condition_names
    with ShowerWriter(
        command.output, generator.geometry, condition_names=names, resume=command.resume, identity=identity
    ) as writer:
        done = len(writer)
        with progress(description="generating", total=len(context), unit="shower") as bar:
            bar.update(done)
            for part in generate_chunks(
                generator, context, seed=command.seed, batch_size=command.batch_size, first=done
            ):
                writer.append(part.showers, {"redrawn": part.redrawn, "seconds": part.seconds})
                bar.update(len(part.showers))
        redrawn = int(writer.counts["redrawn"])
        speed = 1e3 * writer.counts["seconds"] / len(context)
        writer.attributes.update(
            {
                "model": str(folder),
                "seed": command.seed,
                "redrawn": redrawn,
                "milliseconds_per_shower": speed,
                "batch_size": command.batch_size,
                "device": str(next(generator.parameters()).device),
            }
        )
    print(f"{len(context)} showers, {redrawn} redrawn, {speed:.3g} ms per shower: {command.output}")


def _incident(command: Generate, generator: ShowerGenerator) -> tuple[np.ndarray, np.ndarray | None]:
    if command.like is None:
        if generator.condition_names:
            raise UserError(
                f"this generator is conditioned on {', '.join(generator.condition_names)}: give them with --like FILE"
            )
        count = 1000 if command.n is None else command.n
        return incident_energies(command.energies, count, numpy_generator(command.seed, "energies")), None
    file = ShowerFile(command.like, generator.geometry)
    available = len(file) - command.start
    if command.start < 0 or available < 1:
        raise UserError(f"--start {command.start} is outside of {command.like}, which has {len(file)} showers")
    count = available if command.n is None else command.n
    # Showers beyond the end of the file repeat it from --start on.
    rows = command.start + np.arange(count) % available
    incident = np.asarray(file.incident_energies())[rows]
    if not generator.condition_names:
        return incident, None
    names = {tuple(file.condition_names), tuple(generator.condition_names)}
    # Files need not name their conditions: then only their number can be checked.
    if len(names - {unnamed(len(generator.condition_names))}) > 1 or len({len(n) for n in names}) > 1:
        raise UserError(
            f"{command.like} has the conditions {list(file.condition_names)}, "
            f"the generator needs {list(generator.condition_names)}"
        )
    conditions = file.read(command.start, command.start + min(count, available)).conditions
    assert conditions is not None
    return incident, conditions[rows - command.start]
