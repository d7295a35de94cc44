"""The search from events to a frozen result: density, template, gate, classifier, significance, truth."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cathode.data.events import Events
from cathode.search.background import Background, SidebandSplit, fit_background, held_out, split_sidebands
from cathode.search.classify import Scores, cross_fit
from cathode.search.composition import SearchInputs, regions_of
from cathode.search.gate import gate_result, two_sample_task, with_checks
from cathode.search.histograms import feature_histograms, score_histogram
from cathode.search.results import GateCheck, MassSpectrum, SearchResult, WorkingPoint
from cathode.search.settings import SearchSettings
from cathode.search.significance import mass_spectrum, working_point
from cathode.search.tasks import Runner
from cathode.search.template import Template, conditional_template, mass_model, sample_template
from cathode.search.truth import evaluate_truth
from cathode.support.errors import UserError
from cathode.support.provenance import versions
from cathode.support.seeding import derive_seed

__all__ = ["SearchProducts", "TemplateProducts", "finish_search", "make_template", "run_pipeline"]

logger = logging.getLogger(__name__)
Array = NDArray[np.float64]


@dataclass(frozen=True)
class TemplateProducts:
    """Everything up to the template: enough for any fit that needs a background.

    Attributes:
        signal_region: Data of the signal region.
        splits: Sideband data as each member of the density sees them.
        held_out: Sideband events with the member that did not see them, ``held_out_member``.
        background: The fitted density.
        template: Events in the signal region.
        sideband_template: Events at the masses of ``held_out``, several per mass, each from the member that did not see
            the sideband event.
        seconds: Stage name -> wall time.
    """

    signal_region: Events
    splits: tuple[SidebandSplit, ...]
    held_out: Events
    held_out_member: NDArray[np.int64]
    background: Background
    template: Template
    sideband_template: Template
    seconds: dict[str, float]


@dataclass(frozen=True)
class SearchProducts:
    """A result with the events behind it, for the files of a run folder."""

    result: SearchResult
    template: TemplateProducts
    scores: Scores


def make_template(inputs: SearchInputs, settings: SearchSettings, runner: Runner) -> TemplateProducts:
    """Fit the background in the sidebands and draw the template."""
    regions, seed = regions_of(settings), settings.seed
    signal_region = inputs.data.select(regions.in_signal(inputs.data.mass))
    seconds = {}
    start = time.perf_counter()
    splits = split_sidebands(inputs.data, regions, settings.density, seed=seed)
    background = fit_background(splits, settings.density, runner, seed=seed)
    seconds["density"] = time.perf_counter() - start
    start = time.perf_counter()
    masses = mass_model(inputs.data, regions, settings.template, settings.significance)
    count = round(settings.template.oversampling * len(signal_region))
    template = sample_template(background, masses, count, seed=derive_seed(seed, "template"))
    sideband, member = held_out(splits)
    # Half as many template events per sideband event as in the signal region: there are far more sideband events.
    repeats = max(round(settings.template.oversampling / 2), 1)
    sideband_template = conditional_template(
        background,
        np.tile(sideband.mass, repeats),
        seed=derive_seed(seed, "sideband template"),
        member=np.tile(member, repeats),
    )
    seconds["template"] = time.perf_counter() - start
    return TemplateProducts(signal_region, splits, sideband, member, background, template, sideband_template, seconds)


def run_pipeline(inputs: SearchInputs, settings: SearchSettings, runner: Runner) -> SearchProducts:
    """The whole search.

    Labels (``inputs.truth`` and the test samples' identity) are read by :func:`~cathode.search.truth.evaluate_truth`
    alone, after scores and p-values are final.

    Raises:
        UserError: Input that cannot be searched.
    """
    begin = time.perf_counter()
    products = make_template(inputs, settings, runner)

    def columns(sideband: Events) -> dict[str, Any]:
        return _columns(settings, inputs, products, sideband)

    return finish_search(inputs, settings, runner, products, columns=columns, begin=begin)


def finish_search(
    inputs: SearchInputs,
    settings: SearchSettings,
    runner: Runner,
    products: TemplateProducts,
    *,
    columns: Callable[[Events], dict[str, Any]],
    begin: float,
    further_checks: Callable[[], list[GateCheck]] | None = None,
) -> SearchProducts:
    """Everything after the template: classifier, gate, significance, and truth last.

    Args:
        inputs: The events; of the data no more than masses, ids and weights are used here.
        settings: The whole configuration.
        runner: Runs the tasks.
        products: The template.
        columns: From all sideband events to what the classifier sees of each sample: ``data`` (the signal region),
            ``template``, ``sideband``, ``closure_template`` and, where there are any, ``test_background`` and
            ``test_signal``.
        begin: When the search began, for its timing.
        further_checks: Of the gate, made together with the others.
    """
    regions, seed = regions_of(settings), settings.seed
    seconds = dict(products.seconds)
    signal_region, tested, template = products.signal_region, products.held_out, products.template

    start = time.perf_counter()
    sideband = inputs.data.select(regions.in_sideband(inputs.data.mass))
    samples = columns(sideband)
    scores = cross_fit(
        settings.classifier,
        samples["data"],
        samples["template"],
        data_id=signal_region.event_id,
        data_weight=signal_region.weight,
        evaluation={k: v for k, v in samples.items() if k not in ("data", "template")},
        runner=runner,
        seed=derive_seed(seed, "classifier"),
    )
    # The held-out events are sideband events: they have their scores.
    scores = scores.subset("closure_data", of="sideband", rows=_rows_of(tested, sideband))
    seconds["classifier"] = time.perf_counter() - start

    start = time.perf_counter()
    limit = settings.gate.max_events
    tests = runner.run(
        [
            two_sample_task(
                "gate-sideband",
                np.column_stack([tested.features, tested.mass]),
                np.column_stack([products.sideband_template.features, products.sideband_template.mass]),
                x_weight=tested.weight, max_events=limit, seed=derive_seed(seed, "gate sideband"),
            ),
            two_sample_task(
                "gate-template", signal_region.features, template.features,
                x_weight=signal_region.weight, max_events=limit, seed=derive_seed(seed, "gate template"),
            ),
        ],
        description="gate",
    )  # fmt: skip
    gate = gate_result(
        settings.gate,
        background=products.background,
        sideband=tested,
        sideband_template=products.sideband_template,
        template=template,
        sideband_test=tests[0],
        template_test=tests[1],
    )
    if further_checks is not None:
        gate = with_checks(gate, further_checks())
    seconds["gate"] = time.perf_counter() - start
    if gate.status == "fail":
        logger.warning("the template fails its gate: nothing may be claimed from this search")

    start = time.perf_counter()
    points, spectra, too_tight = _significance(settings, inputs.data, signal_region, sideband, tested, template, scores)
    seconds["significance"] = time.perf_counter() - start
    seconds["search"] = time.perf_counter() - begin

    start = time.perf_counter()
    notes = _notes(settings, points) + too_tight
    truth = None
    try:
        truth = evaluate_truth(
            inputs,
            signal_region,
            scores,
            classifier=settings.classifier,
            columns=samples,
            references=settings.evaluation.references,
            runner=runner,
            seed=derive_seed(seed, "references"),
        )
    except UserError as problem:
        # Too few labelled events must not cost a finished search.
        logger.warning("no evaluation with truth: %s", problem)
        notes.append(f"No evaluation with truth: {problem}")
    seconds["truth"] = time.perf_counter() - start
    seconds["total"] = time.perf_counter() - begin

    result = SearchResult(
        config=dataclasses.asdict(settings),
        signal_region=regions.signal,
        counts={
            "sideband": len(sideband),
            "signal_region": len(signal_region),
            "template": len(template),
            "sideband_train": len(products.splits[0].train),
            "sideband_validation": len(products.splits[0].validation),
            "sideband_test": len(tested),
        },
        density=products.background.summary,
        gate=gate,
        feature_histograms=feature_histograms(signal_region, template, tested, products.sideband_template),
        classifier_histories=scores.histories,
        mass_spectra=spectra,
        working_points=points,
        score_histogram=score_histogram(scores, len(signal_region)),
        truth=truth,
        timing=seconds,
        versions=versions(),
        notes=notes,
    )
    return SearchProducts(result, products, scores)


def _columns(
    settings: SearchSettings,
    inputs: SearchInputs,
    products: TemplateProducts,
    sideband: Events,
) -> dict[str, Any]:
    samples: dict[str, Any] = {
        "data": products.signal_region,
        "template": products.template,
        "sideband": sideband,
        "closure_template": products.sideband_template,
    }
    if inputs.test_background is not None:
        samples["test_background"] = inputs.test_background
    if inputs.test_signal is not None:
        samples["test_signal"] = inputs.test_signal
    if settings.classifier.use_mass:
        return {k: np.column_stack([s.features, s.mass]) for k, s in samples.items()}
    return {k: s.features for k, s in samples.items()}


def _significance(
    settings: SearchSettings,
    data: Events,
    signal_region: Events,
    sideband: Events,
    tested: Events,
    template: Template,
    scores: Scores,
) -> tuple[list[WorkingPoint], list[MassSpectrum], list[str]]:
    regions = regions_of(settings)
    inclusive = mass_spectrum(data.mass, regions, settings.significance, efficiency=1.0, low=None)
    # All spectra start where the inclusive one is described: the cut must not choose its own range.
    low = None if inclusive.fit is None else float(inclusive.edges[0])
    spectra, points = [inclusive], []
    too_tight: list[str] = []
    for efficiency in settings.significance.background_efficiencies:
        try:
            thresholds = scores.thresholds(efficiency)
        except UserError as problem:
            too_tight.append(f"No working point at background efficiency {efficiency:g}: {problem}")
            continue
        point = working_point(
            scores, efficiency,
            data_weight=signal_region.weight, member=template.member, closure_weight=tested.weight,
            closure_error=settings.significance.closure_error,
        )  # fmt: skip
        selected = np.concatenate(
            [
                signal_region.mass[scores.passing("data", thresholds)],
                sideband.mass[scores.passing("sideband", thresholds)],
            ]
        )
        spectrum = mass_spectrum(selected, regions, settings.significance, efficiency=efficiency, low=low)
        points.append(dataclasses.replace(point, fit=spectrum.fit, fit_problem=spectrum.fit_problem))
        spectra.append(spectrum)
    if not points:
        raise UserError(" ".join(too_tight))
    return points, spectra, too_tight


def _rows_of(events: Events, among: Events) -> NDArray[np.int64]:
    order = np.argsort(among.event_id)
    return order[np.searchsorted(among.event_id, events.event_id, sorter=order)]


def _notes(settings: SearchSettings, points: list[WorkingPoint]) -> list[str]:
    notes = ["All p-values are local and one-sided."]
    if len(points) > 1:
        notes.append(
            f"{len(points)} working points were looked at: the smallest p-value times {len(points)} bounds its "
            "trials-corrected value."
        )
    if settings.data.weight is not None:
        notes.append("Mass fits use unweighted counts.")
    return notes
