from __future__ import annotations

import numpy as np
import pytest

from cathode.classifiers.registry import load_classifier
from cathode.classifiers.trees import TreeEnsemble
from cathode.support.errors import UserError


def test_members_share_the_template_between_them():
    labels = np.repeat([1, 0], [100, 900])
    ensemble = TreeEnsemble(members=5, template_per_data=2.0)
    rows = [ensemble._rows_of_member(k, labels, np.ones(1000)) for k in range(5)]
    for chosen in rows:
        assert len(np.unique(chosen)) == len(chosen) == 300
        assert set(range(100)) <= set(chosen)
    assert len(np.unique(np.concatenate(rows))) == 1000


def test_events_without_weight_change_nothing(gaussians):
    x, y = gaussians(300)
    first = TreeEnsemble(members=2).fit(x, y)
    more, weight = np.concatenate([x, np.full((50, 2), 100.0)]), np.repeat([1, 0], [900, 50])
    again = TreeEnsemble(members=2).fit(more, np.append(y, np.ones(50)), weight)
    np.testing.assert_array_equal(first.predict_proba(x), again.predict_proba(x))


def test_losses_start_untrained_and_are_balanced(gaussians):
    x, y = gaussians(1000)
    history = TreeEnsemble(members=3, max_iter=30).fit(x, y).history_
    for curve in history.values():
        np.testing.assert_allclose(curve[:, 0], np.log(2.0), rtol=1e-6)
        assert (np.nanmin(curve, axis=1) < 0.63).all()


def test_a_file_that_points_outside_its_trees_is_refused(gaussians, tmp_path):
    TreeEnsemble(members=1).fit(*gaussians(200)).save(tmp_path)
    with np.load(tmp_path / "trees.npz") as file:
        arrays = dict(file)
    for name, value in (("left", 10_000), ("feature_idx", 7), ("nodes_of_tree", 1)):
        np.savez(tmp_path / "trees.npz", **{**arrays, name: np.full_like(arrays[name], value)})
        with pytest.raises(UserError, match="cannot load a classifier"):
            load_classifier(tmp_path)


def test_bad_share_is_refused(gaussians):
    with pytest.raises(UserError, match="template_per_data"):
        TreeEnsemble(template_per_data=0.0).fit(*gaussians(50))
