"""A density behind a bijection: physical units, edges, what it promises and what it does not."""

from __future__ import annotations

import copy
import logging
import math
import pickle

import pytest
import torch
from scipy import stats

from cathode.density import registry
from cathode.density.analytic import GaussianMixture, LinearGaussian
from cathode.density.base import ConditionalDensity, Tractable, sample
from cathode.density.bijections import Affine, Compose, Log, Logit, MinMax, Rotate, Standardize, cathode_chain
from cathode.density.preprocessed import Preprocessed, fit_preprocessing
from cathode.density.registry import buildable
from cathode.support.errors import UserError


@buildable("test-preprocessed-intractable")
class Intractable(ConditionalDensity):
    """Decodes, and its loss is no log-density."""

    def __init__(self) -> None:
        super().__init__()
        self.event_shape, self.context_features = (2,), 0

    def loss(self, x, context=None, *, mask=None, generator=None):
        return x.square().sum(1)

    def decode(self, noise, context=None, *, mask=None):
        return 2 * noise


STANDARD_NORMAL = {"bias": [0.0, 0.0], "cholesky": [[1.0, 0.0], [0.0, 1.0]]}


def training_events(count=2000):
    g = torch.Generator().manual_seed(0)
    return torch.rand((count, 2), generator=g, dtype=torch.float64) * torch.tensor([1e-1, 50.0]) + 4.0


def test_log_normal_is_scipys():
    density = Preprocessed(Log(1), LinearGaussian([0.3], [[0.5]]))
    x = torch.linspace(0.05, 9, 60, dtype=torch.float64)[:, None]
    expected = stats.lognorm(s=0.5, scale=math.exp(0.3)).logpdf(x[:, 0].numpy())
    torch.testing.assert_close(density.log_prob(x), torch.from_numpy(expected), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(density.loss(x), -density.log_prob(x))


def test_logit_normal_integrates_to_one_in_two_dimensions():
    """Through CATHODE's chain; with a Jacobian of the wrong sign this is far from 1."""
    chain = cathode_chain(2, margin=0.02).fit(training_events())
    mixture = GaussianMixture(
        [1.0, 2.0], [[-1.0, 0.5], [0.7, 0.0]], [[[0.5, 0.0], [0.1, 0.6]], [[0.7, 0.0], [-0.3, 0.5]]]
    )
    density = Preprocessed(chain, mixture)
    low, width = chain.bijections[0].shift, chain.bijections[0].scale
    unit = torch.linspace(2e-6, 1 - 2e-6, 1001, dtype=torch.float64)
    grid = low + width * torch.cartesian_prod(unit, unit)
    p = density.log_prob(grid).exp().reshape(1001, 1001)
    total = torch.trapezoid(torch.trapezoid(p, low[1] + width[1] * unit), low[0] + width[0] * unit)
    assert float(total) == pytest.approx(1.0, abs=1e-3)


def test_samples_follow_the_density_and_round_trip():
    bijection = Compose([Standardize(2), Rotate(2)]).fit(training_events())
    density = Preprocessed(bijection, LinearGaussian([0.4, 0.0], [[0.5, 0.0], [0.2, 1.0]]))
    x = sample(density, count=4000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(density.decode(density.encode(x)), x, rtol=1e-9, atol=1e-9)
    # An affine image of a Gaussian is a Gaussian: compare with scipy on the sample's own truth.
    mean = density.decode(torch.zeros(1, 2, dtype=torch.float64))[0]
    lower = torch.stack([density.decode(e[None])[0] - mean for e in torch.eye(2, dtype=torch.float64)], dim=1)
    truth = stats.multivariate_normal(mean.numpy(), (lower @ lower.T).numpy())
    torch.testing.assert_close(density.log_prob(x), torch.from_numpy(truth.logpdf(x.numpy())), rtol=1e-6, atol=1e-6)
    entropy = float(truth.entropy())
    assert float(density.loss(x).mean()) == pytest.approx(entropy, abs=5 / math.sqrt(4000))


def test_loss_in_physical_units_follows_the_unit():
    """The same density in another unit: NLL moves by ln(unit) per feature, and not with the preprocessing."""
    x = training_events()
    losses = []
    for unit in (1.0, 1000.0):
        density = Preprocessed(Standardize(2).fit(x * unit), LinearGaussian(**STANDARD_NORMAL))
        losses.append(float(density.loss(x * unit).mean()))
    assert losses[1] - losses[0] == pytest.approx(2 * math.log(1000.0), abs=1e-9)


def test_an_intractable_density_does_not_pretend():
    x = training_events()
    density = Preprocessed(Standardize(2).fit(x), Intractable())
    assert isinstance(Preprocessed(Standardize(2), LinearGaussian(**STANDARD_NORMAL)), Tractable)
    assert not isinstance(density, Tractable)
    assert not hasattr(density, "log_prob")
    assert not density.loss_is_nll
    # Its loss is the inner one, without a log-determinant that would mean nothing.
    z, _ = density.bijection.forward_and_log_det(x)
    torch.testing.assert_close(density.loss(x), z.square().sum(1))
    noise = torch.ones(1, 2, dtype=torch.float64)
    torch.testing.assert_close(density.decode(noise), x.mean(0) + 2 * x.std(0, unbiased=False)[None])


def test_masked_policy_gives_minus_infinity_and_a_finite_loss():
    chain = cathode_chain(2).fit(training_events())
    density = Preprocessed(chain, LinearGaussian(**STANDARD_NORMAL))
    x = torch.tensor([[4.05, 20.0], [3.0, 20.0], [4.05, float("nan")]], dtype=torch.float64)
    assert density.log_prob(x).isneginf().tolist() == [False, True, True]
    assert torch.isfinite(density.loss(x)).all()
    assert density.rejects(x).tolist() == [False, True, True]


def test_clip_and_raise_policies_reach_through():
    x = torch.tensor([[3.0, 20.0]], dtype=torch.float64)
    clip = Preprocessed(cathode_chain(2, policy="clip").fit(training_events()), LinearGaussian(**STANDARD_NORMAL))
    assert torch.isfinite(clip.log_prob(x)).all()
    strict = cathode_chain(2, policy="raise", margin=0.01).fit(training_events())
    with pytest.raises(UserError, match="1 of 1 events are outside the domain"):
        Preprocessed(strict, LinearGaussian(**STANDARD_NORMAL)).log_prob(x)


def test_context_is_transformed_without_a_jacobian():
    inner = LinearGaussian([0.0], [[1.0]], weight=[[2.0]])
    density = Preprocessed(Affine(1), inner, Affine(1, shift=3.5, scale=0.1))
    x, c = torch.tensor([[1.0]], dtype=torch.float64), torch.tensor([[3.6]], dtype=torch.float64)
    assert float(density.log_prob(x, c)) == pytest.approx(stats.norm.logpdf(1.0, loc=2.0))
    assert float(density.decode(torch.zeros_like(x), c)) == pytest.approx(2.0)
    assert density.context_features == 1


@buildable("test-preprocessed-listening")
class Listening(Intractable):
    """Keeps what it is shown between epochs."""

    def before_evaluation(self, x, context=None):
        self.seen = x


@buildable("test-preprocessed-set")
class SetDensity(Intractable):
    """Of masked sets."""

    def __init__(self) -> None:
        super().__init__()
        self.event_shape = (4, 2)

    def loss(self, x, context=None, *, mask=None, generator=None):
        return (x.square().sum(-1) * mask).sum(1)


def test_sets_pass_with_their_mask():
    x = training_events(8).reshape(2, 4, 2)
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    density = Preprocessed(Standardize(2).fit(x, mask=mask), SetDensity())
    noise = density.noise(2, mask=mask, generator=torch.Generator().manual_seed(0))
    assert (density.decode(noise, mask=mask)[~mask] == 0).all()
    assert torch.isfinite(density.loss(x.masked_fill(~mask.unsqueeze(-1), float("nan")), mask=mask)).all()


def test_describe_build_copy_and_pickle_keep_the_density():
    density = Preprocessed(
        cathode_chain(2, margin=0.01).fit(training_events()), LinearGaussian(**STANDARD_NORMAL), context_bijection=None
    )
    x = training_events(50)
    rebuilt = registry.build(registry.describe(density))
    rebuilt.load_state_dict(density.state_dict())
    copied = copy.deepcopy(density)
    unpickled = pickle.loads(pickle.dumps(density))
    for other in (rebuilt, copied, unpickled):
        assert torch.equal(other.log_prob(x), density.log_prob(x))
    # The copy evaluates itself, not the original.
    copied.bijection.bijections[0].shift.add_(1e-2)
    assert not torch.equal(copied.log_prob(x), density.log_prob(x))


def test_before_evaluation_reaches_a_density_that_wants_it():
    x = training_events()
    density = Preprocessed(Standardize(2).fit(x), Listening())
    density.before_evaluation(x)
    torch.testing.assert_close(density.density.seen.mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-6, rtol=0)
    Preprocessed(Standardize(2).fit(x), Intractable()).before_evaluation(x)


def test_fit_preprocessing_counts_what_the_domain_rejects(caplog):
    x = training_events()
    c = torch.linspace(2.0, 5.0, len(x), dtype=torch.float64)[:, None]
    with caplog.at_level(logging.INFO):
        fitted = fit_preprocessing(cathode_chain(2), x, context_bijection=Standardize(1), context=c)
    assert fitted.rejected == int((~fitted.keep).sum()) == 4
    assert "4 of 2000 training events are outside the domain" in caplog.text
    density = fitted.wrap(LinearGaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], weight=[[1.0], [0.0]]))
    assert torch.isfinite(density.log_prob(x[fitted.keep], c[fitted.keep])).all()
    with pytest.raises(ValueError, match="needs the context"):
        fit_preprocessing(cathode_chain(2), x, context_bijection=Standardize(1))


def test_units_that_leave_nothing_are_an_error():
    with pytest.raises(UserError, match="all 10 training events are outside the domain"):
        fit_preprocessing(Logit(2, policy="mask"), torch.full((10, 2), 3500.0))


def test_parts_must_fit():
    with pytest.raises(ValueError, match="bijection has 3 features"):
        Preprocessed(MinMax(3), LinearGaussian(**STANDARD_NORMAL))
    with pytest.raises(ValueError, match="0 context columns"):
        Preprocessed(MinMax(2), LinearGaussian(**STANDARD_NORMAL), Standardize(1))
