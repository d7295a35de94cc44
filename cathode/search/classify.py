"""Data against template: cross-fitted, so that every event is scored by classifiers that never saw it.

Samples that are only scored (sidebands, labelled test events) are dealt out to the folds and each event is scored by
one fold's classifier, like the data.  Thresholds taken per fold then apply to all samples alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cathode.classifiers.base import Inputs
from cathode.classifiers.crossfit import CrossFit, FoldTask, PartScores, run_fold
from cathode.classifiers.registry import build_classifier
from cathode.search.settings import ClassifierSettings
from cathode.search.tasks import Runner, Task
from cathode.statistics.efficiency import fold_thresholds
from cathode.support.files import sha256_of
from cathode.support.seeding import numpy_generator

__all__ = ["Scores", "cross_fit", "run_part"]

Array = NDArray[np.float64]
Folds = NDArray[np.int64]

# Enough tasks to keep a few workers busy to the end, few enough that starting them costs nothing.
_MEMBERS_PER_TASK = 10
# A transformer trains for minutes: each member is a task, and a killed one goes on from its checkpoint.
_SLOW = "transformer"


@dataclass(frozen=True)
class Scores:
    """Scores of all samples with the fold whose classifier gave them.

    Attributes:
        score: Sample name -> ``(N,)``; ``"data"`` and ``"template"`` are the classifier's own classes, out of fold.
        fold: Sample name -> ``(N,)`` in ``[0, folds)``.
        histories: One table per fold: ``iteration``, ``training_loss``, ``validation_loss``, means over members.
    """

    score: dict[str, Array]
    fold: dict[str, Folds]
    folds: int
    histories: list[pd.DataFrame]

    def subset(self, name: str, *, of: str, rows: NDArray[np.int64]) -> Scores:
        """These scores with a further sample ``name``: the given rows of the sample ``of``."""
        score = {**self.score, name: self.score[of][rows]}
        return replace(self, score=score, fold={**self.fold, name: self.fold[of][rows]})

    def passing(self, sample: str, thresholds: Array) -> NDArray[np.bool_]:
        """Events of ``sample`` above the threshold of their fold."""
        return self.score[sample] > thresholds[self.fold[sample]]

    def thresholds(self, background_efficiency: float, *, sample: str = "template") -> Array:
        """Score above which the given fraction of ``sample`` lies, per fold ``(folds,)``.

        Raises:
            UserError: A fold has too few events for so tight a cut.
        """
        return fold_thresholds(self.score[sample], self.fold[sample], background_efficiency).thresholds


def cross_fit(
    settings: ClassifierSettings,
    data: Inputs,
    template: Inputs,
    *,
    data_id: NDArray[np.int64],
    data_weight: Array | None = None,
    evaluation: Mapping[str, Inputs],
    runner: Runner,
    seed: int,
    name: str = "classifier",
    description: str = "classifier",
) -> Scores:
    """Train data against template in folds and score everything.

    Args:
        settings: Classifier and number of folds.
        data, template: ``(N, D)``, ``(M, D)``, or sets of points.
        data_id: Ids of the data events; copies of one event share a fold.
        data_weight: Event weights of the data ``(N,)``.
        evaluation: Further samples, each event scored by one fold's classifier.
        runner: Runs the tasks.
        seed: Of folds, classifiers and the dealing of the evaluation samples.
        name: Prefix of the tasks' folders.
        description: Shown beside the progress bar.
    """
    model = dict(vars(settings.model))
    fitting = CrossFit(
        build_classifier(dict(model)),
        folds=settings.folds,
        seed=seed,
        members_per_task=1 if settings.model.kind == _SLOW else _MEMBERS_PER_TASK,
    )
    parts = fitting.tasks(data, template, data_id=data_id, data_weight=data_weight)
    dealt = {
        key: numpy_generator(seed, "deal", key).permutation(np.arange(len(x)) % settings.folds)
        for key, x in evaluation.items()
    }
    tasks = [_task(name, model, part, evaluation, dealt) for part in parts]
    folders = runner.run(tasks, description=description)
    results = [_load(folder, part) for folder, part in zip(folders, parts, strict=True)]
    collected = fitting.collect(
        [replace(p, evaluation={}) for p in parts], [replace(r, evaluation={}) for r in results]
    )
    score = {"data": collected.data, "template": collected.template}
    fold = {"data": collected.data_fold, "template": collected.template_fold}
    for key, x in evaluation.items():
        total, weight = np.zeros(len(x)), np.zeros(len(x))
        for result in results:
            rows = dealt[key] == result.fold
            total[rows] += result.members * result.evaluation[key]
            weight[rows] += result.members
        probability = np.clip(total / weight, 1e-12, 1 - 1e-12)
        score[key], fold[key] = np.log(probability) - np.log1p(-probability), dealt[key]
    return Scores(score, fold, settings.folds, [_history(h) for h in collected.histories])


def _task(
    name: str, model: dict[str, Any], part: FoldTask, evaluation: Mapping[str, Inputs], dealt: dict[str, Folds]
) -> Task:
    parameters = part.classifier.get_params()
    return Task(
        f"{name}-{part.fold}-{part.part}",
        run_part,
        {
            "classifier": {"kind": model["kind"], **parameters},
            "fold": part.fold,
            "part": part.part,
            "data": part.data,
            "template": part.template,
            "data_weight": part.data_weight,
            "template_weight": part.template_weight,
            "data_fold": part.data_fold,
            "template_fold": part.template_fold,
            "evaluation": {key: x[dealt[key] == part.fold] for key, x in evaluation.items()},
            **_encoder_of(parameters),
        },
    )


def _encoder_of(parameters: Mapping[str, Any]) -> dict[str, str]:
    """What else decides a result of a classifier that starts from an encoder: its weights, not where they lie."""
    folder = parameters.get("pretrained")
    return {"encoder": sha256_of(Path(folder) / "encoder.safetensors")} if folder else {}


def run_part(folder: Path, *, classifier: dict[str, Any], encoder: str | None = None, **arguments: Any) -> None:
    """Train one part of one fold's ensemble and store its scores in ``folder / "scores.npz"``.

    ``encoder`` is the hash of the pre-trained weights: with others this is another task.
    """
    if classifier["kind"] == _SLOW:
        classifier = classifier | {"checkpoint_dir": str(folder / "checkpoint")}
    result = run_fold(FoldTask(classifier=build_classifier(classifier), **arguments))
    arrays = {f"evaluation/{k}": v for k, v in result.evaluation.items()}
    arrays |= {f"history/{k}": v for k, v in result.history.items()}
    np.savez(
        folder / "scores.npz",
        data=result.data,
        template=result.template,
        members=result.members,
        seconds=result.seconds,
        **arrays,  # type: ignore[arg-type]
    )


def _load(folder: Path, part: FoldTask) -> PartScores:
    with np.load(folder / "scores.npz", allow_pickle=False) as content:

        def group(prefix: str) -> dict[str, Array]:
            return {k.removeprefix(prefix): content[k] for k in content.files if k.startswith(prefix)}

        return PartScores(
            fold=part.fold,
            part=part.part,
            members=int(content["members"]),
            data=content["data"],
            template=content["template"],
            evaluation=group("evaluation/"),
            history=group("history/"),
            seconds=float(content["seconds"]),
        )


def _history(curves: dict[str, Array]) -> pd.DataFrame:
    means = {}
    for key, values in curves.items():
        # Members stop early at different lengths; columns that nobody reached hold only NaN.
        reached = np.isfinite(values).sum(0)
        means[key] = np.divide(np.nansum(values, 0), reached, out=np.full(values.shape[1], np.nan), where=reached > 0)
    table = pd.DataFrame(means)
    table.insert(0, "iteration", np.arange(len(table)))
    return table
