from __future__ import annotations

import logging
import math

import pytest
import torch
from torch import nn

from cathode.density.base import NonFiniteError, sample
from cathode.density.ensemble import Ensemble
from cathode.support.seeding import derive_seed
from cathode.training import FitConfig, TrainingData, fit
from cathode.training.evaluation import evaluate

QUICK = FitConfig(epochs=4, batch_size=128, learning_rate=5e-3, ema_halflife_events=1000.0, device="cpu")


def config(**changes):
    return FitConfig(**{**vars(QUICK), **changes})


def validate(density, data, seed):
    return evaluate(
        density.eval(),
        data,
        batch_size=QUICK.validation_batch,
        seed=derive_seed(seed, "validation"),
        device=torch.device("cpu"),
        dtype=torch.float32,
    )


def states_equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_reaches_the_truth(gaussian):
    data = gaussian.make_data(20_000)
    train, validation = data.split(0.7, torch.Generator().manual_seed(0))
    result = fit(gaussian.make_density(), train, validation, config(epochs=12), seed=1)
    width = 0.5 + validation.context
    exact = -torch.distributions.Normal(width, width).log_prob(validation.x).sum(1).mean()
    assert result.validation_loss == pytest.approx(float(exact), abs=0.01)
    assert list(result.history["epoch"]) == list(range(13))
    assert result.stopped_reason == "epochs"
    assert result.non_finite_batches == 0
    drawn = sample(result.density, validation.context, generator=torch.Generator().manual_seed(0))
    assert float(drawn.mean()) == pytest.approx(float(validation.x.mean()), abs=0.05)


@pytest.mark.parametrize("options", [{}, {"dropout": 0.3, "jitter": 0.1}])
def test_same_seed_same_bits_and_the_global_stream_is_left_alone(gaussian, options):
    train, validation = gaussian.make_data(600), gaussian.make_data(200, seed=2)
    density = gaussian.make_density(**options)
    before = {k: v.clone() for k, v in density.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = fit(density, train, validation, QUICK, seed=3)
    assert torch.equal(torch.rand(3), expected)
    second = fit(density, train, validation, QUICK, seed=3)
    other = fit(density, train, validation, QUICK, seed=4)
    assert states_equal(first.density.state_dict(), second.density.state_dict())
    assert not states_equal(first.density.state_dict(), other.density.state_dict())
    assert states_equal(density.state_dict(), before)


@pytest.mark.parametrize("halflife", [None, 1000.0])
def test_kept_epochs_are_the_rows_of_the_history_they_claim_to_be(gaussian, halflife):
    train, validation = gaussian.make_data(1000), gaussian.make_data(400, seed=2)
    # A rate this high makes the losses jump, so that the best epochs are not simply the last.
    settings = config(epochs=8, learning_rate=0.2, schedule="constant", best_epochs=3, ema_halflife_events=halflife)
    start = gaussian.make_density()
    result = fit(start, train, validation, settings, seed=7)
    losses = result.history.set_index("epoch")["validation_loss"]
    assert losses[0] == validate(start, validation, 7)
    expected = losses[1:].sort_values(kind="stable").index[:3]
    assert [entry.epoch for entry in result.best_states] == list(expected)
    for entry in result.best_states:
        start.load_state_dict(entry.state)
        assert validate(start, validation, 7) == entry.validation_loss == losses[entry.epoch]
    assert result.history.loc[0, "events"] == 0
    assert (result.history.loc[1:, "events"] == 1000).all()


def test_untrained_density_is_never_selected(gaussian):
    data = gaussian.make_data(500)
    good = fit(gaussian.make_density(), data, data, config(epochs=20), seed=1).density
    worse = fit(good, data, data, config(epochs=2, learning_rate=1.0, schedule="constant"), seed=1)
    assert worse.history["validation_loss"].idxmin() == 0
    assert worse.best_states[0].epoch in (1, 2)
    assert worse.validation_loss == worse.history.loc[worse.best_states[0].epoch, "validation_loss"]


def test_weights_are_averaged_only_if_that_is_better(gaussian):
    train, validation = gaussian.make_data(1000), gaussian.make_data(1000, seed=2)
    settings = config(epochs=30, schedule="constant", ema_halflife_events=None, learning_rate=0.05, best_epochs=4)
    result = fit(gaussian.make_density(), train, validation, settings, seed=1)
    assert result.validation_loss <= result.best_states[0].validation_loss
    assert validate(result.density, validation, 1) == result.validation_loss
    assert result.selection.startswith("mean weights of epochs ")
    mean = torch.stack([entry.state["net.0.weight"] for entry in result.best_states]).mean(0)
    assert torch.allclose(result.density.net[0].weight, mean)

    early = config(epochs=2, schedule="constant", ema_halflife_events=None, learning_rate=0.02, best_epochs=2)
    far_apart = fit(gaussian.make_density(), train, validation, early, seed=1)
    assert far_apart.selection == "epoch 2"


def test_mixture_of_best_epochs(gaussian):
    train, validation = gaussian.make_data(1000), gaussian.make_data(400, seed=2)
    result = fit(gaussian.make_density(), train, validation, config(best_epochs=3, average="mixture"), seed=1)
    assert isinstance(result.density, Ensemble)
    logs = []
    for entry in result.best_states:
        member = gaussian.make_density()
        member.load_state_dict(entry.state)
        logs.append(member.log_prob(validation.x, validation.context))
    expected = torch.logsumexp(torch.stack(logs), 0) - math.log(3)
    found = result.density.log_prob(validation.x, validation.context)
    torch.testing.assert_close(found, expected)
    assert -found.mean().item() <= result.validation_loss + 1e-6  # Jensen


@pytest.mark.parametrize("size", [37, 64, 1000])
def test_weights_equal_repeated_events(gaussian, size):
    """One epoch in one batch: integer weights and repeated rows give the same step and the same losses."""
    data = gaussian.make_data(60)
    counts = torch.arange(60) % 4
    counts[0] = 9
    repeated = TrainingData(data.x.repeat_interleave(counts, 0), data.context.repeat_interleave(counts, 0))
    weighted = TrainingData(data.x, data.context, weight=counts * 0.37)
    one_batch = config(epochs=2, batch_size=100_000, validation_batch=size, ema_halflife_events=None)
    expected = fit(gaussian.make_density(), repeated, repeated, one_batch, seed=1)
    found = fit(gaussian.make_density(), weighted, weighted, one_batch, seed=1)
    for column in ("train_loss", "validation_loss", "gradient_norm"):
        assert list(found.history[column])[1:] == pytest.approx(list(expected.history[column])[1:], rel=2e-5)
    torch.testing.assert_close(found.density.net[0].weight, expected.density.net[0].weight, atol=1e-4, rtol=1e-3)


def test_expected_gradient_is_that_of_the_weighted_mean(gaussian):
    """Averaged over many small batches, negative weights included."""
    data = gaussian.make_data(64)
    weight = torch.where(torch.arange(64) % 5 == 0, -0.5, 1.5)
    data = TrainingData(data.x, data.context, weight=weight)
    density = gaussian.make_density()
    frozen = config(epochs=1, batch_size=8, learning_rate=1e-30, ema_halflife_events=None)
    found = fit(density, data, data, frozen, seed=1).history.loc[1, "train_loss"]
    losses = density.loss(data.x, data.context)
    assert found == pytest.approx(((weight * losses).sum() / weight.sum()).item(), rel=1e-5)


def test_validation_noise_is_the_same_each_epoch(gaussian):
    data = gaussian.make_data(300)
    frozen = config(epochs=3, learning_rate=1e-30, ema_halflife_events=None)
    history = fit(gaussian.make_density(jitter=0.5), data, data, frozen, seed=1).history
    assert history["validation_loss"].nunique() == 1
    assert history["train_loss"][1:].nunique() == 3


def test_last_batch_is_never_tiny(gaussian):
    class Counting(gaussian.Gaussian):
        sizes: list[int] = []

        def loss(self, x, context=None, *, mask=None, generator=None):
            if self.training:
                self.sizes.append(len(x))
            return super().loss(x, context)

    data = gaussian.make_data(257)
    fit(Counting(), data, data, config(epochs=1), seed=1)
    assert Counting.sizes == [86, 86, 85]


def test_early_stopping(gaussian):
    data = gaussian.make_data(300)
    settings = config(epochs=50, learning_rate=1e-30, patience=3, ema_halflife_events=None)
    result = fit(gaussian.make_density(), data, data, settings, seed=1)
    assert result.stopped_reason == "patience"
    assert result.history["epoch"].iloc[-1] == 4


def test_time_budget_ends_the_fit_with_the_rate_run_down(gaussian):
    data = gaussian.make_data(5000)
    settings = config(epochs=100_000, batch_size=64, max_seconds=0.5)
    result = fit(gaussian.make_density(), data, data, settings, seed=1)
    assert result.stopped_reason == "time"
    assert 0.5 <= result.seconds < 10
    assert result.history["learning_rate"].iloc[-1] < 0.3 * QUICK.learning_rate


class _SometimesBroken(nn.Module):
    """Wraps a density: events beyond ``limit`` have no finite loss while training."""

    def __new__(cls, gaussian, limit):
        class Broken(gaussian.Gaussian):
            def loss(self, x, context=None, *, mask=None, generator=None):
                losses = super().loss(x, context)
                return torch.where(x[:, 0] > limit, torch.nan, losses) if self.training else losses

        return Broken()


def test_non_finite_batches_are_skipped_and_counted(gaussian, caplog):
    data = gaussian.make_data(2000)
    limit = float(data.x[:, 0].sort().values[-2])  # one event is broken: one batch of each epoch
    with caplog.at_level(logging.WARNING):
        result = fit(_SometimesBroken(gaussian, limit), data, data, config(epochs=3), seed=1)
    assert result.non_finite_batches == 3
    assert list(result.history["non_finite_batches"]) == [0, 1, 1, 1]
    assert (result.history.loc[1:, "events"] == 2000 - 125).all()
    assert math.isfinite(result.validation_loss)
    assert "epoch 2: 1 batches with a non-finite loss or gradient, 2 of 32 so far" in caplog.text


def test_too_many_non_finite_batches_end_the_fit(gaussian):
    data = gaussian.make_data(2000)
    limit = float(data.x[:, 0].quantile(0.99))
    with pytest.raises(
        NonFiniteError, match=r"non-finite loss or gradient, \d+ of \d+ so far; lower the learning rate"
    ):
        fit(_SometimesBroken(gaussian, limit), data, data, config(epochs=3), seed=1)
    with pytest.raises(NonFiniteError, match="epoch 1: 1 batches"):
        fit(_SometimesBroken(gaussian, -100.0), data, data, config(batch_size=5000), seed=1)


def _broken_in_epochs(gaussian, bad):
    class Broken(gaussian.Gaussian):
        calls = -1

        def before_evaluation(self, x, context):
            type(self).calls += 1

        def loss(self, x, context=None, *, mask=None, generator=None):
            losses = super().loss(x, context)
            return losses * math.nan if not self.training and self.calls in bad else losses

    return Broken()


def test_nan_epochs_are_not_selected_loudly(gaussian, caplog):
    data = gaussian.make_data(500)
    # Epoch 0 refreshes twice: for the training data's row and for the validation's.
    with caplog.at_level(logging.WARNING):
        result = fit(_broken_in_epochs(gaussian, {3}), data, data, config(best_epochs=10), seed=1)
    assert list(result.history["validation_loss"].isna()) == [False, False, True, False, False]
    assert sorted(entry.epoch for entry in result.best_states) == [1, 3, 4]
    assert "epoch 2: the validation loss is nan; it will not be selected" in caplog.text
    with pytest.raises(NonFiniteError, match="none of 4 epochs has a finite validation loss"):
        fit(_broken_in_epochs(gaussian, set(range(100))), data, data, QUICK, seed=1)


def test_statistics_are_refreshed_before_validation_without_touching_training(gaussian):
    class Centred(gaussian.Gaussian):
        def __init__(self):
            super().__init__()
            self.register_buffer("centre", torch.full((2,), 100.0))

        def before_evaluation(self, x, context):
            self.centre.copy_(x.mean(0) + self.net(context).mean())

        def loss(self, x, context=None, *, mask=None, generator=None):
            if self.training:
                assert (self.centre == 100.0).all()
                return super().loss(x, context)
            return super().loss(x + self.centre, context)

    train, validation = gaussian.make_data(500), gaussian.make_data(300, seed=9)
    result = fit(Centred(), train, validation, config(best_epochs=2), seed=1)
    expected = train.x.mean(0) + result.density.net(train.context).mean()
    torch.testing.assert_close(result.density.centre, expected)
    assert validate(result.density, validation, 1) == pytest.approx(result.validation_loss)


def test_sets_and_masks_reach_the_loss(gaussian):
    class Sets(gaussian.Gaussian):
        def loss(self, x, context=None, *, mask=None, generator=None):
            assert x.shape[1:] == (3, 2)
            assert mask.shape == x.shape[:2]
            each = -self.log_prob(x.flatten(0, 1), context.repeat_interleave(3, 0)).reshape(-1, 3)
            return (each * mask).sum(1)

    generator = torch.Generator().manual_seed(0)
    context = torch.rand(400, 1, generator=generator)
    data = TrainingData(
        torch.randn(400, 3, 2, generator=generator), context, mask=torch.rand(400, 3, generator=generator) > 0.3
    )
    history = fit(Sets(), data, data, QUICK, seed=1).history
    assert history["validation_loss"].iloc[-1] < history["validation_loss"].iloc[0]


def test_threads_follow_the_setting_and_are_restored(gaussian, monkeypatch):
    seen = set()

    class Watching(gaussian.Gaussian):
        def loss(self, x, context=None, *, mask=None, generator=None):
            seen.add(torch.get_num_threads())
            return super().loss(x, context)

    data = gaussian.make_data(100)
    before = torch.get_num_threads()
    for setting, expected in ((None, 1), ("2", 2)):
        seen.clear()
        monkeypatch.delenv("CATHODE_THREADS", raising=False)
        if setting:
            monkeypatch.setenv("CATHODE_THREADS", setting)
        fit(Watching(), data, data, config(epochs=1), seed=1)
        assert seen == {expected}
        assert torch.get_num_threads() == before


def test_float64_density_trains_in_float64(gaussian):
    data = gaussian.make_data(200)
    result = fit(gaussian.make_density().double(), data, data, config(epochs=1), seed=1)
    assert result.density.net[0].weight.dtype == torch.float64


def test_missing_device(gaussian):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    data = gaussian.make_data(100)
    from cathode.support.errors import UserError

    with pytest.raises(UserError, match="no CUDA device here"):
        fit(gaussian.make_density(), data, data, config(device="cuda"), seed=1)
