from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files

import jsonschema
import numpy as np
import pytest

from cathode.classifiers.transformer.features import constituent_inputs
from cathode.classifiers.transformer.pretraining import pretrain
from cathode.data.injection import Truth
from cathode.density.folder import load_density
from cathode.jets.dijets import DijetKinematics, in_acceptance, ordered_axes
from cathode.jets.generators.settings import ConstituentSettings as PointSettings
from cathode.jets.generators.settings import SequencePoints
from cathode.jets.schema import ConstituentEvents
from cathode.run.executors import SerialExecutor
from cathode.run.tasks import TaskStore
from cathode.search.constituents.composition import ConstituentInputs
from cathode.search.constituents.pipeline import run_constituents
from cathode.search.constituents.reweighting import reweighted
from cathode.search.constituents.settings import ConstituentSettings, ReweightingSettings, SetTestSettings
from cathode.search.constituents.template import make_constituent_template
from cathode.search.settings import (
    Autoregressive,
    ClassifierSettings,
    DataSettings,
    DensitySettings,
    GateSettings,
    RegionSettings,
    SearchSettings,
    SignificanceSettings,
    TemplateSettings,
    Transformer,
    TransformerTrees,
    Trees,
)
from cathode.training.config import FitConfig

SETTINGS = SearchSettings(
    inputs="constituents",
    data=DataSettings(features=("mj1", "dmj", "n_j1", "width_j2")),
    regions=RegionSettings(signal=(3.1, 3.7), sideband=(2.3, 4.8)),
    density=DensitySettings(
        model=Autoregressive(hidden=(32,), components=4),
        members=2,
        preprocessing="standardize",
        training=FitConfig(epochs=15, batch_size=64, learning_rate=5e-3, ema_halflife_events=2000.0),
    ),
    template=TemplateSettings(oversampling=2),
    classifier=ClassifierSettings(
        model=Transformer(width=16, heads=2, blocks=1, epochs=3, learning_rate=5e-3), folds=2
    ),
    gate=GateSettings(max_events=200),
    significance=SignificanceSettings(background_efficiencies=(0.1,)),
    constituents=ConstituentSettings(
        points=PointSettings(
            model=SequencePoints(width=16, heads=2, blocks=1, components=3, amount_components=3, head_width=16),
            training=FitConfig(epochs=2, batch_size=64, learning_rate=5e-3, ema_halflife_events=3000.0),
        ),
        closure_events=300,
        events_per_task=400,
        set_test=SetTestSettings(max_events=150, quick=True),
    ),
    executor="serial",
)


@pytest.fixture(scope="module")
def inputs(make_events):
    def inside(events):
        return in_acceptance(events, DijetKinematics())[0]

    background, signal = make_events(2600, 0), make_events(160, 1, prongs=2, masses=(3.3, 3.5), first=10_000)
    data = inside(ConstituentEvents.concatenate([background, signal]))
    order = np.random.default_rng(0).permutation(len(data))
    data = data.select(order)
    data = data.select((data.mass > 2.3) & (data.mass < 4.8))
    test_background, test_signal = (
        inside(make_events(2000, 2)),
        inside(make_events(400, 3, prongs=2, masses=(3.3, 3.5))),
    )
    in_signal = [e.select((e.mass > 3.1) & (e.mass < 3.7)) for e in (test_background, test_signal)]
    return ConstituentInputs(data, Truth(data.event_id, data.event_id >= 10_000), *in_signal)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return TaskStore(tmp_path_factory.mktemp("tasks"), SerialExecutor())


@pytest.fixture(scope="module")
def found(inputs, store):
    return run_constituents(inputs, SETTINGS, store)


def test_masses_are_exact_and_everything_is_in_the_acceptance(found):
    made = found.constituents
    for generated in (made.template, made.sideband_template):
        events = generated.events
        again = ConstituentEvents.from_points(events.points)
        np.testing.assert_allclose(again.mass, generated.mass, rtol=1e-6)
        ordered, axes = ordered_axes(events)
        assert ordered is events
        assert DijetKinematics().inside(axes).all()
        assert events.mask.sum(2).min() >= 2
        assert events.mask.sum(2).max() <= 16
        smallest = events.points[..., 0][events.mask].min()
        assert smallest > 0
    assert ((made.template.mass > 3.1) & (made.template.mass < 3.7)).all()
    # Lost masses are few, and each event stands at a mass that was asked for.
    assert made.template.lost <= 0.02 * len(made.template.mass)
    tested = np.tile(made.held_out.mass, 1)
    np.testing.assert_array_equal(made.sideband_template.mass, tested[made.sideband_template.row % len(tested)])


def test_no_model_has_seen_the_signal_region_or_what_it_is_compared_with(inputs, found):
    made = found.constituents
    regions = (inputs.data.mass > 3.1) & (inputs.data.mass < 3.7)
    counts = len(made.models.members)
    for model in made.models.members:
        assert not model.has_seen(inputs.data.select(regions)).any()
        seen = model.has_seen(inputs.data.select(~regions))
        # Two members share the sidebands.
        assert 0.4 < seen.mean() < 0.6
    member = made.tables.held_out_member
    for k, model in enumerate(made.models.members):
        of_model = member % counts == k
        assert of_model.any()
        assert not model.has_seen(made.held_out.select(of_model)).any()
    for k, split in enumerate(made.tables.splits):
        of_member = member // counts == k
        assert np.isin(made.held_out.event_id[of_member], split.test.event_id).all()
        assert not np.isin(made.held_out.event_id[of_member], split.train.event_id).any()


def test_observables_belong_to_the_events(found):
    made = found.constituents
    table = made.tables.template
    assert table.features.shape == (len(made.template.events), 4)
    flat = made.template.events.flat()
    counts = flat.multiplicity().reshape(-1, 2)
    mass = flat.axis[:, 3].reshape(-1, 2)
    lighter = mass.argmin(1)
    np.testing.assert_allclose(table.features[:, 0], 1e-3 * mass.min(1), rtol=1e-6)
    np.testing.assert_array_equal(table.features[:, 2], np.take_along_axis(counts, lighter[:, None], 1)[:, 0])


def test_results_follow_the_schema(found):
    schema = json.loads((files("cathode.search") / "results.schema.json").read_text(encoding="utf-8"))
    content = found.search.result.to_json()
    jsonschema.Draft202012Validator(schema).validate(content)
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["constituents"]["members"] == 2
    assert content["constituents"]["milliseconds_per_jet"] > 0
    names = [c["name"] for c in content["gate"]["checks"]]
    assert names[-2:] == ["transformer AUC, sidebands", "template events lost"]
    assert {"search", "idealized", "supervised"} == {"search", *content["truth"]["references"]}
    assert {h.feature for h in found.search.result.feature_histograms} == {"mj1", "dmj", "n_j1", "width_j2"}


def test_two_prongs_are_told_from_one_by_the_reference(found):
    assert found.search.result.truth.references["supervised"].auc > 0.8


def test_no_label_reaches_the_search(inputs, found, tmp_path_factory):
    """In a store of its own, without labels and test samples: the same template, scores, p-values and gate."""
    store = TaskStore(tmp_path_factory.mktemp("blind"), SerialExecutor())
    blind = run_constituents(ConstituentInputs(inputs.data), SETTINGS, store)
    assert blind.search.result.truth is None
    one, other = found.search.result.to_json(), blind.search.result.to_json()
    for key in ("working_points", "gate", "mass_spectrum", "counts", "notes"):
        assert one[key] == other[key], key
    np.testing.assert_array_equal(blind.constituents.template.events.points, found.constituents.template.events.points)
    for sample in ("data", "template", "sideband", "closure_data", "closure_template"):
        np.testing.assert_array_equal(blind.search.scores.score[sample], found.search.scores.score[sample])


def test_wrong_labels_change_the_evaluation_only(inputs, store, found):
    shuffled = Truth(inputs.truth.event_id, np.random.default_rng(0).permutation(inputs.truth.is_signal))
    wrong = run_constituents(replace(inputs, truth=shuffled, test_background=None, test_signal=None), SETTINGS, store)
    assert wrong.search.result.to_json()["working_points"] == found.search.result.to_json()["working_points"]


def test_the_template_alone_is_that_of_the_search(inputs, store, found):
    made = make_constituent_template(inputs, SETTINGS, store)
    np.testing.assert_array_equal(made.template.events.points, found.constituents.template.events.points)


def test_the_error_of_the_closure_reaches_the_p_value(inputs, store, found):
    significance = replace(SETTINGS.significance, closure_error=True)
    other = run_constituents(replace(inputs, truth=None), replace(SETTINGS, significance=significance), store)
    plain, counted = (r.search.result.working_points[0] for r in (found, other))
    assert counted.observed == plain.observed
    error = plain.sideband_closure_error * plain.expected
    assert counted.systematic_error == pytest.approx(np.hypot(plain.systematic_error, error))


def test_trees_see_the_observables(inputs, store, found):
    settings = replace(SETTINGS, classifier=ClassifierSettings(model=Trees(members=2), folds=2))
    other = run_constituents(replace(inputs, truth=None), settings, store)
    np.testing.assert_array_equal(other.constituents.template.events.points, found.constituents.template.events.points)
    assert len(other.search.scores.score["data"]) == len(found.search.scores.score["data"])


def test_models_of_an_earlier_search_can_be_used(inputs, store, found):
    folders = tuple(str(m.folder) for m in found.constituents.models.members)
    assert load_density(folders[0]).particles == 16
    own = replace(SETTINGS.constituents, models=folders)
    made = make_constituent_template(inputs, replace(SETTINGS, constituents=own), store)
    np.testing.assert_array_equal(made.template.events.points, found.constituents.template.events.points)
    assert made.summary.models == list(folders)


def test_jets_go_through_a_pretrained_encoder_once(inputs, store, found, make_events, tmp_path):
    jets = make_events(400, 7).flat()
    encoder = pretrain(
        constituent_inputs(jets.points, jets.mask, jets.axis), tmp_path / "encoder",
        targets=jets.multiplicity(), denoise=False, width=16, heads=2, blocks=1, epochs=1, seed=1,
    )  # fmt: skip
    model = TransformerTrees(pretrained=str(encoder), members=2)
    searched = run_constituents(inputs, replace(SETTINGS, classifier=ClassifierSettings(model=model, folds=2)), store)
    result = searched.search.result
    assert result.truth is not None
    assert set(result.truth.references) == {"idealized", "supervised"}
    folders = sorted(path.name for path in store.folder.glob("embedding-*"))
    samples = ["closure_template", "data", "sideband", "template", "test_background", "test_signal"]
    assert sorted({name.split("-")[1] for name in folders}) == samples
    # Folds and references share them: one task for each piece of each sample.
    assert len({tuple(name.split("-")[1:3]) for name in folders}) == len(folders)


def test_a_reweighted_template_is_judged_by_other_events(inputs, store, found, monkeypatch):
    seen = {}

    def spy(data, generated, samples, *args, **kwargs):
        seen.update(samples)
        return reweighted(data, generated, samples, *args, **kwargs)

    monkeypatch.setattr("cathode.search.constituents.template.reweighted", spy)
    own = replace(SETTINGS.constituents, reweighting=ReweightingSettings(trees=2, networks=1, repeats=1, largest=2.0))
    classifier = ClassifierSettings(model=Trees(members=2), folds=2)
    settings = replace(SETTINGS, constituents=own, classifier=classifier)
    other = run_constituents(replace(inputs, truth=None), settings, store)
    made, plain = other.constituents, found.constituents
    weights = made.summary.reweighting
    sidebands = int(((inputs.data.mass < 3.1) | (inputs.data.mass > 3.7)).sum())
    learned_from = seen["reweighting_data"]
    assert not np.isin(learned_from.event_id, made.held_out.event_id).any()
    assert not ((learned_from.mass > 3.1) & (learned_from.mass < 3.7)).any()
    assert weights.data == len(learned_from) == sidebands - len(made.held_out)
    assert len(made.held_out) <= sidebands // 2
    # About as many events as without, of twice as many that were generated.
    assert made.template.asked == 2 * plain.template.asked
    assert len(made.template.mass) == pytest.approx(len(plain.template.mass), rel=0.2)
    assert len(made.tables.template) == len(made.template.mass) == len(other.search.scores.score["template"])
    np.testing.assert_allclose(ConstituentEvents.from_points(made.template.events.points).mass, made.template.mass)
    np.testing.assert_array_equal(made.tables.template.mass, made.template.mass)
    schema = json.loads((files("cathode.search") / "results.schema.json").read_text(encoding="utf-8"))
    content = other.search.result.to_json()
    jsonschema.Draft202012Validator(schema).validate(content)
    assert content["constituents"]["reweighting"]["columns"] == 5
    # Labels decide nothing here either.
    wrong = Truth(inputs.truth.event_id, ~inputs.truth.is_signal)
    again = make_constituent_template(replace(inputs, truth=wrong), settings, store)
    np.testing.assert_array_equal(again.template.events.points, made.template.events.points)
