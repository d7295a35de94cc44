from __future__ import annotations

import numpy as np
import pytest

from cathode.classifiers.crossfit import CrossFit, fold_of
from cathode.classifiers.registry import build_classifier
from cathode.search.classify import Scores, cross_fit
from cathode.search.settings import ClassifierSettings, Mlp, Trees
from cathode.support.seeding import derive_seed

TREES = ClassifierSettings(model=Trees(members=2), folds=3)


@pytest.mark.parametrize("efficiency", [0.5, 0.1, 0.01, 0.003])
def test_thresholds_pass_the_background_efficiency_in_every_fold(make_scores, efficiency):
    scores = make_scores(template=16_000, folds=4)
    thresholds = scores.thresholds(efficiency)
    passed = scores.passing("template", thresholds)
    for k in range(4):
        assert abs(passed[scores.fold["template"] == k].sum() - 4000 * efficiency) <= 1
    # Folds on different scales need different cuts.
    assert thresholds.max() - thresholds.min() > 1


def test_thresholds_of_another_sample(make_scores):
    scores = make_scores()
    passed = scores.passing("closure_template", scores.thresholds(0.1, sample="closure_template"))
    assert passed.mean() == pytest.approx(0.1, abs=1e-3)


def test_equal_scores_never_pass_more_than_asked():
    score = np.repeat([0.0, 1.0, 2.0], [80, 15, 5]).astype(float)
    scores = Scores({"template": score}, {"template": np.zeros(100, dtype=np.int64)}, 1, [])
    assert scores.passing("template", scores.thresholds(0.1)).sum() == 5


@pytest.fixture
def samples():
    random = np.random.default_rng(0)
    background, template = random.normal(size=(2, 1500, 2))
    data = np.concatenate([background, random.normal(2.0, 0.3, size=(150, 2))])
    return data, template, random.permutation(1650) + 1000


@pytest.mark.parametrize("model", [Trees(members=2), Mlp(members=1, hidden=(16,), epochs=6, best_epochs=1)])
def test_signal_scores_high_and_background_like_template(samples, runner, model):
    data, template, ids = samples
    scores = cross_fit(
        ClassifierSettings(model=model, folds=3), data, template, data_id=ids, evaluation={}, runner=runner, seed=1
    )
    assert scores.score["data"].shape == (1650,)
    assert scores.score["template"].shape == (1500,)
    passed = scores.passing("data", scores.thresholds(0.1))
    assert passed[1500:].mean() > 0.5
    assert passed[:1500].mean() == pytest.approx(0.1, abs=0.04)
    assert len(scores.histories) == 3
    for table in scores.histories:
        assert {"iteration", "training_loss", "validation_loss"} <= set(table.columns)


def test_members_in_several_tasks_are_one_ensemble(samples, runner):
    """Tasks hold at most ten members; averaging their probabilities is averaging all members."""
    data, template, ids = (part[-400:] for part in samples)
    extra = np.random.default_rng(3).normal(size=(30, 2))
    settings = ClassifierSettings(model=Trees(members=12), folds=2)
    scores = cross_fit(settings, data, template, data_id=ids, evaluation={"extra": extra}, runner=runner, seed=1)
    assert len(list(runner.folder.iterdir())) == 4
    whole = CrossFit(build_classifier({"kind": "trees", "members": 12}), folds=2, seed=1).run(
        data, template, data_id=ids, evaluation={"extra": extra}
    )
    np.testing.assert_allclose(scores.score["data"], whole.data, atol=1e-10)
    expected = whole.evaluation["extra"][scores.fold["extra"], np.arange(30)]
    np.testing.assert_allclose(scores.score["extra"], expected, atol=1e-10)


def test_no_event_is_scored_by_a_model_that_saw_it(runner):
    """Labels of noise cannot be learned: whoever scores what it was trained on would separate them."""
    random = np.random.default_rng(1)
    data, template = random.normal(size=(2, 1200, 2))
    scores = cross_fit(TREES, data, template, data_id=np.arange(1200), evaluation={}, runner=runner, seed=2)
    ranks = np.concatenate([scores.score["data"], scores.score["template"]]).argsort().argsort()
    auc = (ranks[:1200].mean() - 599.5) / 1200
    assert auc == pytest.approx(0.5, abs=0.05)


def test_folds_follow_the_ids_and_evaluation_is_dealt_evenly(samples, runner):
    data, template, ids = samples
    extra = np.random.default_rng(2).normal(size=(100, 2))
    scores = cross_fit(TREES, data, template, data_id=ids, evaluation={"extra": extra}, runner=runner, seed=4)
    np.testing.assert_array_equal(scores.fold["data"], fold_of(ids, 3, seed=derive_seed(4, "data")))
    assert sorted(np.bincount(scores.fold["extra"])) == [33, 33, 34]
    assert np.isfinite(scores.score["extra"]).all()


def test_evaluation_samples_change_no_score(samples, runner):
    data, template, ids = samples
    plain = cross_fit(TREES, data, template, data_id=ids, evaluation={}, runner=runner, seed=5)
    extra = {"extra": template[:100] + 9}
    more = cross_fit(TREES, data, template, data_id=ids, evaluation=extra, runner=runner, seed=5)
    np.testing.assert_array_equal(plain.score["data"], more.score["data"])
    np.testing.assert_array_equal(plain.score["template"], more.score["template"])


def test_weights_of_the_data_count(samples, runner):
    """The signal with weight zero is not learned."""
    data, template, ids = samples
    weight = np.repeat([1.0, 0.0], [1500, 150])
    scores = cross_fit(TREES, data, template, data_id=ids, data_weight=weight, evaluation={}, runner=runner, seed=1)
    assert scores.passing("data", scores.thresholds(0.1))[1500:].mean() < 0.4
