from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from cathode.data.events import Events
from cathode.data.injection import Truth
from cathode.search.classify import Scores
from cathode.search.composition import SearchInputs
from cathode.search.settings import ClassifierSettings, Trees
from cathode.search.truth import evaluate_truth, joined_curve
from cathode.statistics.sic import roc_curve
from cathode.support.errors import UserError

CLASSIFIER = ClassifierSettings(model=Trees(members=2), folds=2)
REACH = 2.0  # signal lies so many widths above the background


def events(rows: int, seed: int, shift: float) -> Events:
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 2)) + np.array([shift, 0.0])
    return Events(x, ("a", "b"), random.uniform(3.3, 3.7, rows), np.arange(rows))


def test_joined_curve_undoes_the_folds_scales():
    random = np.random.default_rng(0)
    signal, background = random.normal(REACH, 1, 4000), random.normal(0, 1, 40_000)
    folds = [np.arange(len(x)) % 4 for x in (signal, background)]

    def distorted(x, fold):
        return np.exp(x * (0.5 + fold)) - 100.0 * fold

    joined, of_folds = joined_curve(distorted(signal, folds[0]), folds[0], distorted(background, folds[1]), folds[1], 4)
    plain = roc_curve(np.concatenate([signal, background]), np.repeat([True, False], [4000, 40_000]))
    assert joined.auc == pytest.approx(plain.auc, abs=2e-3)
    assert joined.auc == pytest.approx(norm.cdf(REACH / np.sqrt(2)), abs=0.01)
    for efficiency in (0.1, 0.01):
        assert joined.sic_at(efficiency).sic == pytest.approx(plain.sic_at(efficiency).sic, rel=0.06)
    assert len(of_folds) == 4
    # Thrown together without care, the scales of the folds hide most of the separation.
    careless = roc_curve(
        np.concatenate([distorted(signal, folds[0]), distorted(background, folds[1])]),
        np.repeat([True, False], [4000, 40_000]),
    )
    assert careless.auc < plain.auc - 0.1


def test_one_fold_is_the_plain_curve():
    random = np.random.default_rng(1)
    signal, background = random.normal(1, 1, 300), random.normal(0, 1, 2000)
    zeros = np.zeros(2000, dtype=np.int64)
    joined, _ = joined_curve(signal, zeros[:300], background, zeros, 1)
    plain = roc_curve(np.concatenate([signal, background]), np.repeat([True, False], [300, 2000]))
    # Signal between two background events shares the rank of the upper one: equal up to half a background event.
    assert joined.auc == pytest.approx(plain.auc, abs=1 / 2000)


def test_a_fold_without_test_events_is_an_error():
    with pytest.raises(UserError, match="a fold has no test events"):
        joined_curve(np.ones(3), np.zeros(3, dtype=int), np.ones(3), np.ones(3, dtype=int), 2)


@pytest.fixture
def searched():
    """A perfect search: scores are the feature that separates."""
    data = events(4000, 1, 0.0)
    is_signal = np.arange(4000) < 200
    x = data.features.copy()
    x[is_signal, 0] += REACH
    data = Events(x, data.names, data.mass, np.random.default_rng(2).permutation(4000))
    samples = {"data": data, "test_background": events(6000, 3, 0.0), "test_signal": events(1500, 4, REACH)}
    fold = {k: np.arange(len(s)) % 2 for k, s in samples.items()}
    score = {k: s.features[:, 0] * (1 + fold[k]) for k, s in samples.items()}
    return samples, Scores(score, fold, 2, []), Truth(data.event_id, is_signal)


def evaluate(samples, scores, truth, runner, *, tests=True, references=True):
    inputs = SearchInputs(
        data=samples["data"], truth=truth,
        test_background=samples["test_background"] if tests else None,
        test_signal=samples["test_signal"] if tests else None,
    )  # fmt: skip
    return evaluate_truth(
        inputs, samples["data"], scores, classifier=CLASSIFIER,
        columns={k: s.features for k, s in samples.items()}, references=references, runner=runner, seed=1,
    )  # fmt: skip


def test_with_test_samples_and_references(searched, runner):
    result = evaluate(*searched, runner)
    assert result.n_signal_in_signal_region == 200
    assert result.n_background_in_signal_region == 3800
    assert (result.n_test_signal, result.n_test_background) == (1500, 6000)
    optimum = norm.cdf(REACH / np.sqrt(2))
    assert result.search.auc == pytest.approx(optimum, abs=4 * result.search.auc_error)
    assert set(result.references) == {"idealized", "supervised"}
    assert result.references["supervised"].auc == pytest.approx(optimum, abs=0.02)
    assert optimum - 0.2 < result.references["idealized"].auc < optimum + 0.02
    expected = norm.sf(norm.isf(1e-2) - REACH) / 0.1
    found = result.search.sic["1e-2"]
    assert found["value"] == pytest.approx(expected, abs=3 * found["error"])
    # Less than one background event passes.
    assert result.search.sic["1e-4"] == {"value": None, "error": None}
    assert result.search.max_sic >= found["value"] - 1e-9
    assert result.search.max_sic_low <= result.search.max_sic_high


def test_without_references_none_are_trained(searched, runner):
    result = evaluate(*searched, runner, references=False)
    assert result.references == {}
    assert not runner.folder.exists()


def test_without_test_samples_the_data_judge_themselves(searched, runner):
    result = evaluate(*searched, runner, tests=False)
    assert (result.n_test_signal, result.n_test_background) == (200, 3800)
    assert result.references == {}
    assert result.search.auc == pytest.approx(norm.cdf(REACH / np.sqrt(2)), abs=4 * result.search.auc_error)


def test_without_truth_there_is_nothing_to_say(searched, runner):
    samples, scores, truth = searched
    assert evaluate(samples, scores, None, runner) is None
    for value in (True, False):
        constant = Truth(truth.event_id, np.full(4000, value))
        assert evaluate(samples, scores, constant, runner, tests=False) is None
