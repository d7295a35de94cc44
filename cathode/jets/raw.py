"""From LHC Olympics raw files (particles) to features files (two jets): chunk by chunk, resumable."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cathode.data.readers.raw import PARTICLES, iterate_raw, raw_shape
from cathode.jets.clustering import leading_jets
from cathode.jets.features import dijet_features, write_dijets
from cathode.jets.parts import load_part, parts_folder, run_parts
from cathode.jets.substructure import Axes
from cathode.support.errors import UserError, require
from cathode.support.files import atomic_write

__all__ = ["RawResult", "features_from_raw"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RawResult:
    """What :func:`features_from_raw` wrote.

    Attributes:
        path: The features file.
        events: Its number of rows, one for each row of the raw file, in the same order.
        without_two_jets: Rows with fewer than two jets; what is missing is zero there.
        labelled: Whether the raw file, and so the features file, has a truth column.
    """

    path: Path
    events: int
    without_two_jets: int
    labelled: bool


@dataclass(frozen=True)
class _Chunk:
    path: Path
    source: Path
    start: int
    stop: int
    radius: float
    axes: Axes

    @property
    def events(self) -> int:
        return self.stop - self.start


def features_from_raw(
    path: str | Path,
    output: str | Path,
    *,
    radius: float = 1.0,
    axes: Axes = "onepass_kt",
    chunk: int = 1000,
    workers: int = 1,
) -> RawResult:
    """Cluster every event of a raw file and write the 15-column features file.

    Jets: anti-kT, the two of largest pT, no cut.  The truth label goes to the column ``label`` and nowhere else; a raw
    file without labels gives a features file without that column.  Memory: about 150 kB for each event of a chunk and
    worker, and 120 bytes for each event of the file at the end.  A killed run goes on where it was when it is called
    again with the same arguments (``workers`` may differ).

    Args:
        path: LHC Olympics raw file, 2101 or 2100 columns.
        output: Features file to write.
        radius: Jet radius.
        axes: N-subjettiness axes; the default is the choice that agrees with the public features files
            (:mod:`cathode.jets.substructure`).
        chunk: Events per part.
        workers: Processes.

    Raises:
        UserError: The file is not a readable raw file, has no events or particles that are not finite; or parts of a
            different run lie beside ``output``.
        MissingExtraError: FastJet is not installed.
    """
    if chunk < 1:
        raise UserError(f"chunk must be at least 1 event, got {chunk}")
    if workers < 1:
        raise UserError(f"the number of processes must be at least 1, got {workers}")
    require("fastjet", "jets")
    source, target = Path(path), Path(output)
    events, columns = raw_shape(source)
    labelled = columns > 3 * PARTICLES
    if events == 0:
        raise UserError(f"{source} has no events: give a raw file with at least one row")
    stat = source.stat()
    folder = parts_folder(
        target,
        {
            "job": "features from raw", "source": str(source.resolve()), "bytes": stat.st_size,
            "modified_ns": stat.st_mtime_ns, "events": events, "radius": radius, "axes": axes, "chunk": chunk,
        },
    )  # fmt: skip
    tasks = [
        _Chunk(folder / f"{start:010d}.npz", source, start, min(start + chunk, events), radius, axes)
        for start in range(0, events, chunk)
    ]
    run_parts(_write_chunk, tasks, processes=workers, description=f"jets of {source.name}")
    features = np.empty((events, 14))
    label = np.empty(events) if labelled else None
    for task in tasks:
        with load_part(task.path) as part:
            features[task.start : task.stop] = part["features"]
            if label is not None:
                label[task.start : task.stop] = part["label"]
    write_dijets(target, features, label)
    shutil.rmtree(folder)
    incomplete = int(np.all(features[:, 7:10] == 0, axis=1).sum())
    if incomplete:
        log.warning("%d of %d events of %s have fewer than two jets: zeros there", incomplete, events, source)
    return RawResult(target, events, incomplete, labelled)


def _write_chunk(task: _Chunk) -> None:
    ((particles, label),) = iterate_raw(task.source, chunk=task.events, start=task.start, stop=task.stop)
    jets = leading_jets(particles, radius=task.radius)
    features = dijet_features(particles, jets, axes=task.axes)
    with atomic_write(task.path) as temporary:
        np.savez(temporary, features=features, label=np.zeros(0) if label is None else label)
