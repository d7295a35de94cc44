"""The search on constituents from the command line, on the samples that ship."""

from __future__ import annotations

import json
from importlib.resources import files
from types import SimpleNamespace

import h5py
import jsonschema
import numpy as np
import pytest
import yaml

from cathode.jets.readers import read_constituent_events
from cathode.run.cli import main
from cathode.run.config import load_settings, settings_from_dict
from cathode.search.composition import compose
from cathode.search.constituents.composition import compose_constituents
from cathode.search.settings import SearchSettings

BACKGROUND, SIGNAL = "sample:lhco_constituents", "sample:lhco_constituents_signal"
COMMON = {
    "injection": {"signal": SIGNAL, "count": 120},
    "evaluation": {"reserve": 0.3, "signal": SIGNAL},
    "regions": {"signal": [3.2, 3.8], "sideband": [2.3, 5.5]},
}
CONTENT = COMMON | {
    "inputs": "constituents",
    "data": {"events": BACKGROUND, "features": ["mj1", "dmj", "n_j1"]},
    "density": {
        "members": 2, "preprocessing": "standardize", "model": {"hidden": [32], "components": 4},
        "training": {"epochs": 4, "batch_size": 128},
    },
    "template": {"oversampling": 2},
    "classifier": {"folds": 2, "model": {"kind": "transformer", "epochs": 2, "width": 16, "heads": 2, "blocks": 1}},
    "gate": {"max_events": 100},
    "significance": {"background_efficiencies": [0.1]},
    "constituents": {
        "particles": 20, "classifier_particles": 8, "closure_events": 200,
        "cells": {"pitch": 0.02, "offset": 0.01},
        "points": {
            "model": {
                "kind": "point-sequence", "width": 16, "heads": 2, "blocks": 1, "components": 3, "amount_components": 3,
                "head_width": 16, "floor": 0.5,
            },
            "training": {"epochs": 1, "batch_size": 128},
        },
        "set_test": {"max_events": 0},
    },
    "executor": "serial",
}  # fmt: skip


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "sets.yaml"
    path.write_text(yaml.safe_dump(CONTENT))
    return str(path)


@pytest.fixture(scope="module")
def searched(sets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "sets"
    code = main(["search", sets, "--output", str(folder)])
    return SimpleNamespace(code=code, folder=folder)


def test_a_search_on_constituents_leaves_everything_behind(searched):
    assert searched.code == 0
    names = {p.name for p in searched.folder.iterdir()}
    assert names == {
        "config.yaml", "results.json", "report.html", "figures", "template.h5", "scores.h5", "models", "log.txt",
        "provenance.json",
    }  # fmt: skip
    assert {p.name for p in (searched.folder / "models").iterdir()} == {
        "density-0", "density-1", "constituents-0", "constituents-1",
    }  # fmt: skip
    content = json.loads((searched.folder / "results.json").read_text())
    schema = json.loads((files("cathode.search") / "results.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(content)
    assert content["constituents"]["dropped"] > 0
    assert set(content["truth"]["references"]) == {"idealized", "supervised"}
    assert 'id="constituents"' in (searched.folder / "report.html").read_text()


def test_the_template_is_a_file_of_events_like_the_data(searched):
    content = json.loads((searched.folder / "results.json").read_text())
    template = read_constituent_events(searched.folder / "template.h5")
    assert len(template) == content["counts"]["template"]
    assert template.weight.sum() == pytest.approx(content["counts"]["signal_region"])
    assert template.points.shape[1:] == (2, 20, 3)
    assert ((template.mass > 3.2) & (template.mass < 3.8)).all()
    with h5py.File(searched.folder / "scores.h5") as file:
        assert len(file["data/score"]) == content["counts"]["signal_region"]
        np.testing.assert_allclose(file["template/mass"][:], template.mass, rtol=1e-6)
        assert np.isfinite(file["template/score"][:]).all()
        assert "label" not in file["data"]


def test_a_finished_run_is_not_repeated(searched, sets, cathode):
    again = cathode("search", sets, "--output", searched.folder, "--resume")
    assert (again.code, "this run is finished" in again.out) == (0, True)


def _given(searched):
    return [f"constituents.models={[str(searched.folder / 'models' / f'constituents-{k}') for k in range(2)]}"]


def test_the_template_alone_from_models_of_a_search(searched, sets, cathode, tmp_path):
    out = tmp_path / "template"
    found = cathode("template", sets, "--output", out, "--set", *_given(searched))
    assert found.code == 0, found.err
    results = json.loads((out / "results.json").read_text())
    template = read_constituent_events(out / "template.h5")
    assert template.weight.sum() == pytest.approx(results["expected"])
    # The same models and seed: the template of the search.
    np.testing.assert_array_equal(template.points, read_constituent_events(searched.folder / "template.h5").points)
    with h5py.File(out / "histograms.h5") as file:
        assert set(file["sideband"]) == {"mj1", "dmj", "n_j1"}
    # Models that were given stay where they are.
    assert {p.name for p in (out / "models").iterdir()} == {"density-0", "density-1"}


def test_mistakes_cost_one_line_and_leave_nothing(searched, sets, cathode, tmp_path):
    out = tmp_path / "out"
    for words, message in (
        (["template", sets, "--format", "parquet"], "constituents are written as h5"),
        (["search", sets, "--set", "regions.signal=[2.7,3.0]", *_given(searched)], "events of the signal region"),
        (["search", sets, "--set", "constituents.particles=19", *_given(searched)], "makes jets of up to 20"),
        (["search", sets, "--set", "constituents.models=nowhere"], "nowhere"),
        (["search", sets, "--set", "classifier.model.pretrained=nowhere"], "cannot be read as a pre-trained encoder"),
        (["search", sets, "--set", "constituents.outside=fail"], "outside the acceptance"),
        (["search", sets, "--set", "data.mass=mjj2"], "data.mass belongs to tables"),
        (["search", sets, "--set", "inputs=features"], "a transformer sees constituents"),
        (["search", sets, "--set", "constituents.member=3"], "did you mean 'members'"),
        (
            ["search", sets, "--set", "constituents.points.model.widht=3"],
            "unknown key 'constituents.points.model.widht'",
        ),
    ):
        found = cathode(*words, "--output", out)
        assert found.code == 2, (words, found.out)
        assert len(found.errors) == 1, found.err
        assert message in found.err
        assert not out.exists()


def test_the_search_on_features_can_have_the_same_events(sets, cathode, tmp_path):
    tables = {}
    for name, sample in (("background", BACKGROUND), ("signal", SIGNAL)):
        tables[name] = str(tmp_path / f"{name}.h5")
        found = cathode(
            "jets", "observables", sample, tables[name], "--features", "mj1", "dmj", "--particles", 20
        )  # fmt: skip
        assert found.code == 0, found.err
    content = COMMON | {
        "data": {"events": tables["background"], "mass": "mass", "features": ["mj1", "dmj"]},
        "injection": {"signal": tables["signal"], "count": 120},
        "evaluation": {"reserve": 0.3, "signal": tables["signal"]},
    }
    features = compose(settings_from_dict(SearchSettings, content))
    whole = compose_constituents(load_settings(SearchSettings, sets))
    np.testing.assert_array_equal(features.data.mass, whole.data.mass)
    np.testing.assert_array_equal(features.data.event_id, whole.data.event_id)
    np.testing.assert_array_equal(features.truth.of(features.data), whole.truth.of(whole.data))
    np.testing.assert_array_equal(features.test_background.mass, whole.test_background.mass)
    np.testing.assert_array_equal(features.test_signal.mass, whole.test_signal.mass)
    mass = whole.data.flat().axis[:, 3].reshape(-1, 2)
    np.testing.assert_allclose(features.data.column("mj1"), 1e-3 * mass.min(1), rtol=1e-9)
