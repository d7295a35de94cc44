"""Zeros below a threshold: the density that fills them, and the copula that is fitted through them."""

from __future__ import annotations

import math

import pytest
import torch

from cathode.density import AutoregressiveMixture, FlowMatching, build, describe, load_density, sample, save_density
from cathode.density.bijections import ConditionalGaussianize, ConditionalWhiten, Log
from cathode.density.copula import StandardNormal, censored_copula, fit_copula, impute
from cathode.density.dequantised import Dequantised
from cathode.density.preprocessed import Preprocessed
from cathode.density.registry import buildable
from cathode.support.errors import UserError

THRESHOLD = 1.0
D = 4


@buildable("test-echo")
class Echo(StandardNormal):
    """Keeps what it was given."""

    loss_is_nll = False

    def loss(self, x, context=None, *, mask=None, generator=None):
        self.seen = x
        return super().loss(x, context)


def test_zeros_are_filled_afresh_and_nothing_else():
    x = torch.tensor([[0.0, 1.0, 5.0], [0.3, 0.0, 0.999]])
    density = Dequantised(Echo(3), threshold=1.0)
    generator = torch.Generator().manual_seed(0)
    density.loss(x, generator=generator)
    first = density.density.seen
    density.loss(x, generator=generator)
    second = density.density.seen
    zero = x < 1.0
    assert torch.equal(first[~zero], x[~zero])
    assert ((first[zero] > 0) & (first[zero] < 1)).all()
    assert (first[zero] != second[zero]).all()


@pytest.mark.parametrize("noise", ["uniform", "log-uniform"])
def test_filling_has_the_declared_distribution(noise):
    density = Dequantised(Echo(1), threshold=2.0, noise=noise, depth=3.0)
    filled = density.fill(torch.zeros(20_000, 1), generator=torch.Generator().manual_seed(1))
    u = filled / 2.0 if noise == "uniform" else 1 + (filled / 2.0).log() / 3.0
    assert abs(float(u.mean()) - 0.5) < 0.01
    assert abs(float(u.var()) - 1 / 12) < 0.002


def test_decoded_values_are_zero_or_at_least_the_threshold():
    density = Dequantised(StandardNormal(3), threshold=0.5)
    x = sample(density, count=500, generator=torch.Generator().manual_seed(0))
    assert ((x == 0) | (x >= 0.5)).all()
    assert (x == 0).double().mean() > 0.45


@pytest.mark.parametrize("noise", ["uniform", "log-uniform"])
def test_loss_bounds_the_negative_log_probability(noise):
    """One feature, exactly known: zero with p, else exponential above the threshold; the best density of the filled
    values meets the bound with equality."""
    p, depth = 0.3, 3.0

    @buildable(f"test-exact-{noise}")
    class Exact(StandardNormal):
        def log_prob(self, x, context=None):
            below = torch.log(torch.tensor(p)) - (0.0 if noise == "uniform" else x.log() + math.log(depth))
            above = math.log(1 - p) - (x - 1.0)
            return torch.where(x < 1.0, below, above)[:, 0]

    density = Dequantised(Exact(1), threshold=1.0, noise=noise, depth=depth)
    assert density.loss_is_nll
    x = torch.tensor([[0.0], [1.5]])
    loss = density.loss(x, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss, torch.tensor([-math.log(p), -math.log(1 - p) + 0.5]))


def test_statistics_are_refreshed_on_filled_events():
    @buildable("test-watches")
    class Watches(StandardNormal):
        def before_evaluation(self, x, context=None):
            self.smallest = float(x.min())

    density = Dequantised(Watches(2), threshold=1.0)
    density.before_evaluation(torch.zeros(100, 2))
    assert 0 < density.density.smallest < 1


def test_sets_are_filled_and_their_padding_does_not_count():
    @buildable("test-sets")
    class Sets(StandardNormal):
        def loss(self, x, context=None, *, mask=None, generator=None):
            return torch.zeros(len(x))

    x = torch.zeros(2, 3, 1)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    loss = Dequantised(Sets(1), threshold=2.0).loss(x, mask=mask, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss, -math.log(2.0) * torch.tensor([2.0, 1.0]))


def test_dequantised_refuses():
    with pytest.raises(UserError, match="threshold"):
        Dequantised(StandardNormal(1), threshold=0.0)
    with pytest.raises(UserError, match="unknown noise"):
        Dequantised(StandardNormal(1), threshold=1.0, noise="gaussian")
    with pytest.raises(UserError, match="depth"):
        Dequantised(StandardNormal(1), threshold=1.0, noise="log-uniform", depth=0.0)


def test_dequantised_trains_a_tractable_density_without_nan():
    density = Dequantised(Preprocessed(Log(2), AutoregressiveMixture(2, 0, hidden=[8])), threshold=1.0)
    x = torch.tensor([[0.0, 3.0], [2.0, 0.0]])
    loss = density.loss(x, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(loss).all()
    assert not hasattr(density, "log_prob")


# The copula


def truth(count, seed):
    """A censored Gaussian copula whose correlation (0.8 between neighbours' latents) and scale are known."""
    g = torch.Generator().manual_seed(seed)
    total = torch.exp(1 + 2 * torch.rand(count, 1, generator=g, dtype=torch.float64))
    common = torch.randn(count, 1, generator=g, dtype=torch.float64)
    latent = math.sqrt(0.8) * common + math.sqrt(0.2) * torch.randn(count, D, generator=g, dtype=torch.float64)
    x = 0.1 * total * torch.exp(latent + 0.2 * torch.arange(D))
    return torch.where(x < THRESHOLD, 0.0, x).float(), total.float()


def chain():
    marginals = ConditionalGaussianize(D, [0] * D, THRESHOLD, nodes=5)
    return marginals, ConditionalWhiten(D, 1, nodes=3, shrinkage=0.0)


@pytest.fixture(scope="module")
def fitted():
    x, context = truth(12_000, seed=0)
    return fit_copula(*chain(), x, context, rounds=15, seed=3)


def test_the_correlation_is_found_through_the_zeros(fitted):
    x, context = truth(12_000, seed=0)
    assert (x == 0).double().mean() > 0.45
    diluted = fit_copula(*chain(), x, context, rounds=0, seed=3)
    for node in range(3):
        for fit, low, high in ((fitted, 0.74, 0.86), (diluted, 0.0, 0.7)):
            covariance = fit.whitening.factors[node] @ fit.whitening.factors[node].T
            scale = covariance.diagonal().sqrt()
            correlation = (covariance / scale / scale[:, None])[0, 1:]
            if fit is fitted or node == 0:
                assert (correlation > low).all(), (node, correlation)
                assert (correlation < high).all(), (node, correlation)


def test_samples_have_the_marginals_and_the_joint_zeros_of_the_truth(fitted):
    x, context = truth(12_000, seed=1)
    density = censored_copula(fitted)
    got = sample(density, context.double(), generator=torch.Generator().manual_seed(0)).float()
    assert ((got == 0) | (got >= THRESHOLD)).all()
    for low, high in ((1.0, 2.0), (2.0, 3.0)):
        part = (context[:, 0].log() > low) & (context[:, 0].log() < high)
        a, b = x[part], got[part]
        assert ((a == 0).double().mean(0) - (b == 0).double().mean(0)).abs().max() < 0.03
        assert ((b.mean(0) / a.mean(0)) - 1).abs().max() < 0.12
        both = ((a[:, 0] == 0) & (a[:, 3] == 0)).double().mean() - ((b[:, 0] == 0) & (b[:, 3] == 0)).double().mean()
        assert abs(float(both)) < 0.03


def test_imputed_values_decode_to_the_same_events(fitted):
    x, context = truth(500, seed=2)
    latent = impute(
        fitted.marginals, fitted.whitening, x, context, sweeps=3, generator=torch.Generator().manual_seed(1)
    )
    assert torch.isfinite(latent).all()
    assert ((latent < fitted.marginals.bounds(context).float() + 1e-4) == (x == 0)).double().mean() > 0.999
    back, _ = fitted.marginals.inverse_and_log_det(latent, context)
    torch.testing.assert_close(torch.where(back < THRESHOLD, 0.0, back), x, rtol=1e-3, atol=1e-3)


def test_same_seed_same_fit():
    x, context = truth(1500, seed=4)
    one, other = (fit_copula(*chain(), x, context, rounds=2, seed=7) for _ in range(2))
    assert torch.equal(one.whitening.factors, other.whitening.factors)
    assert torch.equal(one.latent, other.latent)
    assert not torch.equal(one.latent, fit_copula(*chain(), x, context, rounds=2, seed=8).latent)


def test_a_density_may_refine_it_and_all_is_saved(fitted, tmp_path):
    _, context = truth(200, seed=5)
    plain = censored_copula(fitted)
    refined = censored_copula(fitted, FlowMatching(D, 1, steps=2, solver="midpoint"))
    noise = plain.noise(200, generator=torch.Generator().manual_seed(0))
    # An untrained preconditioned flow is the identity on Gaussian data: it starts as the copula.
    torch.testing.assert_close(refined.decode(noise, context), plain.decode(noise, context), rtol=1e-3, atol=1e-3)
    save_density(plain, tmp_path / "model")
    again = load_density(tmp_path / "model")
    assert torch.equal(again.decode(noise, context), plain.decode(noise, context))
    assert build(describe(refined)).event_shape == (D,)
