"""The template of a search on constituents: both stages fitted in the sidebands, events at masses of data, closure."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cathode.data.events import Events
from cathode.jets.dijets import ordered_axes
from cathode.jets.schema import ConstituentEvents
from cathode.search.background import Background, SidebandSplit, fit_background, held_out, split_sidebands
from cathode.search.composition import regions_of
from cathode.search.constituents.composition import ConstituentInputs, kinematics_of
from cathode.search.constituents.generation import Generated, generate_events
from cathode.search.constituents.kinematics import KinematicColumns
from cathode.search.constituents.points import PointModels, fit_points
from cathode.search.constituents.reweighting import reweighted
from cathode.search.constituents.tables import observed, without_features
from cathode.search.pipeline import TemplateProducts
from cathode.search.results import ConstituentSummary, ReweightingSummary
from cathode.search.settings import SearchSettings
from cathode.search.tasks import Runner
from cathode.search.template import Template, mass_model
from cathode.support.errors import UserError
from cathode.support.seeding import derive_seed, numpy_generator

__all__ = ["ConstituentTemplate", "make_constituent_template"]

logger = logging.getLogger(__name__)
Members = NDArray[np.int64]
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
    signal_region = inputs.data.select(regions.in_signal(inputs.data.mass))
    seconds = {}
    start = time.perf_counter()
    model = _fitted(inputs, settings, runner)
    seconds["density"] = time.perf_counter() - start

    start = time.perf_counter()
    # Of so many generated events one is kept.
    factor = 1.0 if own.reweighting is None else own.reweighting.largest
    masses = mass_model(without_features(inputs.data), regions, settings.template, settings.significance)
    count = round(factor * settings.template.oversampling * len(signal_region))
    mass = masses.sample(count, numpy_generator(derive_seed(seed, "template"), "template mass"))
    random = numpy_generator(seed, "template members")
    template = _generated(
        model, settings, runner, mass,
        member=random.permutation(np.arange(count) % len(model.background.members)),
        point_member=random.permutation(np.arange(count) % len(model.points.members)),
        name="template",
    )  # fmt: skip
    tested, member, point_member = _held_out(inputs.data, model, settings)
    repeats = round(factor * max(round(settings.template.oversampling / 2), 1))
    sideband_template = _generated(
        model, settings, runner, np.tile(tested.mass, repeats),
        member=np.tile(member, repeats), point_member=np.tile(point_member, repeats), name="sideband",
    )  # fmt: skip
    samples = {
        "signal_region": signal_region,
        "template": template.events,
        "held_out": tested,
        "sideband_template": sideband_template.events,
    }
    generated, summary = [template, sideband_template], None
    if own.reweighting is None:
        tables = observed(samples, settings.data.features, runner, events_per_task=own.events_per_task)
    else:
        others = _others(inputs.data, tested, settings)
        generated.append(_to_learn_from(others, model, settings, runner))
        samples |= {"reweighting_data": others, "reweighting": generated[-1].events}
        tables = observed(samples, settings.data.features, runner, events_per_task=own.events_per_task)
        names = ("reweighting_data", "reweighting", "template", "sideband_template")
        weighted = {name: samples[name] for name in names}
        own_seed = derive_seed(seed, "reweighting")
        stay, summary = reweighted(*names[:2], weighted, tables, settings, runner, seed=own_seed)
        template = template.select(stay["template"])
        sideband_template = sideband_template.select(stay["sideband_template"])
        tables |= {name: tables[name].select(rows) for name, rows in stay.items()}
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
    return ConstituentTemplate(
        products,
        signal_region,
        tested,
        template,
        sideband_template,
        model.points,
        _summary(inputs, settings, model, generated, summary),
    )


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
) -> tuple[ConstituentEvents, Members, Members]:
    """Sideband events with a member of each stage that has not seen them.

    A reweighting learns from the others: then these are no more than half of all.
    """
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
    if settings.constituents.reweighting is not None:
        limit = min(limit, int(regions_of(settings).in_sideband(data.mass).sum()) // 2)
    if len(rows) > limit:
        rows = np.sort(numpy_generator(settings.seed, "closure events").permutation(rows)[:limit])
    return events.select(rows), member[rows], point_member[rows]


def _generated(
    model: _Model,
    settings: SearchSettings,
    runner: Runner,
    mass: NDArray[np.float64],
    *,
    member: Members,
    point_member: Members,
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
    return Template(features=table.features, mass=made.mass, member=made.member, outside=int(made.outside.sum()))


def _others(data: ConstituentEvents, tested: ConstituentEvents, settings: SearchSettings) -> ConstituentEvents:
    """Sideband events that do not judge the template."""
    sideband = regions_of(settings).in_sideband(data.mass)
    return data.select(sideband & ~np.isin(data.event_id, tested.event_id))


def _to_learn_from(data: ConstituentEvents, model: _Model, settings: SearchSettings, runner: Runner) -> Generated:
    """Generated events at the masses of ``data``, of members of the first stage that have not seen them if there are
    any.
    """
    assert settings.constituents.reweighting is not None
    repeats = settings.constituents.reweighting.repeats
    random = numpy_generator(settings.seed, "reweighting members")
    member = random.integers(0, len(model.background.members), len(data))
    for k, split in enumerate(model.splits):
        member[np.isin(data.event_id, split.test.event_id)] = k
    count = len(data) * repeats
    return _generated(
        model, settings, runner, np.tile(data.mass, repeats),
        member=np.tile(member, repeats),
        point_member=random.permutation(np.arange(count) % len(model.points.members)),
        name="reweighting",
    )  # fmt: skip


def _summary(
    inputs: ConstituentInputs,
    settings: SearchSettings,
    model: _Model,
    generated: list[Generated],
    reweighting: ReweightingSummary | None,
) -> ConstituentSummary:
    """Numbers for the result; ``generated`` begins with the events of signal region and sidebands."""
    members = model.points.members
    jets = 2 * sum(made.asked - made.lost for made in generated)
    return ConstituentSummary(
        models=[str(m.folder) for m in members] if settings.constituents.models else [],
        members=len(members),
        trained_jets=[len(m.seen) for m in members],
        training_seconds=float(sum(m.provenance.get("seconds", 0.0) for m in members)),
        dropped=inputs.dropped,
        threshold=model.threshold,
        draws=generated[0].draws,
        lost=generated[0].lost,
        lost_sideband=generated[1].lost,
        milliseconds_per_jet=1e3 * sum(made.seconds for made in generated) / max(jets, 1),
        histories=[m.history for m in members],
        reweighting=reweighting,
    )
