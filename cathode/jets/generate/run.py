"""Generate a sample: shards on any number of processes, one set of files at the end."""

from __future__ import annotations

import json
import logging
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from cathode.jets.features import write_dijets
from cathode.jets.generate.settings import GenerateSettings
from cathode.jets.generate.shard import ShardTask, read_shard, write_shard
from cathode.jets.layouts import write_constituents, write_raw
from cathode.jets.parts import parts_folder, run_parts
from cathode.support.errors import UserError, require
from cathode.support.files import sha256_of, write_json
from cathode.support.provenance import environment, git_revision, versions
from cathode.support.seeding import derive_seed

__all__ = ["GenerateResult", "generate", "provenance_path"]

log = logging.getLogger(__name__)

_LARGEST_PYTHIA_SEED = 900_000_000


@dataclass(frozen=True)
class GenerateResult:
    """A generated sample.

    Attributes:
        features: The features file.
        raw: The raw file, or None.
        constituents: The constituents file, or None.
        provenance: The JSON file that says how they were made.
        events: Accepted events.
        collisions: Collisions generated for them.
        cross_section_pb: Pythia's cross-section before the cuts [pb], mean over shards; for ``wprime``, with its forced
            widths, it is no prediction of any model.
    """

    features: Path
    raw: Path | None
    constituents: Path | None
    provenance: Path
    events: int
    collisions: int
    cross_section_pb: float

    @property
    def accepted_fraction(self) -> float:
        """Accepted events over collisions."""
        return self.events / self.collisions


def provenance_path(output: str | Path) -> Path:
    """The provenance file beside ``output``: ``NAME.provenance.json``."""
    output = Path(output)
    return output.with_name(f"{output.stem}.provenance.json")


def generate(
    settings: GenerateSettings,
    output: str | Path,
    *,
    raw: str | Path | None = None,
    constituents: str | Path | None = None,
    max_constituents: int = 64,
    processes: int = 1,
    overwrite: bool = False,
) -> GenerateResult:
    """Generate dijet events with Pythia 8, the detector of ``settings`` and FastJet.

    The events depend on ``settings`` (and the versions of Pythia, FastJet and NumPy) alone: not on ``processes``, nor
    on how often the job was killed and started again.  Finished shards wait in ``OUTPUT.parts/`` and are used by the
    next call with the same arguments; a call for a sample that is already complete returns at once.

    Args:
        settings: What to generate.
        output: Features file to write, LHC Olympics layout, truth in the last column ``label``.
        raw: Also write all particles, LHC Olympics raw layout (700 particles at most, the hardest first).
        constituents: Also write the constituents of the two jets (:mod:`cathode.jets.layouts`).
        max_constituents: Constituents to keep of each jet, the hardest.
        processes: Worker processes.
        overwrite: Replace an ``output`` that holds something else.

    Raises:
        UserError: Settings that cannot be generated, or an output that exists with other content.
        MissingExtraError: pythia8mc or FastJet is not installed.
    """
    settings.check()
    require("pythia8mc", "generate")
    require("fastjet", "generate")
    if processes < 1:
        raise UserError(f"the number of processes must be at least 1, got {processes}")
    if constituents is not None and max_constituents < 1:
        raise UserError(f"max_constituents must be at least 1, got {max_constituents}")
    target = Path(output)
    raw_target = None if raw is None else Path(raw)
    constituents_target = None if constituents is None else Path(constituents)
    targets = [path for path in (target, raw_target, constituents_target) if path is not None]
    if len({path.resolve() for path in targets}) < len(targets):
        raise UserError(f"the files to write must differ: {', '.join(str(path) for path in targets)}")
    job: dict[str, Any] = {
        "job": "generate",
        "settings": settings.to_dict(),
        "raw": None if raw is None else str(raw),
        "constituents": None if constituents is None else {"path": str(constituents), "per_jet": max_constituents},
        "programs": {name: metadata.version(name) for name in ("pythia8mc", "fastjet", "numpy")},
    }
    record = provenance_path(target)
    done = _finished(record, job, targets)
    if done is not None:
        log.info("%s is already complete", target)
        return GenerateResult(target, raw_target, constituents_target, record, *done)
    if not overwrite:
        for path in targets:
            if path.exists():
                raise UserError(
                    f"{path} exists and holds something else: remove it, choose another name or overwrite it"
                )
    started = time.perf_counter()
    folder = parts_folder(target, job)
    first_seed = derive_seed(settings.seed, "pythia", settings.process)
    tasks = [
        ShardTask(
            path=folder / f"{number:06d}.npz",
            settings=settings,
            events=events,
            # Neighbours, so that no two shards of a sample share a seed.
            pythia_seed=1 + (first_seed + number) % _LARGEST_PYTHIA_SEED,
            detector_seed=derive_seed(settings.seed, "detector", settings.process, number),
            particles=raw is not None,
            constituents=0 if constituents is None else max_constituents,
        )
        for number, events in enumerate(settings.shards)
    ]
    run_parts(write_shard, tasks, processes=processes, description=f"generating {settings.process}")
    summary = _assemble(settings, tasks, target, raw_target, constituents_target)
    seconds = time.perf_counter() - started
    content = {
        **job,
        **summary,
        "accepted_fraction": summary["events"] / summary["collisions"],
        "sha256": {path.name: sha256_of(path) for path in targets},
        "seconds_last_call": round(seconds, 2),
        "processes": processes,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "git_revision": git_revision(),
        "environment": environment(),
    }
    write_json(record, content)
    shutil.rmtree(folder)
    return GenerateResult(
        target,
        raw_target,
        constituents_target,
        record,
        summary["events"],
        summary["collisions"],
        summary["cross_section_pb"],
    )


def _assemble(
    settings: GenerateSettings, tasks: list[ShardTask], target: Path, raw: Path | None, constituents: Path | None
) -> dict[str, Any]:
    """Write the files from the shards, one shard in memory at a time; the counts of the whole sample."""
    features = np.empty((settings.events, 14))
    collisions = truncated = row = 0
    cross_sections = []
    for task in tasks:
        shard = read_shard(task.path)
        features[row : row + task.events] = shard.features
        row += task.events
        collisions += shard.collisions
        truncated += shard.truncated
        cross_sections.append(shard.cross_section_pb)
    if truncated:
        log.warning("%d of %d events have more particles than the raw layout holds: softest left out", truncated, row)
    if raw is not None:
        batches = (shard.particles for task in tasks if (shard := read_shard(task.path)).particles is not None)
        write_raw(raw, batches, settings.label, settings.events)
    if constituents is not None:
        pairs = (
            (shard.constituents, shard.features)
            for task in tasks
            if (shard := read_shard(task.path)).constituents is not None
        )
        write_constituents(constituents, pairs, settings.label, settings.events)
    write_dijets(target, features, np.full(settings.events, float(settings.label)))
    return {
        "events": settings.events,
        "collisions": collisions,
        "cross_section_pb": float(np.mean(cross_sections)),
        "truncated_raw_events": truncated,
    }


def _finished(record: Path, job: dict[str, Any], targets: list[Path]) -> tuple[int, int, float] | None:
    """(events, collisions, cross-section) when the files of exactly this job are all there."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        wanted = json.loads(json.dumps(job))
        if any(content[key] != wanted[key] for key in wanted):
            return None
        if any(not path.exists() or sha256_of(path) != content["sha256"][path.name] for path in targets):
            return None
        return content["events"], content["collisions"], content["cross_section_pb"]
    except (OSError, json.JSONDecodeError, KeyError, TypeError):
        return None
