"""One table of bijections drives the contract tests; members with a special duty have their own below."""

from __future__ import annotations

import copy
import logging
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.density import registry
from cathode.density.bijections import (
    Affine,
    Arcsinh,
    Columns,
    Compose,
    Gaussianize,
    Identity,
    Log,
    Logit,
    MinMax,
    Permute,
    Power,
    Rotate,
    Standardize,
    bounded_members,
    cathode_chain,
)
from cathode.support.errors import UserError

D = 3
CONSTRUCTORS = {
    "identity": lambda: Identity(D),
    "affine": lambda: Affine(D, shift=[1.0, -2.0, 0.0], scale=[2.0, -0.5, 3.0]),
    "standardize": lambda: Standardize(D),
    "min-max": lambda: MinMax(D, margin=0.1),
    "logit": lambda: Logit(D),
    "log": lambda: Log(D, offset=0.5),
    "power": lambda: Power(D, exponent=0.4, scale=2.0),
    "power-0": lambda: Power(D, exponent=0.0),
    "power-2": lambda: Power(D, exponent=2.0),
    "arcsinh": lambda: Arcsinh(D, scale=0.3),
    "rotate": lambda: Rotate(D),
    "rotate-only": lambda: Rotate(D, whiten=False),
    "permute": lambda: Permute(D, [2, 0, 1]),
    "gaussianize": lambda: Gaussianize(D, knots=9),
    "columns": lambda: Columns([Logit(1), Compose([Standardize(2), Rotate(2)])]),
    "cathode": lambda: cathode_chain(D, margin=0.05, policy="clip"),
    "long": lambda: Compose([Standardize(D), Gaussianize(D, knots=9), Permute(D, [1, 2, 0]), Power(D), Rotate(D)]),
}
#: Members whose map depends on the unit of x only through what they fit.
SCALE_FREE = ["standardize", "min-max", "rotate", "gaussianize", "cathode", "long"]


def data(count=400, seed=0, dtype=torch.float64):
    """Correlated, skewed, inside (0, 1) so that it is in the domain of every member."""
    g = torch.Generator().manual_seed(seed)
    u = torch.rand((count, D), generator=g, dtype=torch.float64)
    u[:, 1] = 0.5 * u[:, 0] + 0.5 * u[:, 1] ** 2
    return (0.02 + 0.96 * u).to(dtype)


@pytest.fixture(params=sorted(CONSTRUCTORS))
def fitted(request):
    return CONSTRUCTORS[request.param]().fit(data())


def test_round_trip_and_opposite_log_dets(fitted):
    x = data(seed=1)
    y, forward = fitted.forward_and_log_det(x)
    back, backward = fitted.inverse_and_log_det(y)
    torch.testing.assert_close(back, x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(forward, -backward, rtol=1e-8, atol=1e-8)
    assert forward.shape == (len(x),)


def test_log_det_is_autograds_in_both_directions(fitted):
    for x in data(count=12, seed=2):
        jacobian = torch.autograd.functional.jacobian(lambda v: fitted.forward_and_log_det(v[None])[0][0], x)
        y, log_det = fitted.forward_and_log_det(x[None])
        torch.testing.assert_close(log_det[0], torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-7, atol=1e-7)
        jacobian = torch.autograd.functional.jacobian(lambda v: fitted.inverse_and_log_det(v[None])[0][0], y[0])
        _, log_det = fitted.inverse_and_log_det(y)
        torch.testing.assert_close(log_det[0], torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-7, atol=1e-7)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.floats(0.001, 0.999), min_size=D, max_size=D), min_size=1, max_size=6))
def test_any_values_round_trip(values):
    x = torch.tensor(values, dtype=torch.float64)
    for name, make in CONSTRUCTORS.items():
        bijection = FITTED.setdefault(name, make().fit(data()))
        inside = ~bijection.out_of_domain(x)
        y, log_det = bijection.forward_and_log_det(x[inside])
        assert torch.isfinite(torch.cat([y.flatten(), log_det])).all(), name
        back, _ = bijection.inverse_and_log_det(y)
        torch.testing.assert_close(back, x[inside], rtol=1e-8, atol=1e-8, msg=name)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.floats(-8, 8), min_size=D, max_size=D), min_size=1, max_size=6))
def test_any_latent_value_decodes_to_something_finite(values):
    y = torch.tensor(values, dtype=torch.float64)
    for name, make in CONSTRUCTORS.items():
        bijection = FITTED.setdefault(name, make().fit(data()))
        x, log_det = bijection.inverse_and_log_det(y)
        assert torch.isfinite(torch.cat([x.flatten(), log_det])).all(), name


FITTED: dict = {}


def test_float32_comes_back_as_float32_and_agrees(fitted):
    x = data(seed=3)
    y, log_det = fitted.forward_and_log_det(x.float())
    assert y.dtype == log_det.dtype == torch.float32
    exact, exact_log_det = fitted.forward_and_log_det(x)
    torch.testing.assert_close(y, exact.float(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(log_det, exact_log_det.float(), rtol=1e-3, atol=1e-3)
    back, _ = fitted.inverse_and_log_det(y)
    torch.testing.assert_close(back, x.float(), rtol=1e-4, atol=1e-5)


def test_casting_a_module_keeps_the_digits_of_the_statistics(fitted):
    x = data(seed=4)
    expected, _ = fitted.forward_and_log_det(x)
    cast = copy.deepcopy(fitted).float().to(torch.float16)
    assert torch.equal(cast.forward_and_log_det(x)[0], expected)


def test_describe_build_load_gives_the_same_map(fitted):
    rebuilt = registry.build(registry.describe(fitted))
    rebuilt.load_state_dict(fitted.state_dict())
    x = data(seed=4)
    for one, other in zip(fitted.forward_and_log_det(x), rebuilt.forward_and_log_det(x), strict=True):
        assert torch.equal(one, other)


def test_fit_returns_a_new_bijection(fitted):
    before = copy.deepcopy(fitted.state_dict())
    other = fitted.fit(data(seed=9) * 0.9)
    assert other is not fitted
    for key, value in fitted.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_masked_entries_have_no_influence(fitted):
    """A padded set: same as its real points one by one, whatever the padding holds."""
    x = data(count=40, seed=5).reshape(8, 5, D)
    mask = torch.arange(5) < torch.tensor([5, 4, 3, 2, 1, 0, 5, 2])[:, None]
    x[~mask] = float("nan")
    y, log_det = fitted.forward_and_log_det(x, mask=mask)
    points, point_log_det = fitted.forward_and_log_det(x[mask])
    assert torch.equal(y[~mask], torch.zeros_like(y[~mask]))
    torch.testing.assert_close(y[mask], points)
    expected = torch.zeros(8, 5, dtype=torch.float64).masked_scatter(mask, point_log_det).sum(1)
    torch.testing.assert_close(log_det, expected)
    y[~mask] = float("nan")
    back, inverse_log_det = fitted.inverse_and_log_det(y, mask=mask)
    torch.testing.assert_close(back[mask], x[mask])
    assert (back[~mask] == 0).all()
    torch.testing.assert_close(inverse_log_det, -expected)
    assert not fitted.out_of_domain(x, mask=mask).any()


def test_fit_on_a_set_is_fit_on_its_points(fitted):
    x = data(count=400, seed=6).reshape(80, 5, D)
    mask = torch.rand(80, 5, generator=torch.Generator().manual_seed(1)) < 0.7
    from_points = fitted.fit(x[mask]).state_dict()
    padded = x.masked_fill(~mask.unsqueeze(-1), float("inf"))
    from_sets = fitted.fit(padded, mask=mask).state_dict()
    for key, value in from_points.items():
        torch.testing.assert_close(from_sets[key], value, msg=key)


@pytest.mark.parametrize("name", ["standardize", "rotate", "gaussianize", "cathode"])
def test_integer_weights_are_repetitions(name):
    x = data(count=500, seed=7)
    weight = torch.randint(0, 4, (500,), generator=torch.Generator().manual_seed(2)).double()
    weighted = CONSTRUCTORS[name]().fit(x, weight=weight)
    repeated = CONSTRUCTORS[name]().fit(x.repeat_interleave(weight.long(), dim=0))
    # Gaussianize interpolates between neighbouring events, which repetition moves by a fraction of their distance, and
    # places its last knots by the effective number of rows.
    tolerance = 0.1 if name == "gaussianize" else 1e-9
    y, _ = weighted.forward_and_log_det(x)
    z, _ = repeated.forward_and_log_det(x)
    assert float((y - z).abs().mean()) < tolerance


@pytest.mark.parametrize("name", SCALE_FREE)
def test_scale_equivariance(name):
    """Another unit of x: the same y, and a log-det that differs by ln(unit) for each feature."""
    unit = torch.tensor([1e-5, 1e3, 7.0], dtype=torch.float64)
    x = data(seed=8)
    y, log_det = CONSTRUCTORS[name]().fit(data()).forward_and_log_det(x)
    z, other_log_det = CONSTRUCTORS[name]().fit(data() * unit).forward_and_log_det(x * unit)
    if name == "rotate":  # principal axes depend on the units: only the Mahalanobis length does not
        y, z = y.norm(dim=1), z.norm(dim=1)
    torch.testing.assert_close(y, z, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(log_det, other_log_det + unit.log().sum(), rtol=1e-6, atol=1e-6)


def test_wrong_shapes_are_refused(fitted):
    with pytest.raises(ValueError, match=r"expected \(B, 3\)"):
        fitted.forward_and_log_det(torch.zeros(4, D + 1))
    with pytest.raises(ValueError, match=r"expected \(B, 3\)"):
        fitted.inverse_and_log_det(torch.zeros(4))


def test_unusable_rows_are_refused():
    x = data()
    x[3, 1] = float("nan")
    with pytest.raises(UserError, match=r"1 of 400 rows are NaN or infinite \(first in column 1\)"):
        Standardize(D).fit(x)
    with pytest.raises(UserError, match="no rows"):
        Standardize(D).fit(x[:0])
    with pytest.raises(UserError, match="weights must be finite and not negative"):
        Standardize(D).fit(data(), weight=torch.full((400,), -1.0))


@pytest.mark.parametrize("make", [Standardize, MinMax, Rotate, Gaussianize, cathode_chain])
def test_constant_feature_is_named(make):
    x = data()
    x[:, 2] = 0.1
    with pytest.raises(UserError, match="feature column 2"):
        make(D).fit(x)


def test_dependent_features_cannot_be_whitened():
    x = data()
    x[:, 2] = x[:, 0] + 2 * x[:, 1]
    with pytest.raises(UserError, match="linearly dependent"):
        Rotate(D).fit(x)


# The logit: sign, edges and policies.


@pytest.mark.parametrize("x", [0.3, 0.7, 0.05])
def test_logit_log_derivative_has_the_right_sign(x):
    """Numerically, not through autograd: dy/dx > 4 everywhere on (0, 1), so its logarithm is positive."""
    h = 1e-6
    logit = Logit(1)
    y = logit.forward_and_log_det(torch.tensor([[x - h], [x + h]], dtype=torch.float64))[0].flatten()
    numeric = math.log(float(y[1] - y[0]) / (2 * h))
    _, log_det = logit.forward_and_log_det(torch.tensor([[x]], dtype=torch.float64))
    assert float(log_det) == pytest.approx(numeric, abs=1e-6)
    assert float(log_det) >= math.log(4)


def test_density_through_a_chain_integrates_to_one():
    """A standard normal in the latent space is a density over the fitted range: the wrong sign gives 0.03."""
    chain = cathode_chain(1, margin=0.05).fit(data()[:, :1])
    low = float(chain.bijections[0].shift)
    width = float(chain.bijections[0].scale)
    x = low + width * torch.linspace(1e-5, 1 - 1e-5, 200_001, dtype=torch.float64)[:, None]
    z, log_det = chain.forward_and_log_det(x)
    density = (log_det - 0.5 * z[:, 0] ** 2 - 0.5 * math.log(2 * math.pi)).exp()
    assert float(torch.trapezoid(density, x[:, 0])) == pytest.approx(1.0, abs=1e-4)


EDGES = torch.tensor([[0.0], [1.0], [-3.0], [2.0], [float("inf")], [-float("inf")], [0.5], [1e-7]], dtype=torch.float64)


def test_clip_moves_counts_and_warns(caplog):
    logit = Logit(1, epsilon=1e-4, policy="clip")
    with caplog.at_level(logging.WARNING):
        y, log_det = logit.forward_and_log_det(EDGES)
    assert torch.isfinite(torch.cat([y.flatten(), log_det])).all()
    assert float(y.max()) == pytest.approx(math.log((1 - 1e-4) / 1e-4))
    assert logit.clipped_events == 7
    assert "7 events outside the domain [0.0001, 0.9999] of Logit were clipped" in caplog.text
    assert logit.out_of_domain(EDGES).sum() == 7
    assert not logit.rejects(EDGES).any()
    with pytest.raises(UserError, match="1 of 2 events are NaN before Logit"):
        logit.forward_and_log_det(torch.tensor([[0.5], [float("nan")]]))
    logit.reset_count()
    assert logit.clipped_events == 0


def test_warnings_come_once_per_decade(caplog):
    logit = Logit(1)
    with caplog.at_level(logging.WARNING):
        for _ in range(120):
            logit.forward_and_log_det(torch.ones(1, 1))
    assert len(caplog.records) == 3
    assert logit.clipped_events == 120


def test_mask_flags_and_stays_finite():
    logit = Logit(1, epsilon=1e-4, policy="mask")
    x = torch.cat([EDGES, torch.tensor([[float("nan")]], dtype=torch.float64)])
    y, log_det = logit.forward_and_log_det(x)
    assert torch.isfinite(torch.cat([y.flatten(), log_det])).all()
    assert logit.rejects(x).tolist() == [True] * 6 + [False, True, True]
    assert torch.equal(logit.rejects(x), logit.out_of_domain(x))


def test_raise_gives_the_count():
    with pytest.raises(UserError, match=r"7 of 8 events are outside the domain .* of Logit: remove them"):
        Logit(1, policy="raise").forward_and_log_det(EDGES)
    with pytest.raises(UserError, match="2 of 3 events"):
        Compose([Affine(1, scale=2.0), Log(1, policy="raise")]).fit(torch.tensor([[-1.0], [-2.0], [3.0]]))
    with pytest.raises(UserError, match="unknown domain policy 'drop'"):
        Logit(1, policy="drop")


def test_log_at_its_edge():
    log = Log(1, offset=2.0, epsilon=1e-3)
    y, log_det = log.forward_and_log_det(torch.tensor([[-2.0], [-5.0]], dtype=torch.float64))
    torch.testing.assert_close(y.flatten(), torch.full((2,), math.log(1e-3), dtype=torch.float64))
    torch.testing.assert_close(log_det, -y.flatten())
    assert log.clipped_events == 2


def test_cathode_chain_leaves_the_extreme_rows_out_of_the_standardisation():
    x = data(count=1000)
    chain = cathode_chain(D).fit(x)
    rejected = chain.rejects(x)
    assert 2 <= int(rejected.sum()) <= 2 * D  # the lowest and the highest row of each feature
    z, _ = chain.forward_and_log_det(x[~rejected])
    torch.testing.assert_close(z.mean(0), torch.zeros(D, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(z.std(0, unbiased=False), torch.ones(D, dtype=torch.float64), atol=1e-9, rtol=0)
    assert chain.rejects(x * 2).any()
    assert [b.policy for b in bounded_members(chain)] == ["mask"]


def test_compose_counts_what_it_clips():
    chain = cathode_chain(D, policy="clip").fit(data(count=1000))
    chain.forward_and_log_det(data(count=1000))
    assert sum(b.clipped_events for b in bounded_members(chain)) >= 2
    assert not chain.rejects(data(count=1000)).any()


def test_gaussianize_makes_hard_edges_normal():
    g = torch.Generator().manual_seed(3)
    x = torch.stack(
        [
            torch.rand(20_000, generator=g, dtype=torch.float64),
            torch.empty(20_000, dtype=torch.float64).exponential_(generator=g) + 5.0,
        ],
        dim=1,
    )
    z, _ = Gaussianize(2).fit(x).forward_and_log_det(x)
    for column in z.T:
        # The largest distance to the normal distribution function; the knots are quantiles, so it is small.
        ordered = column.sort().values
        distance = (torch.special.ndtr(ordered) - torch.linspace(0, 1, len(ordered), dtype=torch.float64)).abs().max()
        assert float(distance) < 0.01


def test_gaussianize_survives_a_point_mass():
    x = data(count=2000)
    x[:600, 0] = 0.0
    bijection = Gaussianize(D).fit(x)
    y, log_det = bijection.forward_and_log_det(x)
    assert torch.isfinite(torch.cat([y.flatten(), log_det])).all()
    torch.testing.assert_close(bijection.inverse_and_log_det(y)[0], x, rtol=1e-8, atol=1e-8)


def test_gaussianize_wants_enough_rows():
    with pytest.raises(UserError, match="too few for 33 knots"):
        Gaussianize(D).fit(data(count=100))


def test_gaussianize_is_smooth_across_its_knots():
    bijection = Gaussianize(1, knots=9).fit(data()[:, :1])
    knots = bijection.x_knots.T
    below, above = (bijection.forward_and_log_det(knots + d)[1] for d in (-1e-9, 1e-9))
    torch.testing.assert_close(below, above, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Affine(2, scale=[1.0, 0.0]), "scale not 0"),
        (lambda: MinMax(2, margin=-1.0), "margin is -1.0"),
        (lambda: Logit(2, epsilon=0.7), "epsilon of the logit is 0.7"),
        (lambda: Log(2, epsilon=0.0), "epsilon > 0"),
        (lambda: Power(2, exponent=-1.0), "exponent -1.0"),
        (lambda: Permute(2, [0, 0]), "not a permutation"),
        (lambda: Gaussianize(2, knots=2), "at least 4 knots"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_members_must_fit_together():
    with pytest.raises(ValueError, match="different numbers of features"):
        Compose([Identity(2), Identity(3)])
