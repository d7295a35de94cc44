"""The command ``fastsim steps``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from cathode.support.errors import UserError
from cathode.support.files import write_json
from fastsim.data import check_output, read_showers
from fastsim.generators.commands import find_model
from fastsim.generators.generator import load_generator
from fastsim.generators.steps.curve import Metric, steps_curve

__all__ = ["Steps", "run_steps"]


@dataclass(frozen=True)
class Steps:
    """Measure quality against the number of steps, of a generator and of its distilled students."""

    model: Annotated[Path, tyro.conf.Positional]
    """Model folder whose shape stage is a flow matching or a diffusion."""
    reference: str
    """File of showers (or sample:NAME) of full simulation that the showers are compared with."""
    output: Path
    """JSON file to write."""
    students: tuple[Path, ...] = ()
    """Model folders with distilled shape stages; each is called by the name of its folder."""
    metric: Metric = "wasserstein"
    """wasserstein (of the high-level vector), auc-high or auc-low (boosted trees)."""
    solvers: tuple[str, ...] = ("euler", "midpoint", "rk4")
    """Solvers of the generator."""
    teacher_steps: tuple[int, ...] = (2, 4, 8, 16)
    """Their steps."""
    student_steps: tuple[int, ...] = (1, 2, 4)
    """Steps of the students."""
    n: int | None = None
    """Showers of the reference that are used; default: all."""
    batch_size: int = 1000
    """Showers generated at once."""
    seed: int = 1
    """Seed of the showers."""
    overwrite: bool = False
    """Replace a file that is there."""


def run_steps(command: Steps) -> None:
    """Write the curve and print it as a table.

    Raises:
        UserError: No such model or file, or settings that do not fit them; nothing is written then.
    """
    check_output(command.output, overwrite=command.overwrite)
    generator = load_generator(find_model(command.model))
    students = {path.name: load_generator(find_model(path)) for path in command.students}
    if len(students) < len(command.students):
        raise UserError("two students have folders of the same name: rename one of them")
    if command.n is not None and command.n < 2:
        raise UserError(f"n is {command.n}: comparing needs at least 2 showers")
    reference = read_showers(command.reference, generator.geometry, stop=command.n).cut(generator.threshold)
    rows = steps_curve(
        generator,
        reference,
        students=students,
        metric=command.metric,
        solvers=command.solvers,
        teacher_steps=command.teacher_steps,
        student_steps=command.student_steps,
        seed=command.seed,
        batch_size=command.batch_size,
    )
    content = {
        "schema": 1,
        "model": str(command.model),
        "reference": command.reference,
        "showers": len(reference),
        "metric": command.metric,
        "batch_size": command.batch_size,
        "seed": command.seed,
        "rows": [asdict(row) for row in rows],
    }
    write_json(command.output, content)
    lines = [f"{'':20s} {'solver':10s} {'steps':>5s} {'evaluations':>11s} {'ms/shower':>10s} {command.metric:>12s}"]
    for row in rows:
        count = "" if row.evaluations is None else str(row.evaluations)
        lines.append(
            f"{row.name:20s} {row.solver:10s} {row.steps:5d} {count:>11s} {1e3 * row.seconds_per_event:10.4g} "
            f"{row.distance:12.5g}"
        )
    print("\n".join(lines))
