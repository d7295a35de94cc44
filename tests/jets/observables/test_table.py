"""Substructure against values worked out by hand, brute force, and what must not change it."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.jets.observables import (
    OBSERVABLES,
    angularity,
    energy_correlators,
    narrow_correlators,
    observables,
    soft_drop,
)
from cathode.jets.schema import Jets
from cathode.jets.substructure import n_subjettiness
from cathode.support.errors import UserError

SCALES_WITH_PT = {name for name, one in OBSERVABLES.items() if one.unit == "GeV"}


def random_jets(seed: int, *, jets: int = 25, width: int = 14, phi: float = np.pi) -> Jets:
    """Around phi = pi, where differences of angles wrap; jets of 1 ... ``width`` constituents."""
    generator = np.random.default_rng(seed)
    points = np.zeros((jets, width, 3))
    points[..., 0] = generator.exponential(20.0, (jets, width)) + 0.5
    points[..., 1] = 1.1 + 0.25 * generator.standard_normal((jets, width))
    points[..., 2] = phi + 0.25 * generator.standard_normal((jets, width))
    points[np.arange(width) >= generator.integers(1, width + 1, jets)[:, None]] = 0
    return Jets.from_points(points)


def test_two_prongs():
    """Prongs of 300 and 100 GeV, 0.4 apart in azimuth at rapidity 0: everything is known."""
    jet = Jets.from_points([[[300.0, 0.0, 1.0], [100.0, 0.0, 1.4]]])
    found = {name: float(values[0]) for name, values in observables(jet, OBSERVABLES).items()}
    vector = 300.0 + 100.0 * np.exp(0.4j)
    energy, pt = 400.0, abs(vector)
    mass = np.sqrt(energy**2 - pt**2)
    apart = np.angle(vector), 0.4 - np.angle(vector)
    tau1 = 300.0 * apart[0] + 100.0 * apart[1]
    expected = {
        "mass": mass, "pt": pt, "eta": 0.0, "mass_over_pt": mass / pt, "multiplicity": 2.0,
        "tau1": tau1, "tau2": 0.0, "tau3": 0.0, "tau21": 0.0, "tau32": 0.0,
        "softdrop_mass": mass, "softdrop_mass_over_pt": mass / pt, "softdrop_pt": pt, "softdrop_zg": 0.25,
        "softdrop_rg": 0.4, "e2": 0.75 * 0.25 * 0.4, "e3": 0.0, "c2": 0.0, "d2": 0.0, "e3_2": 0.0, "n2": 0.0,
        "ptd": np.sqrt(0.75**2 + 0.25**2), "width": tau1 / 400.0,
        "lha": 0.75 * np.sqrt(apart[0]) + 0.25 * np.sqrt(apart[1]),
        "thrust": 0.75 * apart[0] ** 2 + 0.25 * apart[1] ** 2, "leading_share": 0.75,
    }  # fmt: skip
    assert set(expected) == set(found)
    for name, value in expected.items():
        # Constituents are stored in single precision.
        assert found[name] == pytest.approx(value, rel=2e-6, abs=2e-6), name


def test_three_equal_prongs_on_a_triangle():
    """z = 1/3, all angles a: e2 = a / 3, e3 = a^3 / 27, so D2 = 1 and C2 = a / 3; N2 has a^2 / 27 over a^2 / 9."""
    a = 0.3
    jet = Jets.from_points([[[50.0, 0.0, 0.0], [50.0, a, 0.0], [50.0, a / 2, a * np.sqrt(0.75)]]])
    found = energy_correlators(jet) | narrow_correlators(jet)
    for name, value in {"e2": a / 3, "e3": a**3 / 27, "c2": a / 3, "d2": 1.0, "n2": 1 / 3}.items():
        assert found[name][0] == pytest.approx(value, rel=1e-5), name


def test_d2_separates_two_prongs_from_one():
    """Soft radiation around two hard prongs is small D2, around one hard prong large D2."""
    soft = [[1.0, 0.05, 0.02], [1.0, -0.04, 0.05]]
    two = [[100.0, 0.0, 0.0], [100.0, 0.4, 0.0], *soft, [1.0, 0.43, 0.05], [1.0, 0.38, -0.05]]
    one = [[200.0, 0.0, 0.0], *soft, [1.0, 0.3, 0.3], [1.0, -0.35, 0.2], [1.0, 0.1, -0.4]]
    d2 = observables(Jets.from_points([two, one]), ["d2"])["d2"]
    assert d2[0] < 0.5 < 2.0 < d2[1]


@pytest.mark.parametrize("beta", [1.0, 0.5, 2.0])
def test_correlators_are_the_sums_over_pairs_and_triples(beta):
    jets = random_jets(1)
    found = energy_correlators(jets, beta=beta) | narrow_correlators(jets, beta=beta)
    for row in range(len(jets)):
        pt, eta, phi = jets.points[row][jets.mask[row]].astype(float).T
        z = pt / pt.sum()
        turn = np.angle(np.exp(1j * (phi[:, None] - phi[None, :])))
        theta = np.hypot(eta[:, None] - eta[None, :], turn) ** beta
        e2 = sum(z[i] * z[j] * theta[i, j] for i, j in combinations(range(len(z)), 2))
        e3 = narrow = 0.0
        for i, j, k in combinations(range(len(z)), 3):
            sides = sorted([theta[i, j], theta[i, k], theta[j, k]])
            e3 += z[i] * z[j] * z[k] * sides[0] * sides[1] * sides[2]
            narrow += z[i] * z[j] * z[k] * sides[0] * sides[1]
        assert found["e2"][row] == pytest.approx(e2, rel=1e-6, abs=1e-14)
        assert found["e3"][row] == pytest.approx(e3, rel=1e-6, abs=1e-14)
        assert found["e3_2"][row] == pytest.approx(narrow, rel=1e-6, abs=1e-14)


def _brute_soft_drop(points, z_cut, beta, radius):
    """Cambridge/Aachen by searching all pairs, then undone."""
    nodes = [(np.array([p * np.cos(f), p * np.sin(f), p * np.sinh(e), p * np.cosh(e)]), None) for p, e, f in points]

    def place(v):
        return 0.5 * np.log((v[3] + v[2]) / (v[3] - v[2])), np.arctan2(v[1], v[0])

    def distance(a, b):
        (y1, f1), (y2, f2) = place(a[0]), place(b[0])
        return np.hypot(y1 - y2, np.angle(np.exp(1j * (f1 - f2))))

    while len(nodes) > 1:
        i, j = min(combinations(range(len(nodes)), 2), key=lambda p: distance(nodes[p[0]], nodes[p[1]]))
        a, b = nodes[i], nodes[j]
        nodes = [n for k, n in enumerate(nodes) if k not in (i, j)] + [(a[0] + b[0], (a, b))]
    node = nodes[0]
    while node[1] is not None:
        a, b = sorted(node[1], key=lambda n: -np.hypot(*n[0][:2]))
        pts, apart = [np.hypot(*n[0][:2]) for n in (a, b)], distance(a, b)
        share = pts[1] / sum(pts)
        if share > z_cut * (apart / radius) ** beta:
            v = node[0]
            return np.sqrt(max(v[3] ** 2 - v[:3] @ v[:3], 0.0)), share, apart
        node = a
    return 0.0, 0.0, 0.0


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_soft_drop_takes_the_history_apart(beta):
    jets = random_jets(2)
    found = soft_drop(jets, z_cut=0.15, beta=beta, radius=0.8)
    expected = [_brute_soft_drop(jets.points[k][jets.mask[k]].astype(float), 0.15, beta, 0.8) for k in range(len(jets))]
    columns = [found[f"softdrop_{name}"] for name in ("mass", "zg", "rg")]
    np.testing.assert_allclose(np.stack(columns, axis=1), expected, rtol=1e-6, atol=1e-3)


def test_width_is_tau1_and_angularities_are_the_shapes():
    jets = random_jets(3)
    found = observables(jets, ["width", "tau1", "lha", "thrust", "ptd"])
    assert np.all(found["width"][jets.multiplicity() > 1] > 0)
    np.testing.assert_allclose(
        found["width"] * jets.points[..., 0].sum(axis=1, dtype=float), found["tau1"], rtol=1e-6, atol=1e-4
    )
    np.testing.assert_allclose(angularity(jets, beta=0.5), found["lha"], rtol=1e-12)
    np.testing.assert_allclose(angularity(jets, beta=2.0), found["thrust"], rtol=1e-12)
    np.testing.assert_allclose(np.sqrt(angularity(jets, kappa=2.0, beta=0.0)), found["ptd"], rtol=1e-12)


@given(scale=st.floats(0.1, 20.0), rotation=st.floats(-3.0, 3.0), boost=st.floats(-0.8, 0.8))
@settings(max_examples=8, deadline=None)
def test_scale_rotations_and_boosts_along_the_beam(scale, rotation, boost):
    jets = random_jets(4, jets=8)
    moved = Jets.from_points(jets.points.astype(float) * [scale, 1, 1] + [0, boost, rotation], jets.mask)
    first, second = (observables(j, OBSERVABLES) for j in (jets, moved))
    for name, values in first.items():
        if name == "eta":
            continue
        expected = values * (scale if name in SCALES_WITH_PT else 1.0)
        # Angles are single precision; ratios of vanishing numbers multiply that.
        kept = first["multiplicity"] > 3
        np.testing.assert_allclose(second[name][kept], expected[kept], rtol=2e-4, atol=1e-5, err_msg=name)


def test_padding_and_order_change_nothing():
    jets = random_jets(5, jets=40)
    shuffled = np.random.default_rng(0).permuted(np.arange(jets.particles))
    wide = np.concatenate([np.zeros((len(jets), 7, 3)), jets.points[:, shuffled]], axis=1)
    mask = np.concatenate([np.zeros((len(jets), 7), dtype=bool), jets.mask[:, shuffled]], axis=1)
    first, second = observables(jets, OBSERVABLES), observables(Jets.from_points(wide, mask), OBSERVABLES)
    for name, values in first.items():
        np.testing.assert_allclose(second[name], values, rtol=1e-9, atol=1e-9, err_msg=name)


def test_blocks_do_not_matter(monkeypatch):
    jets = random_jets(6)
    names = [name for name in OBSERVABLES if not name.startswith(("tau", "softdrop"))]
    whole = observables(jets, names)
    monkeypatch.setattr("cathode.jets.observables.padded._BLOCK_BYTES", 8 * jets.particles**2 * 3)
    for name, values in observables(jets, names).items():
        np.testing.assert_array_equal(values, whole[name])


def test_jets_of_one_or_no_constituent_are_finite():
    points = np.zeros((3, 4, 3))
    points[1, 0] = [100.0, 0.5, 1.0]
    for name, values in observables(Jets.from_points(points), OBSERVABLES).items():
        assert np.isfinite(values).all(), name
        assert values[0] == 0, name
    empty = observables(Jets.from_points(np.zeros((0, 4, 3))), OBSERVABLES)
    assert all(values.shape == (0,) for values in empty.values())


def test_tau_ratios_are_those_of_the_feature_search():
    jets = random_jets(7)
    tau = n_subjettiness(jets.points.astype(float))
    found = observables(jets, ["tau21", "tau32"])
    np.testing.assert_allclose(found["tau21"], tau[:, 1] / (1e-5 + tau[:, 0]), rtol=1e-12)
    np.testing.assert_allclose(found["tau32"], tau[:, 2] / (1e-5 + tau[:, 1]), rtol=1e-12)


def test_bad_input_is_refused():
    jets = random_jets(8, jets=2)
    with pytest.raises(UserError, match="no observable 'tau99' of jets; there are mass, pt"):
        observables(jets, ["mass", "tau99"])
    with pytest.raises(UserError, match="positive exponent"):
        energy_correlators(jets, beta=0.0)
    with pytest.raises(UserError, match=r"0 < z_cut < 0\.5"):
        soft_drop(jets, z_cut=0.7)
