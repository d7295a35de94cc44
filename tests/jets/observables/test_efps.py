"""Energy flow polynomials against the sums that define them."""

from __future__ import annotations

import numpy as np
import pytest

from cathode.jets.observables import connected_graphs, efps, energy_correlators, graphs, w1efp_graphs
from cathode.jets.schema import Jets
from cathode.support.errors import UserError


def points(seed: int, jets: int = 3, width: int = 5) -> np.ndarray:
    generator = np.random.default_rng(seed)
    out = np.concatenate(
        [generator.random((jets, width, 1)), 0.4 * generator.standard_normal((jets, width, 2))], axis=2
    )
    out[0, width // 2 :] = 0
    return out


def brute(jet: np.ndarray, graph, beta: float) -> float:
    z, eta, phi = jet.T
    turn = np.angle(np.exp(1j * (phi[:, None] - phi[None, :])))
    theta = np.hypot(eta[:, None] - eta[None, :], turn) ** beta
    vertices = range(1 + max((v for edge in graph for v in edge), default=0))
    factors = [(z, [v]) for v in vertices] + [(theta, list(edge)) for edge in graph]
    # Without an optimised order: every term of the sum is formed.
    return float(np.einsum(*(part for factor in factors for part in factor), [], optimize=False))


def test_there_are_as_many_graphs_as_the_paper_counts():
    """Table II of the paper: connected graphs and all graphs by their number of edges."""
    assert [sum(len(g) == d for g in connected_graphs(5)) for d in range(6)] == [1, 1, 2, 5, 12, 33]
    assert [sum(len(g) == d for g in graphs(5)) for d in range(6)] == [1, 1, 3, 8, 23, 66]
    assert len(set(graphs(4))) == 36
    assert len(w1efp_graphs()) == 5


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_they_are_the_sums_over_all_constituents(beta):
    jets = points(1)
    found = efps(jets, graphs(4), beta=beta)
    for column, graph in enumerate(graphs(4)):
        expected = [brute(jet, graph, beta) for jet in jets]
        np.testing.assert_allclose(found[:, column], expected, rtol=1e-10, atol=1e-15, err_msg=str(graph))


def test_graphs_with_unequal_paths_keep_their_direction():
    """Five edges: paths through a vertex whose two edges differ are not symmetric."""
    jets = points(2, jets=2, width=4)
    chosen = [g for g in connected_graphs(5) if len(g) == 5]
    found = efps(jets, chosen)
    for column, graph in enumerate(chosen):
        expected = [brute(jet, graph, 1.0) for jet in jets]
        np.testing.assert_allclose(found[:, column], expected, rtol=1e-10, atol=1e-15, err_msg=str(graph))


def test_two_prongs():
    """z and 1 - z at an angle a: neighbours must be different prongs, so a triangle has no terms."""
    z, a = 0.3, 0.25
    found = efps([[[z, 0.0, 0.0], [1 - z, a, 0.0]]], [(), ((0, 1),), ((0, 1), (0, 2)), ((0, 1), (0, 2), (1, 2))])
    line = z**2 * (1 - z) + z * (1 - z) ** 2
    np.testing.assert_allclose(found[0], [1.0, 2 * z * (1 - z) * a, line * a**2, 0.0], atol=1e-15)


def test_the_triangle_is_the_three_point_correlator():
    jets = Jets.from_points(points(3, jets=6, width=9) * [100.0, 1, 1])
    relative = jets.points / np.array([1.0, 1, 1])
    relative[..., 0] /= relative[..., 0].sum(axis=1, keepdims=True)
    found = efps(relative, [((0, 1),), ((0, 1), (0, 2), (1, 2))])
    correlators = energy_correlators(jets)
    np.testing.assert_allclose(found[:, 0], 2 * correlators["e2"], rtol=1e-5)
    np.testing.assert_allclose(found[:, 1], 6 * correlators["e3"], rtol=1e-5, atol=1e-9)


def test_padding_order_and_rotation_change_nothing():
    jets = points(4)
    moved = np.concatenate([np.zeros((3, 2, 3)), jets[:, ::-1] + [0, 0.7, 3.0]], axis=1)
    moved[:, :, 1:][moved[..., 0] == 0] = 0
    np.testing.assert_allclose(efps(moved), efps(jets), rtol=1e-9, atol=1e-14)


def test_bad_input_is_refused():
    with pytest.raises(UserError, match="weight, eta, phi"):
        efps(np.zeros((3, 4)))
    with pytest.raises(UserError, match="without negative weights"):
        efps(-np.ones((1, 2, 3)))
    with pytest.raises(UserError, match="positive exponent"):
        efps(np.ones((1, 2, 3)), beta=-1.0)
    complete = tuple((a, b) for a in range(4) for b in range(a))
    with pytest.raises(UserError, match="every vertex has three neighbours"):
        efps(np.ones((1, 2, 3)), [complete])
