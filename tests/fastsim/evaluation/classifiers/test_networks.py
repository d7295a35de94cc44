"""Networks: reproducible, of the published size, and the best epoch kept."""

import numpy as np
import pytest
import torch

from cathode.support.errors import UserError
from fastsim.evaluation.classifiers.networks import (
    Training,
    initialise,
    multilayer_perceptron,
    one_thread_per_process,
    train,
)
from fastsim.evaluation.classifiers.profiles import PROFILES, profile_named
from fastsim.evaluation.classifiers.resnet import ResNet18


def problem(seed=0, n=600, shift=1.0):
    generator = np.random.default_rng(seed)
    label = np.repeat([1, 0], n // 2)
    x = generator.normal(size=(n, 3)).astype(np.float32) + shift * label[:, None].astype(np.float32)
    order = generator.permutation(n)
    return x, label, order[: n // 2], order[n // 2 :]


def fitted(training, *, seed=1, dropout=0.3, x=None, weights=8):
    inputs, label, train_rows, validation_rows = problem()
    inputs = inputs if x is None else x
    generator = torch.Generator().manual_seed(seed)
    network = initialise(multilayer_perceptron(3, (weights, weights), dropout=dropout, generator=generator), generator)
    found = train(
        network,
        lambda rows: (torch.from_numpy(inputs[rows]),),
        label,
        train_rows,
        validation_rows,
        training=training,
        seed=seed,
        description="test",
    )
    return found, label, validation_rows


def test_published_network_is_2048_wide_with_three_hidden_layers():
    profile = PROFILES["published"]
    network = multilayer_perceptron(369, profile.hidden, dropout=0.0, generator=torch.Generator())
    count = sum(p.numel() for p in network.parameters())
    assert count == 369 * 2048 + 2048 + 2 * (2048 * 2048 + 2048) + 2048 + 1
    training = profile.training
    assert (training.epochs, training.batch_size, training.learning_rate) == (50, 1000, 2e-4)
    assert training.choose_by == "accuracy"
    assert not training.anneal
    assert training.patience is None
    slopes = {m.negative_slope for m in network if isinstance(m, torch.nn.LeakyReLU)}
    assert slopes == {0.01}


def test_same_seed_same_bits_whatever_the_global_state():
    training = Training(epochs=3, batch_size=64, learning_rate=1e-2)
    torch.manual_seed(1)
    one, _, rows = fitted(training)
    torch.manual_seed(2)
    two, _, _ = fitted(training)
    other, _, _ = fitted(training, seed=5)
    assert np.array_equal(one.score(rows), two.score(rows))
    assert not np.array_equal(one.score(rows), other.score(rows))


def test_it_learns_and_stops():
    training = Training(epochs=200, batch_size=64, learning_rate=1e-2, patience=3, choose_by="loss")
    found, label, rows = fitted(training)
    score = found.score(rows)
    assert ((score > 0) == (label[rows] == 1)).mean() > 0.75  # Bayes: 0.81
    assert found.epoch < 100


def test_kept_epoch_is_the_best_one():
    long = Training(epochs=40, batch_size=64, learning_rate=3e-2, choose_by="loss")
    found, _, rows = fitted(long, dropout=0.0, weights=64)
    short = Training(epochs=found.epoch, batch_size=64, learning_rate=3e-2, choose_by="loss")
    again, _, _ = fitted(short, dropout=0.0, weights=64)
    assert again.epoch == found.epoch
    assert np.array_equal(again.score(rows), found.score(rows))


def test_infinite_input_is_refused():
    x = problem()[0]
    x[0] = np.nan
    with pytest.raises(UserError, match="not finite"):
        fitted(Training(epochs=1, batch_size=600), x=x)


def test_threads_are_restored():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread_per_process():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_unknown_profile():
    with pytest.raises(UserError, match="quick, standard, published"):
        profile_named("huge")


@pytest.mark.parametrize("shape", [(45, 16, 9), (24, 24, 24), (5, 3, 2)])
def test_residual_network_takes_any_grid(shape):
    network = initialise(ResNet18(), torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 1, *shape), torch.rand(2, 1)).shape == (2, 1)


def test_circular_residual_network_does_not_see_a_turned_shower():
    # Strides multiply to 32, so a turn by 32 of 64 sectors shifts every stage by whole cells.
    voxels = torch.rand(2, 1, 8, 64, 4)
    turned = voxels.roll(32, dims=3)
    for circular in (True, False):
        network = initialise(ResNet18(circular=circular), torch.Generator().manual_seed(0)).eval()
        with torch.no_grad():
            same = torch.allclose(network(voxels, torch.ones(2, 1)), network(turned, torch.ones(2, 1)), atol=1e-6)
        assert same == circular


def test_residual_network_has_the_published_planes():
    network = ResNet18()
    planes = [block.second.convolution.out_channels for block in network.stages]
    assert planes == [32, 32, 64, 64, 64, 64, 128, 128]
    assert network.stem.convolution.kernel_size == (7, 7, 7)
    assert network.stem.convolution.stride == (2, 2, 2)
    assert network.last.in_features == 129
