"""The search on constituents from events to a frozen result; after the template it is the search on features."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from cathode.data.events import Events
from cathode.jets.schema import ConstituentEvents
from cathode.search.composition import SearchInputs, regions_of
from cathode.search.constituents.composition import ConstituentInputs
from cathode.search.constituents.gate import set_checks, set_test_task
from cathode.search.constituents.representation import set_inputs
from cathode.search.constituents.tables import embedded, observed, without_features
from cathode.search.constituents.template import ConstituentTemplate, make_constituent_template
from cathode.search.pipeline import SearchProducts, finish_search
from cathode.search.results import GateCheck
from cathode.search.settings import SearchSettings, Transformer, TransformerTrees
from cathode.search.tasks import Runner
from cathode.support.seeding import derive_seed

__all__ = ["ConstituentProducts", "run_constituents"]


@dataclass(frozen=True)
class ConstituentProducts:
    """A result with the events behind it."""

    search: SearchProducts
    constituents: ConstituentTemplate


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
    return set_checks(
        own.set_test,
        test,
        lost=made.template.lost,
        total=made.template.asked,
        limits=settings.gate.rejected_fraction,
    )
