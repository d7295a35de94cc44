"""Classifier two-sample test of sets: can a transformer tell the two samples apart?

As :mod:`cathode.comparison.c2st`, with a transformer in place of trees: the area under the ROC curve on events that it
never saw is 0.5 if both samples follow one distribution (Lopez-Paz and Oquab, arXiv 1610.06545).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from cathode.classifiers.transformer.classifier import SetClassifier
from cathode.classifiers.transformer.inputs import SetInputs
from cathode.comparison.auc import auc_with_error
from cathode.comparison.c2st import C2ST
from cathode.support.errors import UserError
from cathode.support.progress import progress
from cathode.support.seeding import derive_seed, numpy_generator

__all__ = ["QUICK", "STRONG", "set_c2st"]

# For 20,000 + 20,000 jets of some 50 constituents: about six minutes on one core.  Attention is biased by pairs where
# there are momenta.
STRONG: dict[str, Any] = {"epochs": 10, "learning_rate": 2e-3, "validation_fraction": 0.1, "best_epochs": 2}
# A sixth of the time.
QUICK: dict[str, Any] = {**STRONG, "width": 32, "heads": 2, "blocks": 2, "epochs": 6, "pair_bias": False}


def set_c2st(
    x: SetInputs,
    y: SetInputs,
    *,
    x_weight: ArrayLike | None = None,
    y_weight: ArrayLike | None = None,
    seed: int,
    folds: int = 1,
    held_out: float = 0.25,
    settings: Mapping[str, Any] | None = None,
    quick: bool = False,
    max_events: int | None = None,
) -> C2ST:
    """Two-sample test by a transformer.

    With one fold, a part of both samples is tested by a classifier trained on the rest; with k folds every event is
    tested by the one of k classifiers that did not see it, which costs k trainings and gives a smaller error.  The
    error with folds has the factor sqrt(2) for their correlation that :func:`cathode.comparison.c2st.c2st` explains.

    Args:
        x: First sample.
        y: Second sample, of the same kind.
        x_weight: Non-negative weights ``(N,)``.
        y_weight: Non-negative weights ``(M,)``.  Both samples count alike whatever their weights sum to.
        seed: Of folds, thinning and classifiers.
        folds: 1 for one split, or the number of folds.
        held_out: With one fold, the part of each sample that is tested.
        settings: Of :class:`~cathode.classifiers.transformer.classifier.SetClassifier`, in place of the defaults here.
        quick: A smaller network without a bias from pairs, and fewer epochs.
        max_events: Use at most so many events of each sample.

    Raises:
        UserError: Unusable samples, weights or settings, or fewer than 20 events to be tested or trained on.
    """
    if x.kind != y.kind:
        raise UserError(f"the samples differ in kind: {x.kind} and {y.kind}")
    if folds < 1 or not 0 < held_out < 1:
        raise UserError(f"set_c2st needs folds >= 1 and held_out in (0, 1), got {folds} and {held_out}")
    chosen = {"pair_bias": x.momenta is not None, **(QUICK if quick else STRONG), **(settings or {})}
    unknown = sorted(set(chosen) - set(SetClassifier().get_params()))
    if unknown:
        raise UserError(f"set_c2st: unknown setting {', '.join(unknown)} of SetClassifier")
    parts = []
    for name, sample, given in (("x", x, x_weight), ("y", y, y_weight)):
        weight = np.ones(len(sample)) if given is None else np.asarray(given, dtype=np.float64)
        if weight.shape != (len(sample),) or not np.isfinite(weight).all() or (weight < 0).any():
            raise UserError(f"set_c2st: {name}_weight must be {len(sample)} finite, non-negative numbers")
        order = numpy_generator(seed, "set c2st", name).permutation(len(sample))[:max_events]
        fold = np.arange(len(order)) % folds
        if folds == 1:
            fold = (np.arange(len(order)) >= round(held_out * len(order))).astype(np.int64)
        if np.bincount(fold, minlength=max(folds, 2)).min() < 20:
            raise UserError(f"set_c2st: {len(order)} events of {name} leave fewer than 20 in one part: give more")
        parts.append((sample[order], weight[order], fold))
    (first, u, first_fold), (second, v, second_fold) = parts
    joined, weight = SetInputs.concatenate([first, second]), np.concatenate([u, v])
    label, fold = np.repeat([1, 0], [len(first), len(second)]), np.concatenate([first_fold, second_fold])
    results = []
    for k in progress(range(folds), description="two-sample test: folds", unit="fold"):
        classifier = SetClassifier(random_state=derive_seed(seed, "set c2st", k)).set_params(**chosen)
        train, test = fold != k, fold == k
        scores = classifier.fit(joined[train], label[train], weight[train]).decision_function(joined[test])
        is_x, w = label[test] == 1, weight[test]
        results.append(auc_with_error(scores[is_x], scores[~is_x], positive_weight=w[is_x], negative_weight=w[~is_x]))
    aucs, errors = np.array(results).T
    auc = float(aucs.mean())
    error = float(np.sqrt((1.0 if folds == 1 else 2.0) * np.sum(errors**2)) / folds)
    p_value = float(norm.sf((auc - 0.5) / error)) if error > 0 else float(auc <= 0.5)
    return C2ST(auc, error, p_value, tuple(map(float, aucs)), tuple(map(float, errors)), (len(first), len(second)))
