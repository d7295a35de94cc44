"""Features of two jets, and subjets."""

from __future__ import annotations

import numpy as np
import pytest

from cathode.data.features import dijet_features
from cathode.jets.clustering import leading_jets
from cathode.jets.features import dijet_features as columns_of
from cathode.jets.observables import dijet_observables, observables, subjets
from cathode.jets.schema import ConstituentEvents, Jets
from cathode.support.errors import UserError


def two_jets(seed: int = 0, events: int = 12, width: int = 9) -> np.ndarray:
    """Two well separated jets per event ``(N, 2, P, 3)``."""
    generator = np.random.default_rng(seed)
    points = np.zeros((events, 2, width, 3))
    points[..., 0] = generator.exponential(60.0, points.shape[:-1]) + 5.0
    points[..., 1:] = 0.12 * generator.standard_normal((*points.shape[:-1], 2))
    points[:, 1, :, 2] += 2.8
    points[:, 1, width - 3 :] = 0
    return points


def test_features_are_those_of_the_feature_search():
    points = two_jets()
    events = ConstituentEvents.from_points(points, event_id=np.arange(12) + 7, weight=np.full(12, 0.5))
    names = ("mj1", "dmj", "tau21_j1", "tau21_j2", "tau32_j2", "pt_j1", "mj2", "dr_jj")
    found = dijet_observables(events, names)
    flat = points.astype(np.float32).astype(float).reshape(12, -1, 3)
    jets = leading_jets(flat, radius=1.0)
    assert np.all((jets.assignment >= 0) == (flat[..., 0] > 0))
    table = columns_of(flat, jets)
    columns = ("px{}", "py{}", "pz{}", "m{}", "tau1{}", "tau2{}", "tau3{}")
    raw = {c.format(j): table[:, 7 * k + i] for k, j in enumerate(("j1", "j2")) for i, c in enumerate(columns)}
    for name, values in dijet_features(raw, names).items():
        np.testing.assert_allclose(found.column(name), values, rtol=1e-5, atol=1e-9, err_msg=name)
    np.testing.assert_array_equal(found.event_id, events.event_id)
    np.testing.assert_array_equal(found.mass, events.mass)
    np.testing.assert_array_equal(found.column("weight"), 0.5)


def test_the_lighter_jet_is_the_first():
    events = ConstituentEvents.from_points(two_jets(1))
    found = dijet_observables(events, ("mj1", "mj2", "n_j1", "n_j2", "d2_j1", "mass_j1", "mass_j2"))
    np.testing.assert_array_equal(found.column("mj1"), found.column("mass_j1"))
    np.testing.assert_array_equal(found.column("mj2"), found.column("mass_j2"))
    assert np.all(found.column("mj1") <= found.column("mj2"))
    per_jet = [observables(events.jets(k), ["mass", "multiplicity", "d2"]) for k in (0, 1)]
    lighter = np.where(per_jet[0]["mass"] <= per_jet[1]["mass"], 0, 1)
    assert 0 < lighter.sum() < len(events)
    counts = np.stack([p["multiplicity"] for p in per_jet])
    np.testing.assert_array_equal(found.column("n_j1"), counts[lighter, np.arange(len(events))])
    np.testing.assert_array_equal(found.column("n_j2"), counts[1 - lighter, np.arange(len(events))])
    d2 = np.stack([p["d2"] for p in per_jet])
    np.testing.assert_array_equal(found.column("d2_j1"), d2[lighter, np.arange(len(events))])


def test_bad_requests():
    events = ConstituentEvents.from_points(two_jets())
    with pytest.raises(UserError, match="no feature 'd3_j1' of two jets"):
        dijet_observables(events, ["d3_j1"])
    with pytest.raises(UserError, match="events of two jets, these have 1"):
        dijet_observables(ConstituentEvents.from_points(two_jets()[:, :1]))


def test_exclusive_subjets_of_three_prongs():
    """kT joins the soft constituent with its neighbour, Cambridge/Aachen the closest pair."""
    jet = Jets.from_points([[[100.0, 0.0, 0.0], [80.0, 0.0, 0.5], [60.0, 0.0, 0.8], [1.0, 0.0, 1.2]]])
    kt = subjets(jet, algorithm="kt", exclusive=3)
    np.testing.assert_array_equal(kt.assignment, [[0, 1, 2, 2]])
    angle = subjets(jet, algorithm="cambridge", exclusive=3)
    assert angle.assignment[0, 1] == angle.assignment[0, 2] == 0
    np.testing.assert_allclose(kt.momenta.sum(axis=1), jet.four_momenta().sum(axis=1), rtol=1e-9)
    assert np.all(np.diff(np.hypot(kt.momenta[0, :, 0], kt.momenta[0, :, 1])) <= 0)


def test_inclusive_subjets_keep_every_constituent():
    jets = ConstituentEvents.from_points(two_jets(2)).flat()
    for radius in (0.05, 0.3):
        found = subjets(jets, algorithm="antikt", radius=radius)
        assert np.all((found.assignment >= 0) == jets.mask)
        np.testing.assert_allclose(found.momenta.sum(axis=1), jets.four_momenta().sum(axis=1), rtol=1e-6, atol=1e-6)
        for row in (0, 1):
            for group in range(found.assignment[row].max() + 1):
                four = jets.four_momenta()[row][found.assignment[row] == group].sum(axis=0)
                np.testing.assert_allclose(four, found.momenta[row, group], rtol=1e-9, atol=1e-9)


def test_few_constituents_are_their_own_subjets():
    points = np.zeros((3, 4, 3))
    points[1, 0] = [10.0, 0.1, 0.2]
    points[2, :3] = [[30.0, 0.0, 0.0], [20.0, 0.5, 0.0], [10.0, 0.55, 0.0]]
    found = subjets(Jets.from_points(points), exclusive=2)
    np.testing.assert_array_equal(found.assignment, [[-1] * 4, [0, -1, -1, -1], [0, 1, 1, -1]])
    assert found.momenta.shape == (3, 2, 4)
    assert not found.momenta[0].any()
    assert subjets(Jets.from_points(np.zeros((0, 4, 3))), exclusive=2).momenta.shape == (0, 2, 4)


def test_subjets_refuse_what_means_nothing():
    jet = Jets.from_points([[[100.0, 0.0, 0.0]]])
    with pytest.raises(UserError, match="either a radius or the number"):
        subjets(jet)
    with pytest.raises(UserError, match="unknown algorithm 'ca'"):
        subjets(jet, algorithm="ca", exclusive=2)
    with pytest.raises(UserError, match="no exclusive subjets"):
        subjets(jet, algorithm="antikt", exclusive=2)
    with pytest.raises(UserError, match="must be positive"):
        subjets(jet, radius=-1.0)
