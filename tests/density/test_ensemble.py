from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from cathode.density.base import ConditionalDensity, Tractable, log_prob, sample
from cathode.density.ensemble import Ensemble, TractableEnsemble
from cathode.density.registry import build, buildable, describe


@buildable("test-ensemble-normal")
class Normal(ConditionalDensity):
    """Normal around ``mean + context`` in each of ``features`` dimensions."""

    def __init__(self, mean, width, features=1):
        super().__init__()
        self.event_shape, self.context_features = (features,), 1
        self.mean, self.width = nn.Parameter(torch.tensor(float(mean))), float(width)

    def log_prob(self, x, context=None):
        return torch.distributions.Normal(self.mean + context, self.width).log_prob(x).sum(-1)

    def loss(self, x, context=None, *, mask=None, generator=None):
        return -self.log_prob(x, context)

    def decode(self, noise, context=None, *, mask=None):
        return self.mean + context + self.width * noise

    def encode(self, x, context=None):
        return (x - self.mean - context) / self.width


@buildable("test-ensemble-opaque")
class Opaque(ConditionalDensity):
    """Sets of points at ``value``, without a density."""

    def __init__(self, value):
        super().__init__()
        self.event_shape, self.context_features, self.value = (4, 2), 0, value

    def loss(self, x, context=None, *, mask=None, generator=None):
        return x.sum((1, 2)) * 0 + self.value

    def decode(self, noise, context=None, *, mask=None):
        return noise * 0 + self.value * (1 if mask is None else mask.unsqueeze(-1))


@pytest.fixture
def ensemble():
    return Ensemble([Normal(-2.0, 0.5), Normal(1.0, 1.0), Normal(3.0, 0.2)], weights=[1, 2, 1])


def test_log_prob_is_the_weighted_mean_density_and_integrates_to_one(ensemble):
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None]
    context = torch.full((len(x), 1), 0.3, dtype=torch.float64)
    found = ensemble.double().log_prob(x, context)
    expected = sum(
        w * m.log_prob(x, context).exp() for w, m in zip((0.25, 0.5, 0.25), ensemble.members, strict=True)
    ).log()
    torch.testing.assert_close(found, expected)
    assert torch.trapezoid(found.exp(), x[:, 0]).item() == pytest.approx(1.0, abs=1e-9)
    # In the far tail the mean of the densities underflows, the log-mean-exp does not.
    far = torch.full((1, 1), 1e3, dtype=torch.float64)
    assert torch.isfinite(ensemble.log_prob(far, context[:1])).all()


def test_equal_weights_are_log_mean_exp():
    members = [Normal(0.0, 1.0), Normal(1.0, 2.0)]
    x, context = torch.randn(50, 1), torch.randn(50, 1)
    expected = torch.logsumexp(torch.stack([m.log_prob(x, context) for m in members]), 0) - math.log(2)
    torch.testing.assert_close(Ensemble(members).log_prob(x, context), expected)


def test_samples_come_from_the_members_in_their_shares(ensemble):
    context = torch.zeros(40_000, 1)
    events = sample(ensemble, context, generator=torch.Generator().manual_seed(1), chunk=10_000)
    # Only the first member reaches below -2; half of it does.
    assert float((events < -2).float().mean()) == pytest.approx(0.125, abs=0.005)
    noise = ensemble.noise(1000, generator=torch.Generator().manual_seed(2))
    assert noise.shape == (1000, 2)
    chosen = ensemble._chosen(noise[:, 1])
    assert torch.bincount(chosen).tolist() == [250, 500, 250]
    assert float(noise[:, 0].std()) == pytest.approx(1.0, abs=0.1)
    # The choice is in random order: shares are right in any part of the rows.
    assert torch.bincount(chosen[:200]).tolist() == pytest.approx([50, 100, 50], abs=25)


def test_samples_follow_the_density(ensemble):
    context = torch.full((50_000, 1), 0.5)
    events = sample(ensemble, context, generator=torch.Generator().manual_seed(3))
    counts, _ = torch.histogram(events[:, 0], bins=40, range=(-5.0, 5.0))
    fine = torch.linspace(-5, 5, 40 * 50 + 1)
    density = log_prob(ensemble, fine[:, None], torch.full((len(fine), 1), 0.5)).exp()
    cells = torch.cumulative_trapezoid(density, fine)
    mass = torch.cat([torch.zeros(1), cells])[::50].diff()
    expected = 50_000 * mass
    pull = (counts - expected) / expected.clamp(min=1).sqrt()
    assert float(pull.square().sum()) / 40 < 2.0


def test_decoding_is_deterministic_and_encode_is_a_right_inverse(ensemble):
    context = torch.randn(500, 1)
    noise = ensemble.noise(500, generator=torch.Generator().manual_seed(4))
    events = ensemble.decode(noise, context)
    assert torch.equal(events, ensemble.decode(noise, context))
    halves = torch.cat([ensemble.decode(noise[:200], context[:200]), ensemble.decode(noise[200:], context[200:])])
    assert torch.equal(events, halves)
    torch.testing.assert_close(ensemble.decode(ensemble.encode(events, context), context), events)


def test_loss_is_the_mean_of_the_members(ensemble):
    x, context = torch.randn(20, 1), torch.randn(20, 1)
    first, second, third = (m.loss(x, context) for m in ensemble.members)
    torch.testing.assert_close(ensemble.loss(x, context), 0.25 * first + 0.5 * second + 0.25 * third)


def test_tractable_only_if_all_members_are(ensemble):
    assert isinstance(ensemble, TractableEnsemble)
    assert isinstance(ensemble, Tractable)
    opaque = Ensemble([Opaque(1.0), Opaque(2.0)])
    assert not isinstance(opaque, Tractable)
    assert type(opaque) is Ensemble


def test_sets_choose_one_member_per_event_whatever_the_padding():
    ensemble = Ensemble([Opaque(1.0), Opaque(2.0)])
    mask = torch.rand(400, 4, generator=torch.Generator().manual_seed(0)) > 0.5
    mask[0] = False
    events = sample(ensemble, count=400, mask=mask, generator=torch.Generator().manual_seed(1))
    values = [set(events[i][mask[i]].flatten().tolist()) for i in range(400)]
    assert all(len(v) == 1 for v, m in zip(values, mask, strict=True) if m.any())
    assert (events[~mask] == 0).all()
    assert 150 < sum(v == {1.0} for v in values) < 250
    noise = ensemble.noise(400, mask=mask, generator=torch.Generator().manual_seed(1))
    assert (noise[~mask] == 0).all()
    disturbed = noise + torch.where(mask, 0.0, 0.9).unsqueeze(-1)
    assert torch.equal(ensemble.decode(disturbed, mask=mask), ensemble.decode(noise, mask=mask))


def test_copies_and_descriptions(ensemble):
    x, context = torch.randn(9, 1), torch.randn(9, 1)
    expected = ensemble.log_prob(x, context)
    torch.testing.assert_close(copy.deepcopy(ensemble).log_prob(x, context), expected)
    again = build(describe(ensemble))
    again.load_state_dict(ensemble.state_dict())
    torch.testing.assert_close(again.log_prob(x, context), expected)
    nested = Ensemble([ensemble, Ensemble([Normal(0.0, 1.0), Normal(0.0, 2.0)])])
    assert nested.noise(10, generator=torch.Generator()).shape == (10, 3)
    assert sample(nested, context, generator=torch.Generator()).shape == (9, 1)


@pytest.mark.parametrize(
    ("members", "weights", "message"),
    [
        ([], None, "at least one member"),
        ([Normal(0, 1), Normal(0, 1, features=2)], None, "members differ in"),
        ([Normal(0, 1)], [0.0], "weights must be 1 positive numbers"),
        ([Normal(0, 1)], [1.0, 2.0], "weights must be 1 positive numbers"),
    ],
)
def test_unusable_ensembles_are_refused(members, weights, message):
    with pytest.raises(ValueError, match=message):
        Ensemble(members, weights)


def test_before_evaluation_reaches_the_members():
    seen = []

    @buildable("test-ensemble-watching")
    class Watching(Normal):
        def before_evaluation(self, x, context):
            seen.append(len(x))

    Ensemble([Watching(0, 1), Normal(0, 1), Watching(1, 1)]).before_evaluation(torch.zeros(7, 1), torch.zeros(7, 1))
    assert seen == [7, 7]
