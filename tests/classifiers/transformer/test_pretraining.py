from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from cathode.classifiers.transformer.classifier import SetClassifier
from cathode.classifiers.transformer.inputs import SetInputs
from cathode.classifiers.transformer.pretrained import load_encoder, pretrained_architecture
from cathode.classifiers.transformer.pretraining import Pretraining, pretrain
from cathode.classifiers.transformer.training import Labels, LayerwiseStep, network_with_seed
from cathode.support.errors import UserError
from cathode.training import FitConfig

SIZES = {"width": 16, "heads": 2, "blocks": 2}


def prongs(n, seed):
    """Sets of one cluster (0) or of two clusters in a random direction (1), of equal spread; and the separation."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    mask = np.arange(12) < rng.integers(6, 13, (n, 1))
    angle = rng.uniform(0, 2 * np.pi, n)
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=-1)[:, None]
    side = rng.choice([-1.0, 1.0], (n, 12, 1))
    spread = np.where(y == 1, 0.55, 1.0)[:, None, None]
    points = spread * rng.standard_normal((n, 12, 2)) + y[:, None, None] * 1.15 * side * direction
    return SetInputs(points, mask, globals=rng.standard_normal((n, 1))), y, y * 1.15


def history(folder):
    return pd.read_csv(folder / "history.csv")


def test_fine_tuning_beats_a_start_from_scratch_with_few_labels(tmp_path):
    x, y, separation = prongs(3000, 0)
    bare = SetInputs(x.points, x.mask)
    settings = {"epochs": 8, "batch_size": 64, "learning_rate": 5e-3, **SIZES}
    known = pretrain(bare, tmp_path / "known", labels=y, targets=separation, denoise=False, seed=1, **settings)
    few, few_y, _ = prongs(80, 1)
    test, test_y, _ = prongs(2000, 2)
    auc = {}
    for name, folder in (("scratch", None), ("known", str(known))):
        tuned = SetClassifier(
            pretrained=folder, epochs=20, batch_size=16, learning_rate=3e-3, ema_halflife_events=200.0, **SIZES
        ).fit(few, few_y)
        auc[name] = roc_auc_score(test_y, tuned.decision_function(test))
    assert auc["known"] > auc["scratch"] + 0.15
    assert auc["known"] > 0.8
    tuned.save(tmp_path / "model")
    known.rename(tmp_path / "moved")
    # The saved classifier needs the pre-trained folder no more.
    np.testing.assert_array_equal(SetClassifier.load(tmp_path / "model").predict_proba(test), tuned.predict_proba(test))


def test_noise_is_removed_where_points_know_of_each_other(tmp_path):
    """Independent normal points: velocity and noisy point are independent, so the best loss is 1.  With a common offset
    the points of a set tell of each other, and it is lower.
    """
    rng = np.random.default_rng(0)
    independent = rng.standard_normal((1500, 8, 2))
    common = (rng.standard_normal((1500, 1, 2)) * 3 + rng.standard_normal((1500, 8, 2))) / np.sqrt(10)
    losses = {}
    for name, points in (("independent", independent), ("common", common)):
        inputs = SetInputs(points, np.ones((1500, 8), bool))
        folder = pretrain(inputs, tmp_path / name, seed=2, epochs=6, batch_size=64, learning_rate=5e-3, **SIZES)
        losses[name] = history(folder)["validation_loss"].min()
    assert 0.93 < losses["independent"] < 1.05
    assert losses["common"] < 0.75


def test_the_time_vanishes_at_zero_and_padding_counts_for_nothing():
    model = Pretraining(pretrained_like(), classes=3, targets=2)
    assert (model.embed_time(torch.zeros(1, 9)) == 0).all()
    x, _, _ = prongs(20, 0)
    data = model.tensors.data(x, np.zeros((20, 3)))
    x2 = torch.cat([data.x, torch.full((20, 6, 2), torch.nan)], dim=1)
    mask2 = torch.nn.functional.pad(data.mask, (0, 6))
    losses = [
        model.loss(a, data.context, mask=m, generator=torch.Generator().manual_seed(0))
        for a, m in ((data.x, data.mask), (x2, mask2))
    ]
    torch.testing.assert_close(losses[0], losses[1], atol=1e-5, rtol=0)
    losses[0].sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def pretrained_like():
    from cathode.classifiers.transformer.network import Architecture

    return Architecture(2, **SIZES)


@pytest.mark.parametrize("pair_bias", [False, True])
def test_the_folder_holds_the_encoder_for_events_too(pair_bias, sets, tmp_path):
    jets = sets(60)
    folder = pretrain(jets, tmp_path / "e", targets=jets.globals[:, 0], seed=0, epochs=1, pair_bias=pair_bias, **SIZES)
    assert {f.name for f in folder.iterdir()} == {
        "pretrained.json", "encoder.safetensors", "history.csv", "provenance.json"}  # fmt: skip
    assert json.loads((folder / "pretrained.json").read_text())["objectives"] == ["targets", "denoise"]
    architecture = pretrained_architecture(folder)
    assert (architecture.width, architecture.momentum_columns) == (16, 3 if pair_bias else 0)
    first, second = (network_with_seed(architecture, k).encoder for k in (1, 2))
    load_encoder(first, folder)
    load_encoder(second, folder)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    torch.testing.assert_close(first.mean.numpy().mean(), jets.points[jets.mask].mean(), atol=0.2, rtol=0)
    events, y = sets(40, groups=True), np.arange(40) % 2
    for event in ("tokens", "jets"):
        # The architecture of the encoder is that of the folder, whatever else is asked for.
        tuned = SetClassifier(pretrained=str(folder), width=32, event=event, epochs=1).fit(events, y)
        assert tuned.networks_[0].architecture.width == 16
        assert np.isfinite(tuned.decision_function(events)).all()


def test_same_seed_same_encoder(tmp_path):
    x, y, _ = prongs(60, 0)
    weights = [
        (pretrain(x, tmp_path / str(k), labels=y, seed=s, epochs=1, **SIZES) / "encoder.safetensors").read_bytes()
        for k, s in enumerate((1, 1, 2))
    ]
    assert weights[0] == weights[1] != weights[2]


def test_lower_layers_learn_more_slowly():
    network = network_with_seed(pretrained_like(), 0)
    step = LayerwiseStep(1.0, encoder_rate=0.5, layer_decay=0.1)
    (optimizer,) = step.setup(Labels(network), FitConfig(learning_rate=1.0, weight_decay=0.3))
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    expected = {
        "head.0.weight": (1.0, 0.3),
        "head.0.bias": (1.0, 0.0),
        "encoder.norm.weight": (0.5, 0.0),
        "encoder.blocks.1.query.weight": (0.5, 0.3),
        "encoder.blocks.0.query.weight": (0.05, 0.3),
        "encoder.embed.0.weight": (0.005, 0.3),
        "encoder.class_token": (0.005, 0.0),
    }
    named = dict(network.named_parameters())
    assert len(rates) == len(named)
    for name, rate in expected.items():
        assert rates[id(named[name])] == pytest.approx(rate), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"denoise": False}, "nothing to pre-train on"),
        ({"labels": np.zeros(20, int)}, "one class only"),
        ({"labels": np.zeros(20)}, "give 20 classes"),
        ({"targets": np.full(20, np.nan)}, "targets of 20 jets"),
        ({"targets": np.ones(19)}, "one row per jet"),
        ({"sample_weight": -np.ones(20)}, "sample_weight"),
        ({"pair_bias": True}, "needs the momenta"),
        ({"validation_fraction": 0.0}, "validation_fraction"),
    ],
)
def test_bad_arguments_are_refused(change, message, tmp_path):
    with pytest.raises(UserError, match=message):
        pretrain(prongs(20, 0)[0], tmp_path / "e", **{"seed": 0, **change})


def test_encoders_that_do_not_fit_are_refused(sets, tmp_path):
    folder = pretrain(prongs(30, 0)[0], tmp_path / "e", seed=0, epochs=1, **SIZES)
    with pytest.raises(UserError, match="trained on points of 2 features, these have 3"):
        SetClassifier(pretrained=str(folder)).fit(sets(20), np.arange(20) % 2)
    (folder / "encoder.safetensors").unlink()
    with pytest.raises(UserError, match="does not fit the encoder"):
        SetClassifier(pretrained=str(folder)).fit(prongs(20, 0)[0], np.arange(20) % 2)
    with pytest.raises(UserError, match="events of several jets"):
        pretrain(sets(20, groups=True), tmp_path / "f", seed=0)
