"""Clustering against a direct anti-kT of the definition, and sums of four-momenta."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.jets.clustering import four_momenta, invariant_mass, leading_jets, pseudorapidity
from cathode.support.errors import UserError


def random_events(seed: int, *, events: int = 6, particles: int = 14) -> np.ndarray:
    generator = np.random.default_rng(seed)
    out = np.zeros((events, particles + 3, 3))
    out[:, :particles, 0] = generator.exponential(40.0, (events, particles)) + 0.5
    out[:, :particles, 1] = generator.uniform(-2.5, 2.5, (events, particles))
    out[:, :particles, 2] = generator.uniform(-np.pi, np.pi, (events, particles))
    # Padding anywhere, not only at the end.
    return generator.permuted(out.transpose(1, 0, 2), axis=0).transpose(1, 0, 2) if seed % 2 else out


def brute_force_anti_kt(momenta: np.ndarray, radius: float) -> list[tuple[np.ndarray, frozenset[int]]]:
    """anti-kT by its definition (arXiv:0802.1189, eq. 1), one pair at a time."""
    objects = [(momentum, frozenset([i])) for i, momentum in enumerate(momenta)]
    jets = []
    while objects:
        p = np.array([o[0] for o in objects])
        pt2 = p[:, 0] ** 2 + p[:, 1] ** 2
        rapidity = 0.5 * np.log((p[:, 3] + p[:, 2]) / (p[:, 3] - p[:, 2]))
        phi = np.arctan2(p[:, 1], p[:, 0])
        best, pair = np.inf, (0, -1)
        for i in range(len(objects)):
            if 1 / pt2[i] < best:
                best, pair = 1 / pt2[i], (i, -1)
            for j in range(i):
                dphi = (phi[i] - phi[j] + np.pi) % (2 * np.pi) - np.pi
                distance = min(1 / pt2[i], 1 / pt2[j]) * ((rapidity[i] - rapidity[j]) ** 2 + dphi**2) / radius**2
                if distance < best:
                    best, pair = distance, (i, j)
        i, j = pair
        if j < 0:
            jets.append(objects.pop(i))
        else:
            merged = (objects[i][0] + objects[j][0], objects[i][1] | objects[j][1])
            objects = [o for k, o in enumerate(objects) if k not in (i, j)] + [merged]
    return sorted(jets, key=lambda jet: -np.hypot(jet[0][0], jet[0][1]))


@pytest.mark.parametrize("radius", [0.4, 1.0])
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_same_jets_as_the_definition(seed: int, radius: float) -> None:
    events = random_events(seed)
    found = leading_jets(events, radius=radius, n_jets=3)
    for row, event in enumerate(events):
        slots = np.flatnonzero(event[:, 0] > 0)
        expected = brute_force_anti_kt(four_momenta(event[slots]), radius)[:3]
        for rank, (momentum, members) in enumerate(expected):
            np.testing.assert_allclose(found.momenta[row, rank], momentum, rtol=1e-10, atol=1e-9)
            assert set(np.flatnonzero(found.assignment[row] == rank)) == {slots[m] for m in members}


def test_jet_momentum_is_the_sum_of_its_particles() -> None:
    events = random_events(7, events=20, particles=60)
    jets = leading_jets(events)
    four = four_momenta(events)
    for rank in range(2):
        sums = np.where((jets.assignment == rank)[..., None], four, 0).sum(axis=1)
        np.testing.assert_allclose(jets.momenta[:, rank], sums, rtol=1e-12, atol=1e-9)
    assert np.all(jets.assignment[events[..., 0] <= 0] == -1)


def test_fewer_jets_and_empty_events_give_zeros() -> None:
    events = np.zeros((3, 4, 3))
    events[1, 2] = (30.0, 0.5, 3.0)
    events[2, :2] = [(10.0, 0.0, 0.0), (20.0, 0.0, 3.0)]
    jets = leading_jets(events)
    np.testing.assert_array_equal(jets.momenta[0], 0)
    np.testing.assert_array_equal(jets.momenta[1, 1], 0)
    np.testing.assert_allclose(np.hypot(*jets.momenta[1, 0, :2]), 30.0)
    assert jets.assignment[1].tolist() == [-1, -1, 0, -1]
    assert jets.assignment[2].tolist() == [1, 0, -1, -1]
    assert np.all(leading_jets(np.zeros((2, 3, 3))).momenta == 0)
    assert leading_jets(np.zeros((0, 3, 3))).momenta.shape == (0, 2, 4)


@given(
    pt=st.floats(1.0, 500.0), other=st.floats(1.0, 500.0), eta=st.floats(-2.5, 2.5),
    deta=st.floats(-2.0, 2.0), dphi=st.floats(-3.0, 3.0),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_mass_of_two_massless_particles(pt: float, other: float, eta: float, deta: float, dphi: float) -> None:
    four = four_momenta(np.array([[pt, eta, 0.3], [other, eta + deta, 0.3 + dphi]]))
    squared = 2 * pt * other * (np.cosh(deta) - np.cos(dphi))
    total = float(four[:, 3].sum())
    # m^2 comes from cancelling terms of the order of E^2, so its absolute precision is that of E^2.
    assert invariant_mass(four.sum(axis=0)) ** 2 == pytest.approx(squared, rel=1e-9, abs=1e-12 * total**2)


def test_pseudorapidity_of_massless_particles_and_of_nothing() -> None:
    particles = np.array([[20.0, -1.7, 0.3], [5.0, 2.9, -3.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(pseudorapidity(four_momenta(particles)), [-1.7, 2.9, 0.0])


def test_refuses_what_is_not_particles() -> None:
    with pytest.raises(UserError, match="must have the shape"):
        leading_jets(np.zeros((4, 3)))
    events = random_events(0)
    events[3, 1, 1] = np.nan
    with pytest.raises(UserError, match=r"1 of 6 events have particles that are not finite \(first: row 3"):
        leading_jets(events)
    with pytest.raises(ValueError, match="n_jets"):
        leading_jets(random_events(0), n_jets=0)
