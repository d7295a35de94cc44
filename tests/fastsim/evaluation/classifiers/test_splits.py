"""Splits: nothing is tested by what saw it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsim.evaluation.classifiers.splits import PUBLISHED, cross_fit_splits, published_split


@settings(max_examples=30, deadline=None)
@given(
    st.integers(20, 200), st.integers(20, 200), st.integers(2, 5), st.sampled_from([0.15, 0.3]), st.integers(0, 1000)
)
def test_every_shower_is_tested_once_by_what_did_not_see_it(ones, zeros, folds, validation, seed):
    label = np.repeat([1, 0], [ones, zeros])
    splits = cross_fit_splits(label, folds=folds, validation=validation, seed=seed)
    assert np.array_equal(np.sort(np.concatenate([s.test for s in splits])), np.arange(len(label)))
    for split in splits:
        parts = (split.train, split.validation, split.test)
        assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(label)))
        assert all({0, 1} == set(label[part]) for part in parts)
        assert abs((label[split.test] == 1).sum() - ones / folds) <= 1


@pytest.mark.parametrize("dataset", [*PUBLISHED, None])
def test_published_shares(dataset):
    label = np.repeat([1, 0], 1000)
    split = published_split(label, dataset, seed=1)
    shares = np.array(PUBLISHED.get(dataset, (60, 20, 20)))
    for part, share in zip((split.train, split.validation, split.test), shares / shares.sum(), strict=True):
        assert [(label[part] == k).sum() for k in (0, 1)] == pytest.approx([1000 * share] * 2, abs=1)
    assert len(np.unique(np.concatenate([split.train, split.validation, split.test]))) == 2000


def test_seed_and_run_fix_the_split():
    label = np.repeat([1, 0], 100)
    one, same, other = (published_split(label, "ds2", seed=3, run=run) for run in (0, 0, 1))
    assert np.array_equal(one.test, same.test)
    assert not np.array_equal(one.test, other.test)
