from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cathode.data.features import DIJET_FEATURES, JET_COLUMNS, available_dijet_features, dijet_features
from cathode.support.errors import UserError


def raw_events(rows: int = 50, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    raw = {name: random.normal(scale=1000, size=rows) for name in JET_COLUMNS if name[0] == "p"}
    raw |= {name: random.uniform(1, 500, rows) for name in JET_COLUMNS if name[0] in "mt"}
    return raw


def test_back_to_back_jets_by_hand():
    """Two jets of |p| = 1500 GeV along +-x, masses 100 and 500 GeV, the heavier first in the file."""
    raw = dict.fromkeys(JET_COLUMNS, np.zeros(1)) | {
        "pxj1": np.array([1500.0]), "pxj2": np.array([-1500.0]), "mj1": np.array([500.0]), "mj2": np.array([100.0]),
        "tau1j1": np.array([50.0]), "tau2j1": np.array([10.0]), "tau3j1": np.array([5.0]),
        "tau1j2": np.array([20.0]), "tau2j2": np.array([15.0]), "tau3j2": np.array([3.0]),
    }  # fmt: skip
    made = {name: float(values[0]) for name, values in dijet_features(raw, DIJET_FEATURES).items()}
    assert made["mjj"] == pytest.approx((np.hypot(1500, 500) + np.hypot(1500, 100)) / 1000)
    assert (made["mj1"], made["mj2"], made["dmj"]) == pytest.approx((0.1, 0.5, 0.4))
    assert made["tau21_j1"] == pytest.approx(15 / (20 + 1e-5), rel=1e-12)
    assert made["tau21_j2"] == pytest.approx(10 / (50 + 1e-5), rel=1e-12)
    assert made["tau32_j1"] == pytest.approx(3 / (15 + 1e-5), rel=1e-12)
    assert made["tau32_j2"] == pytest.approx(5 / (10 + 1e-5), rel=1e-12)
    assert (made["tau1_j1"], made["tau3_j2"]) == pytest.approx((0.020, 0.005))
    assert made["dr_jj"] == pytest.approx(np.pi)
    assert made["deta_jj"] == pytest.approx(0)
    assert made["ptjj"] == pytest.approx(0, abs=1e-12)
    assert (made["pt_j1"], made["pt_j2"]) == pytest.approx((1.5, 1.5))


def test_angles_wrap_around():
    raw = raw_events(1)
    for jet, phi, eta in (("j1", 3.1, 0.5), ("j2", -3.1, -0.25)):
        raw[f"px{jet}"] = np.array([900 * np.cos(phi)])
        raw[f"py{jet}"] = np.array([900 * np.sin(phi)])
        raw[f"pz{jet}"] = np.array([900 * np.sinh(eta)])
    assert dijet_features(raw, ["dr_jj"])["dr_jj"][0] == pytest.approx(np.hypot(0.75, 2 * np.pi - 6.2))


@given(seed=st.integers(0, 10_000), beta=st.floats(-0.9, 0.9))
def test_mjj_is_lorentz_invariant_and_exchange_symmetric(seed, beta):
    raw = raw_events(20, seed)
    gamma = 1 / np.sqrt(1 - beta**2)
    boosted = dict(raw)
    for jet in ("j1", "j2"):
        energy = np.sqrt(sum(raw[f"p{axis}{jet}"] ** 2 for axis in "xyz") + raw[f"m{jet}"] ** 2)
        boosted[f"pz{jet}"] = gamma * (raw[f"pz{jet}"] + beta * energy)
    before, after = dijet_features(raw), dijet_features(boosted)
    np.testing.assert_allclose(after["mjj"], before["mjj"], rtol=1e-8)
    np.testing.assert_array_equal(after["mj1"], before["mj1"])
    exchanged = {name: raw[name[:-1] + ("2" if name.endswith("1") else "1")] for name in raw}
    for name, values in dijet_features(exchanged, DIJET_FEATURES).items():
        np.testing.assert_allclose(values, dijet_features(raw, [name])[name], rtol=1e-12, atol=1e-12, err_msg=name)


def test_lighter_jet_comes_first():
    made = dijet_features(raw_events(500), ["mj1", "mj2", "dmj"])
    assert (made["mj1"] <= made["mj2"]).all()
    assert (made["dmj"] >= 0).all()
    np.testing.assert_allclose(made["mj2"] - made["mj1"], made["dmj"], rtol=1e-12)


def test_what_is_available_depends_on_the_columns():
    assert set(available_dijet_features(JET_COLUMNS)) == set(DIJET_FEATURES)
    assert available_dijet_features(["mj1", "mj2"]) == ()
    without_tau3 = available_dijet_features([name for name in JET_COLUMNS if not name.startswith("tau3")])
    assert "tau21_j1" in without_tau3
    assert "tau32_j1" not in without_tau3
    with pytest.raises(UserError, match="no dijet feature 'tau43_j1'"):
        dijet_features(raw_events(), ["tau43_j1"])
    with pytest.raises(UserError, match="needs the column 'mj1'"):
        dijet_features({}, ["dmj"])
