from __future__ import annotations

import numpy as np
import pytest

from cathode.classifiers.reweighting import density_ratio, log_ratio, ratio_networks, ratio_trees, survivors
from cathode.support.errors import UserError

SHIFT = 0.6


def sample(count: int, seed: int, *, shift: float):
    """``x`` is normal around ``shift (1 + m)``, ``m`` uniform in [-1, 1]."""
    random = np.random.default_rng(seed)
    m = random.uniform(-1, 1, count)
    return np.column_stack([random.normal(shift * (1 + m), 1.0), m])


@pytest.fixture(scope="module")
def learned():
    """Networks and trees that have seen |m| > 0.3."""
    data, template = sample(30_000, 0, shift=SHIFT), sample(30_000, 1, shift=0.0)
    data, template = (s[np.abs(s[:, 1]) > 0.3] for s in (data, template))
    x, y = np.concatenate([data, template]), np.repeat([1, 0], [len(data), len(template)])
    networks = ratio_networks(1, random_state=1).set_params(epochs=10).fit(x, y)
    return [networks], [ratio_trees(2, random_state=1).fit(x, y)]


@pytest.fixture(scope="module")
def gap():
    events = sample(40_000, 2, shift=0.0)
    return events[np.abs(events[:, 1]) < 0.3]


@pytest.mark.parametrize(("kinds", "error", "correlation"), [(1, 0.1, 0.99), (2, 0.15, 0.975)])
def test_the_known_ratio_is_found_between_the_sidebands(learned, gap, kinds, error, correlation):
    weight = density_ratio(log_ratio(learned[:kinds], gap, (-0.3, 0.3)))
    x, m = gap.T
    mean = SHIFT * (1 + m)
    exact = np.exp(mean * x - 0.5 * mean**2)
    # Unweighted events are off by as much as the ratio varies.
    assert np.std(exact) > 0.5
    assert np.sqrt(np.mean((weight - exact) ** 2)) < error
    assert np.corrcoef(weight, exact)[0, 1] > correlation


def test_what_stays_follows_the_data(learned, gap):
    weight = density_ratio(log_ratio(learned[:1], gap, (-0.3, 0.3)))
    kept = gap[survivors(weight, 4.0, np.random.default_rng(3))]
    assert len(kept) == pytest.approx(len(gap) / 4, rel=0.05)
    truth = sample(40_000, 4, shift=SHIFT)
    truth = truth[np.abs(truth[:, 1]) < 0.3]
    for sign in (-1, 1):
        before, after, wanted = (float(s[sign * s[:, 1] > 0, 0].mean()) for s in (gap, kept, truth))
        assert abs(before) < 0.1
        assert after == pytest.approx(wanted, abs=0.08)
    # The conditional variable keeps its distribution.
    assert np.mean(kept[:, 1]) == pytest.approx(0.0, abs=0.02)
    assert np.mean(kept[:, 1] ** 2) == pytest.approx(0.03, rel=0.08)


def test_parts_of_an_ensemble_are_the_ensemble():
    data, template = sample(2000, 5, shift=SHIFT), sample(2000, 6, shift=0.0)
    x, y = np.concatenate([data, template]), np.repeat([1, 0], 2000)
    whole = ratio_trees(4, random_state=1).fit(x, y)
    parts = [ratio_trees(k, first_member=f, random_state=1).fit(x, y) for k, f in ((3, 0), (1, 3))]
    np.testing.assert_allclose(log_ratio([parts], x, (-0.1, 0.1)), log_ratio([[whole]], x, (-0.1, 0.1)), rtol=1e-9)


def test_the_ratio_goes_straight_from_edge_to_edge():
    data, template = sample(2000, 5, shift=SHIFT), sample(2000, 6, shift=0.0)
    trees = ratio_trees(1, random_state=1).fit(np.concatenate([data, template]), np.repeat([1, 0], 2000))
    at = [np.column_stack([data[:, 0], np.full(2000, m)]) for m in (-0.3, -0.15, 0.3)]
    low, between, high = (log_ratio([[trees]], x, (-0.3, 0.3)) for x in at)
    assert np.std(high - low) > 0.1
    np.testing.assert_allclose(between, 0.75 * low + 0.25 * high)


def test_weights_have_mean_one_and_the_ratio():
    np.testing.assert_allclose(density_ratio(np.log([1.0, 3.0]) + 1000.0), [0.5, 1.5])


@pytest.mark.parametrize("bad", [[], [1.0, np.nan], [np.inf], [[0.5]]])
def test_what_is_no_ratio_is_refused(bad):
    with pytest.raises(UserError, match="density_ratio"):
        density_ratio(bad)


def test_thinning_gives_frequencies_proportional_to_the_weights():
    weight = np.repeat([0.5, 1.0, 1.5], 40_000)
    kept = survivors(weight, 2.0, np.random.default_rng(0)).reshape(3, -1).mean(1)
    np.testing.assert_allclose(kept, [0.25, 0.5, 0.75], atol=0.01)


def test_weights_beyond_the_largest_are_certain():
    assert survivors(np.array([5.0, 7.0]), 4.0, np.random.default_rng(0)).all()


def test_the_largest_weight_must_be_above_the_mean():
    with pytest.raises(UserError, match="above the mean weight"):
        survivors(np.ones(3), 1.0, np.random.default_rng(0))
