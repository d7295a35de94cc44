"""The command ``cathode jets distill``: what it takes; :mod:`cathode.run.jets` runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from cathode.jets.commands.train import find_model
from cathode.support.errors import UserError

if TYPE_CHECKING:
    from cathode.jets.generators.distill import DistillJetsSettings

__all__ = ["DistillJets", "distillation_settings"]


@dataclass(frozen=True)
class DistillJets:
    """Distil the constituents of a trained generator (flow matching or EDM) into a student of few steps."""

    model: Annotated[Path, tyro.conf.Positional]
    """Model folder of the teacher, or the folder of its training run."""
    output: Path
    """Folder for the results; the new model is in its folder 'model'."""
    jets: tuple[str, ...] = ()
    """Files of jets (or sample:NAME) like those that the teacher was trained on; default: these, and their rows."""
    method: Literal["mean-flow", "consistency"] = "mean-flow"
    """Kind of student."""
    objective: Literal["identity", "trajectory"] = "identity"
    """Of mean flow: learn from jets, or from paths of the teacher alone."""
    steps: int = 1
    """Network evaluations of the student, for example 1, 2 or 4."""
    rows: Annotated[str | None, tyro.conf.arg(metavar="FIRST:STOP")] = None
    """First row to use and the one after the last, of all files together; default: all."""
    exclude_mass: tuple[float, float] | None = None
    """Leave out events of this dijet mass [TeV], LOW HIGH: the signal region of a search that the model will serve."""
    width: int | None = None
    """Width of the student's network; default: the teacher's network."""
    blocks: int | None = None
    """Its blocks or layers."""
    epochs: int | None = None
    """Passes over the jets."""
    minutes: float | None = None
    """Stop after this time; the result then depends on the speed of the machine."""
    budget: Literal["wall", "cpu"] = "wall"
    """Whether --minutes counts wall or CPU time."""
    batch_size: int | None = None
    """Jets per step of the training."""
    learning_rate: float | None = None
    """Peak learning rate."""
    seed: int = 1
    """Of split and training."""
    device: str = "auto"
    """auto, cpu or cuda."""
    resume: bool = False
    """Continue a run that was killed, to the same result."""


def distillation_settings(command: DistillJets) -> DistillJetsSettings:
    """The settings that ``command`` asks for.

    Raises:
        UserError: Values out of range.
    """
    from dataclasses import replace

    from cathode.jets.generators.distill import DistillJetsSettings

    settings = DistillJetsSettings(
        model=str(find_model(command.model)),
        **_data(command),
        method=command.method,
        objective=command.objective,
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
    return replace(settings, training=training)


def _data(command: DistillJets) -> dict[str, Any]:
    """The jets to learn from: given, or those of the teacher."""
    from cathode.jets.generators.distill import teachers_data

    if command.jets:
        return {"jets": command.jets, "rows": parse_rows(command.rows), "exclude_mass": command.exclude_mass}
    if command.rows is not None or command.exclude_mass is not None:
        raise UserError("--rows and --exclude-mass need --jets: without it the jets are those of the teacher")
    data = teachers_data(find_model(command.model))
    files = data["jets"]
    made: dict[str, Any] = {"jets": (files,) if isinstance(files, str) else tuple(files)}
    for name in ("rows", "exclude_mass"):
        made[name] = None if data.get(name) is None else tuple(data[name])
    return {**made, "format": data.get("format", "auto")}


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
