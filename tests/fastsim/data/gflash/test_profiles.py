"""Profiles against numbers worked out by hand, integrals, and the distributions they state."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import gamma

from cathode.support.errors import UserError
from fastsim.data.gflash import Calorimeter, Medium, Tuning, homogeneous, preset, sampling
from fastsim.data.gflash.cascade import Cascades, pair_fraction, spot_number
from fastsim.data.gflash.longitudinal import average_parameters, fluctuations, gamma_fractions
from fastsim.data.gflash.medium import LEAD, LEAD_TUNGSTATE, LIQUID_ARGON, SCALE_ENERGY_MEV, TUNGSTEN
from fastsim.data.gflash.radial import RadialProfile, radial_profile

# Ec = 10 MeV, Z = 50: 10 GeV is ln y = 6.907755.
BLOCK = Medium("block", z=50.0, x0_mm=10.0, moliere_mm=20.0, critical_mev=10.0)
STACK = Medium("stack", z=50.0, x0_mm=10.0, moliere_mm=20.0, critical_mev=10.0, inverse_frequency=0.5, e_hat=0.8)


def test_average_profile_in_numbers():
    # 6.907755 - 0.858; 0.21 + (0.492 + 2.38/50) 6.907755
    t_max, alpha = average_parameters(BLOCK, 10_000.0)
    assert float(t_max) == pytest.approx(6.049755, abs=1e-5)
    assert float(alpha) == pytest.approx(3.937425, abs=1e-5)
    # less 0.59 * 0.5 + 0.53 * 0.2; less 0.444 * 0.5
    t_max, alpha = average_parameters(STACK, 10_000.0)
    assert float(t_max) == pytest.approx(5.648755, abs=1e-5)
    assert float(alpha) == pytest.approx(3.715425, abs=1e-5)


def test_fluctuations_in_numbers():
    block = fluctuations(BLOCK, 10_000.0)
    assert float(np.exp(block.ln_t)) == pytest.approx(6.095755, abs=1e-5)
    assert float(np.exp(block.ln_alpha)) == pytest.approx(4.285982, abs=1e-5)
    assert float(block.sigma_t) == pytest.approx(1 / (-1.4 + 1.26 * 6.907755), rel=1e-6)
    assert float(block.sigma_alpha) == pytest.approx(1 / (-0.58 + 0.86 * 6.907755), rel=1e-6)
    assert float(block.rho) == pytest.approx(0.546122, abs=1e-5)
    stack = fluctuations(STACK, 10_000.0)
    assert float(np.exp(stack.ln_t)) == pytest.approx(6.095755 - 0.275 - 0.138, abs=1e-5)
    assert float(np.exp(stack.ln_alpha)) == pytest.approx(4.285982 - 0.238, abs=1e-5)
    assert float(stack.sigma_t) == pytest.approx(1 / (-2.5 + 1.25 * 6.907755), rel=1e-6)
    assert float(stack.rho) == pytest.approx(0.625122, abs=1e-5)


def test_drawn_parameters_have_the_stated_moments():
    spread = fluctuations(STACK, np.full(200_000, 20_000.0))
    normals = np.random.default_rng(1).standard_normal((2, 200_000))
    t_max, alpha = spread.parameters(normals[0], normals[1])
    for values, mean, width in ((t_max, spread.ln_t, spread.sigma_t), (alpha, spread.ln_alpha, spread.sigma_alpha)):
        assert np.log(values).mean() == pytest.approx(mean[0], abs=4 * width[0] / 447)
        assert np.log(values).std() == pytest.approx(width[0], rel=0.01)
    assert np.corrcoef(np.log(t_max), np.log(alpha))[0, 1] == pytest.approx(spread.rho[0], abs=0.01)


def test_tuning_moves_what_it_names():
    plain, tuned = fluctuations(STACK, 1e4), fluctuations(STACK, 1e4, Tuning(t_max_shift=0.5, fluctuation_scale=0.5))
    assert float(np.exp(tuned.ln_t) - np.exp(plain.ln_t)) == pytest.approx(0.5)
    assert float(tuned.sigma_alpha / plain.sigma_alpha) == pytest.approx(0.5)
    steep = fluctuations(STACK, [1e3, 1e4], Tuning(t_max_slope=0.1))
    base = fluctuations(STACK, [1e3, 1e4])
    shift = np.exp(steep.ln_t) - np.exp(base.ln_t)
    assert shift[1] - shift[0] == pytest.approx(0.1 * np.log(10))


@given(
    t_max=st.floats(0.2, 12), alpha=st.floats(1.1, 9), start=st.floats(0, 5), energy=st.sampled_from([300.0, 5e3, 1e6])
)
def test_fractions_are_a_gamma_distribution_from_the_start_on(t_max, alpha, start, energy):
    edges = np.array([0.0, 1.0, 4.0, 20.0, 1e4])
    found = gamma_fractions(np.array([t_max]), np.array([alpha]), np.array([start]), edges)[0]
    expected = np.diff(gamma(alpha, scale=t_max / (alpha - 1)).cdf(edges - start))
    assert found == pytest.approx(expected, abs=1e-10)
    assert found.sum() == pytest.approx(1, abs=1e-9)
    parameters = np.array(fluctuations(BLOCK, energy).parameters(1.0, -1.0))
    assert (parameters > 0).all()


def test_low_energies_keep_finite_parameters():
    for medium in (BLOCK, STACK, preset("siw-45").medium):
        spread = fluctuations(medium, [1e-3, 1.0, 30.0])
        assert np.isfinite(spread.ln_t).all()
        assert (spread.sigma_t <= 0.5).all()
        profile = radial_profile(medium, np.array([[1e-3], [30.0]]), np.linspace(0, 30, 40)[None, :])
        for values in (profile.core, profile.tail, profile.weight):
            assert np.isfinite(values).all()
            assert (values > 0).all()


def test_radial_parameters_in_numbers():
    # tau = 1, 10 GeV, Z = 50: every formula of A.1.3.
    block = radial_profile(BLOCK, 10_000.0, 1.0)
    ln_e = np.log(10.0)
    assert float(block.core) == pytest.approx(0.0251 + 0.00319 * ln_e + 0.1162 - 0.01905, rel=1e-9)
    tail = 0.5045 * (np.exp(-2.59 * 0.355) + np.exp((0.3585 + 0.0421 * ln_e) * 0.355))
    assert float(block.tail) == pytest.approx(tail, rel=1e-9)
    scaled = (0.4945 - 1) / (1.313 - 0.0686 * ln_e)
    weight = 2.585 * np.exp(scaled - np.exp(scaled))
    assert float(block.weight) == pytest.approx(weight, rel=1e-9)
    stack = radial_profile(STACK, 10_000.0, 1.0)
    assert float(stack.core) == pytest.approx(float(block.core) - 0.0203 * 0.2 + 0.0397 * 0.5 * np.exp(-1), rel=1e-9)
    assert float(stack.tail) == pytest.approx(tail - 0.14 * 0.2 - 0.495 * 0.5 * np.exp(-1), rel=1e-9)
    assert float(stack.weight) == pytest.approx(weight + 0.2 * (0.348 - 0.642 * 0.5), rel=1e-9)


@given(weight=st.floats(0.05, 0.95), core=st.floats(0.01, 0.5), tail=st.floats(0.5, 5), radius=st.floats(0.01, 10))
def test_containment_is_the_integral_of_the_profile(weight, core, tail, radius):
    def density(r):
        return (
            weight * 2 * r * core**2 / (r * r + core**2) ** 2 + (1 - weight) * 2 * r * tail**2 / (r * r + tail**2) ** 2
        )

    profile = RadialProfile(np.array(weight), np.array(core), np.array(tail))
    integral, _ = quad(density, 0, radius, points=[min(core, radius / 2)])
    assert float(profile.containment(radius)) == pytest.approx(integral, abs=1e-7)


def test_sampled_radii_follow_the_containment():
    profile = radial_profile(STACK, 5000.0, 0.7)
    radii = RadialProfile(*(np.full(400_000, float(v)) for v in (profile.weight, profile.core, profile.tail))).sample(
        np.random.default_rng(2).random(400_000)
    )
    for quantile in (0.1, 0.5, 0.9):
        assert float(profile.containment(np.quantile(radii, quantile))) == pytest.approx(quantile, abs=0.004)


def test_shares_of_a_pair_follow_bethe_heitler():
    uniform = np.random.default_rng(3).random((2, 400_000))
    share = pair_fraction(uniform[0], uniform[1])
    histogram, edges = np.histogram(share, 10, (0, 1), density=True)
    middle = (edges[1:] + edges[:-1]) / 2
    # The bin average of x² differs from that of the middle by width² / 12.
    expected = 9 / 7 * (1 - 4 / 3 * (middle - middle**2 - 0.01 / 12))
    assert histogram == pytest.approx(expected, abs=0.02)


def test_spots_in_numbers():
    edges = (0.0, 20.0)
    block = Calorimeter("block", BLOCK, edges)
    assert float(spot_number(block, 10_000.0)) == pytest.approx(93 * np.log(50) * 10**0.876)
    stack = Calorimeter("stack", STACK, edges, sampling_fluctuation=0.1)
    assert float(spot_number(stack, 10_000.0)) == pytest.approx(103 * 10**0.959)
    # T_spot = T (0.813 + 0.0019 Z), α_spot = α (0.844 + 0.0026 Z): the mode of the spots' gamma distribution.
    cascade = Cascades(stack, np.array([1e4]), np.zeros(1), np.array([6.0]), np.array([4.0]), np.log([4.0]))
    depth = np.linspace(0, 30, 3001)
    fractions = cascade.spot_fractions(depth)[0]
    assert depth[np.argmax(fractions)] == pytest.approx(6.0 * 0.908, abs=0.02)
    assert (fractions * depth[1:]).sum() == pytest.approx(6.0 * 0.908 * 3.896 / 2.896, abs=0.02)


def test_tau_is_one_at_the_maximum_of_the_mean_shower():
    # With T_i = T and α_i = exp<ln α>: τ = t (α - 1) / (T α) · α / (α - 1) = t / T.
    cascade = Cascades(
        preset("pbwo4-24"), np.array([1e4]), np.array([2.0]), np.array([6.0]), np.array([4.0]), np.log([4.0])
    )
    assert cascade.tau(np.array([1.0, 2.0, 8.0]))[0] == pytest.approx([0, 0, 1])


def test_effective_medium():
    stack = sampling(LEAD, 2.0, LIQUID_ARGON, 4.0)
    assert stack.x0_mm == pytest.approx(6 / (2 / 5.612 + 4 / 140.0))
    assert stack.inverse_frequency == pytest.approx(6 / stack.x0_mm)
    assert stack.z == pytest.approx((2 * 11.35 * 82 + 4 * 1.396 * 18) / (2 * 11.35 + 4 * 1.396))
    assert stack.moliere_mm == pytest.approx(stack.x0_mm * SCALE_ENERGY_MEV / stack.critical_mev)
    assert stack.e_hat == pytest.approx(1 / (1 + 0.007 * 64))
    same = sampling(TUNGSTEN, 1.0, TUNGSTEN, 2.0)
    block = homogeneous(TUNGSTEN)
    assert (same.x0_mm, same.moliere_mm, same.z, same.critical_mev) == pytest.approx(
        (block.x0_mm, block.moliere_mm, block.z, block.critical_mev)
    )
    # Published: R_M of lead 16 mm, of tungsten 9.3 mm, of PbWO4 20 mm; E_c 7.4, 8.0, 9.6 MeV.
    assert homogeneous(LEAD).moliere_mm == pytest.approx(16, rel=0.08)
    assert block.moliere_mm == pytest.approx(9.3, rel=0.08)
    assert homogeneous(LEAD_TUNGSTATE).moliere_mm == pytest.approx(20, rel=0.1)


def test_errors():
    with pytest.raises(UserError, match=r"x0_mm = -1.0 must be positive"):
        dataclasses.replace(BLOCK, x0_mm=-1.0)
    with pytest.raises(UserError, match="positive thicknesses, got 0 mm"):
        sampling(LEAD, 0, LIQUID_ARGON, 4.0)
    with pytest.raises(UserError, match="increasing depths"):
        Calorimeter("bad", BLOCK, (0.0, 2.0, 2.0))
    with pytest.raises(UserError, match="one non-negative factor for each of its 1 layers"):
        Calorimeter("bad", BLOCK, (0.0, 2.0), response=(1.0, 1.0))
    with pytest.raises(UserError, match=r"core_scale = 0.0 must be positive"):
        Tuning(core_scale=0.0)
    with pytest.raises(UserError, match="no description of a calorimeter"):
        Calorimeter.from_dict({"name": "x"})
    calorimeter = dataclasses.replace(preset("pbwo4-lar-5"), tuning=Tuning(tail_scale=0.7))
    assert Calorimeter.from_dict(calorimeter.to_dict()) == calorimeter
