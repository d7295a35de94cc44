"""The classifier tests as a whole: 0.5 for one distribution, the analytic AUC for a known shift."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from cathode.run.executors import SerialExecutor
from cathode.support.errors import UserError
from fastsim.data import Showers
from fastsim.evaluation.classifiers import PROFILES, TreeSettings, classifier_tests
from fastsim.geometry import Geometry

SMALL = replace(
    PROFILES["quick"],
    name="small",
    folds=2,
    hidden=(16,),
    dropout=0.0,
    training=replace(PROFILES["quick"].training, epochs=12, batch_size=128, learning_rate=3e-3),
    trees=TreeSettings(trees=40),
)


def test_one_distribution_gives_a_half_within_the_interval(log_normal):
    inside, pulls = [], []
    for seed in range(8):
        found = classifier_tests(
            log_normal(400, 2 * seed), log_normal(400, 2 * seed + 1), profile=SMALL, seed=seed, features=2
        )
        for auc in found.auc.values():
            inside.append(auc.low <= 0.5 <= auc.high)
            pulls.append((auc.value - 0.5) / auc.error)
            assert 0.0 < auc.error < 0.1
    # 48 intervals of 95 %, six of each pair of samples correlated.
    assert np.mean(inside) > 0.8
    assert abs(np.mean(pulls)) < 1.0


@pytest.mark.parametrize("shift", [0.7, 2.0])
def test_known_shift_gives_the_analytic_auc(log_normal, shift):
    found = classifier_tests(log_normal(2000, 1, shift), log_normal(2000, 2), profile=SMALL, seed=3)
    exact = norm.cdf(shift / np.sqrt(2))
    assert set(found.scores) == {
        "low_dnn", "high_dnn", "low_trees", "high_trees", "low_stacked", "high_stacked",
    }  # fmt: skip
    for name in ("low_dnn", "low_trees", "low_stacked"):
        auc = found.auc[name]
        assert exact - 0.03 - 2 * auc.error < auc.value < exact + 4 * auc.error, name
        assert auc.low < auc.value < auc.high
        assert found.scores[name].jsd.value > 0.02
    assert found.voxels[0].index == 0
    assert found.voxels[0].auc == pytest.approx(exact, abs=0.03)
    assert found.voxels[0].auc - 0.5 > found.feature_threshold * found.voxels[0].error


def test_result_is_the_same_in_an_executor_and_again(log_normal):
    samples = log_normal(200, 1, 0.5), log_normal(200, 2)
    here = classifier_tests(*samples, profile=SMALL, seed=5)
    there = classifier_tests(*samples, profile=SMALL, seed=5, executor=SerialExecutor())
    other = classifier_tests(*samples, profile=SMALL, seed=6)
    assert here.auc == there.auc
    assert here.jsd == there.jsd
    assert here.auc != other.auc


def test_calochallenge_mode(log_normal):
    published = replace(SMALL, runs=2)
    found = classifier_tests(
        log_normal(1500, 1, 3.0), log_normal(1400, 2), mode="calochallenge", threshold=0.0, profile=published, seed=1
    )
    assert found.showers == (1400, 1400)
    assert set(found.scores) == {"low_dnn", "high_dnn", "low_normed_dnn", "low_trees", "high_trees"}
    assert len(found.scores["low_dnn"].fold_aucs) == 2
    exact = norm.cdf(3.0 / np.sqrt(2))
    for name in ("low_dnn", "high_dnn"):
        assert 0.6 < found.auc[name].value < exact + 4 * found.auc[name].error


def test_residual_network_on_a_grid():
    grid = Geometry.from_grid((4, 4, 4), cell=10.0)

    def showers(seed, depth):
        generator = np.random.default_rng(seed)
        profile = np.exp(-0.5 * (np.arange(4) - depth) ** 2)
        energies = generator.gamma(2.0, 10.0, (300, 4, 16)) * profile[:, None]
        return Showers(np.full((300, 1), 1000.0), energies.reshape(300, 64), grid)

    with_network = replace(
        SMALL, cnn=True, cnn_training=replace(PROFILES["quick"].cnn_training, epochs=10, batch_size=32)
    )
    found = classifier_tests(showers(1, 1.0), showers(2, 1.6), profile=with_network)
    assert found.auc["cnn"].value > 0.9
    assert found.auc["low_dnn"].value > 0.9


def test_conditions_are_seen(cells):
    # The voxel follows the condition in one sample only: nothing but the pair of both tells them apart.
    def showers(seed, follows):
        generator = np.random.default_rng(seed)
        condition = generator.normal(size=(1500, 1))
        noise = condition if follows else generator.normal(size=(1500, 1))
        logs = np.full((1500, 4), 5.0) + generator.normal(0, 0.1, (1500, 4))
        logs[:, :1] += 0.3 * noise
        return Showers(np.full((1500, 1), 1000.0), np.exp(logs), cells, condition, ("angle",))

    found = classifier_tests(showers(1, True), showers(2, False), profile=SMALL)
    assert found.auc["low_stacked"].value > 0.75
    assert max(f.separation for f in (*found.voxels, *found.observables)) < 0.06


def test_wrong_input(log_normal, cells):
    good = log_normal(100, 1)
    other = Geometry.from_cells({"layer": [0, 0, 1, 1], "x": [0.0, 1.0, 0.0, 1.0], "y": [0.0] * 4})
    moved = Showers(good.incident_energy, good.energies, other)
    with pytest.raises(UserError, match="different geometries"):
        classifier_tests(good, moved)
    with pytest.raises(UserError, match="at least 40 showers"):
        classifier_tests(good[:30], good, profile=SMALL)
    with pytest.raises(UserError, match="mode"):
        classifier_tests(good, good, mode="lenient")
