"""The command ``fastsim evaluate``: two files of showers in, a folder with numbers, pictures and one page out."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fastsim.evaluation.procedure import Dataset, Mode

__all__ = ["Evaluate", "run_evaluate"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluate:
    """Judge generated showers: observables, distances, classifiers, closure, rank; numbers and one HTML report."""

    reference: Annotated[str, tyro.conf.Positional]
    """Showers of the full simulation that the generator never saw, or sample:NAME."""
    generated: Annotated[str, tyro.conf.Positional]
    """Generated showers, with the incident energies of the reference (fastsim generate --like REFERENCE)."""
    binning: str
    """Geometry of both: ds1-photons, ds1-pions, ds2, ds3, grid-24x24x24, image-30x30, or FILE.xml[:PARTICLE]."""
    output: Path | None = None
    """Folder for the results; default: runs/evaluation-NAME-OF-GENERATED."""
    mode: Mode = "strict"
    """The published CaloChallenge procedure with its faults mended, or exactly as it was published."""
    quick: bool = False
    """Less thorough: under 3 minutes on two cores for 10,000 against 10,000 showers of 368 voxels."""
    dataset: Dataset | None = None
    """Public dataset that the reference is from; only then is the generator ranked among the published ones."""
    name: str = ""
    """What to call the generator; default: the name of its file."""
    leave_out_energy: float | None = None
    """Judge only showers of this incident energy in MeV, which the generator was not trained on."""
    match_energies: bool = False
    """Thin both samples to one spectrum of incident energies instead of refusing different ones."""
    reference_rows: tuple[int, int] | None = None
    """Rows of the reference to use, FIRST STOP: the ones that were kept for testing."""
    max_showers: int | None = None
    """Use at most so many showers of each sample, drawn at random."""
    threshold: float | None = None
    """Voxels below this energy in MeV count as zero; default: that of the public dataset with this binning."""
    training: str | None = None
    """Showers that the generator was trained on, for the amplification test."""
    against: tuple[str, str] | None = None
    """Reference and generated showers of another particle: does particle identification come out the same?"""
    timing: str = "auto"
    """Times per shower: results of fastsim latency, or auto for what fastsim generate noted in the file."""
    classifiers: bool = True
    """Train the classifiers; they take most of the time."""
    cnn: bool | None = None
    """Train the three-dimensional network too; default: where the voxels are a regular grid, but not with --quick."""
    floor: bool = True
    """Compare two halves of the reference too: the values that a perfect generator would get."""
    seed: int = 0
    """Of splits, networks, trees and draws."""
    workers: int = 0
    """Processes that train classifiers; 0: one per available core."""
    overwrite: bool = False
    """Replace an earlier evaluation in the output folder."""


def run_evaluate(command: Evaluate) -> None:
    """Evaluate, write the folder, and say in a few lines what came out.

    Raises:
        UserError: Unusable files, settings or output folder; nothing has been written then.
    """
    from cathode.run.executors import open_executor
    from cathode.support.threads import limit_threads
    from fastsim.data import read_showers
    from fastsim.evaluation.inputs import read_pair
    from fastsim.evaluation.pipeline import evaluate
    from fastsim.evaluation.settings import EvaluationSettings
    from fastsim.evaluation.timing import read_timing
    from fastsim.geometry import geometry
    from fastsim.report.folder import check_folder
    from fastsim.report.verdict import summary_lines
    from fastsim.report.write import write_evaluation

    settings = EvaluationSettings(
        mode=command.mode,
        quick=command.quick,
        threshold=command.threshold,
        dataset=command.dataset,
        leave_out_energy=command.leave_out_energy,
        match_energies=command.match_energies,
        reference_rows=command.reference_rows,
        max_showers=command.max_showers,
        classifiers=command.classifiers,
        cnn=command.cnn,
        floor=command.floor,
        seed=command.seed,
    )
    stem = Path(command.generated.removeprefix("sample:")).stem
    output = command.output or Path("runs") / f"evaluation-{stem}"
    check_folder(output, overwrite=command.overwrite)
    limit_threads()
    layout = geometry(command.binning)
    timing = read_timing(command.timing, command.generated)
    reference, generated = read_pair(command.reference, command.generated, layout, settings)
    training = None if command.training is None else read_showers(command.training, layout)
    against = None
    if command.against is not None:
        against = read_showers(command.against[0], layout), read_showers(command.against[1], layout)
    workers = command.workers or len(os.sched_getaffinity(0))
    with open_executor("local" if workers > 1 and command.classifiers else "serial", workers=workers) as executor:
        result = evaluate(
            reference,
            generated,
            settings,
            name=command.name or stem,
            sources=(command.reference, command.generated),
            training=training,
            against=against,
            timing=timing,
            executor=executor if workers > 1 else None,
        )
    write_evaluation(result, output, overwrite=command.overwrite)
    print("\n".join(summary_lines(result)))
    print(f"report: {output / 'report.html'}")
