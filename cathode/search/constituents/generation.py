"""Background events with constituents at given masses: kinematics, constituents, and what makes the mass exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cathode.jets.dijets import ordered_axes
from cathode.jets.generators.context import summary_of
from cathode.jets.generators.generate import Conditions, generate
from cathode.jets.generators.generator import load_generator
from cathode.jets.schema import ConstituentEvents
from cathode.search.background import Background
from cathode.search.constituents.conserve import conserved
from cathode.search.constituents.kinematics import KinematicColumns
from cathode.search.constituents.points import PointModels
from cathode.search.constituents.settings import ConstituentSettings
from cathode.search.tasks import Runner, Task
from cathode.search.template import conditional_template
from cathode.support.seeding import derive_seed

__all__ = ["Generated", "generate_events", "generate_task"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Generated:
    """Generated background events.

    Attributes:
        events: In the acceptance, leading jet first; ids are row numbers.
        mass: Mass that was asked for ``(M,)`` TeV; that of the constituents agrees to the precision of float32.
        member: Which member of the kinematics, and which model of the constituents, made each event, as one number.
        row: Which of the masses that were asked for each event belongs to ``(M,)``.
        outside: Whether the kinematics drawn first were outside the range of the sideband data ``(M,)``.
        asked: Masses that were asked for.
        lost: Of these, those for which no draw was in the acceptance; their events are missing.
        draws: Mean number of draws per event.
        seconds: In the model of the constituents, summed over tasks.
    """

    events: ConstituentEvents
    mass: Array
    member: NDArray[np.int64]
    row: NDArray[np.int64]
    outside: NDArray[np.bool_]
    asked: int
    lost: int
    draws: float
    seconds: float

    def select(self, rows: NDArray[np.bool_]) -> Generated:
        """Some of the events ``(M,)``; what was asked for, lost and spent stays that of all."""
        return replace(
            self,
            events=self.events.select(rows),
            mass=self.mass[rows],
            member=self.member[rows],
            row=self.row[rows],
            outside=self.outside[rows],
        )


def generate_events(
    background: Background,
    columns: KinematicColumns,
    models: PointModels,
    mass: Array,
    *,
    member: NDArray[np.int64],
    point_member: NDArray[np.int64],
    threshold: float,
    settings: ConstituentSettings,
    runner: Runner,
    seed: int,
    name: str,
) -> Generated:
    """One event at each mass.

    An event that falls outside the acceptance when its constituents are there (its jets need not have exactly the
    momenta that were asked for) is drawn anew at the same mass, so the spectrum is not bent.

    Args:
        background: First stage.
        columns: What it learned.
        models: Second stage.
        mass: ``(M,)`` TeV.
        member: Member of the first stage for each event ``(M,)``.
        point_member: Model of the second stage for each event ``(M,)``.
        threshold: Smallest pT of a constituent in data, GeV.
        settings: Of the constituents.
        runner: Runs the tasks.
        seed: Fixes the events.
        name: Prefix of the tasks' folders.
    """
    drawn = [
        conditional_template(background, mass, seed=derive_seed(seed, "kinematics", k), member=member)
        for k in range(settings.tries)
    ]
    tables = np.stack([d.features for d in drawn])
    tasks, chunks = [], []
    for index, model in enumerate(models.members):
        rows = np.flatnonzero(point_member == index)
        for start in range(0, len(rows), settings.events_per_task):
            chunk = rows[start : start + settings.events_per_task]
            arguments = {
                "model": str(model.folder),
                "weights": model.weights,
                "tables": tables[:, chunk],
                "mass": mass[chunk],
                "columns": columns,
                "threshold": threshold,
                "batch_size": settings.batch_size,
                "seed": derive_seed(seed, "constituents", index, start),
            }
            tasks.append(Task(f"{name}-{index}-{start}", generate_task, arguments))
            chunks.append(chunk)
    folders = runner.run(tasks, description=f"{name} events")
    outside = ((tables[0] < background.lowest) | (tables[0] > background.highest)).any(1)
    return _collected(folders, chunks, mass, member * len(models.members) + point_member, outside)


def _collected(
    folders: Sequence[Path],
    chunks: Sequence[NDArray[np.int64]],
    mass: Array,
    member: NDArray[np.int64],
    outside: NDArray[np.bool_],
) -> Generated:
    results = []
    for folder in folders:
        with np.load(folder / "events.npz", allow_pickle=False) as content:
            results.append({key: content[key] for key in content.files})
    rows = np.concatenate([chunk[r["kept"]] for chunk, r in zip(chunks, results, strict=True)])
    order = np.argsort(rows)
    points = np.concatenate([r["points"] for r in results])[order]
    kept = rows[order]
    events = ConstituentEvents.from_points(points)
    draws = float(sum(r["draws"] for r in results)) / max(len(mass), 1)
    return Generated(
        events=events,
        mass=mass[kept],
        member=member[kept],
        row=kept,
        outside=outside[kept],
        asked=len(mass),
        lost=len(mass) - len(kept),
        draws=draws,
        seconds=float(sum(r["seconds"] for r in results)),
    )


def generate_task(
    folder: Path,
    *,
    model: str,
    weights: str,
    tables: Array,
    mass: Array,
    columns: KinematicColumns,
    threshold: float,
    batch_size: int,
    seed: int,
) -> None:
    """Generate events and store them in ``folder / "events.npz"``: ``points (K, 2, P, 3)`` and ``kept (N,)``.

    Args:
        folder: Of the task.
        model: Folder of the generator.
        weights: SHA-256 of its weights, which identifies the result where a folder name does not.
        tables: Kinematics ``(T, N, 8)``: those of the first draw, of the second, ...
        mass: ``(N,)`` TeV.
        columns: Meaning of the tables.
        threshold: Smallest pT of a constituent in data, GeV.
        batch_size: Jets at once.
        seed: Fixes the events.
    """
    generator = load_generator(model)
    points = np.zeros((len(mass), 2, generator.particles, 3), dtype=np.float32)
    kept = np.zeros(len(mass), dtype=bool)
    draws, seconds = 0, 0.0
    for number, table in enumerate(tables):
        todo = np.flatnonzero(~kept)
        if len(todo) == 0:
            break
        draws += len(todo)
        own = derive_seed(seed, "draw", number)
        axes, counts = columns.jets(table[todo], mass[todo], seed=own)
        summary = torch.from_numpy(summary_of(axes.reshape(-1, 4), counts.reshape(-1)))
        made = generate(generator, Conditions(summary, None, len(summary)), seed=own, batch_size=batch_size)
        seconds += made.seconds
        shape = (len(todo), 2, generator.particles)
        raw = made.jets.padded(generator.particles)
        mask = raw.mask.reshape(shape)
        generated = raw.points.reshape(*shape, 3).astype(np.float64)
        found = conserved(generated, mask, axes, mass[todo], threshold=threshold)
        whole = np.isfinite(found).all((1, 2, 3))
        if not whole.any():
            continue
        events, found_axes = ordered_axes(ConstituentEvents.from_points(found[whole], mask[whole]))
        inside = columns.kinematics.inside(found_axes)
        rows = todo[whole][inside]
        points[rows] = events.points[inside]
        kept[rows] = True
    np.savez(folder / "events.npz", points=points[kept], kept=kept, draws=draws, seconds=seconds)
