"""Cross-fitting: every event is scored by classifiers that never saw it.

The work is cut into tasks (fold x part of the ensemble).  Each is a pure function of picklable arguments, so it runs
in this process, in a spawned worker or on a farm with the same result.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone

from cathode.classifiers.base import Inputs, check_inputs, join_inputs, logit
from cathode.classifiers.registry import build_classifier
from cathode.classifiers.transformer.inputs import SetInputs
from cathode.support.errors import UserError
from cathode.support.hashing import mixed_bits
from cathode.support.progress import progress as progress_bar
from cathode.support.seeding import derive_seed

__all__ = ["CrossFit", "CrossFitScores", "FoldTask", "PartScores", "fold_of", "run_fold"]


def fold_of(event_id: ArrayLike, folds: int, *, seed: int = 0) -> np.ndarray:
    """Fold of each event, ``(N,)`` in ``[0, folds)``: a hash of its integer id and the seed.

    Copies of an event share a fold, whatever their order or the other events.  The hash is the output function of
    SplitMix64 (Steele et al., OOPSLA 2014).

    Raises:
        UserError: Ids that are not integers, or fewer than two folds.
    """
    ids = np.asarray(event_id)
    if folds < 2:
        raise UserError(f"cross-fitting needs at least 2 folds, got {folds}")
    if ids.dtype.kind not in "iu" or ids.ndim != 1:
        raise UserError(f"event ids must be a column of integers, got dtype {ids.dtype} and shape {ids.shape}")
    key = np.uint64(derive_seed(seed, "folds"))
    return (_mixed(ids.astype(np.uint64) ^ _mixed(np.array([key]))) % np.uint64(folds)).astype(np.int64)


def _mixed(z: np.ndarray) -> np.ndarray:
    return mixed_bits(z + np.uint64(0x9E3779B97F4A7C15))


@dataclass(frozen=True)
class FoldTask:
    """Train ``classifier`` without fold ``fold`` and score that fold and the evaluation samples."""

    fold: int
    part: int
    classifier: Any
    data: Inputs
    template: Inputs
    data_weight: np.ndarray
    template_weight: np.ndarray
    data_fold: np.ndarray
    template_fold: np.ndarray
    evaluation: dict[str, Inputs] = field(default_factory=dict)


@dataclass(frozen=True)
class PartScores:
    """Probabilities of class 1 from one task: of the held-out data and template and of the evaluation samples."""

    fold: int
    part: int
    members: int
    data: np.ndarray
    template: np.ndarray
    evaluation: dict[str, np.ndarray]
    history: dict[str, np.ndarray]
    seconds: float


@dataclass(frozen=True)
class CrossFitScores:
    """Scores of all events: the logarithm of the odds of data against template.

    Scores of different folds come from different classifiers: take thresholds per fold, by quantile.

    Attributes:
        data: Out-of-fold scores ``(N,)``.
        data_fold: Fold of each data event ``(N,)``.
        template: Out-of-fold scores ``(M,)``.
        template_fold: Fold of each template event ``(M,)``.
        evaluation: Name -> scores ``(folds, events)``, by each fold's classifier.
        histories: Fold -> training curves, name -> ``(members, steps)``.
        seconds: Training and scoring time per fold ``(folds,)``, summed over its tasks.
    """

    data: np.ndarray
    data_fold: np.ndarray
    template: np.ndarray
    template_fold: np.ndarray
    evaluation: dict[str, np.ndarray]
    histories: list[dict[str, np.ndarray]]
    seconds: np.ndarray


class CrossFit:
    """Cross-fitted classifier of data against template.

    Args:
        classifier: Description for :func:`~cathode.classifiers.registry.build_classifier`, or an untrained classifier
            with scikit-learn's ``get_params`` and a ``random_state``; it is cloned, never trained itself.
        folds: Number of folds, at least 2.
        seed: Of folds and classifiers.
        members_per_task: Cut each fold's ensemble into tasks of so many members, which gives all workers something to
            do; the result is that of the whole ensemble up to rounding.  None: one task per fold.

    Raises:
        UserError: Unusable settings.
    """

    def __init__(self, classifier: Any, *, folds: int = 5, seed: int = 0, members_per_task: int | None = None) -> None:
        if folds < 2:
            raise UserError(f"cross-fitting needs at least 2 folds, got {folds}")
        if members_per_task is not None and members_per_task < 1:
            raise UserError(f"members_per_task={members_per_task} must be at least 1")
        self.classifier = build_classifier(dict(classifier)) if isinstance(classifier, Mapping) else classifier
        self.folds = folds
        self.seed = seed
        self.members_per_task = members_per_task

    def tasks(
        self,
        data: ArrayLike | SetInputs,
        template: ArrayLike | SetInputs,
        *,
        data_id: ArrayLike,
        template_id: ArrayLike | None = None,
        data_weight: ArrayLike | None = None,
        template_weight: ArrayLike | None = None,
        evaluation: Mapping[str, ArrayLike | SetInputs] | None = None,
    ) -> list[FoldTask]:
        """The independent tasks, to be run by :func:`run_fold` anywhere and put together by :meth:`collect`.

        Args:
            data: Events ``(N, D)``, or N sets of points.
            template: Events ``(M, D)``, or M sets.
            data_id: Integer id of each data event ``(N,)``; copies of one event share it.
            template_id: The same for the template; None: its rows are distinct events.
            data_weight: Non-negative weights ``(N,)``.
            template_weight: Non-negative weights ``(M,)``.
            evaluation: Name -> events ``(E, D)`` or sets that every fold scores; they must not be among data and
                template.

        Raises:
            UserError: Unusable arrays, or too few events for the folds.
        """
        x = check_inputs(data)
        z = check_inputs(template, like=x)
        ids = np.asarray(data_id), np.arange(len(z)) if template_id is None else np.asarray(template_id)
        if len(ids[0]) != len(x) or len(ids[1]) != len(z):
            raise UserError(f"{len(ids[0])} and {len(ids[1])} ids for {len(x)} data and {len(z)} template events")
        data_fold = fold_of(ids[0], self.folds, seed=derive_seed(self.seed, "data"))
        template_fold = fold_of(ids[1], self.folds, seed=derive_seed(self.seed, "template"))
        for name, of_event in (("data", data_fold), ("template", template_fold)):
            smallest = int(np.bincount(of_event, minlength=self.folds).min())
            if smallest == 0:
                raise UserError(f"{len(of_event)} {name} events leave one of {self.folds} folds empty: use fewer folds")
        u, v = (
            np.ones(len(a)) if w is None else np.asarray(w, dtype=np.float64)
            for a, w in ((x, data_weight), (z, template_weight))
        )
        if len(u) != len(x) or len(v) != len(z):
            raise UserError(f"{len(u)} and {len(v)} weights for {len(x)} data and {len(z)} template events")
        samples = {name: check_inputs(e, like=x) for name, e in (evaluation or {}).items()}
        return [
            FoldTask(fold, part, classifier, x, z, u, v, data_fold, template_fold, samples)
            for fold in range(self.folds)
            for part, classifier in enumerate(self._parts(fold))
        ]

    def run(
        self,
        data: ArrayLike | SetInputs,
        template: ArrayLike | SetInputs,
        *,
        data_id: ArrayLike,
        template_id: ArrayLike | None = None,
        data_weight: ArrayLike | None = None,
        template_weight: ArrayLike | None = None,
        evaluation: Mapping[str, ArrayLike | SetInputs] | None = None,
        executor: Executor | None = None,
        progress: bool = False,
    ) -> CrossFitScores:
        """All tasks, in ``executor`` or one after the other here; arguments as :meth:`tasks`."""
        tasks = self.tasks(
            data,
            template,
            data_id=data_id,
            template_id=template_id,
            data_weight=data_weight,
            template_weight=template_weight,
            evaluation=evaluation,
        )
        if executor is None:
            results: Iterable[PartScores] = map(run_fold, tasks)
        else:
            futures = [executor.submit(run_fold, task) for task in tasks]
            results = (future.result() for future in futures)
        if progress:
            results = progress_bar(results, description="cross-fitting", total=len(tasks), unit="task")
        return self.collect(tasks, results)

    def collect(self, tasks: list[FoldTask], results: Iterable[PartScores]) -> CrossFitScores:
        """Put the results of all ``tasks`` together, in whatever order they come.

        Raises:
            UserError: Results are missing.
        """
        parts = sorted(results, key=lambda r: (r.fold, r.part))
        if [(r.fold, r.part) for r in parts] != [(t.fold, t.part) for t in tasks]:
            raise UserError(f"cross-fitting has {len(parts)} results of {len(tasks)} tasks: run the missing ones")
        first = tasks[0]
        data, template = np.empty(len(first.data)), np.empty(len(first.template))
        evaluation = {name: np.empty((self.folds, len(e))) for name, e in first.evaluation.items()}
        histories = []
        for fold in range(self.folds):
            of_fold = [r for r in parts if r.fold == fold]
            share = [r.members for r in of_fold]
            data[first.data_fold == fold] = np.average([r.data for r in of_fold], axis=0, weights=share)
            template[first.template_fold == fold] = np.average([r.template for r in of_fold], axis=0, weights=share)
            for name, scores in evaluation.items():
                scores[fold] = np.average([r.evaluation[name] for r in of_fold], axis=0, weights=share)
            histories.append(_joined([r.history for r in of_fold]))
        seconds = np.array([sum(r.seconds for r in parts if r.fold == fold) for fold in range(self.folds)])
        evaluation = {name: logit(scores) for name, scores in evaluation.items()}
        return CrossFitScores(
            logit(data), first.data_fold, logit(template), first.template_fold, evaluation, histories, seconds
        )

    def _parts(self, fold: int) -> list[Any]:
        whole = clone(self.classifier).set_params(random_state=derive_seed(self.seed, "classifier", fold))
        settings = whole.get_params()
        if self.members_per_task is None or "first_member" not in settings:
            return [whole]
        start, members = settings["first_member"], settings["members"]
        return [
            clone(whole).set_params(first_member=start + k, members=min(self.members_per_task, members - k))
            for k in range(0, members, self.members_per_task)
        ]


def run_fold(task: FoldTask) -> PartScores:
    """Train on all folds but one, score that one.  A pure function: same task, same result."""
    start = time.perf_counter()
    in_data, in_template = task.data_fold != task.fold, task.template_fold != task.fold
    features = join_inputs(task.data[in_data], task.template[in_template])
    labels = np.repeat([1, 0], [in_data.sum(), in_template.sum()])
    weight = np.concatenate([task.data_weight[in_data], task.template_weight[in_template]])
    classifier = clone(task.classifier).fit(features, labels, sample_weight=weight)

    def probability(x: Inputs) -> np.ndarray:
        return classifier.predict_proba(x)[:, 1]

    return PartScores(
        fold=task.fold,
        part=task.part,
        members=int(classifier.get_params().get("members", 1)),
        data=probability(task.data[~in_data]),
        template=probability(task.template[~in_template]),
        evaluation={name: probability(x) for name, x in task.evaluation.items()},
        history=dict(getattr(classifier, "history_", {})),
        seconds=time.perf_counter() - start,
    )


def _joined(histories: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Curves of all parts below each other, padded with NaN to the longest."""
    joined = {}
    for name in histories[0]:
        longest = max(h[name].shape[1] for h in histories)
        padded = [np.pad(h[name], ((0, 0), (0, longest - h[name].shape[1])), constant_values=np.nan) for h in histories]
        joined[name] = np.concatenate(padded)
    return joined
