"""The classifiers as pure functions of a task: train on some rows, score others."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cathode.support.seeding import derive_seed, torch_generator
from cathode.support.threads import threads_setting
from fastsim.evaluation.classifiers.inputs import Matrix, fit_encoding, fit_standardised, opened
from fastsim.evaluation.classifiers.networks import (
    Batches,
    Trained,
    initialise,
    multilayer_perceptron,
    one_thread_per_process,
    train,
)
from fastsim.evaluation.classifiers.profiles import Profile
from fastsim.evaluation.classifiers.resnet import ResNet18

__all__ = ["Samples", "Task", "TaskScores", "run_task"]

_OBSERVABLE_BINS = 16
_SPECTRUM_BINS = 8
# Of few features each split must see more than a tenth: AUC 0.741 instead of 0.731 with 30 observables.
_LEAST_FEATURES = 10


@dataclass(frozen=True)
class Samples:
    """Both samples below each other, reference first; arrays or the files that they are mapped from.

    Attributes:
        observables: High-level vector ``(N, F)``, log10 of the incident energy first.
        voxels: Voxel energies [MeV] ``(N, V)``, zero below the threshold.
        spectra: Voxel spectra ``(N, S)``.
        low: Published low-level vector ``(N, 1 + V)``; only in mode ``calochallenge``.
        low_normed: Published normed low-level vector ``(N, 1 + V + L)``; only in mode ``calochallenge``.
        shape: Of regular grids.
        periodic: Whether the second axis of ``shape`` closes on itself.
    """

    observables: Matrix
    voxels: Matrix
    spectra: Matrix
    low: Matrix | None = None
    low_normed: Matrix | None = None
    shape: tuple[int, int, int] | None = None
    periodic: bool = False


@dataclass(frozen=True)
class Task:
    """One training.

    Attributes:
        classifier: ``low_dnn``, ``high_dnn``, ``low_trees``, ``high_trees``, ``cnn``, or ``low_normed_dnn``.
        number: Of the fold or run.
        published: Train the published network on the published input, in float64.
        samples: What is told apart.
        label: 1 for reference, 0 for generated ``(N,)``.
        train: Rows to train on.
        validation: Rows that choose the epoch and calibrate.
        test: Rows to score.
        profile: Settings.
        seed: Of initial weights, shuffling and trees.
    """

    classifier: str
    number: int
    published: bool
    samples: Samples
    label: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    profile: Profile
    seed: int


@dataclass(frozen=True)
class TaskScores:
    """Log-odds of the validation and of the test rows, the epoch or number of trees, and the processor time."""

    classifier: str
    number: int
    validation: np.ndarray
    test: np.ndarray
    epoch: int
    seconds: float


def run_task(task: Task) -> TaskScores:
    """Train and score.  A pure function: the same task gives the same bits on one machine."""
    start = time.process_time()
    with one_thread_per_process():
        trained = _learner(task)(task)
        validation, test = trained.score(task.validation), trained.score(task.test)
    seconds = time.process_time() - start
    return TaskScores(task.classifier, task.number, validation, test, trained.epoch, seconds)


def _learner(task: Task) -> Callable[[Task], Trained]:
    if task.classifier.endswith("trees"):
        return _trees
    if task.classifier == "cnn":
        return _cnn
    return _published_dnn if task.published else _strict_dnn


def _strict_dnn(task: Task) -> Trained:
    observables = opened(task.samples.observables)
    encode = fit_encoding(observables, task.train, _OBSERVABLE_BINS)
    width = encode.outputs
    if task.classifier == "high_dnn":

        def batches(rows: np.ndarray) -> tuple[Tensor, ...]:
            return (encode(observables[rows]),)

    else:
        voxels, spectra = opened(task.samples.voxels), opened(task.samples.spectra)
        size, some = fit_standardised(voxels, task.train, np.sqrt), fit_standardised(voxels, task.train, _occupied)
        count = fit_encoding(spectra, task.train, _SPECTRUM_BINS)
        width += size.outputs + some.outputs + count.outputs

        def batches(rows: np.ndarray) -> tuple[Tensor, ...]:
            block = voxels[rows]
            parts = [encode(observables[rows]), size(np.sqrt(block)), some(_occupied(block)), count(spectra[rows])]
            return (torch.cat(parts, dim=1),)

    return _train_dnn(task, batches, width, torch.float32)


def _published_dnn(task: Task) -> Trained:
    samples = task.samples
    chosen = {"low_dnn": samples.low, "low_normed_dnn": samples.low_normed, "high_dnn": samples.observables}
    matrix = chosen[task.classifier]
    assert matrix is not None, task.classifier
    features = opened(matrix)

    def batches(rows: np.ndarray) -> tuple[Tensor, ...]:
        return (torch.from_numpy(features[rows].astype(np.float64)),)

    return _train_dnn(task, batches, features.shape[1], torch.float64)


def _train_dnn(task: Task, batches: Batches, width: int, dtype: torch.dtype) -> Trained:
    generator = torch_generator(task.seed, "classifier", "network")
    dropout = 0.0 if task.published else task.profile.dropout
    network = multilayer_perceptron(width, task.profile.hidden, dropout=dropout, generator=generator)
    return train(
        initialise(network, generator).to(dtype),
        batches,
        task.label,
        task.train,
        task.validation,
        training=task.profile.training,
        seed=task.seed,
        description=_describe(task),
    )


def _cnn(task: Task) -> Trained:
    shape = task.samples.shape
    assert shape is not None
    observables, voxels = opened(task.samples.observables), opened(task.samples.voxels)
    # One scale for all voxels, so that the picture stays one.
    sample = voxels[task.train[:2000]]
    filled = sample[sample > 0]
    unit = float(np.median(filled)) if len(filled) else 1.0
    dtype = torch.float64 if task.published else torch.float32

    def batches(rows: np.ndarray) -> tuple[Tensor, ...]:
        block, log_energy = voxels[rows], observables[rows, :1]
        picture = block / 10.0**log_energy if task.published else np.log1p(block / unit)
        return torch.from_numpy(picture).to(dtype).reshape(-1, 1, *shape), torch.from_numpy(log_energy).to(dtype)

    generator = torch_generator(task.seed, "classifier", "network")
    network = ResNet18(circular=task.samples.periodic and not task.published)
    return train(
        initialise(network, generator).to(dtype),
        batches,
        task.label,
        task.train,
        task.validation,
        training=task.profile.cnn_training,
        seed=task.seed,
        description=_describe(task),
    )


def _trees(task: Task) -> Trained:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    settings, label = task.profile.trees, task.label
    observables = opened(task.samples.observables)
    columns = _tree_voxels(task) if task.classifier == "low_trees" else np.zeros(0, dtype=np.int64)

    def features(rows: np.ndarray) -> np.ndarray:
        if task.classifier == "high_trees":
            return observables[rows]
        voxels, spectra = opened(task.samples.voxels), opened(task.samples.spectra)
        return np.concatenate([observables[rows], voxels[rows][:, columns], spectra[rows]], axis=1)

    width = features(task.train[:1]).shape[1]
    # Without class weights: unequal numbers only shift the log-odds, which calibration undoes, and scikit-learn needs
    # twenty seconds for the weighted quantiles of 500 columns.
    trees = HistGradientBoostingClassifier(
        learning_rate=settings.learning_rate,
        max_iter=settings.trees,
        max_leaf_nodes=settings.leaves,
        min_samples_leaf=settings.min_samples_leaf,
        l2_regularization=settings.l2,
        max_features=max(settings.features_per_split, min(1.0, _LEAST_FEATURES / width)),
        early_stopping=True,
        n_iter_no_change=settings.patience,
        random_state=derive_seed(task.seed, "trees"),
    )
    with threadpool_limits(limits=threads_setting(), user_api="openmp"):
        trees.fit(
            features(task.train),
            label[task.train],
            X_val=features(task.validation),
            y_val=label[task.validation],
        )

    def score(rows: np.ndarray) -> np.ndarray:
        with threadpool_limits(limits=threads_setting(), user_api="openmp"):
            return trees.decision_function(features(rows))

    return Trained(score, int(trees.n_iter_))


def _tree_voxels(task: Task) -> np.ndarray:
    """All voxels, or those that differ most (mean or occupancy, in standard errors) in the training showers."""
    voxels, limit = opened(task.samples.voxels), task.profile.trees.max_features
    if voxels.shape[1] <= limit:
        return np.arange(voxels.shape[1])
    moments = []
    for label in (1, 0):
        rows = task.train[task.label[task.train] == label]
        sums = np.zeros((4, voxels.shape[1]))
        for start in range(0, len(rows), 2000):
            block = voxels[rows[start : start + 2000]].astype(np.float64)
            root, some = np.sqrt(block), block > 0
            sums += np.stack([root.sum(0), block.sum(0), some.sum(0), some.sum(0)])
        moments.append((sums / len(rows), len(rows)))
    pulls = []
    for mean, square in ((0, 1), (2, 3)):
        difference = moments[0][0][mean] - moments[1][0][mean]
        variance = sum((m[square] - m[mean] ** 2) / n for m, n in moments)
        pulls.append(np.abs(difference) / np.sqrt(np.maximum(variance, 1e-12)))
    return np.sort(np.argsort(-np.maximum(*pulls), kind="stable")[:limit])


def _occupied(voxels: np.ndarray) -> np.ndarray:
    return (voxels > 0).astype(np.float32)


def _describe(task: Task) -> str:
    return f"classifier {task.classifier.replace('_', ' ')}, {'run' if task.published else 'fold'} {task.number + 1}"
