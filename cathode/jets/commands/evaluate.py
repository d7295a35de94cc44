"""The command ``cathode jets evaluate``: what it takes and computes.

:func:`cathode.report.jets.command.run_evaluate` runs it and writes the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from cathode.jets.evaluation import JetsEvaluation
    from cathode.jets.schema import Jets

__all__ = ["EvaluateJets", "evaluate_files", "output_folder"]


@dataclass(frozen=True)
class EvaluateJets:
    """Judge generated jets: JetNet metrics, substructure, two-sample tests; numbers and one HTML report."""

    reference: Annotated[str, tyro.conf.Positional]
    """True jets that the generator never saw, in any format that is read, or sample:NAME."""
    generated: Annotated[str, tyro.conf.Positional]
    """Generated jets, with the conditions of the reference if the generator has any."""
    output: Path | None = None
    """Folder for the results; default: runs/evaluation-NAME-OF-GENERATED."""
    particles: int | None = None
    """Compare the leading so many constituents of every jet; default: all."""
    own_axis: bool = False
    """Coordinates relative to the sum of the compared constituents instead of the axis in the files."""
    reference_rows: tuple[int, int] | None = None
    """Rows of the reference to use, FIRST STOP: the ones that were kept for testing."""
    generated_rows: tuple[int, int] | None = None
    """Rows of the generated file to use, FIRST STOP."""
    truth: str | None = None
    """More true jets: the floor compares them with the reference, instead of two halves of the reference."""
    truth_rows: tuple[int, int] | None = None
    """Rows of --truth to use, FIRST STOP."""
    max_jets: int | None = None
    """Use at most so many jets of each sample, drawn at random."""
    quick: bool = False
    """Less thorough: fewer jets for classifiers, a smaller transformer, fewer distances for coverage."""
    coverage: bool = True
    """Coverage and minimum matching distance; they take minutes."""
    classifiers: bool = True
    """Two-sample test with boosted trees on the observables."""
    transformer: bool = True
    """Two-sample test with a transformer on the constituents; it takes most of the time."""
    floor: bool = True
    """Compare truth with truth too: the values that a perfect generator would get."""
    fpnd: Path | None = None
    """Folder of the JetNet library's ParticleNet (fpnd_resources/jetnet/30_particles), for FPND."""
    fpnd_type: str | None = None
    """Compare with the library's own jets of type g, q or t instead of the reference (FPND only)."""
    name: str = ""
    """What to call the generator; default: the name of its file."""
    seed: int = 0
    """Of draws, splits and classifiers."""
    overwrite: bool = False
    """Replace an earlier evaluation in the output folder."""


def output_folder(command: EvaluateJets) -> Path:
    """Where the results go."""
    return command.output or Path("runs") / f"evaluation-{_stem(command)}"


def evaluate_files(command: EvaluateJets) -> JetsEvaluation:
    """Read the files and evaluate.

    Raises:
        UserError: Unusable files or settings.
    """
    from cathode.jets.evaluation import JetsEvaluationSettings, evaluate_jets
    from cathode.support.threads import limit_threads

    settings = JetsEvaluationSettings(
        particles=command.particles,
        own_axis=command.own_axis,
        quick=command.quick,
        max_jets=command.max_jets,
        coverage=command.coverage,
        classifiers=command.classifiers,
        transformer=command.transformer,
        floor=command.floor,
        fpnd=None if command.fpnd is None else str(command.fpnd),
        fpnd_type=command.fpnd_type,
        seed=command.seed,
    )
    limit_threads()
    reference = _read(command.reference, command.reference_rows, "reference-rows", command.particles)
    generated = _read(command.generated, command.generated_rows, "generated-rows", command.particles)
    truth = None
    if command.truth is not None:
        truth = _read(command.truth, command.truth_rows, "truth-rows", command.particles)
    return evaluate_jets(
        reference,
        generated,
        settings,
        truth=truth,
        name=command.name or _stem(command),
        sources=(command.reference, command.generated),
    )


def _read(path: str, rows: tuple[int, int] | None, option: str, particles: int | None) -> Jets:
    from cathode.jets.readers import read_jets
    from cathode.support.errors import UserError

    if rows is not None and not 0 <= rows[0] < rows[1]:
        raise UserError(f"{option} must be FIRST STOP with 0 <= FIRST < STOP, got {rows[0]} {rows[1]}")
    start, stop = (0, None) if rows is None else rows
    return read_jets(path, start=start, stop=stop, particles=particles)


def _stem(command: EvaluateJets) -> str:
    return Path(command.generated.removeprefix("sample:")).stem
