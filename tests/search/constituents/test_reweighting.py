from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cathode.classifiers.transformer.features import constituent_inputs
from cathode.classifiers.transformer.pretraining import pretrain
from cathode.jets.observables import dijet_observables
from cathode.search.constituents.reweighting import reweighted
from cathode.search.constituents.settings import ConstituentSettings, ReweightingSettings
from cathode.search.settings import DataSettings, RegionSettings, SearchSettings
from cathode.support.errors import UserError

FEATURES = ("mj1", "dmj", "n_j1", "n_j2")
REWEIGHTING = ReweightingSettings(trees=2, networks=1, largest=5.0)
SETTINGS = SearchSettings(
    inputs="constituents",
    data=DataSettings(features=FEATURES),
    regions=RegionSettings(signal=(3.1, 3.7), sideband=(2.3, 4.8)),
    constituents=ConstituentSettings(reweighting=REWEIGHTING),
)


@pytest.fixture(scope="module")
def samples(make_events):
    """Jets of data have ten constituents on average, generated ones eight."""

    def inside(events, low, high):
        return events.select((events.mass > low) & (events.mass < high))

    def outside(events):
        return events.select((events.mass < 3.1) | (events.mass > 3.7))

    return {
        "data": outside(make_events(3000, 0, slots=24)),
        "generated": outside(make_events(6000, 1, slots=24, mean=8.0)),
        "template": inside(make_events(20_000, 2, slots=24, mean=8.0), 3.1, 3.7),
        "closure": outside(make_events(4000, 3, slots=24, mean=8.0)),
    }


@pytest.fixture(scope="module")
def tables(samples):
    return {name: dijet_observables(events, FEATURES) for name, events in samples.items()}


def means(table):
    return table.features[:, 2:].mean(0)


def test_generated_events_come_to_look_like_data(samples, tables, runner):
    stay, summary = reweighted("data", "generated", samples, tables, SETTINGS, runner, seed=1)
    assert set(stay) == {"template", "closure"}
    for name, rows in stay.items():
        assert rows.shape == (len(samples[name]),)
        assert rows.mean() == pytest.approx(summary.kept[name])
        # Few weights are cut, so nearly one in five stays.
        assert 0.9 / 5 < rows.mean() < 1.1 / 5
        assert 0.3 < summary.effective[name] < 0.95
        before, after = tables[name], tables[name].select(rows)
        difference = means(tables["data"]) - means(before)
        assert (difference > 1.5).all()
        assert (np.abs(means(tables["data"]) - means(after)) < 0.3 * difference).all()
        # The mass keeps its distribution.
        error = before.mass.std() / np.sqrt(rows.sum())
        assert abs(after.mass.mean() - before.mass.mean()) < 4 * error
    assert (summary.data, summary.generated) == (len(samples["data"]), len(samples["generated"]))
    assert summary.columns == len(FEATURES) + 1


def test_same_seed_same_events(samples, tables, runner):
    one, two, other = (
        reweighted("data", "generated", samples, tables, SETTINGS, runner, seed=seed)[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one["template"], two["template"])
    assert (one["template"] != other["template"]).any()


def test_an_encoder_adds_its_components(samples, tables, runner, make_events, tmp_path):
    jets = make_events(300, 7, slots=24).flat()
    encoder = pretrain(
        constituent_inputs(jets.points, jets.mask, jets.axis), tmp_path / "encoder",
        targets=jets.multiplicity(), denoise=False, width=16, heads=2, blocks=1, epochs=1, seed=1,
    )  # fmt: skip
    own = replace(REWEIGHTING, encoder=str(encoder), variance=0.5, networks=0)
    settings = replace(SETTINGS, constituents=ConstituentSettings(reweighting=own))
    few = {name: events.select(slice(0, 600)) for name, events in samples.items()}
    stay, summary = reweighted(
        "data", "generated", few, {n: t.select(slice(0, 600)) for n, t in tables.items()}, settings, runner, seed=1
    )
    # Of each of two jets its mass and one component or more.
    assert summary.columns >= len(FEATURES) + 1 + 4
    assert stay["template"].any()


@pytest.mark.parametrize(
    "bad", [{"largest": 1.0}, {"variance": 0.0}, {"repeats": 0}, {"trees": 0, "networks": 0}, {"trees": -1}]
)
def test_senseless_settings_are_refused(bad):
    with pytest.raises(UserError, match=r"constituents\.reweighting"):
        ReweightingSettings(**bad)
