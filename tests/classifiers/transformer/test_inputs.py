from __future__ import annotations

import pickle

import numpy as np
import pytest

from cathode.classifiers.transformer.inputs import SetInputs
from cathode.run.tasks import digest
from cathode.search.tasks import Task
from cathode.support.errors import UserError


def draw(n=6, size=5, *, seed=0, complete=True):
    rng = np.random.default_rng(seed)
    mask = np.arange(size) < rng.integers(0, size + 1, (n, 1))
    arrays = {"points": rng.standard_normal((n, size, 3)), "mask": mask}
    if complete:
        arrays["group"] = rng.integers(0, 2, (n, size))
        arrays["momenta"] = rng.standard_normal((n, size, 3))
        arrays["globals"] = rng.standard_normal((n, 2))
    return arrays


def test_padding_is_replaced_by_zero_and_equal_events_have_equal_hashes():
    arrays = draw()
    broken = {name: np.array(a) for name, a in arrays.items()}
    broken["points"][~broken["mask"]] = np.nan
    broken["momenta"][~broken["mask"]] = np.inf
    broken["group"][~broken["mask"]] = -100
    first, second = SetInputs(**arrays), SetInputs(**broken)
    for name in ("points", "group", "momenta"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        assert (getattr(first, name)[~first.mask] == 0).all()
    tasks = [Task("t", draw, {"x": x}) for x in (first, second, first[::-1])]
    assert digest(tasks[0]) == digest(tasks[1]) != digest(tasks[2])


def test_rows_are_selected_and_joined_with_any_padding():
    whole = SetInputs(**draw(8))
    short = SetInputs(
        **{name: a[:, :3] if a.ndim > 1 and a.shape[1] == 5 else a for name, a in draw(4, seed=1).items()}
    )
    joined = SetInputs.concatenate([whole[[1, 3]], short, whole[np.arange(8) > 5]])
    assert len(joined) == 8
    np.testing.assert_array_equal(joined.points[2:6, :3], short.points)
    assert not joined.mask[2:6, 3:].any()
    np.testing.assert_array_equal(joined.globals[6:], whole.globals[6:])
    np.testing.assert_array_equal(joined.multiplicity[:2], whole.multiplicity[[1, 3]])
    assert joined.group.dtype == np.int8
    assert joined.groups <= 2
    again = pickle.loads(pickle.dumps(joined))
    np.testing.assert_array_equal(again.points, joined.points)


def test_without_the_optional_arrays():
    inputs = SetInputs(**draw(complete=False))
    assert (inputs.groups, inputs.global_features, inputs.features) == (1, 0, 3)
    assert len(SetInputs.concatenate([inputs, inputs[:2]])) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": np.zeros((6, 5))}, "events, points, features"),
        ({"mask": np.ones((6, 5))}, "give one boolean"),
        ({"mask": np.ones((6, 4), bool)}, "give one boolean"),
        ({"points": np.full((6, 5, 3), np.nan)}, "points of 5 events are NaN"),
        ({"group": np.full((6, 5), 200)}, "from 0 to 127"),
        ({"group": np.zeros((6, 5))}, "give integers"),
        ({"momenta": np.zeros((6, 5, 2))}, "pT, rapidity, phi"),
        ({"globals": np.zeros(6)}, "one row per event"),
        ({"globals": np.full((6, 1), np.inf)}, "globals of 6 events"),
    ],
)
def test_bad_arrays_are_refused(change, message):
    arrays = draw()
    arrays["mask"] = np.arange(5) < np.array([0, 1, 2, 3, 4, 5])[:, None]
    with pytest.raises(UserError, match=message):
        SetInputs(**{**arrays, **change})


def test_bad_selections_and_mixtures_are_refused():
    inputs = SetInputs(**draw())
    with pytest.raises(UserError, match="list of rows"):
        inputs[0]
    with pytest.raises(UserError, match="different kind"):
        SetInputs.concatenate([inputs, SetInputs(**draw(complete=False))])
    with pytest.raises(UserError, match="no sets"):
        SetInputs.concatenate([])
