from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cathode.classifiers.base import balanced_weights, stratified_split
from cathode.classifiers.mlp import MLPEnsemble
from cathode.support.errors import UserError
from cathode.support.seeding import numpy_generator


def test_one_member_is_what_plain_torch_trains(gaussians):
    """Same start, split and shuffles, then torch's own Linear, loss and Adam."""
    x, y = gaussians(150)
    weight = np.random.default_rng(0).uniform(0.5, 1.5, len(y))
    settings = {"members": 3, "epochs": 3, "best_epochs": 1, "hidden": (8, 8), "batch_size": 32, "random_state": 5}
    ensemble = MLPEnsemble(**settings).fit(x, y, weight)
    number = 1
    train, held = stratified_split(y, 0.5, numpy_generator(5, "mlp", number, "split"))
    start = [p[number].detach() for p in ensemble._initial(torch.device("cpu"))]
    net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
    for p, initial in zip(net.parameters(), start, strict=True):
        p.data = initial.T.clone() if p.dim() == 2 else initial[0].clone()
    from cathode.support.seeding import torch_generator

    shuffle = torch_generator(5, "mlp", number, "shuffle")
    inputs = torch.tensor((x - ensemble.mean_) / ensemble.scale_, dtype=torch.float32)
    target = torch.tensor(y, dtype=torch.float32)
    w_train = torch.tensor(balanced_weights(y[train], weight[train]), dtype=torch.float32)
    w_held = torch.tensor(balanced_weights(y[held], weight[held]), dtype=torch.float32)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    for epoch in range(3):
        order = torch.randperm(len(train), generator=shuffle)
        for batch in order.split(32):
            rows = train[batch.numpy()]
            loss = nn.BCEWithLogitsLoss(weight=w_train[batch])(net(inputs[rows])[:, 0], target[rows])
            adam.zero_grad()
            loss.backward()
            adam.step()
        with torch.no_grad():
            expected = nn.BCEWithLogitsLoss(weight=w_held)(net(inputs[held])[:, 0], target[held])
        assert ensemble.history_["validation_loss"][number, epoch] == pytest.approx(float(expected), abs=1e-5)


def test_the_epochs_of_lowest_validation_loss_are_averaged(gaussians):
    x, y = gaussians(150)
    settings = {"members": 2, "hidden": (8,), "learning_rate": 0.05, "random_state": 1}
    whole = MLPEnsemble(epochs=8, best_epochs=2, **settings).fit(x, y)
    lowest = np.argsort(whole.history_["validation_loss"], axis=1)[:, :2]
    of_epoch = []  # all epochs up to e minus all epochs up to e - 1 is epoch e
    for e in range(1, 9):
        total = e * MLPEnsemble(epochs=e, best_epochs=e, **settings).fit(x, y).member_probabilities(x)
        of_epoch.append(total - sum(of_epoch))
    expected = np.stack([np.mean([of_epoch[e][k] for e in lowest[k]], axis=0) for k in range(2)])
    np.testing.assert_allclose(whole.member_probabilities(x), expected, atol=1e-6)


def test_a_stopped_member_is_not_touched_by_the_others(gaussians):
    x, y = gaussians(150)
    settings = {"epochs": 40, "best_epochs": 3, "hidden": (8,), "learning_rate": 0.05, "patience": 3}
    whole = MLPEnsemble(members=4, **settings).fit(x, y)
    steps = np.isfinite(whole.history_["validation_loss"]).sum(axis=1)
    assert len(set(steps)) > 1
    for k in range(4):
        alone = MLPEnsemble(members=1, first_member=k, **settings).fit(x, y)
        assert alone.history_["validation_loss"].shape[1] == steps[k]
        np.testing.assert_allclose(whole.member_probabilities(x)[k], alone.member_probabilities(x)[0], atol=1e-4)


def test_inputs_are_in_units_of_the_data(gaussians):
    x, y = gaussians(300)
    settings = {"members": 1, "epochs": 3, "hidden": (8,)}
    first = MLPEnsemble(**settings).fit(x, y)
    moved = MLPEnsemble(**settings).fit(1000 * x + 5, y)
    np.testing.assert_allclose(first.mean_, x[y == 1].mean(axis=0))
    np.testing.assert_allclose(first.predict_proba(x), moved.predict_proba(1000 * x + 5), atol=1e-4)


def test_divergence_is_reported(gaussians):
    x, y = gaussians(50)
    with pytest.raises(UserError, match="loss is not finite"):
        MLPEnsemble(members=1, learning_rate=1e30, epochs=5).fit(x, y)
