"""What every classifier must do."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from cathode.classifiers.base import Classifier
from cathode.classifiers.registry import CLASSIFIERS, build_classifier, load_classifier
from cathode.support.errors import UserError

SMALL = [
    {"kind": "trees", "members": 3, "max_iter": 40},
    {"kind": "mlp", "members": 2, "epochs": 4, "best_epochs": 2, "hidden": [16, 16]},
]
every = pytest.mark.parametrize("description", SMALL, ids=lambda d: d["kind"])


def test_every_kind_is_tested():
    assert {d["kind"] for d in SMALL} == set(CLASSIFIERS)


@every
def test_reaches_the_likelihood_ratio(description, gaussians):
    classifier = build_classifier(description).fit(*gaussians(3000))
    assert isinstance(classifier, Classifier)
    x, y = gaussians(8000, seed=1)
    optimum = norm.cdf(1.0 / np.sqrt(2.0))
    assert optimum - 0.015 < roc_auc_score(y, classifier.decision_function(x)) < optimum + 0.012
    # Twice as many template events must not shift the odds: at the point between the means they are even.
    line = np.stack([np.full(200, 0.5), np.linspace(-1, 1, 200)], axis=1)
    assert abs(classifier.decision_function(line).mean()) < 0.15


@every
def test_probabilities_scores_and_classes_agree(description, gaussians):
    x, y = gaussians(200)
    classifier = build_classifier(description).fit(x, y)
    p = classifier.predict_proba(x)
    assert p.shape == (600, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    np.testing.assert_allclose(classifier.decision_function(x), np.log(p[:, 1] / p[:, 0]), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(classifier.predict(x), p[:, 1] > 0.5)
    np.testing.assert_allclose(classifier.member_probabilities(x).mean(axis=0), p[:, 1], rtol=1e-12)


@every
def test_same_seed_same_bits(description, gaussians):
    x, y = gaussians(200)
    first = build_classifier({**description, "random_state": 3}).fit(x, y)
    again = clone(first).fit(x.astype(np.float64), y.astype(np.float32))
    other = clone(first).set_params(random_state=4).fit(x, y)
    np.testing.assert_array_equal(first.predict_proba(x), again.predict_proba(x))
    assert (first.predict_proba(x) != other.predict_proba(x)).any()
    for name, curve in first.history_.items():
        np.testing.assert_array_equal(curve, again.history_[name])
        assert len(curve) == description["members"]


@every
def test_single_precision_is_taken(description, gaussians):
    x, y = gaussians(200)
    x = x.astype(np.float32)
    first = build_classifier(description).fit(x, y)
    np.testing.assert_array_equal(first.predict_proba(x), first.predict_proba(x.astype(np.float64)))


@every
def test_the_scale_of_the_weights_does_not_matter_but_the_weights_do(description, gaussians):
    x, y = gaussians(400)
    weight = np.random.default_rng(0).uniform(0.5, 1.5, len(y))
    scaled = np.where(y == 1, 16.0, 0.25) * weight  # powers of two: exact
    first = build_classifier(description).fit(x, y, sample_weight=weight)
    np.testing.assert_allclose(first.predict_proba(x), clone(first).fit(x, y, scaled).predict_proba(x), atol=1e-6)
    assert np.abs(first.predict_proba(x) - clone(first).fit(x, y).predict_proba(x)).max() > 1e-4


@every
def test_weights_undo_a_distortion(description):
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (12_000, 1))
    x[6000:] = rng.choice([-1, 1], (6000, 1), p=[0.2, 0.8]) * np.abs(x[6000:])
    y = np.repeat([1, 0], 6000)
    weight = np.where(y == 1, 1.0, np.where(x[:, 0] > 0, 0.5 / 0.8, 0.5 / 0.2))
    half = x[:, 0] > 0
    distorted = build_classifier(description).fit(x, y).decision_function(x)
    corrected = build_classifier(description).fit(x, y, weight).decision_function(x)
    assert distorted[half].mean() < 0.6 * np.log(0.5 / 0.8)
    assert distorted[~half].mean() > 0.6 * np.log(0.5 / 0.2)
    assert abs(corrected[half].mean()) < 0.1
    assert abs(corrected[~half].mean()) < 0.1


@every
def test_parts_make_the_whole(description, gaussians):
    x, y = gaussians(200)
    whole = build_classifier(description).fit(x, y)
    last = clone(whole).set_params(first_member=whole.members - 1, members=1).fit(x, y)
    np.testing.assert_allclose(whole.member_probabilities(x)[-1], last.member_probabilities(x)[0], atol=2e-5)


@every
def test_saved_and_loaded_is_the_same(description, gaussians, tmp_path):
    x, y = gaussians(200)
    classifier = build_classifier(description).fit(x, y)
    classifier.save(tmp_path / "model")
    loaded = load_classifier(tmp_path / "model")
    assert loaded.get_params() == classifier.get_params()
    np.testing.assert_array_equal(loaded.predict_proba(x), classifier.predict_proba(x))
    for name, curve in classifier.history_.items():
        np.testing.assert_array_equal(loaded.history_[name], curve)
    assert not list(tmp_path.rglob("*.pkl"))


@every
def test_a_damaged_folder_is_refused(description, gaussians, tmp_path):
    classifier = build_classifier(description).fit(*gaussians(200))
    classifier.save(tmp_path)
    weights = next(p for p in tmp_path.iterdir() if p.name in ("trees.npz", "weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot load a classifier"):
        load_classifier(tmp_path)
    weights.unlink()
    with pytest.raises(UserError, match="cannot load a classifier"):
        load_classifier(tmp_path)
    (tmp_path / "classifier.json").write_text(json.dumps({"kind": "forest"}))
    with pytest.raises(UserError, match="unknown classifier kind 'forest'"):
        load_classifier(tmp_path)


@every
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.zeros(6)}, "events as rows"),
        ({"X": np.full((6, 2), np.inf)}, "6 events with NaN"),
        ({"y": np.array([0, 1, 2, 0, 1, 2])}, "must be 0"),
        ({"y": np.zeros(6)}, r"class 1 \(data\) has 0 events"),
        ({"y": np.zeros(5)}, "labels have shape"),
        ({"sample_weight": np.array([1, 1, 1, 0, 0, 0.0])}, r"class 0 \(template\)"),
        ({"sample_weight": np.full(6, np.nan)}, "finite"),
        ({"sample_weight": np.ones(2)}, "one per event"),
    ],
)
def test_bad_input_is_refused(description, change, message):
    arguments = {"X": np.zeros((6, 2)), "y": np.array([1, 1, 1, 0, 0, 0]), **change}
    with pytest.raises(UserError, match=message):
        build_classifier(description).fit(**arguments)


@every
def test_other_features_are_refused(description, gaussians):
    classifier = build_classifier(description).fit(*gaussians(200))
    with pytest.raises(UserError, match="3 features, but it was trained on 2"):
        classifier.predict_proba(np.zeros((5, 3)))


@every
@pytest.mark.parametrize("setting", [{"members": 0}, {"validation_fraction": 1.0}])
def test_bad_settings_are_refused(description, setting, gaussians):
    with pytest.raises(UserError, match=next(iter(setting))):
        build_classifier({**description, **setting}).fit(*gaussians(50))


def test_unknown_descriptions_are_refused():
    with pytest.raises(UserError, match="unknown classifier kind 'forest'; known: trees, mlp"):
        build_classifier({"kind": "forest"})
    with pytest.raises(UserError, match="unknown setting 'leaves' of classifier 'trees'"):
        build_classifier({"kind": "trees", "leaves": 3})
