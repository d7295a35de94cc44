"""Reweighting of generated events to sideband data (SALAD, arXiv:2001.05001), so that the template closes.

Trees and small networks learn the ratio of sideband data to generated events at the same masses, given observables,
what a pre-trained encoder sees of the jets, and the mass; the ratio is then taken in the signal region.  More events
are generated than are needed, and each stays with a probability proportional to its weight: what is left is an ordinary
template of equal weights.  Events that judge the template (gate, closure) are not among those that the ratio is learned
from.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cathode.classifiers.mlp import MLPEnsemble
from cathode.classifiers.registry import load_classifier
from cathode.classifiers.reweighting import density_ratio, log_ratio, ratio_networks, ratio_trees, survivors
from cathode.classifiers.transformer.components import JetComponents, split_jets
from cathode.classifiers.transformer.pretrained import pretrained_architecture
from cathode.classifiers.trees import TreeEnsemble
from cathode.data.events import Events
from cathode.jets.schema import ConstituentEvents
from cathode.search.composition import regions_of
from cathode.search.constituents.representation import set_inputs
from cathode.search.constituents.tables import embedded
from cathode.search.results import ReweightingSummary
from cathode.search.settings import SearchSettings
from cathode.search.tasks import Runner, Task
from cathode.support.seeding import derive_seed, numpy_generator

__all__ = ["fit_ratio_task", "reweighted"]

Array = NDArray[np.float64]
Rows = NDArray[np.bool_]
_MEMBERS_PER_TASK = 5
_KINDS: dict[str, Callable[..., TreeEnsemble | MLPEnsemble]] = {"trees": ratio_trees, "networks": ratio_networks}


def reweighted(
    data: str,
    generated: str,
    samples: dict[str, ConstituentEvents],
    tables: dict[str, Events],
    settings: SearchSettings,
    runner: Runner,
    *,
    seed: int,
) -> tuple[dict[str, Rows], ReweightingSummary]:
    """Learn the ratio of ``data`` to ``generated``, and choose events of all other samples by it.

    Args:
        data: Name of the sample of sideband data to learn from.
        generated: Name of the generated events at the same masses.
        samples: All samples by name.
        tables: Observables of each.
        settings: Of the search.
        runner: Runs the trainings.
        seed: Of trainings and choices.

    Returns:
        Events that stay ``(N,)`` of each sample but the first two, and what is to be said.
    """
    own = settings.constituents.reweighting
    assert own is not None
    columns = _columns(data, samples, tables, settings, runner)
    tasks = [
        Task(
            f"reweighting-{kind}-{start}",
            fit_ratio_task,
            {
                "kind": kind,
                "data": columns[data],
                "data_weight": samples[data].weight,
                "template": columns[generated],
                "members": min(_MEMBERS_PER_TASK, members - start),
                "first_member": start,
                "seed": derive_seed(seed, kind),
            },
        )
        for kind, members in (("trees", own.trees), ("networks", own.networks))
        for start in range(0, members, _MEMBERS_PER_TASK)
    ]
    folders = runner.run(tasks, description="reweighting")
    ensembles = [
        [load_classifier(f / "classifier") for f, t in zip(folders, tasks, strict=True) if t.arguments["kind"] == kind]
        for kind in _KINDS
    ]
    ensembles = [parts for parts in ensembles if parts]
    stay, cut, effective = {}, {}, {}
    for name in samples:
        if name in (data, generated):
            continue
        weight = density_ratio(log_ratio(ensembles, columns[name], regions_of(settings).signal))
        stay[name] = survivors(weight, own.largest, numpy_generator(seed, "thinning", name))
        cut[name] = float(np.mean(weight > own.largest))
        effective[name] = min(float(1.0 / np.mean(weight**2)), 1.0)
    summary = ReweightingSummary(
        data=len(samples[data]),
        generated=len(samples[generated]),
        columns=columns[data].shape[1],
        kept={name: float(rows.mean()) for name, rows in stay.items()},
        cut=cut,
        effective=effective,
    )
    return stay, summary


def fit_ratio_task(
    folder: Path,
    *,
    kind: str,
    data: Array,
    data_weight: Array | None,
    template: Array,
    members: int,
    first_member: int,
    seed: int,
) -> None:
    """Train some members of an ensemble of data against template into ``folder / "classifier"``."""
    weight = np.concatenate([np.ones(len(data)) if data_weight is None else data_weight, np.ones(len(template))])
    classifier = _KINDS[kind](members, first_member=first_member, random_state=seed)
    classifier.fit(np.concatenate([data, template]), np.repeat([1, 0], [len(data), len(template)]), weight)
    classifier.save(folder / "classifier")


def _columns(
    data: str,
    samples: dict[str, ConstituentEvents],
    tables: dict[str, Events],
    settings: SearchSettings,
    runner: Runner,
) -> dict[str, Array]:
    """What the ratio depends on, of the events of each sample; the mass last."""
    own = settings.constituents.reweighting
    assert own is not None
    observables = {name: np.column_stack([tables[name].features, events.mass]) for name, events in samples.items()}
    if own.encoder is None:
        return observables
    sets = {
        name: set_inputs(
            events,
            reference_mass=regions_of(settings).center,
            particles=settings.constituents.classifier_particles,
            pairs=True,
        )
        for name, events in samples.items()
    }
    found = embedded(
        sets, own.encoder, runner, device=own.device, events_per_task=settings.constituents.events_per_task
    )
    width = pretrained_architecture(own.encoder).width
    components = JetComponents.fitted(split_jets(found[data], width)[0], own.variance)
    return {
        name: np.column_stack([components.columns(*split_jets(found[name], width)), observables[name]])
        for name in samples
    }
