from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from cathode.classifiers.transformer.inputs import SetInputs
from cathode.classifiers.transformer.two_sample import set_c2st
from cathode.support.errors import UserError

TINY = {"width": 8, "heads": 2, "blocks": 1, "pair_bias": False, "epochs": 3, "batch_size": 64, "learning_rate": 5e-3}


@pytest.mark.parametrize("folds", [1, 2])
def test_one_distribution_cannot_be_told_apart(folds, sets):
    pulls = []
    for seed in range(3):
        found = set_c2st(sets(200, seed=10 + seed), sets(200, seed=20 + seed), seed=seed, folds=folds, settings=TINY)
        pulls.append((found.auc - 0.5) / found.error)
        assert len(found.fold_aucs) == folds
        assert found.p_value == pytest.approx(norm.sf(pulls[-1]))
    tested = 50 if folds == 1 else 200
    assert found.error == pytest.approx(np.sqrt(folds / (6 * tested)), rel=0.2)
    assert abs(np.mean(pulls)) < 3.5 / np.sqrt(3)


def test_a_correlation_between_the_points_is_found(sets):
    """Each point alone is distributed alike; only together do they differ."""
    spread = np.sqrt(2.0)
    x = sets(1000, correlation=1.0, seed=1)
    y = sets(1000, seed=2)
    y.points[..., 1] *= spread
    found = set_c2st(x, y, seed=0, settings={**TINY, "epochs": 8, "width": 16, "learning_rate": 0.01})
    assert found.auc > 0.6
    assert found.p_value < 1e-4


def test_pairs_are_used_where_there_are_momenta():
    """Points that coincide in pairs in one sample; the features do not say so."""
    rng = np.random.default_rng(0)
    samples = []
    for doubled in (0.0, 1.0):
        momenta = np.stack([np.ones((500, 6)), *rng.uniform(-1, 1, (2, 500, 6))], axis=-1)
        twins = rng.random(500) < doubled
        momenta[twins, 3:] = momenta[twins, :3]
        samples.append(SetInputs(np.ones((500, 6, 1)), np.ones((500, 6), bool), momenta=momenta))
    settings = {"width": 8, "heads": 2, "blocks": 2, "epochs": 10, "batch_size": 32, "learning_rate": 0.02}
    blind = set_c2st(*samples, seed=0, settings={**settings, "epochs": 1, "pair_bias": False})
    assert blind.auc == pytest.approx(0.5, abs=1e-9)
    assert set_c2st(*samples, seed=0, settings=settings).auc > 0.8


def test_weights_undo_a_difference(sets):
    x, y = sets(1200, seed=1), sets(2000, seed=2)
    upper = y.globals[:, 0] > 0
    y = y[~upper | (np.arange(2000) % 5 < 1)]
    weight = np.where(y.globals[:, 0] > 0, 5.0, 1.0)
    settings = {**TINY, "learning_rate": 0.02}
    plain = set_c2st(x, y, seed=0, settings=settings)
    weighted = set_c2st(x, y, y_weight=weight, seed=0, settings=settings)
    assert plain.auc - 0.5 > 4 * plain.error
    assert abs(weighted.auc - 0.5) < 3 * weighted.error


def test_same_seed_same_result_and_thinning(sets):
    x, y = sets(200, seed=1), sets(150, seed=2)
    first, second = (set_c2st(x, y, seed=5, settings=TINY, max_events=120) for _ in range(2))
    assert first == second
    assert first.events == (120, 120)
    assert set_c2st(x, y, seed=6, settings=TINY, max_events=120).auc != first.auc


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": 0}, "folds >= 1"),
        ({"held_out": 1.0}, "held_out"),
        ({"settings": {"leaves": 1}}, "unknown setting leaves"),
        ({"x_weight": np.ones(3)}, "x_weight must be 60"),
        ({"folds": 4}, "fewer than 20"),
    ],
)
def test_bad_arguments_are_refused(change, message, sets):
    with pytest.raises(UserError, match=message):
        set_c2st(sets(60), sets(60, seed=1), **{"seed": 0, **change})


def test_samples_of_different_kind_are_refused(sets):
    with pytest.raises(UserError, match="differ in kind"):
        set_c2st(sets(60), sets(60, groups=True), seed=0)
