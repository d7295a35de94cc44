"""The jobs ``cathode search`` and ``cathode template``: from a configuration to a folder of results."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from cathode.data.events import Events
from cathode.data.injection import Truth
from cathode.data.writers import write_events
from cathode.density.folder import save_density
from cathode.report.figures import all_figures, save_figures
from cathode.report.html import write_report
from cathode.run.executors import open_executor
from cathode.run.folder import RunFolder
from cathode.run.tasks import TaskStore
from cathode.search.composition import SearchInputs, compose
from cathode.search.pipeline import SearchProducts, TemplateProducts, make_template, run_pipeline
from cathode.search.results import SearchResult
from cathode.search.settings import SearchSettings
from cathode.search.tasks import Runner
from cathode.search.template_files import TemplateSummary, summarise_template, template_events
from cathode.support.errors import UserError
from cathode.support.files import atomic_write, write_json
from cathode.support.provenance import environment, git_revision, versions
from cathode.support.threads import limit_threads

if TYPE_CHECKING:
    from cathode.jets.schema import ConstituentEvents
    from cathode.search.constituents.composition import ConstituentInputs

__all__ = ["run_search", "run_template"]

logger = logging.getLogger(__name__)


def run_search(
    settings: SearchSettings,
    events: Events | ConstituentEvents | None = None,
    truth: Truth | None = None,
    *,
    output: str | Path | None = None,
    resume: bool = False,
) -> SearchResult:
    """Search for a resonance.

    Args:
        settings: What to do; see :class:`~cathode.search.settings.SearchSettings`.
        events: Search these instead of ``settings.data.events``; of the kind that ``settings.inputs`` says.
        truth: Truth of ``events``; used for evaluation after all scores are final.
        output: Folder for results, report, template and scores; nothing is written without it.
        resume: Continue a run that was killed in ``output``, to the same result.

    Raises:
        UserError: Unusable configuration or data, or an output folder that belongs to another run.
    """
    with _session(settings, events, truth, output=output, resume=resume) as (inputs, runner, folder):
        if isinstance(inputs, SearchInputs):
            products = run_pipeline(inputs, settings, runner)
            if folder is not None:
                write_template = partial(_write_template, folder / "template.h5", products.template)
                _write_search(folder, products, write_template)
        else:
            from cathode.search.constituents.pipeline import run_constituents

            found = run_constituents(inputs, settings, runner)
            products = found.search
            if folder is not None:
                from cathode.run.constituents import write_constituents

                write_template = partial(write_constituents, folder, found.constituents)
                _write_search(folder, products, write_template)
    return products.result


def run_template(
    settings: SearchSettings,
    events: Events | ConstituentEvents | None = None,
    *,
    output: str | Path | None = None,
    resume: bool = False,
    file_format: str = "h5",
) -> TemplateSummary:
    """Make the background template alone: weighted events and histograms with uncertainties.

    Args:
        settings: As for :func:`run_search`; the sections ``classifier``, ``gate`` and ``evaluation`` are not used.
        events: Use these instead of ``settings.data.events``.
        output: Folder for ``template.<file_format>``, ``histograms.h5`` and ``results.json``.
        resume: Continue a run that was killed in ``output``.
        file_format: ``h5``, ``parquet`` or ``root``; constituents are written as ``h5``.

    Raises:
        UserError: As for :func:`run_search`.
    """
    if settings.inputs == "constituents" and file_format != "h5":
        raise UserError(f"--format {file_format}: events of constituents are written as h5")
    with _session(settings, events, None, output=output, resume=resume) as (inputs, runner, folder):
        made = None
        if isinstance(inputs, SearchInputs):
            products = make_template(inputs, settings, runner)
            summary = summarise_template(inputs.data, products, settings)
        else:
            from cathode.search.constituents.tables import without_features
            from cathode.search.constituents.template import make_constituent_template

            made = make_constituent_template(inputs, settings, runner)
            products = made.tables
            summary = summarise_template(without_features(inputs.data), products, settings)
        if folder is not None:
            if made is None:
                write_events(template_events(products, summary), folder / f"template.{file_format}")
            else:
                from cathode.run.constituents import write_constituents

                write_constituents(folder, made, expected=summary.expected)
            _write_histograms(folder / "histograms.h5", summary)
            _write_models(folder, products)
            write_json(folder / "results.json", summary.to_json() | {"versions": versions()})
            folder.finish()
    return summary


@contextmanager
def _session(
    settings: SearchSettings,
    events: Events | ConstituentEvents | None,
    truth: Truth | None,
    *,
    output: str | Path | None,
    resume: bool,
) -> Iterator[tuple[SearchInputs | ConstituentInputs, Runner, RunFolder | None]]:
    limit_threads()
    folder = None if output is None else RunFolder(output)
    if folder is not None:
        folder.check(settings, resume=resume)
    # All input is read and checked before the output folder exists.
    inputs = _composed(settings, events, truth)
    with open_executor(settings.executor, workers=settings.workers) as executor:
        if folder is None:
            with TemporaryDirectory(prefix="cathode-") as scratch:
                yield inputs, TaskStore(scratch, executor), None
        else:
            with folder.open(settings):
                logger.info("%d events to search", len(inputs.data))
                yield inputs, TaskStore(folder.tasks, executor), folder


def _composed(
    settings: SearchSettings, events: Events | ConstituentEvents | None, truth: Truth | None
) -> SearchInputs | ConstituentInputs:
    if settings.inputs == "features":
        if events is not None and not isinstance(events, Events):
            raise UserError("inputs: features needs a table of events; for constituents set inputs: constituents")
        return compose(settings, events, truth)
    # Only these need the jets.
    from cathode.search.constituents.composition import compose_constituents

    if isinstance(events, Events):
        raise UserError("inputs: constituents needs events of constituents, not a table of features")
    return compose_constituents(settings, events, truth)


def _write_template(path: Path, template: TemplateProducts) -> None:
    write_events(
        Events(
            features=template.template.features,
            names=template.signal_region.names,
            mass=template.template.mass,
            event_id=np.arange(len(template.template)),
            weight=np.full(len(template.template), len(template.signal_region) / len(template.template)),
        ),
        path,
    )


def _write_search(folder: RunFolder, products: SearchProducts, write_template: Callable[[], None]) -> None:
    result = products.result
    write_template()
    _write_scores(folder / "scores.h5", products)
    _write_models(folder, products.template)
    drawn = all_figures(result)
    save_figures(result, folder / "figures", figures=drawn)
    write_report(result, folder / "report.html", figures=drawn)
    write_json(
        folder / "provenance.json",
        {"versions": versions(), "git_revision": git_revision(), "environment": environment()},
    )
    # Last: its presence says that the run is complete.
    write_json(folder / "results.json", result.to_json())
    folder.finish()
    logger.info("report written to %s", folder / "report.html")


def _write_models(folder: RunFolder, products: TemplateProducts) -> None:
    for index, density in enumerate(products.background.members):
        save_density(
            density, folder / "models" / f"density-{index}", history=products.background.summary.histories[index]
        )


def _write_scores(path: Path, products: SearchProducts) -> None:
    scores, signal_region = products.scores, products.template.signal_region
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["meaning"] = "log-odds of data against template; out of fold: compare within a fold only"
        columns: dict[str, dict[str, Any]] = {
            "data": {"event_id": signal_region.event_id, "mass": signal_region.mass},
            "template": {"mass": products.template.template.mass},
        }
        for sample, extra in columns.items():
            group = file.create_group(sample)
            for name, values in extra.items():
                group.create_dataset(name, data=values, compression="gzip")
            group.create_dataset("score", data=scores.score[sample], compression="gzip")
            group.create_dataset("fold", data=scores.fold[sample].astype(np.int16), compression="gzip")


def _write_histograms(path: Path, summary: TemplateSummary) -> None:
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        for histogram in summary.histograms:
            group = file.create_group(f"{histogram.region.replace(' ', '_')}/{histogram.feature}")
            for name in ("edges", "data", "data_error", "template", "template_error", "template_model_error"):
                group.create_dataset(name, data=getattr(histogram, name))
            group.attrs["unit"] = histogram.unit
