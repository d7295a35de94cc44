from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from cathode.comparison.auc import auc_with_error


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(2, 60), st.booleans())
def test_agrees_with_an_independent_implementation(seed, n, m, ties):
    rng = np.random.default_rng(seed)
    p, q = rng.normal(0.3, 1, n), rng.normal(0, 1, m)
    if ties:
        p, q = p.round(), q.round()
    u, v = rng.random(n) + 0.1, rng.random(m) + 0.1
    auc, error = auc_with_error(p, q, positive_weight=u, negative_weight=v)
    expected = roc_auc_score(np.repeat([1, 0], [n, m]), np.concatenate([p, q]), sample_weight=np.concatenate([u, v]))
    assert auc == pytest.approx(expected, abs=1e-12)
    assert error >= 0


def test_integer_weights_equal_duplication():
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=50), rng.normal(size=60)
    counts = rng.integers(0, 4, 50)
    auc, _ = auc_with_error(p, q, positive_weight=counts)
    assert auc == pytest.approx(auc_with_error(np.repeat(p, counts), q)[0], abs=1e-12)


def test_error_is_the_spread_of_repetitions():
    rng = np.random.default_rng(1)
    shift, results = 0.8, []
    for _ in range(400):
        weight = rng.exponential(size=150)
        results.append(auc_with_error(rng.normal(shift, 1, 150), rng.normal(size=200), positive_weight=weight))
    aucs, errors = np.array(results).T
    assert aucs.mean() == pytest.approx(norm.cdf(shift / np.sqrt(2)), abs=4 * aucs.std() / np.sqrt(400))
    assert errors.mean() == pytest.approx(aucs.std(), rel=0.15)
