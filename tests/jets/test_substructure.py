"""N-subjettiness against values worked out by hand and against FastJet's contrib package."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.jets.clustering import four_momenta, leading_jets
from cathode.jets.substructure import _contrib_tau, jet_constituents, n_subjettiness
from cathode.support.errors import UserError


def random_jets(seed: int, *, jets: int = 40, width: int = 30) -> np.ndarray:
    generator = np.random.default_rng(seed)
    out = np.zeros((jets, width, 3))
    out[..., 0] = generator.exponential(20.0, (jets, width)) + 0.5
    # Around phi = pi, where differences of angles wrap.
    out[..., 1] = 1.2 + 0.3 * generator.standard_normal((jets, width))
    out[..., 2] = (np.pi + 0.3 * generator.standard_normal((jets, width)) + np.pi) % (2 * np.pi) - np.pi
    out[np.arange(width)[None, :] >= generator.integers(1, width + 1, jets)[:, None]] = 0
    return out


def test_two_prongs() -> None:
    """Two particles of equal pT at rapidity 0: the kT axis is half-way, tau1 = 2 pT d/2, and two axes leave nothing."""
    jet = np.array([[[100.0, 0.0, 0.1], [100.0, 0.0, 0.7]]])
    np.testing.assert_allclose(n_subjettiness(jet), [[60.0, 0.0, 0.0]], atol=1e-9)


@pytest.mark.parametrize("axes", ["wta_kt", "onepass_kt", "onepass_wta_kt"])
def test_the_harder_of_two_prongs_is_the_best_axis(axes: str) -> None:
    """For beta = 1 the axis of least tau1 is the harder particle, which is also the winner that takes all."""
    jet = np.array([[[300.0, 0.2, 3.0], [50.0, 0.6, 3.0]]])
    np.testing.assert_allclose(n_subjettiness(jet, axes=axes), [[50.0 * 0.4, 0.0, 0.0]], atol=0.05)


def test_three_prongs_merge_the_close_pair() -> None:
    """kT joins the two particles 0.1 apart, so tau2 is their spread about their axis and tau3 vanishes."""
    jet = np.array([[[100.0, 0.0, 0.0], [40.0, 0.0, 0.8], [40.0, 0.0, 0.9]]])
    tau = n_subjettiness(jet)
    assert tau[0, 1] == pytest.approx(40.0 * 0.1, rel=1e-9)
    assert tau[0, 2] == pytest.approx(0.0, abs=1e-9)


def test_agrees_with_the_contrib_package() -> None:
    jets = random_jets(1)
    ours = n_subjettiness(jets, n_max=4)
    present = jets[..., 0] > 0
    for n in range(1, 5):
        rows = np.flatnonzero(present.sum(axis=1) > n)
        assert len(rows) > 20
        reference = _contrib_tau(four_momenta(jets[rows]), present[rows], n, "KT_Axes")
        np.testing.assert_allclose(ours[rows, n - 1], reference, rtol=1e-9)


def test_one_pass_never_does_worse_than_its_start() -> None:
    jets = random_jets(2)
    assert np.all(n_subjettiness(jets, axes="onepass_kt") <= n_subjettiness(jets) * (1 + 1e-9) + 1e-9)


@given(scale=st.floats(1e-2, 1e3), rotation=st.floats(-4.0, 4.0), boost=st.floats(-1.0, 1.0))
@settings(max_examples=20, deadline=None)
def test_equivariant(scale: float, rotation: float, boost: float) -> None:
    """tau scales with pT and does not know rotations about, or boosts along, the beam."""
    jets = random_jets(3, jets=6)
    moved = jets.copy()
    present = jets[..., 0] > 0
    moved[..., 0] *= scale
    moved[..., 1] += np.where(present, boost, 0)
    moved[..., 2] += np.where(present, rotation, 0)
    np.testing.assert_allclose(n_subjettiness(moved), scale * n_subjettiness(jets), rtol=1e-6, atol=1e-6 * scale)


def test_order_and_padding_do_not_matter() -> None:
    jets = random_jets(4)
    wider = np.concatenate([np.zeros((len(jets), 5, 3)), jets[:, ::-1]], axis=1)
    np.testing.assert_allclose(n_subjettiness(wider), n_subjettiness(jets), rtol=1e-9, atol=1e-9)


def test_empty_jets_have_none() -> None:
    np.testing.assert_array_equal(n_subjettiness(np.zeros((3, 0, 3))), np.zeros((3, 3)))
    np.testing.assert_array_equal(n_subjettiness(np.zeros((2, 4, 3)), axes="onepass_kt"), np.zeros((2, 3)))


def test_unknown_axes() -> None:
    with pytest.raises(UserError, match="choose one of kt, wta_kt"):
        n_subjettiness(np.zeros((1, 2, 3)), axes="best")  # type: ignore[arg-type]


def test_constituents_are_sorted_and_complete() -> None:
    generator = np.random.default_rng(5)
    events = np.stack(
        [
            generator.exponential(20.0, (10, 50)),
            generator.uniform(-2.0, 2.0, (10, 50)),
            generator.uniform(-np.pi, np.pi, (10, 50)),
        ],
        axis=-1,
    )
    jets = leading_jets(events)
    constituents = jet_constituents(events, jets.assignment)
    assert np.all(np.diff(constituents[..., 0], axis=-1) <= 0)
    for event in range(10):
        for jet in range(2):
            mine = constituents[event, jet]
            expected = events[event][jets.assignment[event] == jet]
            assert sorted(map(tuple, mine[mine[:, 0] > 0])) == sorted(map(tuple, expected))
    np.testing.assert_allclose(four_momenta(constituents).sum(axis=2), jets.momenta, rtol=1e-10, atol=1e-9)
    np.testing.assert_array_equal(jet_constituents(events, jets.assignment, max_constituents=3), constituents[:, :, :3])
