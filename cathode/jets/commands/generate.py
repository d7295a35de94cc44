"""The command ``cathode jets generate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from cathode.jets.commands.train import find_model
from cathode.support.errors import UserError
from cathode.support.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cathode.jets.generators import Conditions, JetGenerator
    from cathode.jets.schema import Jets

__all__ = ["GenerateJets", "run_generate", "with_steps"]


@dataclass(frozen=True)
class GenerateJets:
    """Generate jets with a trained model: their kinematics too, or those of jets in a file."""

    model: Annotated[Path, tyro.conf.Positional]
    """Model folder, or the folder of a training run."""
    output: Path
    """File to write (HDF5)."""
    count: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None
    """Number of jets; with --like the first so many of the file, default: all."""
    like: str | None = None
    """File of jets (or sample:NAME) whose kinematics, multiplicities and types are repeated in order."""
    start: int = 0
    """With --like: first row of the file; rows are jets, or events in files of events."""
    type: int | None = None
    """Without --like, for a generator of several types of jets: the one to make; default: all, as in training."""
    steps: int | None = None
    """Solver steps, or evaluations of a student; default: those of the model."""
    leading: int | None = None
    """Only so many constituents of each jet, those of largest pT; for generators that draw them in that order."""
    batch_size: int = 1000
    """Jets generated at once; bounds the memory, and does not change the jets."""
    seed: int = 1
    """Seed of the jets."""
    device: str = "auto"
    """auto, cpu or cuda."""
    overwrite: bool = False
    """Replace a file that is there."""


def run_generate(command: GenerateJets) -> str:
    """Write the file that ``command`` describes; returns what there is to say.

    Raises:
        UserError: No such model, or conditions that do not fit it; nothing is written then.
    """
    from cathode.jets.generators import generate_chunks, load_generator
    from cathode.jets.writers import write_jets
    from cathode.training.environment import choose_device, own_threads

    if command.like is None and command.count is None:
        raise UserError("say how many jets: give --count N or --like FILE")
    if command.count is not None and command.count < 1:
        raise UserError(f"the number of jets must be positive, got --count {command.count}")
    if command.like is not None and command.type is not None:
        raise UserError("--type and --like exclude each other: the file has the types")
    if command.batch_size < 1 or command.seed < 0:
        raise UserError(
            f"the batch size must be positive and the seed not negative, got {command.batch_size} and {command.seed}"
        )
    if command.output.exists() and not command.overwrite:
        raise UserError(f"{command.output} exists: add --overwrite or choose another --output")
    generator = load_generator(find_model(command.model), device=choose_device(command.device))
    if command.steps is not None:
        generator = with_steps(generator, command.steps)
    conditions = _conditions(command, generator)
    seconds, inexact = 0.0, 0

    def made() -> Iterator[Jets]:
        nonlocal seconds, inexact
        for part in generate_chunks(
            generator, conditions, seed=command.seed, batch_size=command.batch_size, leading=command.leading
        ):
            seconds, inexact = seconds + part.seconds, inexact + part.inexact
            bar.update(len(part.jets))
            yield part.jets

    with own_threads(), progress(description="generating", total=conditions.count, unit="jet") as bar:
        write_jets(made(), command.output)
    speed = 1e3 * seconds / conditions.count
    note = f", {inexact} do not add up exactly" if generator.conserve != "none" and command.leading is None else ""
    return f"{conditions.count} jets{note}, {speed:.3g} ms per jet: {command.output}"


def with_steps(generator: JetGenerator, steps: int) -> JetGenerator:
    """The same generator with another number of steps of its solver or student.

    Raises:
        UserError: Its constituents are not generated in steps.
    """
    from cathode.density.distillation import at_steps

    return generator.with_points(at_steps(generator.cloud.points, steps))


def _conditions(command: GenerateJets, generator: JetGenerator) -> Conditions:
    from cathode.jets.generators import conditions_like, drawn_conditions
    from cathode.jets.readers import JetFile

    if command.like is None:
        return drawn_conditions(generator, command.count or 0, seed=command.seed, jet_type=command.type)
    file = JetFile(command.like, particles=generator.particles, own_axis=generator.complete)
    available = (len(file) - command.start) * file.jets_per_row
    if command.start < 0 or available < 1:
        raise UserError(f"--start {command.start} is outside of {command.like}, which has {len(file)} rows")
    count = available if command.count is None else command.count
    if count > available:
        raise UserError(f"--count {count}: {command.like} has {available} jets from row {command.start} on")
    rows = -(-count // file.jets_per_row)
    jets = file.read(command.start, command.start + rows).select(slice(0, count))
    return conditions_like(generator, jets)
