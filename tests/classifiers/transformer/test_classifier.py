"""What every classifier must do, for sets."""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from cathode.classifiers.base import Classifier
from cathode.classifiers.crossfit import CrossFit
from cathode.classifiers.registry import build_classifier, load_classifier
from cathode.classifiers.transformer.classifier import SetClassifier
from cathode.classifiers.transformer.inputs import SetInputs
from cathode.support.errors import UserError

SMALL = {
    "kind": "transformer", "width": 8, "heads": 2, "blocks": 2, "epochs": 2, "batch_size": 64,
    "ema_halflife_events": 200.0, "learning_rate": 5e-3,
}  # fmt: skip


def small(**settings):
    return build_classifier({**SMALL, **settings})


def test_reaches_the_likelihood_ratio():
    """Each of n points is shifted by 0.5: the optimum is the sum over points, a shift of 0.5 sqrt(n) sigma."""
    size, shift = 4, 0.5

    def draw(n, seed):
        rng = np.random.default_rng(seed)
        y = np.repeat([1, 0], [n, 2 * n])
        mask = np.arange(size) < rng.integers(1, size + 1, (3 * n, 1))
        points = rng.standard_normal((3 * n, size, 1)) + shift * y[:, None, None]
        return SetInputs(points, mask), y

    classifier = small(epochs=8, width=16).fit(*draw(2000, 0))
    assert isinstance(classifier, Classifier)
    x, y = draw(4000, 1)
    optimal = (x.points[..., 0] - shift / 2).sum(axis=1, where=x.mask) * shift
    best, found = (roc_auc_score(y, s) for s in (optimal, classifier.decision_function(x)))
    expected = np.mean([norm.cdf(shift * np.sqrt(n) / np.sqrt(2)) for n in range(1, 5)])
    assert best == pytest.approx(expected, abs=0.02)
    assert best - 0.012 < found < best + 0.003
    # Twice as many template events must not shift the odds.
    assert abs((classifier.decision_function(x) - optimal).mean()) < 0.15


@pytest.mark.parametrize("settings", [{}, {"pair_bias": True}, {"event": "jets"}], ids=["plain", "pairs", "jets"])
def test_probabilities_seeds_files_and_parts(settings, labelled, tmp_path):
    x, y = labelled(60, groups=True)
    whole = small(members=2, **settings).fit(x, y)
    p = whole.predict_proba(x)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    np.testing.assert_allclose(whole.decision_function(x), np.log(p[:, 1] / p[:, 0]), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(whole.predict(x), p[:, 1] > 0.5)
    np.testing.assert_allclose(whole.member_probabilities(x).mean(axis=0), p[:, 1], rtol=1e-12)
    assert whole.history_["validation_loss"].shape == (2, 2)
    # The same bits again, another seed another result, a part is the part of the whole.
    last = clone(whole).set_params(first_member=1, members=1).fit(x, y)
    np.testing.assert_array_equal(whole.member_probabilities(x)[1], last.member_probabilities(x)[0])
    other = clone(last).set_params(random_state=4).fit(x, y)
    assert (other.predict_proba(x) != last.predict_proba(x)).any()
    last.save(tmp_path / "model")
    loaded = load_classifier(tmp_path / "model")
    assert loaded.get_params() == last.get_params()
    np.testing.assert_array_equal(loaded.predict_proba(x), last.predict_proba(x))
    np.testing.assert_array_equal(loaded.history_["training_loss"], last.history_["training_loss"])
    assert {f.name for f in (tmp_path / "model").iterdir()} == {"classifier.json", "weights.safetensors", "history.npz"}


def test_scores_do_not_depend_on_the_events_beside_them(labelled):
    x, y = labelled(60)
    classifier = small().fit(x, y)
    whole = classifier.predict_proba(x)
    longer = SetInputs.concatenate([x[:5], SetInputs(np.zeros((1, 30, 3)), np.ones((1, 30), bool), np.zeros(
        (1, 30), np.int8) if x.group is not None else None, np.ones((1, 30, 3)), np.zeros((1, 2)))])  # fmt: skip
    np.testing.assert_allclose(classifier.predict_proba(longer)[:5], whole[:5], atol=1e-6)
    assert classifier.predict_proba(x[:0]).shape == (0, 2)


def test_weights_balance_and_units(labelled):
    x, y = labelled(150)
    weight = np.random.default_rng(0).uniform(0.5, 1.5, len(y))
    scaled = np.where(y == 1, 16.0, 0.25) * weight
    first = small().fit(x, y, weight)
    np.testing.assert_allclose(first.predict_proba(x), small().fit(x, y, scaled).predict_proba(x), atol=1e-6)
    assert np.abs(first.predict_proba(x) - small().fit(x, y).predict_proba(x)).max() > 1e-4
    moved = SetInputs(1000 * x.points + 50, x.mask, None, x.momenta, 0.01 * x.globals - 3)
    np.testing.assert_allclose(first.predict_proba(x), small().fit(moved, y, weight).predict_proba(moved), atol=2e-3)


def test_patience_and_best_epochs(labelled):
    x, y = labelled(60, shift=0.0)
    model = small(members=2, epochs=30, patience=2, learning_rate=0.02, best_epochs=2, ema_halflife_events=None)
    curves = model.fit(x, y).history_["validation_loss"]
    steps = np.isfinite(curves).sum(axis=1)
    assert (steps < 30).all()
    for curve, n in zip(curves, steps, strict=True):
        assert np.nanargmin(curve) == n - 3


def test_a_killed_training_goes_on_to_the_same_result(labelled, tmp_path, monkeypatch):
    x, y = labelled(60)
    whole = small(epochs=4).fit(x, y).predict_proba(x)
    from cathode.training import loop

    original, calls = loop._Run._save, []

    def killed(self, checkpoint):
        original(self, checkpoint)
        calls.append(self.epoch)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop._Run, "_save", killed)
    with pytest.raises(KeyboardInterrupt):
        small(epochs=4, checkpoint_dir=str(tmp_path)).fit(x, y)
    again = small(epochs=4, checkpoint_dir=str(tmp_path)).fit(x, y)
    assert calls == [1, 2, 3, 4]
    np.testing.assert_array_equal(again.predict_proba(x), whole)


def test_cross_fitting_of_sets(sets):
    data, template = sets(150, shift=1.0, seed=1), sets(300, size=7, seed=2)
    fitting = CrossFit(SMALL, folds=2, seed=3)
    here = fitting.run(data, template, data_id=np.arange(150), evaluation={"more": sets(20, size=5, seed=3)})
    assert here.evaluation["more"].shape == (2, 20)
    auc = [roc_auc_score(np.repeat([1, 0], [(here.data_fold == k).sum(), (here.template_fold == k).sum()]),
                         np.concatenate([here.data[here.data_fold == k], here.template[here.template_fold == k]]))
           for k in range(2)]  # fmt: skip
    assert np.mean(auc) > 0.65
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        there = fitting.run(data, template, data_id=np.arange(150), executor=executor)
    np.testing.assert_allclose(there.data, here.data, atol=1e-6)


def test_forms_of_events_are_not_mixed(sets, labelled):
    x, y = labelled(30)
    with pytest.raises(UserError, match="takes SetInputs, not ndarray"):
        small().fit(np.zeros((90, 2)), y)
    with pytest.raises(UserError, match="use the kind transformer"):
        build_classifier({"kind": "trees", "members": 1}).fit(x, y)
    for data, template in ((x, np.zeros((10, 2))), (np.zeros((90, 2)), x)):
        with pytest.raises(UserError, match="give one form for all"):
            CrossFit(SMALL, folds=2).tasks(data, template, data_id=np.arange(90))
    with pytest.raises(UserError, match="sets of points differ"):
        CrossFit(SMALL, folds=2).tasks(x, sets(20, groups=True), data_id=np.arange(90))
    fitted = small(epochs=1).fit(x, y)
    with pytest.raises(UserError, match="but the classifier was trained on"):
        fitted.predict_proba(sets(5, groups=True))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"members": 0}, "members=0"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"heads": 3}, "multiple of heads"),
        ({"event": "jet"}, "use tokens or jets"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"encoder_rate": 2.0}, "encoder_rate"),
        ({"pretrained": "nowhere"}, "cannot be read as a pre-trained encoder"),
    ],
)
def test_bad_settings_are_refused(setting, message, labelled):
    with pytest.raises(UserError, match=message):
        small(**setting).fit(*labelled(10))


def test_bad_input_is_refused(labelled):
    x, y = labelled(10)
    with pytest.raises(UserError, match="labels have shape"):
        small().fit(x, y[1:])
    with pytest.raises(UserError, match="template"):
        small().fit(x, np.ones(30))
    bare = SetInputs(x.points, x.mask)
    with pytest.raises(UserError, match="needs the momenta"):
        small(pair_bias=True).fit(bare, y)
    with pytest.raises(UserError, match="known: trees, mlp, transformer"):
        build_classifier({"kind": "forest"})
    with pytest.raises(UserError, match="unknown setting 'leaves'"):
        small(leaves=3)


def test_divergence_is_reported(labelled):
    x, y = labelled(50)
    with (
        pytest.raises(UserError, match="cannot be trained"),
    ):
        SetClassifier(width=8, heads=2, epochs=3, batch_size=16, learning_rate=1e30, ema_halflife_events=None).fit(x, y)


def test_a_damaged_folder_is_refused(labelled, tmp_path):
    small(epochs=1).fit(*labelled(20)).save(tmp_path)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot load a classifier"):
        load_classifier(tmp_path)
    description = json.loads((tmp_path / "classifier.json").read_text())
    description["architecture"]["width"] = 12
    (tmp_path / "classifier.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match="cannot load a classifier"):
        load_classifier(tmp_path)
