"""Events as tables: observables for gate, figures and classifiers of features, and what a transformer sees of jets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cathode.classifiers.transformer.embedded import embed_jets
from cathode.classifiers.transformer.inputs import SetInputs
from cathode.data.events import Events
from cathode.jets.observables import dijet_observables
from cathode.jets.schema import ConstituentEvents
from cathode.search.tasks import Runner, Task
from cathode.support.files import sha256_of

__all__ = ["embed_task", "embedded", "observables_task", "observed", "without_features"]


def without_features(events: ConstituentEvents) -> Events:
    """Mass, ids and weights alone."""
    return Events(np.zeros((len(events), 0)), (), events.mass, events.event_id, events.weight)


def observed(
    samples: dict[str, ConstituentEvents], names: tuple[str, ...], runner: Runner, *, events_per_task: int
) -> dict[str, Events]:
    """Tables of the observables ``names`` of each sample; N-subjettiness and the like take a millisecond per jet."""
    tasks, of_sample = [], []
    for sample, events in samples.items():
        for start in range(0, max(len(events), 1), events_per_task):
            points = events.points[start : start + events_per_task]
            tasks.append(
                Task(f"observables-{sample}-{start}", observables_task, {"points": points, "names": list(names)})
            )
            of_sample.append(sample)
    folders = runner.run(tasks, description="observables")
    tables = {}
    for sample, events in samples.items():
        parts = [np.load(f / "features.npy") for f, s in zip(folders, of_sample, strict=True) if s == sample]
        tables[sample] = Events(np.concatenate(parts), names, events.mass, events.event_id, events.weight)
    return tables


def observables_task(folder: Path, *, points: NDArray[np.float32], names: list[str]) -> None:
    """Observables of events ``(N, 2, P, 3)``, stored as ``folder / "features.npy"`` ``(N, D)``."""
    events = ConstituentEvents.from_points(points)
    np.save(folder / "features.npy", dijet_observables(events, tuple(names)).features)


def embedded(
    samples: dict[str, SetInputs], pretrained: str, runner: Runner, *, device: str, events_per_task: int
) -> dict[str, NDArray[np.float64]]:
    """What a pre-trained encoder sees of the events of each sample, once for all folds and references."""
    encoder = sha256_of(Path(pretrained) / "encoder.safetensors")
    tasks, of_sample = [], []
    for sample, sets in samples.items():
        for start in range(0, max(len(sets), 1), events_per_task):
            chunk = sets[np.arange(start, min(start + events_per_task, len(sets)))]
            arguments = {"sets": chunk, "pretrained": pretrained, "encoder": encoder, "device": device}
            tasks.append(Task(f"embedding-{sample}-{start}", embed_task, arguments))
            of_sample.append(sample)
    folders = runner.run(tasks, description="jets through the encoder")
    return {
        sample: np.concatenate(
            [np.load(f / "embedding.npy") for f, s in zip(folders, of_sample, strict=True) if s == sample]
        )
        for sample in samples
    }


def embed_task(folder: Path, *, sets: SetInputs, pretrained: str, encoder: str, device: str) -> None:
    """Embedding of events, stored as ``folder / "embedding.npy"``; ``encoder`` is the hash of the weights."""
    np.save(folder / "embedding.npy", embed_jets(sets, pretrained, device=device))
