from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files

import jsonschema
import numpy as np
import pytest

from cathode.support.errors import UserError
from fastsim.data import Showers, read_showers
from fastsim.evaluation.classifiers import PROFILES
from fastsim.evaluation.inputs import prepare, read_pair
from fastsim.evaluation.pipeline import evaluate
from fastsim.evaluation.results import plain
from fastsim.evaluation.settings import EvaluationSettings
from fastsim.evaluation.timing import Timing, read_timing
from fastsim.geometry import Geometry, geometry

QUICK = EvaluationSettings(quick=True, classifiers=False, seed=3)
SCHEMA = json.loads((files("fastsim.evaluation") / "results.schema.json").read_text(encoding="utf-8"))


def sample(start: int, stop: int) -> Showers:
    return read_showers("sample:ds1-photons", "ds1-photons", start=start, stop=stop)


def scaled(showers: Showers, factor: float) -> Showers:
    return Showers.unchecked(showers.incident_energy, showers.energies * np.float32(factor), showers.geometry)


@pytest.fixture(scope="module")
def reference():
    return sample(0, 2000)


@pytest.fixture(scope="module")
def generated():
    return sample(2000, 3600)


@pytest.fixture(scope="module")
def same(reference, generated):
    return evaluate(
        reference, generated, QUICK, name="itself", training=sample(4000, 4400), timing=Timing({"cpu_batch100": 1.5})
    )


@pytest.fixture(scope="module")
def wrong(reference, generated):
    return evaluate(reference, scaled(generated, 1.1), replace(QUICK, floor=False))


def checked(result) -> dict:
    content = json.loads(json.dumps(result.to_json(), allow_nan=False))
    jsonschema.validate(content, SCHEMA)
    return content


def test_showers_of_one_distribution_are_found_alike(same):
    for distance in (same.fpd, same.kpd):
        assert abs(distance.value) < 4 * distance.error
    pulls = [(s.power.value - s.power.expected) / s.power.error for s in same.separations]
    assert np.mean(pulls) == pytest.approx(0.0, abs=0.5)
    assert max(pulls) < 5
    assert same.prdc.density.value == pytest.approx(1.0, abs=0.15)
    for one in same.response:
        assert one.mean_ratio[0] == pytest.approx(1.0, abs=4.5 * one.mean_ratio[1])
        assert one.width_ratio[0] == pytest.approx(1.0, abs=4.5 * one.width_ratio[1])
    assert same.support.ratio.value == pytest.approx(1.0, abs=4 * same.support.ratio.error)


def test_too_much_energy_is_found(wrong, same):
    for one in wrong.response:
        assert one.mean_ratio[0] == pytest.approx(1.1, abs=5 * one.mean_ratio[1])
    powers = [{s.name: s.power for s in r.separations} for r in (wrong, same)]
    total = powers[0]["e_tot_over_e_inc"]
    assert total.value > total.expected + 10 * total.error
    assert total.value > 3 * powers[1]["e_tot_over_e_inc"].value
    assert wrong.wasserstein["e_tot_over_e_inc"].value > 3 * wrong.wasserstein["asymmetry_eta"].value


def test_results_follow_the_schema(same, wrong):
    content = checked(same)
    assert content["kind"] == "fastsim evaluation"
    assert content["auc"] == {}
    assert content["counts"]["reference"] == 2000
    assert content["counts"]["generated"] == 1600
    assert content["timing"]["milliseconds_per_shower"] == {"cpu_batch100": 1.5}
    assert content["floor"]["showers"] == 1000
    assert set(content["separation"]) == set(content["separation_detail"])
    assert content["separation"]["e_layer_2"] == same.separations[4].power.value
    assert content["amplification"]["e_tot_over_e_inc"]["training"]["events"] == 400
    assert checked(wrong)["floor"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "something else"},
        {"fpd": {"value": 1.0}},
        {"unknown": 1},
        {"auc": {"low_dnn": 0.5}},
        {"notes": [1]},
    ],
)
def test_the_schema_refuses(same, change):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**same.to_json(), **change}, SCHEMA)


def test_every_field_of_the_schema_is_described_or_obvious(same):
    missing = set(SCHEMA["properties"]) ^ set(same.to_json())
    assert not missing


def test_the_same_seed_gives_the_same_numbers(reference, generated, same):
    again = evaluate(reference, generated, QUICK, name="itself", training=sample(4000, 4400)).to_json()
    first = same.to_json()
    for content in (first, again):
        content.pop("timing")
    assert again == first


def test_the_floor_is_that_of_the_reference(same):
    assert abs(same.floor.fpd.value) < 4 * same.floor.fpd.error
    # A thousand showers against a thousand scatter more than 2000 against 1600.
    means = [
        np.mean([p.value for p in powers])
        for powers in (same.floor.separations.values(), [s.power for s in same.separations])
    ]
    assert means[0] > means[1]


def toy(n: int, seed: int, slope: float = 0.0) -> Showers:
    layout = Geometry.from_grid((8, 4, 4), cell=10.0)
    generator = np.random.default_rng(seed)
    incident = np.exp(generator.uniform(np.log(1e3), np.log(1e4), (n, 1)))
    shape = generator.gamma(0.7, 1.0, (n, layout.n_voxels)) * np.exp(-layout.r / 10 - (0.3 + slope) * layout.layer)
    shape[shape < 0.02] = 0
    energies = incident * shape / shape.sum(axis=1, keepdims=True)
    return Showers(incident.astype(np.float32), energies.astype(np.float32), layout)


@pytest.fixture(scope="module")
def classified():
    settings = EvaluationSettings(quick=True, seed=1, cnn=False)
    quick = PROFILES["quick"]
    small = replace(
        quick,
        folds=2,
        hidden=(32,),
        training=replace(quick.training, epochs=3),
        trees=replace(quick.trees, trees=25, learning_rate=0.2),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROFILES, "quick", small)
        return evaluate(toy(500, 1), toy(500, 2, slope=0.3), settings)


def test_classifiers_see_a_wrong_depth(classified):
    content = checked(classified)
    assert {"low_dnn", "high_dnn", "low_trees", "high_trees"} <= set(content["auc"])
    for area in content["auc"].values():
        assert area["low"] <= area["value"] <= area["high"]
    assert content["auc"]["high_trees"]["low"] > 0.7
    best = content["separating"]["observables"][0]
    assert "layer" in best["name"] or "_z" in best["name"]
    assert content["ranking"] is None


def test_another_geometry_needs_no_threshold(classified):
    assert classified.threshold == 0.0
    assert classified.counts["generated_voxels_below_threshold"] == 0


def test_one_incident_energy_left_out(reference, generated):
    result = evaluate(reference, generated, replace(QUICK, leave_out_energy=4096.0, floor=False))
    rows = [(s.incident_energy == 4096.0).sum() for s in (reference, generated)]
    assert (result.counts["reference"], result.counts["generated"]) == tuple(rows)
    assert len(result.response) == len(np.unique(reference.incident_energy))
    assert {s.energy for s in result.separations} == {None, 4096.0}
    assert "4096 MeV alone" in result.notes[0]


def test_voxels_below_the_threshold_are_counted_and_said(reference, generated):
    energies = generated.energies.copy()
    energies[:, 5] = 0.5
    made = Showers.unchecked(generated.incident_energy, energies, generated.geometry)
    result = evaluate(reference, made, replace(QUICK, floor=False))
    assert result.counts["generated_voxels_below_threshold"] == len(made)
    assert any("1,600 generated voxels" in n for n in result.notes)
    before = evaluate(reference, made, replace(QUICK, floor=False, threshold=0.1))
    assert before.counts["generated_voxels_below_threshold"] == 0
    assert before.fpd.value > result.fpd.value + 5 * result.fpd.error


def test_copies_of_the_reference_are_noticed(reference, generated):
    mixed = Showers.concatenate([generated, reference[:200]])
    filled = (reference.energies[:200] > 0).any(axis=1).sum()
    pair = prepare(reference, mixed, QUICK)
    assert pair.counts["identical"] == filled
    assert "in both samples" in pair.notes[0]


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        ({"dataset": "ds1-photons"}, None, "no ranking as ds1-photons"),
        ({"dataset": "ds2"}, None, "dataset ds2 has another binning"),
        ({"leave_out_energy": 5000.0}, None, "no reference showers of 5000 MeV .* 256, 512"),
        ({}, lambda s: s[:40], "40 generated showers are left"),
        (
            {},
            lambda s: Showers.unchecked(s.incident_energy / 1000, s.energies / 1000, s.geometry),
            "one file is in GeV",
        ),
        ({}, lambda s: s[np.flatnonzero(s.incident_energy > 300)], "do not occur among the generated"),
        ({}, lambda s: toy(200, 1), r"368 voxels.*128 voxels"),
    ],
    ids=["dataset", "binning", "energy", "few", "GeV", "spectrum", "geometry"],
)
def test_what_cannot_be_compared_is_refused(reference, generated, settings, change, message):
    made = generated if change is None else change(generated)
    with pytest.raises(UserError, match=message):
        prepare(reference, made, replace(QUICK, **settings))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "lenient"}, "unknown evaluation mode"),
        ({"dataset": "ds4"}, "unknown dataset 'ds4'"),
        ({"threshold": -1.0}, "threshold must be zero"),
        ({"leave_out_energy": float("nan")}, "leave-out-energy must be"),
        ({"max_showers": 5}, "at least 100"),
        ({"leave_out_energy": 1e3, "dataset": "ds2"}, "cannot be ranked"),
    ],
)
def test_settings_are_checked(arguments, message):
    with pytest.raises(UserError, match=message):
        EvaluationSettings(**arguments)


def test_matching_energies(reference, generated):
    few = generated[np.flatnonzero((generated.incident_energy > 300) & (np.arange(1600) % 3 > 0)[:, None])[:700]]
    pair = prepare(reference, few, replace(QUICK, match_energies=True))
    assert pair.counts["reference"] == pair.counts["generated"] < len(few) + 1
    assert pair.reference.incident_energy.min() > 300


def test_random_thinning_and_short_files(tmp_path):
    layout = geometry("ds1-photons")
    settings = replace(QUICK, max_showers=300)
    one, two = read_pair("sample:ds1-photons", "sample:ds1-photons", layout, settings)
    assert len(one) == len(two) == 300
    # Not the first rows, and not the same of both.
    assert not np.array_equal(one.energies, two.energies)
    with pytest.raises(UserError, match=r"missing\.hdf5: no such file"):
        read_pair("sample:ds1-photons", tmp_path / "missing.hdf5", layout, settings)


def test_times_are_read_from_where_they_were_written(tmp_path):
    import h5py

    path = tmp_path / "showers.hdf5"
    with h5py.File(path, "w") as file:
        file.attrs.update({"milliseconds_per_shower": 0.25, "batch_size": 1000, "device": "cuda:0"})
    found = read_timing("auto", path)
    assert found.milliseconds == {"gpu_batch1000": 0.25}
    with h5py.File(path, "w") as file:
        file.attrs["other"] = 1
    assert read_timing("auto", path) is None
    assert read_timing("auto", "sample:ds1-photons") is None
    times = tmp_path / "latency.json"
    times.write_text(json.dumps({"pytorch": {"cpu_batch1": 3, "cpu_batch100": 0.5}, "note": "idle machine"}))
    found = read_timing(times, path)
    assert found.milliseconds == {"cpu_batch1": 3.0, "cpu_batch100": 0.5}
    assert found.note == "idle machine"
    for content, message in (("{}", "holds no times"), ("{", "cannot be read as JSON")):
        times.write_text(content)
        with pytest.raises(UserError, match=message):
            read_timing(times, path)
    with pytest.raises(UserError, match="does not exist"):
        read_timing(tmp_path / "none.json", path)


def test_plain_data_is_strict():
    content = plain({"a": np.float32("nan"), "b": (np.int64(2), np.bool_(True)), "c": np.array([1.0, np.inf])})
    assert content == {"a": None, "b": [2, True], "c": [1.0, None]}
