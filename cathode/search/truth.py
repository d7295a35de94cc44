"""What labels say about a finished search.  Nothing here flows back: it is called when all scores are final.

Besides the search's own classifier, two references are trained with the same settings on the same events:

* *idealized*: data against true background of the signal region, the perfect template;
* *supervised*: labelled signal against labelled background.

All three are cross-fitted and judged on the same test events.  Efficiencies are taken fold by fold (each fold has its
own classifier and so its own threshold) and then joined.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cathode.classifiers.base import Inputs
from cathode.data.events import Events
from cathode.search.classify import Scores, cross_fit
from cathode.search.composition import SearchInputs
from cathode.search.results import SicCurveBand, TruthResult, TruthSeries
from cathode.search.settings import ClassifierSettings
from cathode.search.tasks import Runner
from cathode.statistics.sic import RocCurve, band, roc_curve
from cathode.support.errors import UserError
from cathode.support.seeding import derive_seed

__all__ = ["evaluate_truth", "joined_curve"]

Array = NDArray[np.float64]
EFFICIENCIES = {"1e-2": 1e-2, "1e-3": 1e-3, "1e-4": 1e-4}
_MAX_RELATIVE_ERROR = 0.2
# Passing background events below which a SIC at fixed efficiency is not even quoted with its error.
_FEWEST = 5


def evaluate_truth(
    inputs: SearchInputs,
    signal_region: Events,
    scores: Scores,
    *,
    classifier: ClassifierSettings,
    columns: Mapping[str, Inputs],
    references: bool,
    runner: Runner,
    seed: int,
) -> TruthResult | None:
    """Judge the search and, where there are labelled events outside the data, the references.

    Args:
        inputs: With truth and the test samples.
        signal_region: Data of the signal region, in the order of ``scores``.
        scores: Final scores; with test samples also of ``test_background`` and ``test_signal``.
        classifier: Settings of the search, used for the references too.
        columns: Classifier inputs of ``data``, ``test_background`` and ``test_signal``.
        references: Train the references.
        runner: Runs the references' tasks.
        seed: Of the references.

    Returns:
        None if there is nothing to judge with: no truth, or a class without events.
    """
    if inputs.truth is None:
        return None
    is_signal = inputs.truth.of(signal_region)
    counts = {
        "n_signal_in_signal_region": int(is_signal.sum()),
        "n_background_in_signal_region": int((~is_signal).sum()),
    }
    if inputs.test_background is None or inputs.test_signal is None:
        # Without further labelled events the data themselves are the test sample: their scores are out of fold.
        if is_signal.all() or not is_signal.any():
            return None
        parts = [(scores.score["data"][is_signal], scores.fold["data"][is_signal]),
                 (scores.score["data"][~is_signal], scores.fold["data"][~is_signal])]  # fmt: skip
        series = _series("search", *parts[0], *parts[1], scores.folds)
        return TruthResult(
            **counts, n_test_signal=counts["n_signal_in_signal_region"],
            n_test_background=counts["n_background_in_signal_region"], search=series, references={},
        )  # fmt: skip
    judged = _series(
        "search",
        scores.score["test_signal"], scores.fold["test_signal"],
        scores.score["test_background"], scores.fold["test_background"],
        scores.folds,
    )  # fmt: skip
    found = {}
    if references:
        found["idealized"] = _reference(
            "idealized", classifier, columns["data"], columns, signal_region.event_id, signal_region.weight,
            runner, seed,
        )  # fmt: skip
        found["supervised"] = _reference(
            "supervised", classifier, columns["test_signal"], columns, inputs.test_signal.event_id, None, runner, seed
        )  # fmt: skip
    return TruthResult(
        **counts,
        n_test_signal=len(inputs.test_signal),
        n_test_background=len(inputs.test_background),
        search=judged,
        references=found,
    )


def _reference(
    name: str,
    classifier: ClassifierSettings,
    positive: Inputs,
    columns: Mapping[str, Inputs],
    positive_id: NDArray[np.int64],
    weight: Array | None,
    runner: Runner,
    seed: int,
) -> TruthSeries:
    scores = cross_fit(
        classifier,
        positive,
        columns["test_background"],
        data_id=positive_id,
        data_weight=weight,
        evaluation={} if name == "supervised" else {"test_signal": columns["test_signal"]},
        runner=runner,
        seed=derive_seed(seed, name),
        name=name,
        description=f"{name} reference",
    )
    signal = "data" if name == "supervised" else "test_signal"
    return _series(
        name, scores.score[signal], scores.fold[signal], scores.score["template"], scores.fold["template"], scores.folds
    )


def joined_curve(
    signal: Array, signal_fold: NDArray[np.int64], background: Array, background_fold: NDArray[np.int64], folds: int
) -> tuple[RocCurve, list[RocCurve]]:
    """ROC with thresholds per fold at equal background efficiency, and the folds' own curves.

    Each score is replaced by the fraction of its fold's test background above it, which puts all folds on one scale.
    """
    joined_signal, joined_background = np.empty(len(signal)), np.empty(len(background))
    curves = []
    for k in range(folds):
        s, b = signal_fold == k, background_fold == k
        reference = np.sort(background[b])
        if len(reference) == 0 or not s.any():
            raise UserError("truth: a fold has no test events: use fewer folds or more test events")
        joined_signal[s] = np.searchsorted(reference, signal[s], side="left") / len(reference)
        joined_background[b] = np.searchsorted(reference, background[b], side="left") / len(reference)
        curves.append(_roc(signal[s], background[b]))
    return _roc(joined_signal, joined_background), curves


def _roc(signal: Array, background: Array) -> RocCurve:
    return roc_curve(np.concatenate([signal, background]), np.repeat([True, False], [len(signal), len(background)]))


def _series(
    name: str, signal: Array, signal_fold: NDArray[np.int64], background: Array,
    background_fold: NDArray[np.int64], folds: int,
) -> TruthSeries:  # fmt: skip
    curve, fold_curves = joined_curve(signal, signal_fold, background, background_fold, folds)
    # A fold has 1/k of the events: the same working points are then known sqrt(k) times less well.
    relative = _MAX_RELATIVE_ERROR * np.sqrt(folds)
    sic: dict[str, dict[str, float | None]] = {}
    for label, efficiency in EFFICIENCIES.items():
        try:
            point = curve.sic_at(efficiency)
        except UserError:
            sic[label] = {"value": None, "error": None}
            continue
        known = efficiency * curve.n_background >= _FEWEST
        sic[label] = {"value": point.sic if known else None, "error": point.sic_error if known else None}
    best = curve.max_sic(relative_error=_MAX_RELATIVE_ERROR)
    of_folds = [c.max_sic(relative_error=relative).sic for c in fold_curves]
    roc = band(fold_curves, x="background_efficiency", y="signal_efficiency", relative_error=relative)
    sics = band(fold_curves, x="signal_efficiency", y="sic", relative_error=relative)
    low, high = np.quantile(of_folds, [0.16, 0.84])
    return TruthSeries(
        name=name,
        auc=curve.auc,
        auc_error=curve.auc_error,
        max_sic=best.sic,
        max_sic_low=float(low),
        max_sic_high=float(high),
        sic=sic,
        roc=_around(roc.x, curve, "signal_efficiency", roc.low, roc.high),
        sic_curve=_around(sics.x, curve, "sic", sics.low, sics.high),
    )


def _around(x: Array, curve: RocCurve, y: str, low: Array, high: Array) -> SicCurveBand:
    axis = "background_efficiency" if y == "signal_efficiency" else "signal_efficiency"
    joined = band([curve], x=axis, y=y, grid=x, relative_error=_MAX_RELATIVE_ERROR)
    return SicCurveBand(x=x, y=joined.median, low=low, high=high)
