"""The evaluation on toy jets: finds what was changed, finds nothing where nothing was, and states its floor."""

from __future__ import annotations

import dataclasses
import json
from importlib.resources import files

import jsonschema
import numpy as np
import pytest

from cathode.jets.commands.evaluate import EvaluateJets, evaluate_files, output_folder
from cathode.jets.evaluation import JetsEvaluationSettings, evaluate_jets
from cathode.jets.evaluation.profiles import histograms, images, ranks
from cathode.jets.metrics import relative_mass, w1m
from cathode.jets.observables import observables
from cathode.jets.schema import Jets
from cathode.support.errors import UserError

SCHEMA = json.loads((files("cathode.jets.evaluation") / "results.schema.json").read_text(encoding="utf-8"))
FEW = ("mass", "multiplicity", "tau21", "width")
LIGHT = JetsEvaluationSettings(
    quick=True, coverage=False, transformer=False, observables=FEW, num_eval_samples=3000, num_batches=3
)


def toy_jets(seed: int, count: int = 600, width: int = 10, spread: float = 0.15) -> Jets:
    generator = np.random.default_rng(seed)
    points = np.zeros((count, width, 3))
    points[..., 0] = generator.exponential(20.0, (count, width)) + 1.0
    points[..., 1:] = spread * generator.standard_normal((count, width, 2))
    points[np.arange(width) >= generator.integers(3, width + 1, count)[:, None]] = 0
    return Jets.from_points(points)


@pytest.fixture(scope="module")
def same():
    return evaluate_jets(toy_jets(0), toy_jets(1), LIGHT, name="twin")


@pytest.fixture(scope="module")
def wide():
    return evaluate_jets(toy_jets(0), toy_jets(2, spread=0.2), LIGHT, truth=toy_jets(3), name="wide")


def test_jets_of_one_distribution_score_like_the_floor(same):
    for name in ("w1m", "w1p", "w1efp"):
        score = same.score(name)
        assert 0.3 < score.value / score.floor < 2.0, name
    for name in ("fpd", "kpd"):
        assert abs(same.score(name).value) < 4 * same.score(name).error
    assert abs(same.tests[0].found.auc - 0.5) < 4 * same.tests[0].found.error
    assert all(h.w1.pull < 5 for h in same.histograms if h.kind == "jet")
    assert same.floor_note == "two halves of the reference, 300 jets each"


def test_wider_jets_are_found(wide):
    assert wide.floor_note == "600 further true jets against the reference"
    for name in ("w1m", "w1p", "w1efp"):
        assert wide.score(name).value > 3 * wide.score(name).floor, name
    assert wide.score("w1p_pt_rel").value < 2 * wide.score("w1p_pt_rel").floor
    test = wide.tests[0]
    assert test.found.auc > max(0.65, 0.5 + 5 * test.found.error)
    assert abs(test.floor.auc - 0.5) < 4 * test.floor.error
    by_name = {h.name: h for h in wide.histograms}
    assert by_name["width"].w1.value > 0.5 > by_name["multiplicity"].w1.value


def test_scores_are_those_of_the_metrics(wide):
    alone = w1m(toy_jets(0), toy_jets(2, spread=0.2), num_eval_samples=3000, num_batches=3, seed=0)
    assert wide.score("w1m").value == alone.average[0]
    assert wide.score("w1m").error == alone.average[1]
    with pytest.raises(KeyError):
        wide.score("w9")


def test_results_follow_the_schema(same, wide):
    for result in (same, wide):
        content = json.loads(json.dumps(result.to_json(), allow_nan=False))
        jsonschema.validate(content, SCHEMA)
        assert content["scores"]["w1m"]["floor"] == result.score("w1m").floor
        assert content["two_sample_tests"]["observables"]["auc"] == result.tests[0].found.auc


def test_only_the_leading_constituents_count():
    first, second = toy_jets(4), toy_jets(5)
    settings = dataclasses.replace(LIGHT, particles=3, classifiers=False, floor=False)
    cut = evaluate_jets(first, second, settings)
    assert cut.counts["reference_constituents"] == 3 * 600
    assert all(s.floor is None for s in cut.scores)
    assert cut.tests == ()
    by_hand = evaluate_jets(first.leading(3), second.leading(3), dataclasses.replace(settings, particles=None))
    assert [s.value for s in by_hand.scores] == [s.value for s in cut.scores]
    own = evaluate_jets(first, second, dataclasses.replace(settings, own_axis=True))
    assert own.score("w1m").value != cut.score("w1m").value
    np.testing.assert_allclose(
        relative_mass(first.leading(3).with_own_axis()),
        observables(first.leading(3), ["mass_over_pt"])["mass_over_pt"],
        rtol=1e-5,
        atol=1e-5,
    )


def test_coverage_and_transformer_take_part(monkeypatch):
    monkeypatch.setattr("cathode.jets.evaluation.scores._COVERAGE", {True: (8, 2)})
    monkeypatch.setattr("cathode.classifiers.transformer.two_sample.QUICK", {"width": 8, "heads": 1, "epochs": 1})
    settings = dataclasses.replace(LIGHT, coverage=True, transformer=True, classifiers=False, max_jets=250)
    found = evaluate_jets(toy_jets(6), toy_jets(7), settings)
    assert found.counts["reference"] == found.counts["generated"] == 250
    assert 0 < found.score("coverage").value <= 1
    assert found.score("coverage").better == "high"
    assert found.score("mmd").value > 0
    (test,) = found.tests
    assert test.name == "constituents"
    assert test.found.events == (250, 250)
    jsonschema.validate(found.to_json(), SCHEMA)


def test_same_seed_same_numbers():
    first, second = toy_jets(8), toy_jets(9)
    settings = dataclasses.replace(LIGHT, max_jets=300, classifiers=False)
    one, other = (evaluate_jets(first, second, settings) for _ in range(2))
    assert one.scores == other.scores
    changed = evaluate_jets(first, second, dataclasses.replace(settings, seed=1))
    assert changed.score("w1m").value != one.score("w1m").value


def test_empty_jets_are_left_out_and_said():
    points = np.array(toy_jets(10).points)
    points[:7] = 0
    found = evaluate_jets(Jets.from_points(points), toy_jets(11), dataclasses.replace(LIGHT, classifiers=False))
    assert found.counts["reference"] == 593
    assert found.notes == ("7 of 600 reference jets have no constituents and are left out.",)


def test_histograms_count_everything():
    generator = np.random.default_rng(0)
    first = {"mass": generator.exponential(10.0, 5000), "multiplicity": generator.integers(3, 90, 5000).astype(float)}
    second = {name: 1.1 * values for name, values in first.items()}
    for one in histograms(first, second, None, seed=0):
        for counts, outside, values in zip(
            (one.reference, one.generated), one.outside, (first[one.name], second[one.name]), strict=True
        ):
            assert counts.sum() + sum(outside) == len(values)
        assert one.floor is None
        assert one.w1.value == pytest.approx(0.1 * first[one.name].mean() / first[one.name].std(), rel=1e-6)
        if one.name == "multiplicity":
            assert np.all(np.mod(one.edges, 1) == 0.5)


def test_ranks_and_images_add_up():
    first, second = toy_jets(12), toy_jets(13, width=7)
    found = ranks(first, second)
    assert found.reference.shape == found.generated.shape == (10,)
    np.testing.assert_array_equal(found.generated[7:], 0)
    assert np.all(np.diff(found.reference) < 0)
    np.testing.assert_allclose(found.reference.sum(), first.relative()[..., 0].sum(axis=1).mean())
    np.testing.assert_allclose(found.reference_filled * 600, first.mask.sum(axis=0))
    drawn = images(first, second)
    assert drawn.reference.sum() == pytest.approx(found.reference.sum(), rel=0.01)


def test_the_command_reads_rows_of_a_file(tmp_path):
    command = EvaluateJets(
        "sample:lhco_constituents",
        "sample:lhco_constituents",
        particles=12,
        reference_rows=(0, 150),
        generated_rows=(150, 300),
        quick=True,
        coverage=False,
        transformer=False,
        floor=False,
        name="other half",
    )
    found = evaluate_files(command)
    assert found.counts["reference"] == found.counts["generated"] == 300
    assert found.name == "other half"
    assert output_folder(command).as_posix() == "runs/evaluation-lhco_constituents"
    with pytest.raises(UserError, match="reference-rows must be FIRST STOP"):
        evaluate_files(dataclasses.replace(command, reference_rows=(5, 5)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"particles": 0}, "particles must be at least 1"),
        ({"max_jets": 10}, "max-jets must be at least 200"),
        ({"num_batches": 0}, "num-batches must be at least 1"),
        ({"observables": ("mass", "d3")}, "no observable 'd3' of jets"),
        ({"observables": ()}, "at least one"),
        ({"fpnd": "folder"}, "defined for 30 constituents"),
        ({"fpnd_type": "w"}, "g, q or t"),
    ],
)
def test_settings_that_mean_nothing(change, message):
    with pytest.raises(UserError, match=message):
        JetsEvaluationSettings(**change)


def test_few_jets_are_refused():
    with pytest.raises(UserError, match="at least 200 generated jets with constituents, got 20"):
        evaluate_jets(toy_jets(0), toy_jets(1, 20), LIGHT)


def test_errors_of_constituents_count_jets():
    """Ten equal constituents in every jet: the error is that of the jets, not of the constituents."""
    generator = np.random.default_rng(3)
    values = generator.uniform(0, 1, 2000)
    columns = {"constituent_pt_rel": np.repeat(values, 10) + 0.01}
    owner = np.repeat(np.arange(2000), 10)
    (found,) = histograms(columns, columns, None, owners=(owner, owner), seed=0)
    filled = found.reference > 200
    expected = 10 * np.sqrt(found.reference / 10)
    np.testing.assert_allclose(found.reference_error[filled], expected[filled], rtol=0.05)
    (plain,) = histograms(columns, columns, None, seed=0)
    np.testing.assert_allclose(plain.reference_error, np.sqrt(plain.reference))


def test_the_floor_is_an_average_over_divisions(same, wide):
    """Its error is the scatter of what a perfect generator would get, and covers the score of the twin."""
    for name in ("w1m", "w1p", "w1efp"):
        score = wide.score(name)
        assert 0 < score.floor_error < score.floor
        assert abs(same.score(name).value - same.score(name).floor) < 5 * same.score(name).floor_error, name


def test_axes_of_another_kind_are_noticed():
    jets = toy_jets(14)
    cut = jets.leading(3)
    settings = dataclasses.replace(LIGHT, particles=3, classifiers=False, floor=False)
    found = evaluate_jets(jets, cut.with_own_axis(), settings)
    assert len(found.notes) == 1
    assert "are both axes those of the whole jet?" in found.notes[0]
    assert evaluate_jets(jets, cut, settings).notes == ()
    assert evaluate_jets(jets, cut.with_own_axis(), dataclasses.replace(settings, own_axis=True)).notes == ()
