from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import expit, logit

from cathode.statistics.massfit import fit_sidebands
from cathode.statistics.massmodels import FittedMass, KdeMass, sample_mass
from cathode.support.errors import UserError

EDGES = np.linspace(2.4, 5.0, 27)


@pytest.fixture(scope="module")
def masses():
    m = 2.4 + np.random.default_rng(1).exponential(0.6, 60_000)
    return m[m < 5]


@pytest.fixture(scope="module")
def fitted(masses):
    return FittedMass(fit_sidebands(np.histogram(masses, EDGES)[0], EDGES))


@pytest.fixture(scope="module")
def kde(masses):
    return KdeMass(masses[(masses > 3.3) & (masses < 3.7)])


@pytest.mark.parametrize("name", ["fitted", "kde"])
def test_density_is_normalised_and_samples_follow_it(name, request):
    model = request.getfixturevalue(name)
    # Logistic spacing resolves the kernel estimate at both ends.
    unit = expit(np.linspace(-16, 16, 400_001))
    grid = model.low + (model.high - model.low) * unit
    density = np.exp(model.log_prob(grid))
    assert integrate.trapezoid(density, grid) == pytest.approx(1, abs=2e-3)
    m = model.sample(20_000, np.random.default_rng(2))
    assert ((m > model.low) & (m < model.high)).all()
    cumulative = integrate.cumulative_trapezoid(density, grid, initial=0)
    assert stats.kstest(m, lambda v: np.interp(v, grid, cumulative / cumulative[-1])).pvalue > 1e-3
    np.testing.assert_array_equal(m, model.sample(20_000, np.random.default_rng(2)))
    assert model.log_prob([model.low - 0.1, model.high + 0.1]).tolist() == [-np.inf, -np.inf]


def test_fitted_model_interpolates_the_sidebands(fitted, masses):
    inside = masses[(masses > 3.3) & (masses < 3.7)]
    assert (fitted.low, fitted.high) == (3.3, 3.7)
    m = fitted.sample(20_000, np.random.default_rng(3))
    assert stats.ks_2samp(m, inside).pvalue > 1e-3


def test_kernel_density_is_the_sum_of_kernels():
    m = np.random.default_rng(4).uniform(3.3, 3.7, 300)
    model = KdeMass(m, bandwidth=0.05)
    inside = m[(m > m.min()) & (m < m.max())]
    span = m.max() - m.min()
    points = np.quantile(m, [0.1, 0.35, 0.5, 0.77])
    u = (points - m.min()) / span
    kernels = stats.norm.pdf(logit(u)[:, None], logit((inside - m.min()) / span)[None], 0.05)
    np.testing.assert_allclose(np.exp(model.log_prob(points)), kernels.mean(axis=1) / (u * (1 - u) * span), rtol=5e-3)


def test_sample_mass_in_another_range(fitted, masses):
    fit = fit_sidebands(np.histogram(masses, EDGES)[0], EDGES)
    m = sample_mass(fit, 500, 3.0, 3.2, np.random.default_rng(5))
    assert ((m > 3.0) & (m < 3.2)).all()


def test_bad_arguments(masses):
    with pytest.raises(UserError, match="too few"):
        KdeMass(np.full(100, 3.5))
    with pytest.raises(UserError, match="bandwidth"):
        KdeMass(masses, bandwidth=0.0)
    with pytest.raises(UserError, match="finite"):
        KdeMass([np.nan] * 20)
    with pytest.raises(UserError, match="low and high must be given"):
        FittedMass(fit_sidebands(np.histogram(masses, EDGES)[0], EDGES, blind=None))
