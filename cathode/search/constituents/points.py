"""The second stage of the background: constituents of a jet given its kinematics and multiplicity.

Models are trained on jets of sideband events, here or by ``cathode jets train``.  Each is known with the jets that it
was trained on, by fingerprint, so that two promises can be checked instead of believed: no jet of the signal region was
in a training, and an event is compared only with a model that has not seen it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from cathode.classifiers.crossfit import fold_of
from cathode.density.folder import load_history
from cathode.jets.commands.train import find_model
from cathode.jets.generators.data import LearningJets, read_all, tensors
from cathode.jets.generators.generator import load_generator, save_generator
from cathode.jets.generators.settings import JetDataSettings, JetGeneratorSettings, KinematicsSettings
from cathode.jets.generators.train import fit_generator
from cathode.jets.schema import ConstituentEvents, Jets
from cathode.search.constituents.settings import ConstituentSettings
from cathode.search.tasks import Runner, Task
from cathode.support.errors import UserError
from cathode.support.files import sha256_of
from cathode.support.hashing import mixed_bits
from cathode.support.seeding import derive_seed, numpy_generator

__all__ = ["PointModel", "PointModels", "fingerprints", "fit_points", "fit_points_task", "given_models"]

Keys = NDArray[np.uint64]
_SEEN = "seen.npy"
# The search draws the kinematics of both jets together; those of single jets only make the folder complete.
_KINEMATIC_EPOCHS = 3
# Constituents that identify a jet: generous, and fewer than any sensible cut on their number keeps.
_LEADING = 3


def fingerprints(jets: Jets) -> Keys:
    """A number for each jet ``(N,)`` that its leading constituents decide, to the last bit of float32."""
    leading = np.zeros((len(jets), _LEADING * 3), dtype=np.float32)
    taken = jets.points[:, :_LEADING].reshape(len(jets), -1)
    leading[:, : taken.shape[1]] = taken
    words = leading.view(np.uint32).astype(np.uint64)
    key = np.full(len(jets), 0x9E3779B97F4A7C15, dtype=np.uint64)
    for column in words.T:
        key = mixed_bits(key ^ column)
    return key


@dataclass(frozen=True)
class PointModel:
    """One model.

    Attributes:
        folder: Its folder.
        weights: SHA-256 of its weights.
        seen: Fingerprints of the jets it was trained on, sorted.
        history: One row per epoch.
        provenance: Numbers about its training.
    """

    folder: Path
    weights: str
    seen: Keys
    history: pd.DataFrame
    provenance: dict[str, Any]

    def has_seen(self, events: ConstituentEvents) -> NDArray[np.bool_]:
        """Events ``(N,)`` of which a jet was in the training."""
        keys = fingerprints(events.flat())
        known: NDArray[np.bool_] = np.isin(keys, self.seen).reshape(len(events), -1)
        return np.asarray(known.any(1))


@dataclass(frozen=True)
class PointModels:
    """All models of the constituents."""

    members: tuple[PointModel, ...]

    def unseen(self, events: ConstituentEvents, *, seed: int) -> NDArray[np.int64]:
        """A member that has not seen each event ``(N,)``, drawn among those; -1 where every one has."""
        fresh = np.stack([~member.has_seen(events) for member in self.members], axis=1)
        draw = numpy_generator(seed, "member").random(fresh.shape) * fresh
        return np.where(fresh.any(1), draw.argmax(1), -1)


def fit_points(
    sideband: ConstituentEvents,
    signal_region: ConstituentEvents,
    settings: ConstituentSettings,
    runner: Runner,
    *,
    seed: int,
) -> PointModels:
    """Train the models, or take those that are given.

    Args:
        sideband: Events of the sidebands, all of them.
        signal_region: Only to check that no model has seen them.
        settings: Of the constituents.
        runner: Runs the trainings.
        seed: Of the deal of events to members and of the trainings.

    Raises:
        UserError: A given folder that is no model, whose training is unknown, that was trained on the signal region or
            has another number of constituents.
    """
    if settings.models:
        return given_models(settings, signal_region)
    tasks = []
    for member, rows in enumerate(_deal(sideband, settings, seed)):
        jets = sideband.select(rows).flat()
        arguments = {
            "points": jets.points,
            "settings": _generator_settings(settings, derive_seed(seed, "points", member)),
        }
        tasks.append(Task(f"points-{member}", fit_points_task, arguments))
    folders = [folder / "model" for folder in runner.run(tasks, description="constituents")]
    return _checked(folders, signal_region)


def given_models(settings: ConstituentSettings, signal_region: ConstituentEvents) -> PointModels:
    """The models of the configuration.

    Raises:
        UserError: As :func:`fit_points`.
    """
    return _checked([find_model(Path(folder)) for folder in settings.models], signal_region)


def _checked(folders: list[Path], signal_region: ConstituentEvents) -> PointModels:
    models = tuple(_load(folder) for folder in folders)
    for model in models:
        here = int(model.has_seen(signal_region).sum())
        if here:
            raise UserError(
                f"{model.folder}: was trained on {here} of {len(signal_region)} events of the signal region: train on "
                "the sidebands only"
            )
        slots = load_generator(model.folder).particles
        if slots != signal_region.particles:
            raise UserError(
                f"{model.folder}: makes jets of up to {slots} constituents, the data have {signal_region.particles}: "
                "set constituents.particles, or train another model"
            )
    return PointModels(models)


def _deal(sideband: ConstituentEvents, settings: ConstituentSettings, seed: int) -> list[NDArray[np.bool_]]:
    """Events that each member is trained on ``(N,)``."""
    own = derive_seed(seed, "deal")
    if settings.members == 1:
        parts = 1000
        return [fold_of(sideband.event_id, parts, seed=own) >= round(settings.test_fraction * parts)]
    fold = fold_of(sideband.event_id, settings.members, seed=own)
    # Two members: each half for one, so that each is judged by the other half.
    return [fold != k for k in range(settings.members)]


def _generator_settings(settings: ConstituentSettings, seed: int) -> JetGeneratorSettings:
    kinematics = KinematicsSettings()
    return JetGeneratorSettings(
        data=JetDataSettings(
            jets=("sidebands",), particles=None, cells=settings.cells, validation=settings.validation_fraction
        ),
        kinematics=replace(kinematics, training=replace(kinematics.training, epochs=_KINEMATIC_EPOCHS)),
        constituents=settings.points,
        conserve=settings.conserve,
        seed=seed,
    )


def fit_points_task(folder: Path, *, points: NDArray[np.float32], settings: JetGeneratorSettings) -> None:
    """Train a jet generator on ``points (N, P, 3)`` and leave it in ``folder / "model"``.

    Continues from the checkpoints of a killed call.
    """
    jets = Jets.from_points(points)
    rows = numpy_generator(settings.seed, "validation").permutation(len(jets))
    held = max(1, round(settings.data.validation * len(jets)))
    parts = [tensors(jets.select(np.sort(part)), settings.data, ()) for part in (rows[held:], rows[:held])]
    trained = fit_generator(settings, LearningJets(parts[0], parts[1], ()), checkpoint_dir=folder / "checkpoint")
    provenance = {"seed": settings.seed, **trained.summary}
    save_generator(trained.generator, folder / "model", history=trained.history, provenance=provenance, config=settings)
    np.save(folder / "model" / _SEEN, np.sort(fingerprints(jets)))


def _load(folder: Path) -> PointModel:
    load_generator(folder)
    return PointModel(
        folder=folder,
        weights=sha256_of(folder / "weights.safetensors"),
        seen=_trained_on(folder),
        history=load_history(folder),
        provenance=json.loads((folder / "provenance.json").read_text(encoding="utf-8")),
    )


def _trained_on(folder: Path) -> Keys:
    """Fingerprints of the jets a model was trained on, sorted.

    Raises:
        UserError: Nothing says what they were, or the files are gone.
    """
    if (folder / _SEEN).exists():
        keys: Keys = np.load(folder / _SEEN, allow_pickle=False)
        return keys
    return np.sort(fingerprints(read_all(_data_of(folder))))


def _data_of(folder: Path) -> JetDataSettings:
    """What ``cathode jets train`` says it read, in the configuration beside the weights."""
    content = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    config = content.get("config") if isinstance(content, dict) else None
    data = config.get("data") if isinstance(config, dict) else None
    if not isinstance(data, dict) or "jets" not in data:
        raise UserError(
            f"{folder}: nothing says which jets this model was trained on, so it cannot be known whether it has seen "
            f"the signal region: it needs {_SEEN}, or the configuration of its training in config.yaml"
        )
    rows, window, files = data.get("rows"), data.get("exclude_mass"), data["jets"]
    return JetDataSettings(
        jets=(files,) if isinstance(files, str) else tuple(files),
        rows=None if rows is None else (rows[0], rows[1]),
        exclude_mass=None if window is None else (window[0], window[1]),
        particles=data.get("particles"),
        format=data.get("format", "auto"),
    )
