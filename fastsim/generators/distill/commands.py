"""The command ``fastsim distill``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from cathode.support.errors import UserError
from fastsim.generators.commands import find_model
from fastsim.generators.distill.shape import DistillSettings, distill
from fastsim.generators.train import MODEL

__all__ = ["Distill", "run_distill"]


@dataclass(frozen=True)
class Distill:
    """Distil the shape stage of a trained generator (flow matching or EDM) into one of few steps."""

    model: Annotated[Path, tyro.conf.Positional]
    """Model folder of the teacher, or the folder of its training run."""
    data: tuple[str, ...]
    """Files of showers (or sample:NAME) of full simulation, in the geometry of the model."""
    output: Path
    """Folder for the results; the new model is in its folder 'model'."""
    method: Literal["mean-flow", "consistency", "bespoke"] = "mean-flow"
    """mean-flow, consistency, or bespoke: the teacher's network with a learned solver."""
    steps: int = 1
    """Network evaluations of the student, for example 1, 2 or 4."""
    rows: Annotated[str | None, tyro.conf.arg(metavar="FIRST:STOP")] = None
    """First row to use and the one after the last, of all files together; default: all."""
    width: int | None = None
    """Width of the student's network; default: the teacher's network."""
    blocks: int | None = None
    """Its blocks."""
    epochs: int | None = None
    """Passes over the showers."""
    minutes: float | None = None
    """Stop after this time; the result then depends on the speed of the machine."""
    budget: Literal["wall", "cpu"] = "wall"
    """Whether --minutes counts wall or CPU time."""
    batch_size: int | None = None
    """Showers per step of the training."""
    learning_rate: float | None = None
    """Peak learning rate."""
    seed: int = 1
    """Of split and training."""
    device: str = "auto"
    """auto, cpu or cuda."""
    resume: bool = False
    """Continue a run that was killed, to the same result."""


def run_distill(command: Distill) -> None:
    """Write the model that ``command`` describes.

    Raises:
        UserError: No such model or data, or a model that cannot be distilled; nothing is written then.
    """
    settings = DistillSettings(
        model=str(find_model(command.model)),
        showers=command.data,
        rows=parse_rows(command.rows),
        method=command.method,
        steps=command.steps,
        width=command.width,
        blocks=command.blocks,
        seed=command.seed,
    )
    given: dict[str, Any] = {
        "epochs": command.epochs,
        "max_seconds": None if command.minutes is None else 60 * command.minutes,
        "budget": command.budget,
        "batch_size": command.batch_size,
        "learning_rate": command.learning_rate,
        "device": command.device,
    }
    training = replace(settings.training, **{name: value for name, value in given.items() if value is not None})
    distill(replace(settings, training=training), output=command.output, resume=command.resume)
    print(f"model: {command.output / MODEL}")


def parse_rows(text: str | None) -> tuple[int, int] | None:
    """``FIRST:STOP`` as two numbers.

    Raises:
        UserError: Anything else.
    """
    if text is None:
        return None
    first, colon, stop = text.partition(":")
    if not (colon and first.isdecimal() and stop.isdecimal() and int(first) < int(stop)):
        raise UserError(f"rows must be FIRST:STOP with FIRST below STOP, got {text!r}")
    return int(first), int(stop)
