"""The classifier tests of a generator: can networks and trees tell its showers from the reference?

``strict`` (default).  Both samples are cut into folds.  For each fold every classifier is trained on the others, part
of which chooses its epoch and calibrates it, so every shower is scored once by a classifier that saw neither it nor
chose anything with it.  AUC and JSD are taken per fold and averaged; :func:`.interval.combined` describes their error.
Networks are float32 and see the inputs of :mod:`.inputs`, the showers' conditions included; the same folds serve
networks and trees, whose scores are also combined (``low_stacked``, ``high_stacked``: logistic regression on the
validation showers), the strongest test.

``calochallenge``.  The published procedure (arXiv:2410.21611): one random split of each class, one network in float64
on the published input, best epoch by accuracy, isotonic calibration, AUC and JSD on the third part; always with the
published settings, except in profile ``quick``.  Deviations: seeded, and with an interval (DeLong).  The challenge had
no trees; they are those of ``strict`` in both modes.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cathode.comparison.auc import auc_with_error
from cathode.support.errors import UserError
from cathode.support.progress import progress
from cathode.support.seeding import derive_seed
from fastsim.data import Showers
from fastsim.evaluation.classifiers.calibration import isotonic, jsd_with_error, logistic
from fastsim.evaluation.classifiers.inputs import spectrum_edges, voxel_spectra
from fastsim.evaluation.classifiers.interval import combined, mean_roc
from fastsim.evaluation.classifiers.learners import Samples, Task, TaskScores, run_task
from fastsim.evaluation.classifiers.profiles import Profile, profile_named
from fastsim.evaluation.classifiers.results import ClassifierResults, ClassifierScore
from fastsim.evaluation.classifiers.single import separating_features, separation_threshold, voxel_names
from fastsim.evaluation.classifiers.splits import Split, cross_fit_splits, published_split
from fastsim.evaluation.features import high_level_features, low_level_features
from fastsim.evaluation.procedure import Mode, checked_mode, dataset_of, voxel_threshold

__all__ = ["classifier_tests"]

log = logging.getLogger(__name__)

_MOST_SEPARATING = 30


def classifier_tests(
    reference: Showers,
    generated: Showers,
    *,
    mode: Mode = "strict",
    profile: str | Profile = "standard",
    seed: int = 0,
    threshold: float | None = None,
    executor: Executor | None = None,
    features: int = _MOST_SEPARATING,
) -> ClassifierResults:
    """Train classifiers of reference against generated showers and say what they see.

    Args:
        reference: Full simulation.
        generated: Of the generator, in the same geometry and with the same spectrum of incident energies.
        mode: ``strict`` or ``calochallenge``; see the module.
        profile: ``quick``, ``standard``, ``published``, or settings.
        seed: Of folds, splits, networks and trees.
        threshold: Voxels below it [MeV] count as empty in both samples; default: that of the public dataset, else 0.
        executor: Where the trainings run; None: here, one after the other.  Its workers must see this machine's
            temporary folder (``TMPDIR``).
        features: Number of voxels and of observables to list.

    Raises:
        UserError: Different geometries, too few showers, unknown mode or profile.
    """
    settings = profile_named(profile)
    published = checked_mode(mode) == "calochallenge"
    if published and settings.name == "standard":
        settings = profile_named("published")
    reference, generated = _checked(reference, generated, settings)
    if published and len(reference) != len(generated):
        fewer = min(len(reference), len(generated))
        log.info("mode calochallenge compares equal numbers: the first %d showers of each sample are used", fewer)
        reference, generated = reference[:fewer], generated[:fewer]
    cut = voxel_threshold(reference.geometry, mode, threshold)
    reference, generated = reference.cut(cut), generated.cut(cut)
    samples, names = _samples(reference, generated, mode, cut, published)
    label = np.repeat([1, 0], [len(reference), len(generated)])

    dataset = dataset_of(reference.geometry)
    networks = _networks(settings, samples, published)
    with _shared(samples, executor) as shared:
        crossed = ["low_trees", "high_trees"] if published else [*networks, "low_trees", "high_trees"]
        folds = cross_fit_splits(label, folds=settings.folds, validation=settings.validation, seed=seed)
        tasks = [
            task
            for k, split in enumerate(folds)
            for task in _tasks(split, k, crossed, shared, label, settings, seed, published=False)
        ]
        for run in range(settings.runs if published else 0):
            split = published_split(label, dataset, seed=seed, run=run)
            tasks += _tasks(split, run, networks, shared, label, settings, seed, published=True)
        done = _run(tasks, executor)

    scores = {}
    for name in (*networks, "low_trees", "high_trees"):
        of_classifier = [pair for pair in zip(tasks, done, strict=True) if pair[0].classifier == name]
        scores[name] = _score(of_classifier, published=of_classifier[0][0].published)
    if not published:
        for level in ("low", "high"):
            members = [f"{level}_dnn", f"{level}_trees"]
            scores[f"{level}_stacked"] = _score(_stacked(tasks, done, members), published=False)

    energies = np.asarray(reference.incident_energy), np.asarray(generated.incident_energy)
    n = len(reference)
    observables = np.asarray(samples.observables)
    voxels = separating_features(
        reference.energies, generated.energies, voxel_names(reference.geometry),
        kind="voxel", count=features, seed=seed, scale=energies,
    )  # fmt: skip
    high = separating_features(observables[:n], observables[n:], names, kind="observable", count=features, seed=seed)
    return ClassifierResults(
        mode=mode,
        profile=settings.name,
        seed=seed,
        showers=(len(reference), len(generated)),
        scores=scores,
        voxels=voxels,
        observables=high,
        feature_threshold=separation_threshold(reference.geometry.n_voxels + len(names)),
    )


def _checked(reference: Showers, generated: Showers, settings: Profile) -> tuple[Showers, Showers]:
    if reference.geometry != generated.geometry:
        raise UserError(
            f"reference and generated showers have different geometries, {reference.geometry.name!r} "
            f"({reference.geometry.n_voxels} voxels) and {generated.geometry.name!r} ({generated.geometry.n_voxels})"
        )
    least = 20 * settings.folds
    if min(len(reference), len(generated)) < least:
        raise UserError(
            f"classifier tests with {settings.folds} folds need at least {least} showers of each sample, "
            f"got {len(reference)} and {len(generated)}"
        )
    return reference, generated


def _samples(
    reference: Showers, generated: Showers, mode: Mode, cut: float, published: bool
) -> tuple[Samples, tuple[str, ...]]:
    both = (reference, generated)
    geometry = reference.geometry
    # Of both samples together, so the edges cannot tell one from the other.
    edges = spectrum_edges(np.concatenate([s.energies[:1000] for s in both]))
    names = high_level_features(reference[:1], mode, threshold=cut)[1]
    observables = np.concatenate([high_level_features(s, mode, threshold=cut)[0] for s in both])
    if (
        not published
        and all(s.conditions is not None for s in both)
        and generated.condition_names == reference.condition_names
    ):
        observables = np.concatenate([observables, np.concatenate([s.conditions for s in both])], axis=1)
        names = (*names, *reference.condition_names)
    grid = geometry.shape if geometry.shape is not None and min(geometry.shape) > 1 else None
    samples = Samples(
        observables=observables,
        voxels=np.concatenate([s.energies for s in both]),
        spectra=np.concatenate([voxel_spectra(s, edges) for s in both]),
        shape=grid,
        periodic=geometry.kind == "polar",
    )
    if published:
        low = [
            np.concatenate([low_level_features(s, n, mode=mode, threshold=cut) for s in both]) for n in (False, True)
        ]
        samples = replace(samples, low=low[0], low_normed=low[1])
    return samples, names


def _networks(settings: Profile, samples: Samples, published: bool) -> list[str]:
    names = ["low_dnn", "high_dnn"]
    if published:
        names.append("low_normed_dnn")
    if settings.cnn and samples.shape is not None:
        names.append("cnn")
    return names


def _tasks(
    split: Split,
    number: int,
    names: Iterable[str],
    samples: Samples,
    label: np.ndarray,
    settings: Profile,
    seed: int,
    *,
    published: bool,
) -> list[Task]:
    kind = "run" if published else "fold"
    return [
        Task(
            name,
            number,
            published,
            samples,
            label,
            split.train,
            split.validation,
            split.test,
            settings,
            derive_seed(seed, "classifier tests", name, kind, number),
        )
        for name in names
    ]


@contextmanager
def _shared(samples: Samples, executor: Executor | None) -> Iterator[Samples]:
    """The samples as files that worker processes map, so that they are neither copied nor pickled."""
    if executor is None:
        yield samples
        return
    with tempfile.TemporaryDirectory(prefix="classifier-tests-") as folder:
        files: dict[str, Any] = {}
        for name in ("observables", "voxels", "spectra", "low", "low_normed"):
            matrix = getattr(samples, name)
            if matrix is not None:
                files[name] = Path(folder) / f"{name}.npy"
                np.save(files[name], matrix)
        yield replace(samples, **files)


def _run(tasks: list[Task], executor: Executor | None) -> list[TaskScores]:
    bar = progress(description="classifier tests", total=len(tasks), unit="training")
    with bar:
        if executor is None:
            done = []
            for task in tasks:
                done.append(run_task(task))
                bar.update()
            return done
        futures = [executor.submit(run_task, task) for task in tasks]
        try:
            for future in as_completed(futures):
                future.result()
                bar.update()
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        return [future.result() for future in futures]


def _stacked(tasks: list[Task], done: list[TaskScores], members: list[str]) -> list[tuple[Task, TaskScores]]:
    """Per fold the calibrated sum of several classifiers' log-odds."""
    found = {(s.classifier, s.number): (t, s) for t, s in zip(tasks, done, strict=True)}
    pairs = []
    for number in range(tasks[0].profile.folds):
        parts = [found[name, number] for name in members]
        task = parts[0][0]
        validation = np.stack([s.validation for _, s in parts], axis=1)
        probability = logistic(validation, task.label[task.validation])
        test = _log_odds(probability(np.stack([s.test for _, s in parts], axis=1)))
        seconds = sum(s.seconds for _, s in parts)
        pairs.append((task, TaskScores("stacked", number, _log_odds(probability(validation)), test, 0, seconds)))
    return pairs


def _score(pairs: list[tuple[Task, TaskScores]], *, published: bool) -> ClassifierScore:
    aucs, jsds, curves = [], [], []
    for task, scores in pairs:
        is_reference = task.label[task.test] == 1
        calibrate = isotonic if published else logistic
        probability = calibrate(scores.validation, task.label[task.validation])(scores.test)
        # The published AUC is that of the calibrated scores, whose ties count half.
        ranked = probability if published else scores.test
        auc, error = auc_with_error(ranked[is_reference], ranked[~is_reference])
        if np.ptp(ranked) == 0.0:
            # A classifier that found nothing scores all alike: its AUC of 0.5 is known no better than a random score's.
            error = float(np.sqrt((1.0 / is_reference.sum() + 1.0 / (~is_reference).sum()) / 12.0))
        aucs.append((auc, error))
        jsds.append(jsd_with_error(probability[is_reference], probability[~is_reference]))
        curves.append((ranked[is_reference], ranked[~is_reference]))
    area = combined(*zip(*aucs, strict=True), independent_showers=not published, low=0.0, high=1.0)
    jsd = combined(*zip(*jsds, strict=True), independent_showers=not published, low=-np.inf, high=1.0)
    return ClassifierScore(
        auc=area,
        jsd=jsd,
        roc=mean_roc(curves),
        fold_aucs=tuple(value for value, _ in aucs),
        epochs=tuple(scores.epoch for _, scores in pairs),
        seconds=float(sum(scores.seconds for _, scores in pairs)),
    )


def _log_odds(probability: np.ndarray) -> np.ndarray:
    tiny = 1e-15
    return np.log(np.maximum(probability, tiny)) - np.log(np.maximum(1.0 - probability, tiny))
