from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cathode.classifiers.crossfit import CrossFit
from cathode.classifiers.registry import build_classifier, load_classifier
from cathode.classifiers.transformer.embedded import EmbeddedTrees, embed_jets
from cathode.classifiers.transformer.features import constituent_inputs, event_inputs
from cathode.classifiers.transformer.inputs import SetInputs
from cathode.classifiers.transformer.pretraining import pretrain
from cathode.support.errors import UserError


def jets(n, signal, seed):
    """Jets ``(n, 12, 3)`` of one narrow prong, or (signal) of two prongs 0.3 from each other, of one mean mass."""
    rng = np.random.default_rng(seed)
    pt = np.sort(rng.exponential(50.0, (n, 12)) + 1.0)[:, ::-1]
    angle = rng.uniform(0, 2 * np.pi, (n, 1))
    side = rng.choice([-0.15, 0.15], (n, 12)) * np.asarray(signal)[:, None]
    spread = np.where(np.asarray(signal)[:, None], 0.03, 0.15)
    eta = side * np.cos(angle) + spread * rng.standard_normal((n, 12))
    phi = side * np.sin(angle) + spread * rng.standard_normal((n, 12))
    return np.stack([pt, eta, phi], axis=-1).astype(np.float32)


def events(n, signal, seed):
    both = np.stack([jets(n, signal, seed), jets(n, signal, seed + 1)], axis=1)
    return event_inputs(both)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    labels = np.arange(1500) % 2
    return pretrain(
        constituent_inputs(jets(1500, labels, 0)),
        tmp_path_factory.mktemp("encoder") / "encoder",
        labels=labels, denoise=False, width=16, heads=2, blocks=2, epochs=5, batch_size=64, learning_rate=5e-3, seed=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(encoder):
    few = np.concatenate([np.zeros(1470), np.ones(30)])
    x = SetInputs.concatenate([events(1500, few, 10), events(1500, np.zeros(1500), 20)])
    return EmbeddedTrees(4, pretrained=str(encoder)).fit(x, np.repeat([1, 0], 1500))


def test_finds_two_per_cent_of_signal(trained):
    truth = np.arange(1000) % 2
    assert roc_auc_score(truth, trained.decision_function(events(1000, truth, 30))) > 0.85


def test_padding_order_of_points_and_of_jets_mean_nothing(trained):
    points = np.stack([jets(40, np.arange(40) % 2, 50), jets(40, np.zeros(40), 51)], axis=1)
    reference = trained.decision_function(event_inputs(points))
    padded = np.concatenate([points, np.zeros((40, 2, 7, 3), np.float32)], axis=2)
    shuffled = points[:, :, np.random.default_rng(1).permutation(12)]
    for other in (padded, shuffled, points[:, ::-1]):
        np.testing.assert_allclose(trained.decision_function(event_inputs(other)), reference, atol=1e-5)


def test_saved_classifier_needs_its_encoder_no_more(trained, tmp_path):
    trained.save(tmp_path / "model")
    x = events(50, np.arange(50) % 2, 60)
    found = load_classifier(tmp_path / "model")
    found.pretrained = "gone"
    np.testing.assert_array_equal(found.predict_proba(x), trained.predict_proba(x))
    assert set(np.unique(found.predict(x))) <= {0, 1}


def test_embedded_once_or_every_time_is_the_same(encoder):
    x, y = events(300, np.arange(300) % 2, 40), np.arange(300) % 3 == 0
    table = embed_jets(x, encoder)
    assert table.shape == (300, 34)
    sets, columns = (EmbeddedTrees(2, pretrained=str(encoder)).fit(given, y.astype(int)) for given in (x, table))
    np.testing.assert_array_equal(columns.predict_proba(table), sets.predict_proba(x))


def test_cross_fitting_takes_it(encoder):
    described = {"kind": "transformer-trees", "pretrained": str(encoder), "members": 2}
    scores = CrossFit(described, folds=2, members_per_task=1).run(
        events(150, np.zeros(150), 70), events(300, np.zeros(300), 80), data_id=np.arange(150)
    )
    assert scores.data.shape == (150,)
    assert np.isfinite(scores.template).all()


def test_mistakes(encoder, trained):
    x, y = events(40, np.zeros(40), 90), np.arange(40) % 2
    with pytest.raises(UserError, match="need a pre-trained encoder"):
        EmbeddedTrees(2).fit(x, y)
    with pytest.raises(UserError, match="need the momenta"):
        EmbeddedTrees(2, pretrained=str(encoder)).fit(SetInputs(x.points, x.mask, x.group), y)
    with pytest.raises(UserError, match="makes 17 of a jet"):
        EmbeddedTrees(2, pretrained=str(encoder)).fit(np.zeros((40, 35)), y)
    with pytest.raises(UserError, match="takes SetInputs, not ndarray"):
        embed_jets(np.zeros((40, 34)), encoder)
    with pytest.raises(UserError, match="but the classifier was trained on"):
        trained.predict_proba(np.zeros((5, 34)))
    with pytest.raises(UserError, match="variance=0"):
        EmbeddedTrees(2, pretrained=str(encoder), variance=0.0).fit(x, y)
    with pytest.raises(UserError, match="but the classifier was trained on"):
        trained.predict_proba(constituent_inputs(jets(5, np.zeros(5), 1)))
    with pytest.raises(UserError, match="unknown setting"):
        build_classifier({"kind": "transformer-trees", "epochs": 3})
