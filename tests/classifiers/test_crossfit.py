from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from cathode.classifiers.crossfit import CrossFit, fold_of, run_fold
from cathode.support.errors import UserError

TREES = {"kind": "trees", "members": 4, "max_iter": 15}


class Memory(ClassifierMixin, BaseEstimator):
    """Remembers every training event: perfect on events it saw, ignorant of all others."""

    def __init__(self, random_state=0):
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None):
        self.seen_ = {row.tobytes(): label for row, label in zip(X, y, strict=True)}
        return self

    def predict_proba(self, X):
        p = np.array([self.seen_.get(row.tobytes(), 0.5) for row in np.ascontiguousarray(X)])
        return np.stack([1 - p, p], axis=1)


def samples(n=600, seed=0, features=2):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, features)), rng.standard_normal((2 * n, features))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=50), st.integers(2, 10), st.integers(0, 100))
def test_the_fold_depends_on_the_id_alone(ids, folds, seed):
    of_list = fold_of(np.array(ids), folds, seed=seed)
    assert ((of_list >= 0) & (of_list < folds)).all()
    np.testing.assert_array_equal(of_list[::-1], fold_of(np.array(ids[::-1]), folds, seed=seed))
    assert of_list[0] == fold_of(np.array(ids[:1]), folds, seed=seed)[0]


def test_folds_are_even_and_change_with_the_seed():
    first, second = fold_of(np.arange(50_000), 5, seed=1), fold_of(np.arange(50_000), 5, seed=2)
    for of_event in (first, second):
        assert np.abs(np.bincount(of_event) - 10_000).max() < 4 * np.sqrt(50_000 * 0.2 * 0.8)
    table = np.histogram2d(first, second, bins=5)[0]
    assert np.abs(table - 2000).max() < 5 * np.sqrt(2000)


def test_no_event_is_scored_by_a_model_that_saw_it():
    data, template = samples()
    data[300:] = data[:300]  # every event twice, with the same id
    scores = CrossFit(Memory(), folds=4).run(data, template, data_id=np.tile(np.arange(300), 2))
    np.testing.assert_array_equal(scores.data, 0.0)
    np.testing.assert_array_equal(scores.template, 0.0)


def test_the_memory_would_notice():
    data, template = samples()
    data[300:] = data[:300]
    scores = CrossFit(Memory(), folds=4).run(data, template, data_id=np.arange(600))
    assert (scores.data > 1).mean() > 0.5


def test_random_labels_give_no_separation():
    aucs = []
    for seed in range(3):
        data, template = samples(600, seed)
        scores = CrossFit(TREES, folds=2, seed=seed).run(data, template, data_id=np.arange(600))
        for k in range(2):
            d, t = scores.data[scores.data_fold == k], scores.template[scores.template_fold == k]
            aucs.append(roc_auc_score(np.repeat([1, 0], [len(d), len(t)]), np.concatenate([d, t])))
    # One fold's error is sqrt((1/300 + 1/600) / 12) = 0.020; folds are correlated, which at most doubles the variance.
    assert np.mean(aucs) == pytest.approx(0.5, abs=3.5 * 0.020 * np.sqrt(2 / len(aucs)))


def test_a_real_difference_is_found():
    data, template = samples(1000)
    data += 1.0
    scores = CrossFit(TREES, folds=3).run(data, template, data_id=np.arange(1000), evaluation={"same": data[:50]})
    assert scores.data.mean() > 0.3 > -0.3 > scores.template.mean()
    assert scores.evaluation["same"].shape == (3, 50)
    assert [h["training_loss"].shape[0] for h in scores.histories] == [4, 4, 4]
    assert (scores.seconds > 0).all()


def test_evaluation_is_scored_by_each_folds_model():
    data, template = samples(300)
    scores = CrossFit(TREES, folds=3).run(data, template, data_id=np.arange(300), evaluation={"data": data})
    for k in range(3):
        of_fold = scores.data_fold == k
        np.testing.assert_array_equal(scores.evaluation["data"][k][of_fold], scores.data[of_fold])
    assert (scores.evaluation["data"][0] != scores.evaluation["data"][1]).any()


def test_weights_are_used():
    data, template = samples(500)
    far = template[:, 0] > 0
    weight = np.where(far, 3.0, 1.0)
    fit = CrossFit(TREES, folds=2)
    plain = fit.run(data, template, data_id=np.arange(500))
    weighted = fit.run(data, template, data_id=np.arange(500), template_weight=weight)
    np.testing.assert_array_equal(plain.template_fold, weighted.template_fold)
    assert weighted.template[far].mean() < plain.template[far].mean() - 0.2


def test_parts_workers_and_order_do_not_matter():
    data, template = samples(300)
    arguments = {"data_id": np.arange(300), "evaluation": {"extra": data[:40] + 0.1}}
    whole = CrossFit(TREES, folds=2, seed=3).run(data, template, **arguments)
    fit = CrossFit(TREES, folds=2, seed=3, members_per_task=3)
    tasks = fit.tasks(data, template, **arguments)
    assert [(t.fold, t.classifier.first_member, t.classifier.members) for t in tasks] == [
        (0, 0, 3), (0, 3, 1), (1, 0, 3), (1, 3, 1),
    ]  # fmt: skip
    backwards = fit.collect(tasks, [run_fold(t) for t in reversed(tasks)])
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        spawned = fit.run(data, template, **arguments, executor=pool)
    for name in ("data", "template", "data_fold", "template_fold"):
        np.testing.assert_array_equal(getattr(spawned, name), getattr(backwards, name))
        np.testing.assert_allclose(getattr(whole, name), getattr(spawned, name), atol=1e-12)
    np.testing.assert_array_equal(spawned.evaluation["extra"], backwards.evaluation["extra"])
    for a, b in zip(whole.histories, spawned.histories, strict=True):
        np.testing.assert_array_equal(a["validation_loss"], b["validation_loss"])


def test_any_estimator_of_scikit_learn_that_takes_weights_and_a_seed_fits_in():
    data, template = samples(200)
    with pytest.raises(ValueError, match="random_state"):
        CrossFit(KNeighborsClassifier()).tasks(data, template, data_id=np.arange(200))
    from sklearn.tree import DecisionTreeClassifier

    data += 1
    scores = CrossFit(DecisionTreeClassifier(max_depth=2), folds=2).run(data, template, data_id=np.arange(200))
    assert scores.data.mean() > scores.template.mean()
    assert scores.histories == [{}, {}]


def test_missing_results_are_reported():
    data, template = samples(50)
    fit = CrossFit(TREES, folds=2)
    tasks = fit.tasks(data, template, data_id=np.arange(50))
    with pytest.raises(UserError, match="0 results of 2 tasks"):
        fit.collect(tasks, [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_id": np.arange(50.0)}, "column of integers"),
        ({"data_id": np.arange(5)}, "5 and 100 ids"),
        ({"data_id": np.zeros(50, dtype=int)}, "leave one of 2 folds empty"),
        ({"data_weight": np.ones(5)}, "5 and 100 weights"),
        ({"evaluation": {"extra": np.zeros((5, 3))}}, "trained on 2"),
    ],
)
def test_bad_input_is_refused(change, message):
    data, template = samples(50)
    with pytest.raises(UserError, match=message):
        CrossFit(TREES, folds=2).tasks(data, template, **{"data_id": np.arange(50), **change})


def test_bad_settings_are_refused():
    with pytest.raises(UserError, match="at least 2 folds"):
        CrossFit(TREES, folds=1)
    with pytest.raises(UserError, match="members_per_task"):
        CrossFit(TREES, members_per_task=0)
