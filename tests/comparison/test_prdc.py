from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from cathode.comparison.neighbours import kth_neighbour, squared_distances
from cathode.comparison.prdc import expected_coverage, prdc
from cathode.support.errors import UserError


def by_definition(x: np.ndarray, y: np.ndarray, k: int) -> tuple[float, float, float, float]:
    """The definitions of arXiv:2002.09797, word by word."""
    radius_x = np.sort(cdist(x, x), axis=1)[:, k]
    radius_y = np.sort(cdist(y, y), axis=1)[:, k]
    d = cdist(x, y)
    inside = d < radius_x[:, None]
    return (
        float(inside.any(axis=0).mean()),
        float((d < radius_y).any(axis=1).mean()),
        float(inside.sum() / (k * len(y))),
        float((d.min(axis=1) < radius_x).mean()),
    )


@pytest.mark.parametrize("k", [1, 5])
def test_values_follow_the_definitions(k):
    rng = np.random.default_rng(k)
    x, y = rng.standard_normal((150, 4)), 1.3 * rng.standard_normal((110, 4)) + 0.3
    result = prdc(x, y, neighbours=k)
    values = tuple(getattr(result, name).value for name in ("precision", "recall", "density", "coverage"))
    assert values == pytest.approx(by_definition(x, y, k), abs=1e-12)
    assert result.events == (150, 110)


def test_one_distribution_gives_the_expected_density_and_coverage():
    """Over repetitions the means are the exact expectations, and the errors cover the scatter."""
    results = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        results.append(prdc(rng.standard_normal((200, 3)), rng.standard_normal((300, 3))))
    for name in ("density", "coverage"):
        values = np.array([getattr(r, name).value for r in results])
        expected = getattr(results[0], name).expected
        assert abs(values.mean() - expected) < 3.5 * values.std() / np.sqrt(len(values)), name
        errors = np.array([getattr(r, name).error for r in results])
        assert 0.7 * values.std() < np.median(errors) < 4 * values.std(), name
    assert expected_coverage(10**6, 10**6, 5) == pytest.approx(1 - 2.0**-5, abs=1e-5)
    assert expected_coverage(300, 600, 1) == pytest.approx(1 - 299 / 899)


def test_collapse_costs_recall_and_junk_costs_precision():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 2))
    collapsed = prdc(x, 0.2 * rng.standard_normal((400, 2)))
    assert collapsed.recall.value < 0.3 < 0.9 < collapsed.precision.value
    assert collapsed.coverage.value < 0.4
    junk = prdc(x, 10 + rng.standard_normal((400, 2)))
    assert junk.precision.value == junk.density.value == junk.coverage.value == 0.0


def test_identical_events_are_covered_only_with_closed_balls():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((60, 5)), rng.standard_normal((60, 5))
    x[:30] = y[:30] = 2.0
    closed, opened = prdc(x, y), prdc(x, y, closed=False)
    assert closed.coverage.value >= opened.coverage.value + 0.49
    assert opened.coverage.value <= 0.5


def test_distances_in_single_precision_are_good_enough_far_from_the_origin():
    rng = np.random.default_rng(2)
    x = 100.0 + rng.standard_normal((80, 30))
    block, distance = next(squared_distances(x, x[:50]))
    assert block == slice(0, 80)
    assert distance == pytest.approx(cdist(x, x[:50]) ** 2, rel=1e-3)
    assert kth_neighbour(x, 3) == pytest.approx(np.sort(cdist(x, x), axis=1)[:, 3] ** 2, rel=1e-4)


def test_seed_decides_the_thinning():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((500, 3)), rng.standard_normal((500, 3))
    assert prdc(x, y, max_events=200, seed=1) == prdc(x, y, max_events=200, seed=1)
    assert prdc(x, y, max_events=200, seed=1).density != prdc(x, y, max_events=200, seed=2).density


def test_bad_input_is_refused():
    x = np.zeros((10, 2))
    with pytest.raises(UserError, match="need more events"):
        prdc(x[:5], x)
    with pytest.raises(UserError, match="compare the same columns"):
        prdc(x, np.zeros((10, 3)))
    with pytest.raises(UserError, match="events as rows"):
        prdc(x[0], x)
    with pytest.raises(UserError, match="'sample' has NaN"):
        prdc(x, np.full((10, 2), np.nan))
