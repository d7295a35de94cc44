from __future__ import annotations

import json
from dataclasses import asdict, replace
from importlib.resources import files

import jsonschema
import numpy as np
import pytest

from cathode.data.injection import Truth
from cathode.data.toys import toy_events
from cathode.run.executors import SerialExecutor
from cathode.run.tasks import TaskStore
from cathode.search import pipeline
from cathode.search.composition import SearchInputs
from cathode.search.pipeline import make_template, run_pipeline
from cathode.search.settings import (
    Autoregressive,
    ClassifierSettings,
    DataSettings,
    DensitySettings,
    GateSettings,
    RegionSettings,
    SearchSettings,
    SignificanceSettings,
    Trees,
)
from cathode.search.template_files import summarise_template, template_events
from cathode.training.config import FitConfig

SETTINGS = SearchSettings(
    data=DataSettings(features=("x1", "x2", "x3", "x4")),
    regions=RegionSettings(signal=(3.3, 3.7), sideband=(2.3, 5.0)),
    density=DensitySettings(
        model=Autoregressive(hidden=(16,), components=2),
        preprocessing="standardize",
        training=FitConfig(epochs=6, batch_size=256, learning_rate=1e-2, ema_halflife_events=3000.0),
    ),
    classifier=ClassifierSettings(model=Trees(members=2), folds=2),
    gate=GateSettings(max_events=500),
    significance=SignificanceSettings(background_efficiencies=(0.1, 0.02)),
    executor="serial",
)


@pytest.fixture(scope="module")
def schema():
    content = json.loads((files("cathode.search") / "results.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(content)
    return jsonschema.Draft202012Validator(content)


@pytest.fixture(scope="module")
def inputs():
    events, is_signal = toy_events(6000, 150, seed=1)
    test_background, _ = toy_events(5000, 0, seed=2)
    test_signal, _ = toy_events(0, 600, seed=3)

    def inside(events):
        return events.select((events.mass > 3.3) & (events.mass < 3.7))

    return SearchInputs(events, Truth(events.event_id, is_signal), inside(test_background), inside(test_signal))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One store for all searches of this module: what they share is computed once."""
    return TaskStore(tmp_path_factory.mktemp("tasks"), SerialExecutor())


@pytest.fixture(scope="module")
def with_truth(inputs, store):
    return run_pipeline(inputs, SETTINGS, store)


@pytest.fixture(scope="module")
def without_truth(inputs, tmp_path_factory):
    # In a store of its own: nothing may be found that a run with labels left.
    store = TaskStore(tmp_path_factory.mktemp("blind"), SerialExecutor())
    return run_pipeline(SearchInputs(inputs.data), SETTINGS, store)


def test_no_label_reaches_a_search(with_truth, without_truth):
    one, other = with_truth.result, without_truth.result
    assert other.truth is None
    one_json, other_json = one.to_json(), other.to_json()
    for key in ("working_points", "gate", "mass_spectrum", "counts", "notes"):
        assert one_json[key] == other_json[key], key
    for a, b in zip(one.mass_spectra, other.mass_spectra, strict=True):
        np.testing.assert_array_equal(a.counts, b.counts)
    for sample in ("data", "template", "sideband", "closure_data", "closure_template"):
        np.testing.assert_array_equal(with_truth.scores.score[sample], without_truth.scores.score[sample])
        np.testing.assert_array_equal(with_truth.scores.fold[sample], without_truth.scores.fold[sample])
    np.testing.assert_array_equal(with_truth.template.template.features, without_truth.template.template.features)


def test_wrong_labels_change_the_evaluation_only(inputs, store, with_truth):
    real = Truth(inputs.truth.event_id, np.random.default_rng(0).permutation(inputs.truth.is_signal))
    blind = replace(inputs, truth=real, test_background=None, test_signal=None)
    found = run_pipeline(blind, SETTINGS, store).result
    assert found.to_json()["working_points"] == with_truth.result.to_json()["working_points"]
    assert found.truth.search.auc == pytest.approx(0.5, abs=0.2)


def test_numbers_hang_together(inputs, with_truth):
    result = with_truth.result
    mass = inputs.data.mass
    assert result.counts["signal_region"] == ((mass > 3.3) & (mass < 3.7)).sum()
    assert result.counts["sideband"] + result.counts["signal_region"] == len(mass)
    # Four members see three quarters each; their quarters together are the test sample.
    assert result.counts["sideband_train"] == pytest.approx(0.65 * result.counts["sideband"], rel=0.01)
    assert result.counts["sideband_test"] == pytest.approx(result.counts["sideband"], abs=4)
    assert result.counts["template"] == 4 * result.counts["signal_region"]
    assert [p.background_efficiency for p in result.working_points] == [0.1, 0.02]
    for point in result.working_points:
        assert point.expected == pytest.approx(result.counts["signal_region"] * point.background_efficiency, rel=0.05)
    assert [s.background_efficiency for s in result.mass_spectra] == [1.0, 0.1, 0.02]
    assert result.timing["total"] == pytest.approx(result.timing["search"] + result.timing["truth"], rel=0.05)
    for histogram in result.feature_histograms:
        assert histogram.template.sum() == pytest.approx(histogram.data.sum(), rel=0.05)
    assert result.score_histogram["data"].sum() == result.counts["signal_region"]
    assert len(result.feature_histograms) == 8
    assert len(result.classifier_histories) == 2


def test_the_signal_of_the_toy_is_found(with_truth):
    assert max(p.significance for p in with_truth.result.working_points) > 3
    assert with_truth.result.truth.search.auc > 0.75
    assert with_truth.result.truth.references["supervised"].auc > with_truth.result.truth.search.auc - 0.02


def test_results_follow_the_schema(schema, with_truth, without_truth):
    for products in (with_truth, without_truth):
        content = products.result.to_json()
        # Strict JSON: neither NaN nor infinity.
        assert json.loads(json.dumps(content, allow_nan=False)) == content
        schema.validate(content)
    assert set(with_truth.result.to_json()["truth"]["references"]) == {"idealized", "supervised"}
    assert "truth" not in without_truth.result.to_json()


def _without(content, path):
    *parents, last = path
    for key in parents:
        content = content[key]
    del content[last]


@pytest.mark.parametrize(
    "path",
    [
        ("signal_region",), ("timing",), ("versions",), ("counts", "sideband"), ("counts", "signal_region"),
        ("counts", "template"), ("density", "name"), ("density", "validation_nll"), ("density", "seconds"),
        ("gate", "status"), ("gate", "c2st_auc_sideband"), ("gate", "c2st_auc_template"),
        ("working_points", 0, "background_efficiency"), ("working_points", 0, "observed"),
        ("working_points", 0, "expected"), ("working_points", 0, "expected_error"), ("working_points", 0, "p_value"),
        ("working_points", 0, "significance"), ("truth", "auc"), ("truth", "max_sic"), ("truth", "sic", "1e-2"),
        ("truth", "sic", "1e-3"), ("truth", "references"), ("truth", "references", "idealized"),
        ("truth", "references", "supervised"), ("truth", "references", "supervised", "max_sic"),
    ],
    ids=lambda path: ".".join(map(str, path)),
)  # fmt: skip
def test_the_schema_requires_what_is_promised(schema, with_truth, path):
    content = json.loads(json.dumps(with_truth.result.to_json()))
    _without(content, path)
    with pytest.raises(jsonschema.ValidationError):
        schema.validate(content)


@pytest.mark.parametrize("change", [{"new": 1}, {"schema_version": 2}, {"signal_region": [3.3]}, {"gate": None}])
def test_the_schema_refuses_what_it_does_not_know(schema, with_truth, change):
    with pytest.raises(jsonschema.ValidationError):
        schema.validate(with_truth.result.to_json() | change)


def test_the_template_alone_is_the_template_of_the_search(inputs, store, with_truth):
    products = make_template(inputs, SETTINGS, store)
    np.testing.assert_array_equal(products.template.features, with_truth.template.template.features)
    summary = summarise_template(inputs.data, products, SETTINGS)
    assert summary.normalisation == "sideband fit"
    inside = (inputs.data.mass > 3.3) & (inputs.data.mass < 3.7)
    n_background = (inside & ~inputs.truth.of(inputs.data)).sum()
    error = np.hypot(summary.expected_error, np.sqrt(n_background))
    assert summary.expected == pytest.approx(n_background, abs=4 * error)
    events = template_events(products, summary)
    assert events.weight.sum() == pytest.approx(summary.expected)
    json.dumps(summary.to_json(), allow_nan=False)
    assert summary.to_json()["counts"]["template"] == len(events)


def test_without_a_usable_spectrum_the_data_normalise_the_template(inputs, store):
    broken = replace(SETTINGS, significance=replace(SETTINGS.significance, fit_range=(3.25, None)))
    # The masses come from kernels then: the fit is what is missing.
    broken = replace(broken, template=replace(broken.template, mass_model="kde"))
    products = make_template(inputs, broken, store)
    events = inputs.data.select(inputs.data.mass > 3.3)
    summary = summarise_template(events, products, broken)
    assert summary.normalisation == "signal-region data"
    assert summary.expected == len(products.signal_region)


def test_another_seed_is_another_template(inputs, store, with_truth):
    other = make_template(inputs, replace(SETTINGS, seed=2), store)
    assert not np.array_equal(other.template.features, with_truth.template.template.features)


def test_the_configuration_is_in_the_result(with_truth):
    assert with_truth.result.config == asdict(SETTINGS)


def test_a_failing_gate_is_said_aloud(inputs, store, caplog):
    limits = replace(SETTINGS.gate, correlation_pull=(-2.0, -1.0))
    with caplog.at_level("WARNING", logger=pipeline.__name__):
        result = run_pipeline(SearchInputs(inputs.data), replace(SETTINGS, gate=limits), store).result
    assert result.gate.status == "fail"
    assert "nothing may be claimed" in caplog.text


def test_an_impossible_evaluation_costs_no_search(inputs, store, with_truth):
    few = replace(inputs, test_signal=inputs.test_signal.select(slice(0, 1)))
    result = run_pipeline(few, SETTINGS, store).result
    assert result.truth is None
    assert any("No evaluation with truth: " in note for note in result.notes)
    assert result.to_json()["working_points"] == with_truth.result.to_json()["working_points"]


def test_a_cut_too_tight_for_the_template_is_left_out_and_said(inputs, store):
    points = replace(SETTINGS.significance, background_efficiencies=(0.1, 1e-7))
    settings = replace(SETTINGS, significance=points)
    result = run_pipeline(inputs, settings, store).result
    assert [p.background_efficiency for p in result.working_points] == [0.1]
    assert any("1e-07" in note and "larger template" in note for note in result.notes)
