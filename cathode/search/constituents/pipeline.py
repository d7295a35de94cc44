"""The search on constituents from events to a frozen result; after the template it is the search on features."""

from __future__ import annotations

import dataclasses
import logging
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cathode.data.events import Events
from cathode.jets.dijets import ordered_axes
from cathode.jets.schema import ConstituentEvents
from cathode.search.background import Background, SidebandSplit, fit_background, held_out, split_sidebands
from cathode.search.composition import SearchInputs, regions_of
from cathode.search.constituents.composition import ConstituentInputs, kinematics_of
from cathode.search.constituents.gate import set_checks, set_test_task
from cathode.search.constituents.kinematics import KinematicColumns
from cathode.search.constituents.points import PointModels, fit_points
from cathode.search.constituents.representation import set_inputs
from cathode.search.constituents.tables import embedded, observed, without_features
from cathode.search.constituents.template import Generated, generate_events
from cathode.search.pipeline import SearchProducts, TemplateProducts, finish_search
from cathode.search.results import ConstituentSummary, GateCheck
from cathode.search.settings import SearchSettings, Transformer, TransformerTrees
from cathode.search.tasks import Runner
from cathode.search.template import Template, mass_model
from cathode.support.errors import UserError
from cathode.support.seeding import derive_seed, numpy_generator

__all__ = ["ConstituentProducts", "ConstituentTemplate", "make_constituent_template", "run_constituents"]

logger = logging.getLogger(__name__)
# Fewer held-out events say nothing about a template.
_FEWEST_HELD_OUT = 50


@dataclass(frozen=True)
class ConstituentTemplate:
    """Everything up to the template.

    Attributes:
        tables: The same in observables: what counting, gate and figures work on.
        signal_region, held_out: Data, as in ``tables``.
        template, sideband_template: Generated events, as in ``tables``.
        models: Of the constituents.
        summary: Numbers for the result.
    """

    tables: TemplateProducts
    signal_region: ConstituentEvents
    held_out: ConstituentEvents
    template: Generated
    sideband_template: Generated
    models: PointModels
    summary: ConstituentSummary


@dataclass(frozen=True)
class ConstituentProducts:
    """A result with the events behind it."""

    search: SearchProducts
    constituents: ConstituentTemplate


@dataclass(frozen=True)
class _Model:
    """Both stages of the background."""

    splits: tuple[SidebandSplit, ...]
    background: Background
    columns: KinematicColumns
    points: PointModels
    threshold: float


def make_constituent_template(
    inputs: ConstituentInputs, settings: SearchSettings, runner: Runner
) -> ConstituentTemplate:
    """Fit both stages of the background in the sidebands, and draw events in the signal region and in the sidebands.

    Raises:
        UserError: Data that cannot be modelled, or models that must not be used.
    """
    own, seed = settings.constituents, settings.seed
    regions = regions_of(settings)
    in_signal = regions.in_signal(inputs.data.mass)
    signal_region = inputs.data.select(in_signal)
    seconds = {}
    start = time.perf_counter()
    model = _fitted(inputs, settings, runner)
    seconds["density"] = time.perf_counter() - start

    start = time.perf_counter()
    bare = without_features(inputs.data)
    masses = mass_model(bare, regions, settings.template, settings.significance)
    count = round(settings.template.oversampling * len(signal_region))
    mass = masses.sample(count, numpy_generator(derive_seed(seed, "template"), "template mass"))
    random = numpy_generator(seed, "template members")
    template = _generated(
        model, settings, runner, mass,
        member=random.permutation(np.arange(count) % len(model.background.members)),
        point_member=random.permutation(np.arange(count) % len(model.points.members)),
        name="template",
    )  # fmt: skip
    tested, member, point_member = _held_out(inputs.data, model, settings)
    repeats = max(round(settings.template.oversampling / 2), 1)
    sideband_template = _generated(
        model, settings, runner, np.tile(tested.mass, repeats),
        member=np.tile(member, repeats), point_member=np.tile(point_member, repeats), name="sideband",
    )  # fmt: skip
    tables = observed(
        {
            "signal_region": signal_region,
            "template": template.events,
            "held_out": tested,
            "sideband_template": sideband_template.events,
        },
        settings.data.features,
        runner,
        events_per_task=own.events_per_task,
    )
    seconds["template"] = time.perf_counter() - start
    products = TemplateProducts(
        tables["signal_region"],
        model.splits,
        tables["held_out"],
        member * len(model.points.members) + point_member,
        model.background,
        _template(tables["template"], template),
        _template(tables["sideband_template"], sideband_template),
        seconds,
    )
    jets = 2 * (len(template.mass) + len(sideband_template.mass))
    summary = ConstituentSummary(
        models=[str(m.folder) for m in model.points.members] if own.models else [],
        members=len(model.points.members),
        trained_jets=[len(m.seen) for m in model.points.members],
        training_seconds=_training_seconds(model.points),
        dropped=inputs.dropped,
        threshold=model.threshold,
        draws=template.draws,
        lost=template.lost,
        lost_sideband=sideband_template.lost,
        milliseconds_per_jet=1e3 * (template.seconds + sideband_template.seconds) / max(jets, 1),
        histories=[m.history for m in model.points.members],
    )
    return ConstituentTemplate(products, signal_region, tested, template, sideband_template, model.points, summary)


def run_constituents(inputs: ConstituentInputs, settings: SearchSettings, runner: Runner) -> ConstituentProducts:
    """The whole search.

    Labels are read by :func:`~cathode.search.truth.evaluate_truth` alone, after scores and p-values are final.

    Raises:
        UserError: Input that cannot be searched.
    """
    begin = time.perf_counter()
    made = make_constituent_template(inputs, settings, runner)
    view = SearchInputs(
        data=without_features(inputs.data),
        truth=inputs.truth,
        test_background=None if inputs.test_background is None else without_features(inputs.test_background),
        test_signal=None if inputs.test_signal is None else without_features(inputs.test_signal),
    )

    def columns(sideband: Events) -> dict[str, Any]:
        return _classifier_inputs(inputs, settings, runner, made)

    def checks() -> list[GateCheck]:
        return _further_checks(settings, runner, made)

    found = finish_search(view, settings, runner, made.tables, columns=columns, begin=begin, further_checks=checks)
    result = dataclasses.replace(found.result, constituents=made.summary)
    return ConstituentProducts(dataclasses.replace(found, result=result), made)


def _fitted(inputs: ConstituentInputs, settings: SearchSettings, runner: Runner) -> _Model:
    regions, seed, own = regions_of(settings), settings.seed, settings.constituents
    sideband = inputs.data.select(regions.in_sideband(inputs.data.mass))
    kinematics = kinematics_of(own)
    columns = KinematicColumns.fitted(kinematics, sideband)
    _, axes = ordered_axes(sideband)
    table = columns.table(sideband, axes, seed=derive_seed(seed, "columns"))
    splits = split_sidebands(table, regions, settings.density, seed=seed)
    background = fit_background(splits, settings.density, runner, seed=seed)
    signal_region = inputs.data.select(regions.in_signal(inputs.data.mass))
    points = fit_points(sideband, signal_region, own, runner, seed=seed)
    threshold = float(sideband.points[..., 0][sideband.mask].min())
    return _Model(splits, background, columns, points, threshold)


def _held_out(
    data: ConstituentEvents, model: _Model, settings: SearchSettings
) -> tuple[ConstituentEvents, NDArray[np.int64], NDArray[np.int64]]:
    """Sideband events with a member of each stage that has not seen them."""
    tables, member = held_out(model.splits)
    place = {int(i): row for row, i in enumerate(data.event_id)}
    events = data.select(np.array([place[int(i)] for i in tables.event_id]))
    point_member = model.points.unseen(events, seed=derive_seed(settings.seed, "held out"))
    rows = np.flatnonzero(point_member >= 0)
    if len(rows) < _FEWEST_HELD_OUT:
        raise UserError(
            f"only {len(rows)} of {len(events)} held-out sideband events are unknown to the models of the "
            "constituents: train on a part of the sidebands"
        )
    limit = settings.constituents.closure_events
    if len(rows) > limit:
        rows = np.sort(numpy_generator(settings.seed, "closure events").permutation(rows)[:limit])
    return events.select(rows), member[rows], point_member[rows]


def _generated(
    model: _Model,
    settings: SearchSettings,
    runner: Runner,
    mass: NDArray[np.float64],
    *,
    member: NDArray[np.int64],
    point_member: NDArray[np.int64],
    name: str,
) -> Generated:
    made = generate_events(
        model.background, model.columns, model.points, mass,
        member=member, point_member=point_member, threshold=model.threshold, settings=settings.constituents,
        runner=runner, seed=derive_seed(settings.seed, name, "events"), name=name,
    )  # fmt: skip
    if made.lost:
        logger.warning("%d of %d %s events have no draw in the acceptance and are missing", made.lost, len(mass), name)
    if len(made.mass) == 0:
        raise UserError(
            f"no generated {name} event is in the acceptance in {settings.constituents.tries} draws: the background "
            "model is not trained"
        )
    return made


def _template(table: Events, made: Generated) -> Template:
    return Template(features=table.features, mass=made.mass, member=made.member, outside=made.outside)


def _training_seconds(models: PointModels) -> float:
    return float(sum(m.provenance.get("seconds", 0.0) for m in models.members))


def _classifier_inputs(
    inputs: ConstituentInputs, settings: SearchSettings, runner: Runner, made: ConstituentTemplate
) -> dict[str, Any]:
    regions, own = regions_of(settings), settings.constituents
    samples = {
        "data": made.signal_region,
        "template": made.template.events,
        "sideband": inputs.data.select(regions.in_sideband(inputs.data.mass)),
        "closure_template": made.sideband_template.events,
    }
    if inputs.test_background is not None:
        samples["test_background"] = inputs.test_background
    if inputs.test_signal is not None:
        samples["test_signal"] = inputs.test_signal
    model, use_mass = settings.classifier.model, settings.classifier.use_mass
    if isinstance(model, Transformer | TransformerTrees):
        sets = {key: _sets(events, settings) for key, events in samples.items()}
        if isinstance(model, Transformer):
            return sets
        return embedded(sets, model.pretrained, runner, device=model.device, events_per_task=own.events_per_task)
    tables = observed(samples, settings.data.features, runner, events_per_task=own.events_per_task)
    return {k: np.column_stack([t.features, t.mass]) if use_mass else t.features for k, t in tables.items()}


def _sets(events: ConstituentEvents, settings: SearchSettings) -> Any:
    model = settings.classifier.model
    # What an encoder was trained with decides whether it looks at pairs.
    pairs = isinstance(model, TransformerTrees) or (
        isinstance(model, Transformer) and (model.pair_bias or model.pretrained is not None)
    )
    return set_inputs(
        events,
        reference_mass=regions_of(settings).center,
        particles=settings.constituents.classifier_particles,
        pairs=pairs,
        use_mass=settings.classifier.use_mass,
    )


def _further_checks(settings: SearchSettings, runner: Runner, made: ConstituentTemplate) -> list[GateCheck]:
    own = settings.constituents
    test = None
    if own.set_test.max_events > 0:
        task = set_test_task(
            _sets(made.held_out, settings),
            _sets(made.sideband_template.events, settings),
            own.set_test,
            seed=derive_seed(settings.seed, "set test"),
        )
        test = runner.run([task], description="gate")[0]
    total = len(made.template.mass) + made.template.lost
    return set_checks(own.set_test, test, lost=made.template.lost, total=total, limits=settings.gate.rejected_fraction)
