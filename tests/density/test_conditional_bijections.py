"""Bijections whose map depends on the context: the table of contracts again, and what each of them promises."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.density import registry
from cathode.density.bijections import (
    Cascade,
    Columns,
    Compose,
    ConditionalGaussianize,
    ConditionalWhiten,
    Logit,
    Power,
    Relative,
    Standardize,
)
from cathode.density.preprocessed import fit_preprocessing
from cathode.support.errors import UserError

D, COLUMNS = 4, [1, 1, 2, 2]
THRESHOLD = 0.5
CONSTRUCTORS = {
    "cascade": lambda: Cascade(D),
    "cascade-logit": lambda: Compose([Cascade(D), Columns([Power(1), Logit(D - 1)]), Standardize(D)]),
    "relative": lambda: Relative(D, COLUMNS, floor=0.1),
    "conditional-gaussianize": lambda: ConditionalGaussianize(D, COLUMNS, THRESHOLD, nodes=4, knots=9, reach=3.0),
    "conditional-whiten": lambda: ConditionalWhiten(D, 3, nodes=3),
    "chain": lambda: Compose(
        [ConditionalGaussianize(D, COLUMNS, THRESHOLD, nodes=4, knots=9, reach=3.0), ConditionalWhiten(D, 3, nodes=3)]
    ),
}


def data(count=3000, seed=0):
    """Positive amounts that scale with their group's column, a part of them below the threshold, and the context."""
    g = torch.Generator().manual_seed(seed)
    total = torch.exp(3.0 * torch.rand(count, 1, generator=g, dtype=torch.float64))
    groups = total * (0.2 + 0.8 * torch.rand(count, 2, generator=g, dtype=torch.float64))
    common = torch.randn(count, 1, generator=g, dtype=torch.float64)
    noise = 0.6 * common + 0.8 * torch.randn(count, D, generator=g, dtype=torch.float64)
    x = groups[:, [c - 1 for c in COLUMNS]] * torch.exp(0.7 * noise - 1.0)
    fill = THRESHOLD * torch.rand(count, D, generator=g, dtype=torch.float64).clamp(1e-3, 0.999)
    return torch.where(x < THRESHOLD, fill, x), torch.cat([total, groups], dim=1)


@pytest.fixture(params=sorted(CONSTRUCTORS))
def fitted(request):
    x, context = data()
    return CONSTRUCTORS[request.param]().fit(x, context=context)


def test_round_trip_and_opposite_log_dets(fitted):
    x, context = data(count=400, seed=1)
    y, forward = fitted.forward_and_log_det(x, context)
    back, backward = fitted.inverse_and_log_det(y, context)
    torch.testing.assert_close(back, x, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(forward, -backward, rtol=1e-6, atol=1e-6)
    assert forward.shape == (400,)


def test_log_det_is_autograds(fitted):
    x, context = data(count=10, seed=2)
    for row, given_context in zip(x, context, strict=True):

        def only(v, c=given_context):
            return fitted.forward_and_log_det(v[None], c[None])[0][0]

        jacobian = torch.autograd.functional.jacobian(only, row)
        _, log_det = fitted.forward_and_log_det(row[None], given_context[None])
        torch.testing.assert_close(log_det[0], torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-5, atol=1e-5)


def test_each_row_depends_on_its_own_context_only(fitted):
    x, context = data(count=200, seed=3)
    y, log_det = fitted.forward_and_log_det(x, context)
    alone, alone_det = fitted.forward_and_log_det(x[7:8], context[7:8])
    torch.testing.assert_close(y[7:8], alone)
    torch.testing.assert_close(log_det[7:8], alone_det)


def test_describe_build_load_gives_the_same_map(fitted):
    rebuilt = registry.build(registry.describe(fitted))
    rebuilt.load_state_dict(fitted.state_dict())
    x, context = data(count=50, seed=4)
    for one, other in zip(fitted.forward_and_log_det(x, context), rebuilt.forward_and_log_det(x, context), strict=True):
        assert torch.equal(one, other)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-30, 30), min_size=D, max_size=D),
    st.lists(st.floats(0, 1e6), min_size=3, max_size=3),
)
def test_any_latent_value_and_context_decode_to_something_finite(values, amounts):
    y = torch.tensor([values], dtype=torch.float64)
    context = torch.tensor([amounts], dtype=torch.float64)
    for name, make in CONSTRUCTORS.items():
        if name not in FITTED:
            x, c = data()
            FITTED[name] = make().fit(x, context=c)
        for dtype in (torch.float64, torch.float32):
            decoded, _ = FITTED[name].inverse_and_log_det(y.to(dtype), context.to(dtype))
            assert torch.isfinite(decoded).all(), (name, dtype)


FITTED: dict = {}


# Cascade


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 1e6)), min_size=2, max_size=7),
    st.floats(1e-2, 1e6),
)
def test_cascade_is_exact_with_empty_amounts(amounts, reference):
    x = torch.tensor([amounts], dtype=torch.float64)
    context = torch.tensor([[reference]], dtype=torch.float64)
    cascade = Cascade(len(amounts))
    u, log_det = cascade.forward_and_log_det(x, context)
    assert torch.isfinite(u).all()
    assert torch.isfinite(log_det).all()
    assert ((u[:, 1:] >= 0) & (u[:, 1:] <= 1)).all()
    back, _ = cascade.inverse_and_log_det(u, context)
    torch.testing.assert_close(back, x, rtol=1e-9, atol=1e-9 * float(x.sum()))
    torch.testing.assert_close(back.sum(1), u[:, 0] * reference, rtol=1e-12, atol=1e-12)
    assert (back[0, :-1][x[0, :-1] == 0] == 0).all()


def test_cascade_by_hand():
    x = torch.tensor([[30.0, 0.0, 90.0], [0.0, 0.0, 0.0], [50.0, 0.0, 0.0]], dtype=torch.float64)
    context = torch.full((3, 1), 100.0, dtype=torch.float64)
    u, _ = Cascade(3).forward_and_log_det(x, context)
    expected = torch.tensor([[1.2, 0.25, 0.0], [0.0, 0.0, 0.0], [0.5, 1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(u, expected)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4))
def test_cascade_keeps_the_sum_whatever_the_shares(values):
    y = torch.tensor([values], dtype=torch.float64)
    x, _ = Cascade(4).inverse_and_log_det(y, torch.tensor([[7.0]], dtype=torch.float64))
    assert (x >= 0).all()
    torch.testing.assert_close(x.sum(), y[0, 0].clamp(min=0) * 7, rtol=1e-12, atol=1e-12)


# ConditionalGaussianize


def test_marginals_are_standard_normal_at_every_context():
    x, context = data(count=40_000, seed=5)
    bijection = ConditionalGaussianize(D, COLUMNS, THRESHOLD).fit(x, context=context)
    fresh, fresh_context = data(count=40_000, seed=6)
    z, _ = bijection.forward_and_log_det(fresh, fresh_context)
    for low, high in ((0.0, 1.0), (1.0, 2.0), (2.0, 3.0)):
        part = z[(fresh_context[:, 0].log() > low) & (fresh_context[:, 0].log() < high)]
        assert (part.mean(0).abs() < 0.06).all(), part.mean(0)
        assert ((part.std(0) - 1).abs() < 0.05).all(), part.std(0)
    # The group's column alone decides: nothing is left of the dependence on it.
    correlation = torch.corrcoef(torch.cat([z[:, 2:], fresh_context[:, 2:].log()], dim=1).T)[:2, 2]
    assert (correlation.abs() < 0.03).all(), correlation


def test_zero_fraction_follows_the_context():
    x, context = data(count=40_000, seed=5)
    bijection = ConditionalGaussianize(D, COLUMNS, THRESHOLD).fit(x, context=context)
    g = torch.Generator().manual_seed(1)
    fresh, fresh_context = data(count=40_000, seed=7)
    noise = torch.randn(fresh.shape, generator=g, dtype=torch.float64)
    decoded, _ = bijection.inverse_and_log_det(noise, fresh_context)
    for low, high in ((0.0, 1.0), (1.0, 2.0), (2.0, 3.0)):
        part = (fresh_context[:, 0].log() > low) & (fresh_context[:, 0].log() < high)
        want, got = (fresh[part] < THRESHOLD).double().mean(0), (decoded[part] < THRESHOLD).double().mean(0)
        assert (want - got).abs().max() < 0.02, (want, got)
        want_mean, got_mean = fresh[part].mean(0), decoded[part].mean(0)
        assert ((got_mean / want_mean - 1).abs() < 0.04).all(), (want_mean, got_mean)


def test_features_that_are_almost_always_or_never_zero_are_fitted():
    x, context = data(count=2000)
    x[:, 0] = THRESHOLD / 2
    x[:3, 0] = 2 * THRESHOLD
    x[:, 1] = context[:, 1] + THRESHOLD
    bijection = ConditionalGaussianize(D, COLUMNS, THRESHOLD).fit(x, context=context)
    z, log_det = bijection.forward_and_log_det(x, context)
    assert torch.isfinite(z).all()
    assert torch.isfinite(log_det).all()
    assert (z[3:, 0] < z[:3, 0].min()).all()
    noise = torch.randn(2000, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    decoded, _ = bijection.inverse_and_log_det(noise, context)
    assert (decoded[:, 0] >= THRESHOLD).double().mean() < 0.02
    assert (decoded[:, 1] < THRESHOLD).double().mean() < 0.02


def test_values_below_the_threshold_and_above_stay_there_in_float32():
    x, context = data(count=3000, seed=8)
    x[0] = THRESHOLD
    bijection = ConditionalGaussianize(D, COLUMNS, THRESHOLD).fit(x, context=context)
    z, _ = bijection.forward_and_log_det(x.float(), context.float())
    back, _ = bijection.inverse_and_log_det(z, context.float())
    agree = (back >= THRESHOLD) == (x.float() >= THRESHOLD)
    assert agree.double().mean() > 0.999


def test_conditional_gaussianize_refuses():
    with pytest.raises(UserError, match="indices of context columns"):
        ConditionalGaussianize(3, [0, 0], 1.0)
    with pytest.raises(UserError, match="must be positive"):
        ConditionalGaussianize(1, [0], -1.0)
    with pytest.raises(UserError, match="2 nodes, 4 knots"):
        ConditionalGaussianize(1, [0], 1.0, nodes=1)
    x, context = data(count=200)
    with pytest.raises(ValueError, match="needs the context"):
        ConditionalGaussianize(D, COLUMNS, 1.0).fit(x)
    with pytest.raises(ValueError, match="column 2 is asked for"):
        ConditionalGaussianize(D, COLUMNS, 1.0).fit(x, context=context[:, :2])


# ConditionalWhiten


def test_a_conditional_gaussian_becomes_white_at_every_context():
    g = torch.Generator().manual_seed(0)
    scale = torch.exp(2 * torch.rand(30_000, 1, generator=g, dtype=torch.float64))
    other = torch.exp(torch.randn(30_000, 1, generator=g, dtype=torch.float64)) + 1
    white = torch.randn(30_000, 3, generator=g, dtype=torch.float64)
    rho = 0.4 * scale.log()  # correlation grows with the context
    x = torch.cat([white[:, :1], rho * white[:, :1] + (1 - rho**2).sqrt() * white[:, 1:2], white[:, 2:]], dim=1)
    x[:, 2:] += 0.8 * other.log()
    context = torch.cat([scale, other], dim=1)
    fitted = ConditionalWhiten(3, 2, nodes=5).fit(x[:20_000], context=context[:20_000])
    y, _ = fitted.forward_and_log_det(x[20_000:], context[20_000:])
    for low, high in ((0.0, 1.0), (1.0, 2.0)):
        part = y[(scale[20_000:, 0].log() > low) & (scale[20_000:, 0].log() < high)]
        torch.testing.assert_close(torch.cov(part.T), torch.eye(3, dtype=torch.float64), rtol=0, atol=0.1)
        assert (part.mean(0).abs() < 0.05).all()
    assert torch.corrcoef(torch.stack([y[:, 2], other[20_000:, 0].log()]))[0, 1].abs() < 0.03


def test_a_gap_in_the_column_of_the_nodes_is_interpolated():
    g = torch.Generator().manual_seed(3)
    steps = torch.arange(8, dtype=torch.float64)

    def rows(points, count):
        energy = points[torch.randint(len(points), (count,), generator=g)].unsqueeze(1)
        other = energy * torch.exp(0.05 * torch.randn(count, 1, generator=g, dtype=torch.float64))
        noise = torch.randn(count, 2, generator=g, dtype=torch.float64)
        # How the mean follows the other column at one energy cannot be told from how that differs between energies.
        return 20.0 * (other / energy).log() + noise, torch.cat([energy, other], 1)

    energies = 256.0 * 2.0**steps
    x, context = rows(energies[steps != 4], 14_000)
    fitted = ConditionalWhiten(2, 2, nodes=8).fit(x, context=context)
    x, context = rows(energies[4:5], 4_000)
    y, _ = fitted.forward_and_log_det(x, context)
    torch.testing.assert_close(torch.cov(y.T), torch.eye(2, dtype=torch.float64), rtol=0, atol=0.15)
    assert (y.mean(0).abs() < 0.1).all()
    assert torch.corrcoef(torch.stack([y[:, 0], context[:, 1].log()]))[0, 1].abs() < 0.1


def test_few_contexts_and_many_are_solved_alike():
    x, context = data(count=300, seed=9)
    fitted = ConditionalWhiten(D, 3, nodes=4).fit(*[data()[0]], context=data()[1])
    context[:, 0] = context[:, 0].round()
    few, _ = fitted.forward_and_log_det(x, context)
    each = torch.cat([fitted.forward_and_log_det(x[i : i + 1], context[i : i + 1])[0] for i in range(300)])
    torch.testing.assert_close(few, each)


def test_relative_and_whiten_refuse():
    with pytest.raises(UserError, match="indices of context columns"):
        Relative(2, [0])
    with pytest.raises(UserError, match="positive number"):
        Relative(1, [0], floor=0.0)
    with pytest.raises(UserError, match="node column"):
        ConditionalWhiten(2, 1, column=1)
    with pytest.raises(UserError, match="must be positive"):
        ConditionalWhiten(2, 1, floor=0.0)


# Fits with a context


def test_fit_preprocessing_hands_the_context_to_the_bijection():
    x, context = data(count=2000)
    fitted = fit_preprocessing(CONSTRUCTORS["chain"](), x, context=context)
    assert fitted.rejected == 0
    z, _ = fitted.bijection.forward_and_log_det(x, context)
    torch.testing.assert_close(torch.cov(z.T), torch.eye(D, dtype=torch.float64), rtol=0, atol=0.25)


def test_context_with_nan_or_of_the_wrong_length_is_refused():
    x, context = data(count=2000)
    with pytest.raises(ValueError, match="expected"):
        ConditionalWhiten(D, 3).fit(x, context=context[:5])
    context[3, 1] = float("nan")
    with pytest.raises(UserError, match="context holds NaN"):
        ConditionalWhiten(D, 3).fit(x, context=context)
