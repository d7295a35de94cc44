"""Counts as real numbers: exact on the way back, without an atom, with a bound on the likelihood."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.density.analytic import LinearGaussian
from cathode.density.autoregressive import AutoregressiveMixture
from cathode.density.base import ConditionalDensity, sample
from cathode.density.bijections import Standardize
from cathode.density.multiplicity import DequantisedCount, capped_spread
from cathode.density.preprocessed import Preprocessed
from cathode.density.registry import buildable
from cathode.support.errors import UserError


@buildable("test-identity")
class _Identity(ConditionalDensity):
    """Decodes its noise; its loss is the value of the count's column."""

    def __init__(self) -> None:
        super().__init__()
        self.event_shape, self.context_features = (2,), 0

    loss_is_nll = False

    def loss(self, x, context=None, *, mask=None, generator=None):
        return x[:, 1]

    def decode(self, noise, context=None, *, mask=None):
        return noise


def _counts(least: int = 0, largest: int = 8, spread: float = 2.0) -> DequantisedCount:
    return DequantisedCount(_Identity(), 1, least, largest, spread)


@given(st.integers(0, 8), st.integers(0, 2**31 - 1))
@settings(max_examples=40, deadline=None)
def test_filled_counts_decode_to_themselves(count: int, seed: int) -> None:
    density = _counts()
    x = torch.tensor([[0.25, float(count)]]).repeat(50, 1)
    filled, _ = density.fill(x, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(filled[:, 0], x[:, 0])
    # Half-even rounding at exactly k - 1/2 may differ by one; such draws have probability 2^-24.
    assert torch.equal(density.decode(filled), x)


def test_decoded_counts_stay_in_range_and_nan_shows() -> None:
    noise = torch.tensor([[0.0, -5.0], [0.0, 3.4], [0.0, 100.0], [0.0, float("nan")]])
    decoded = _counts(least=1).decode(noise)[:, 1]
    assert decoded[:3].tolist() == [1.0, 3.0, 8.0]
    assert bool(decoded[3].isnan())


def test_noise_is_the_one_whose_density_is_returned() -> None:
    density = _counts()
    x = torch.tensor([[0.0, 8.0]]).repeat(100_000, 1)
    filled, log_q = density.fill(x, generator=torch.Generator().manual_seed(0))
    tail = (filled[:, 1] - 7.5) / 2.0
    assert float(tail.min()) >= 0
    assert float(tail.mean()) == pytest.approx(math.sqrt(2 / math.pi), abs=0.01)
    assert float(tail.square().mean()) == pytest.approx(1.0, abs=0.02)
    expected = torch.distributions.HalfNormal(2.0).log_prob(filled[:, 1] - 7.5)
    torch.testing.assert_close(log_q, expected, atol=1e-4, rtol=1e-4)
    below = torch.tensor([[0.0, 3.0]]).repeat(1000, 1)
    assert float(density.fill(below, generator=torch.Generator().manual_seed(0))[1].abs().max()) == 0.0


def test_loss_bounds_the_probability_of_a_count() -> None:
    """For a standard normal in place of the count, P(n) is known, and the bound holds and is nearly reached."""
    normal = LinearGaussian([0.0], [[1.0]])
    density = DequantisedCount(Preprocessed(_scaled(3.0, 1.5), normal), 0, 0, 5, spread=1.0)
    assert density.loss_is_nll
    law = torch.distributions.Normal(3.0, 1.5)
    generator = torch.Generator().manual_seed(1)
    for n in range(6):
        x = torch.full((20_000, 1), float(n))
        bound = float(density.loss(x, None, generator=generator).mean())
        upper = 1.0 if n == 5 else float(law.cdf(torch.tensor(n + 0.5)))
        truth = -math.log(upper - float(law.cdf(torch.tensor(n - 0.5))))
        assert truth - 0.01 < bound < truth + 0.08


def _scaled(mean: float, scale: float) -> Standardize:
    bijection = Standardize(1)
    bijection.shift.fill_(mean)
    bijection.scale.fill_(scale)
    return bijection


def test_spread_continues_the_density_without_a_step() -> None:
    generator = torch.Generator().manual_seed(2)
    real = 60.0 + 20.0 * torch.randn(200_000, generator=generator)
    counts = real.round().clamp(1, 60)
    # Of a normal cut at its mean the tail is the half normal of the same scale.
    assert capped_spread(counts, 60) == pytest.approx(20.0, rel=0.05)
    assert capped_spread(torch.full((100,), 30.0), 30) == 30.0
    assert capped_spread(torch.tensor([8.0] * 100 + [9.0] * 100 + [10.0]), 10) == 0.5


def test_learns_capped_counts() -> None:
    """Half of the counts at the cap: the share at the cap and the mean below it come back."""
    from cathode.training import FitConfig, TrainingData, fit

    generator = torch.Generator().manual_seed(3)
    real = 60.0 + 12.0 * torch.randn(6000, generator=generator)
    x = torch.stack([torch.randn(6000, generator=generator), real.round().clamp(1, 64)], 1)
    bijection = Standardize(2)
    filler = DequantisedCount(AutoregressiveMixture(2, 0, [32], 4), 1, 1, 64, capped_spread(x[:, 1], 64))
    bijection = bijection.fit(filler.fill(x, generator=generator)[0])
    density = DequantisedCount(Preprocessed(bijection, AutoregressiveMixture(2, 0, [32], 4)), 1, 1, 64, filler.spread)
    config = FitConfig(epochs=15, batch_size=256, learning_rate=3e-3, device="cpu")
    made = fit(density, TrainingData(x[:5000]), TrainingData(x[5000:]), config, seed=1).density
    drawn = sample(made, count=6000, generator=generator)[:, 1]
    assert float((drawn == 64).float().mean()) == pytest.approx(float((x[:, 1] == 64).float().mean()), abs=0.03)
    assert float(drawn[drawn < 64].mean()) == pytest.approx(float(x[x[:, 1] < 64, 1].mean()), abs=0.7)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((1, 5, 2, 1.0), "smaller one first"),
        ((1, -1, 2, 1.0), "0 or more"),
        ((1, 0, 2, 0.0), "positive"),
        ((2, 0, 2, 1.0), "there is none"),
    ],
)
def test_refuses(arguments: tuple[int, int, int, float], match: str) -> None:
    with pytest.raises(UserError, match=match):
        DequantisedCount(_Identity(), *arguments)
