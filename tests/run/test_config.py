from __future__ import annotations

import dataclasses

import pytest
import yaml

from cathode.run.config import dump_settings, load_settings, merge, parse_overrides, settings_from_dict, settings_yaml
from cathode.search.settings import Diffusion, FlowMatching, Maf, Mlp, SearchSettings, SplineFlow, Trees
from cathode.support.errors import UserError


def load(content) -> SearchSettings:
    return settings_from_dict(SearchSettings, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"sead": 1}, "unknown key 'sead'; did you mean 'seed'?"),
        ({"density": {"member": 2}}, "unknown key 'density.member'; did you mean 'members'?"),
        ({"density": {"training": {"epoch": 2}}}, "unknown key 'density.training.epoch'; did you mean 'epochs'?"),
        ({"density": {"model": {"hiden": [3]}}}, "unknown key 'density.model.hiden'; did you mean 'hidden'?"),
        ({"classifier": {"model": {"member": 3}}}, "unknown key 'classifier.model.member'; did you mean 'members'?"),
        ({"zzzz": 1}, "unknown key 'zzzz'; known keys: classifier, "),
        ({"classifier": {"model": {"kind": "forest"}}}, "classifier.model"),
        ({"density": {"members": "many"}}, "density.members: .*got 'many'"),
        ({"density": {"members": 0}}, "density.members: must be at least 1, got 0"),
        ({"density": {"training": {"epochs": 0}}}, "epochs"),
        ({"density": 3}, "density"),
        ({"density": None}, "density"),
        ({"regions": {"signal": [3.3]}}, "regions.signal"),
        ({"regions": {"signal": ["a", "b"]}}, "regions.signal"),
        ({"seed": "one"}, "seed"),
        ({"executor": "slurm"}, "executor: .*got 'slurm'"),
        ({"evaluation": {"reserve": 1.5}}, "evaluation.reserve: must be between 0 and 1, got 1.5"),
        ({"significance": {"background_efficiencies": []}}, "significance.background_efficiencies"),
        ({"data": {"features": []}}, "data.features: must be at least one feature"),
        ({"template": {"oversampling": -1}}, "template.oversampling: must be positive"),
        ({1: 2}, "unknown key '1'|configuration"),
    ],
)
def test_mistakes_are_named_with_their_key(content, message):
    with pytest.raises(UserError, match=message) as error:
        load(content)
    assert "\n" not in str(error.value)


def test_every_default_survives_a_round_trip():
    settings = SearchSettings()
    assert load(yaml.safe_load(settings_yaml(settings))) == settings
    assert load({}) == settings


@pytest.mark.parametrize(
    "model",
    [Maf(transforms=3), SplineFlow(bins=5), FlowMatching(steps=7), Diffusion(steps=4)],
    ids=lambda m: m.kind,
)
def test_other_models_survive_a_round_trip(model):
    settings = SearchSettings()
    settings = dataclasses.replace(settings, density=dataclasses.replace(settings.density, model=model))
    again = load(yaml.safe_load(settings_yaml(settings)))
    assert again == settings
    assert type(again.density.model) is type(model)


def test_another_kind_replaces_the_whole_mapping():
    settings = load({"classifier": {"model": {"kind": "mlp", "members": 3}}})
    assert settings.classifier.model == Mlp(members=3)
    settings = load({"density": {"model": {"kind": "maf"}}})
    assert settings.density.model == Maf()
    assert merge({"kind": "a", "x": 1}, {"kind": "b"}) == {"kind": "b"}
    assert merge({"kind": "a", "x": 1}, {"kind": "a", "y": 2}) == {"kind": "a", "x": 1, "y": 2}


def test_a_partial_section_keeps_the_tuned_defaults():
    default = SearchSettings().density.training
    settings = load({"density": {"training": {"epochs": 3}}})
    assert settings.density.training == dataclasses.replace(default, epochs=3)
    assert default.learning_rate != type(default)().learning_rate
    assert load({"classifier": {"folds": 3}}).classifier.model == Trees()


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.001", "1.0e-3"])
def test_numbers_with_exponents_are_numbers(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(f"significance: {{background_efficiencies: [1e-2, {text}]}}\ntemplate: {{kde_bandwidth: {text}}}\n")
    settings = load_settings(SearchSettings, path)
    assert settings.significance.background_efficiencies == (0.01, 0.001)
    assert settings.template.kde_bandwidth == 0.001
    override = load_settings(SearchSettings, path, [f"template.kde_bandwidth={text}", "significance.sqrt_s=1e1"])
    assert override.template.kde_bandwidth == 0.001
    assert override.significance.sqrt_s == 10.0


def test_text_that_looks_like_a_number_but_names_something_stays(tmp_path):
    assert load({"data": {"mass": "mjj", "weight": "we"}}).data.weight == "we"


def test_overrides_nest_and_win(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("seed: 1\ndensity: {members: 2, training: {epochs: 4}}\n")
    settings = load_settings(
        SearchSettings, path, ["seed=5", "density.training.epochs=9", "regions.signal=[2.5,2.9]", "workers=null"]
    )
    assert (settings.seed, settings.density.members, settings.density.training.epochs) == (5, 2, 9)
    assert settings.regions.signal == (2.5, 2.9)
    assert settings.workers is None
    assert parse_overrides(["a.b=1", "a.c=x", "d=[1, 2e-1]"]) == {"a": {"b": 1, "c": "x"}, "d": [1, 0.2]}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (["seed"], "expected KEY=VALUE"),
        (["=3"], "expected KEY=VALUE"),
        (["seed=[1"], "not valid YAML"),
        (["seed=1", "seed.x=2"], "seed has been given a value already"),
        (["density.membres=2"], "unknown key 'density.membres'; did you mean 'members'?"),
    ],
)
def test_bad_overrides_are_refused(tmp_path, override, message):
    path = tmp_path / "c.yaml"
    path.write_text("")
    with pytest.raises(UserError, match=message):
        load_settings(SearchSettings, path, override)


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1, 2]", "must contain a mapping"), ("a: [", "is not valid YAML"), ("a: b: c", "is not valid YAML")],
)
def test_unreadable_files_are_refused(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_settings(SearchSettings, path)


def test_files_that_are_not_text_are_refused(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x89HDF")
    for path, message in ((tmp_path / "none.yaml", "does not exist"), (tmp_path, "cannot be read"),
                          (tmp_path / "binary.yaml", "cannot be read|not valid YAML")):  # fmt: skip
        with pytest.raises(UserError, match=message):
            load_settings(SearchSettings, path)


def test_one_file_needs_no_brackets():
    assert load({"data": {"events": "a.h5"}}).data.events == ("a.h5",)
    assert load({"data": {"events": ["a.h5", "b.h5"]}}).data.events == ("a.h5", "b.h5")


def test_dump_is_plain_data():
    content = dump_settings(SearchSettings())
    assert yaml.safe_load(yaml.safe_dump(content)) == content
