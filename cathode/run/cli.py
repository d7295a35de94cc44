"""The command ``cathode``: resonance searches, background templates, the data for them, and generators of jets.

Exit codes: 0 done, 1 a bug, 2 unusable input (one line says what, where and what to do), 130 interrupted.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from cathode.jets.commands.convert import ConvertJets
from cathode.jets.commands.distill import DistillJets
from cathode.jets.commands.evaluate import EvaluateJets
from cathode.jets.commands.generate import GenerateJets
from cathode.jets.commands.observables import Observables
from cathode.jets.commands.pretrain import PretrainJets
from cathode.jets.commands.train import TrainJets
from cathode.jets.generate.settings import GenerateSettings
from cathode.support.errors import UserError

if TYPE_CHECKING:
    from cathode.search.settings import SearchSettings

__all__ = ["main"]


@dataclass(frozen=True)
class Job:
    """What every job takes."""

    config: Annotated[Path, tyro.conf.Positional]
    """Configuration file (YAML)."""
    output: Path | None = None
    """Folder for the results; default: runs/NAME-OF-CONFIG."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Settings that override the file, for example density.members=4 regions.signal=[2.5,2.9]."""
    resume: bool = False
    """Continue a run that was killed, to the same result."""
    print_config: bool = False
    """Print the full resolved configuration and stop."""


@dataclass(frozen=True)
class Search(Job):
    """Search for a resonance: density in the sidebands, template, classifier, significance, report."""

    truth: str | None = None
    """Truth column of the data files; used for evaluation alone, when all scores are final."""


@dataclass(frozen=True)
class Template(Job):
    """Make the background template alone: weighted events and histograms with uncertainties."""

    format: Literal["h5", "parquet", "root"] = "h5"
    """Format of the template's events."""


@dataclass(frozen=True)
class Info:
    """Describe a file: format, events, columns, ranges, missing values, units."""

    file: Annotated[str, tyro.conf.Positional]
    """File, or sample:NAME."""


@dataclass(frozen=True)
class Convert:
    """Convert events between formats, chosen by the suffix of the output; LHCO raw files are clustered."""

    input: Annotated[str, tyro.conf.Positional]
    """File in any format that is read."""
    output: Annotated[Path, tyro.conf.Positional]
    """File to write: .h5, .parquet, .csv, .npz or .root."""
    mass: str = "mjj"
    """Column or expression of the mass."""
    features: tuple[str, ...] = ()
    """Columns or expressions to keep; default: the usual ones of the format."""
    units: Literal["auto", "GeV", "TeV"] = "auto"
    """Units of masses and momenta in the input."""
    layout: Literal["events", "lhco"] = "events"
    """Named columns, or the LHC Olympics features layout."""
    workers: int = 1
    """Processes that cluster a raw file."""


@dataclass(frozen=True)
class Download:
    """Download a public data set from Zenodo with its checksum; continues where it was cut off."""

    name: Annotated[str | None, tyro.conf.Positional] = None
    """Name of the data set; without one, the known names are listed."""
    folder: Path = Path(".")
    """Where to put it."""
    base_url: str | None = None
    """Another server with Zenodo's interface."""


@dataclass(frozen=True)
class Generate:
    """Generate LHC Olympics-like events with Pythia 8 and FastJet (extra: generate)."""

    output: Annotated[Path, tyro.conf.Positional]
    """Features file to write."""
    settings: Annotated[GenerateSettings, tyro.conf.arg(name="")] = field(default_factory=GenerateSettings)
    processes: int = 1
    """Number of processes; the events do not depend on it."""
    raw: Path | None = None
    """Also write all particles in the LHC Olympics raw layout."""
    constituents: Path | None = None
    """Also write the constituents of the two leading jets."""
    overwrite: bool = False
    """Replace an output that holds something else."""


def _settings(job: Job, name: str) -> tuple[SearchSettings, Path] | None:
    from cathode.run.config import load_settings, settings_yaml
    from cathode.search.settings import SearchSettings

    settings = load_settings(SearchSettings, job.config, job.set)
    if isinstance(job, Search) and job.truth is not None:
        settings = replace(settings, evaluation=replace(settings.evaluation, truth=job.truth))
    if job.print_config:
        print(settings_yaml(settings), end="")
        return None
    return settings, job.output or Path("runs") / f"{job.config.stem}{name}"


def _search(job: Search) -> None:
    found = _settings(job, "")
    if found is None:
        return
    settings, output = found
    from cathode.run.folder import RunFolder
    from cathode.run.search import run_search
    from cathode.run.summary import summary_lines

    folder = RunFolder(output)
    if job.resume and folder.finished:
        folder.check(settings, resume=True)
        print(f"this run is finished: {output / 'report.html'}")
        return
    result = run_search(settings, output=output, resume=job.resume)
    print("\n".join(summary_lines(result)))
    print(f"report: {output / 'report.html'}")


def _template(job: Template) -> None:
    found = _settings(job, "-template")
    if found is None:
        return
    settings, output = found
    from cathode.run.search import run_template

    summary = run_template(settings, output=output, resume=job.resume, file_format=job.format)
    print(
        f"{summary.counts['template']} template events for {summary.expected:.1f} +- {summary.expected_error:.1f} "
        f"expected background events ({summary.normalisation}): {output / f'template.{job.format}'}"
    )


def _info(command: Info) -> None:
    from cathode.data.commands import info

    print(info(command.file))


def _convert(command: Convert) -> None:
    from cathode.data.commands import convert, info

    if Path(command.input).exists() and info(command.input).format == "lhco-raw":
        from cathode.jets.raw import features_from_raw

        made = features_from_raw(command.input, command.output, workers=command.workers)
        print(f"{made.events} events clustered into {made.path}")
        return
    print(
        convert(
            command.input,
            command.output,
            mass=command.mass,
            features=command.features or None,
            units=command.units,
            layout=command.layout,
        )
    )


def _download(command: Download) -> None:
    from cathode.data.commands import datasets, download
    from cathode.data.download import ZENODO

    if command.name is None:
        print(datasets())
        return
    for path in download(command.name, command.folder, base_url=command.base_url or ZENODO):
        print(path)


def _generate(command: Generate) -> None:
    from cathode.jets.generate.run import generate

    made = generate(
        command.settings,
        command.output,
        raw=command.raw,
        constituents=command.constituents,
        processes=command.processes,
        overwrite=command.overwrite,
    )
    files = ", ".join(str(p) for p in (made.features, made.raw, made.constituents, made.provenance) if p is not None)
    print(f"{made.events} events accepted of {made.collisions} collisions: {files}")


def _train_jets(command: TrainJets) -> None:
    from cathode.run.jets import run_train_jets

    print(run_train_jets(command))


def _distill_jets(command: DistillJets) -> None:
    from cathode.run.jets import run_distill_jets

    print(run_distill_jets(command))


def _evaluate_jets(command: EvaluateJets) -> None:
    from cathode.report.jets.command import run_evaluate

    print("\n".join(run_evaluate(command)))


def _convert_jets(command: ConvertJets) -> None:
    from cathode.jets.commands.convert import run_convert

    print(run_convert(command))


def _pretrain_jets(command: PretrainJets) -> None:
    from cathode.jets.commands.pretrain import run_pretrain

    print(f"encoder: {run_pretrain(command)}")


def _jet_observables(command: Observables) -> None:
    from cathode.jets.commands.observables import run_observables

    print(run_observables(command))


def _generate_jets(command: GenerateJets) -> None:
    from cathode.jets.commands.generate import run_generate

    print(run_generate(command))


_COMMANDS: dict[type[Any], Callable[[Any], None]] = {
    Search: _search,
    Template: _template,
    Info: _info,
    Convert: _convert,
    Download: _download,
    Generate: _generate,
    TrainJets: _train_jets,
    DistillJets: _distill_jets,
    GenerateJets: _generate_jets,
    EvaluateJets: _evaluate_jets,
    ConvertJets: _convert_jets,
    Observables: _jet_observables,
    PretrainJets: _pretrain_jets,
}


_JETS: dict[str, type[Any]] = {
    "train": TrainJets,
    "generate": GenerateJets,
    "distill": DistillJets,
    "evaluate": EvaluateJets,
    "convert": ConvertJets,
    "observables": Observables,
    "pretrain": PretrainJets,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words in (["--version"], ["-V"]):
        from cathode.support.provenance import versions

        print(versions()["cathode-hep"])
        return 0
    data = tyro.extras.SubcommandApp()
    for name, kind in (("info", Info), ("convert", Convert), ("download", Download), ("generate", Generate)):
        data.command(name=name)(kind)
    jets = tyro.extras.SubcommandApp()
    for name, kind in _JETS.items():
        jets.command(name=name)(kind)
    app = tyro.extras.SubcommandApp()
    app.command(name="search")(Search)
    app.command(name="template")(Template)
    app.command(data, name="data")
    app.command(jets, name="jets")
    try:
        command = app.cli(prog="cathode", description=__doc__, args=words)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else (0 if stop.code is None else 2)
    except BrokenPipeError:
        return _reader_is_gone()
    # The run's own log file takes everything; the terminal only what deserves attention.
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    logging.basicConfig(handlers=[handler], format="%(levelname)s: %(message)s")
    try:
        _COMMANDS[type(command)](command)
    except UserError as error:
        print(f"cathode: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return _reader_is_gone()
    except KeyboardInterrupt:
        print("cathode: interrupted; the same command with --resume continues", file=sys.stderr)
        return 130
    return 0


def _reader_is_gone() -> int:
    """Of our output (cathode … | head): Python would complain again when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
