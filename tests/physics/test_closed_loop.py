"""Searches of toys whose truth is known: nothing is found where nothing is, and a signal is found where it is."""

from __future__ import annotations

import numpy as np

from cathode.data.toys import toy_events
from cathode.run.executors import SerialExecutor
from cathode.run.tasks import TaskStore
from cathode.search.classify import cross_fit
from cathode.search.composition import SearchInputs
from cathode.search.pipeline import make_template, run_pipeline
from cathode.search.settings import (
    Autoregressive,
    ClassifierSettings,
    DensitySettings,
    GateSettings,
    SearchSettings,
    SignificanceSettings,
    Trees,
)
from cathode.search.significance import working_point
from cathode.training import FitConfig

EFFICIENCIES = (0.1, 0.02)


def _settings(seed):
    return SearchSettings(
        density=DensitySettings(
            model=Autoregressive(hidden=(48, 48), components=3),
            members=1,
            preprocessing="standardize",
            training=FitConfig(epochs=15, batch_size=512, learning_rate=4e-3, ema_halflife_events=20_000),
        ),
        classifier=ClassifierSettings(model=Trees(members=3), folds=2),
        gate=GateSettings(max_events=1_000),
        significance=SignificanceSettings(background_efficiencies=EFFICIENCIES, fit_parameters=3),
        seed=seed,
    )


def _inputs(signal, seed):
    return SearchInputs(toy_events(30_000, signal, k=1.0, seed=seed)[0])


def _significances(folder, seed):
    """Of a search without signal; template, classifier and counting alone, because the gate takes most of the time."""
    settings, runner = _settings(seed), TaskStore(folder, SerialExecutor())
    products = make_template(_inputs(0, seed), settings, runner)
    data, held_out = products.signal_region, products.held_out
    scores = cross_fit(
        settings.classifier,
        data.features,
        products.template.features,
        data_id=data.event_id,
        evaluation={"closure_data": held_out.features, "closure_template": products.sideband_template.features},
        runner=runner,
        seed=seed,
    )
    return [
        working_point(scores, e, data_weight=None, member=products.template.member, closure_weight=None).significance
        for e in EFFICIENCIES
    ]


def test_background_alone_gives_no_extreme_p_values(tmp_path):
    z = np.array([_significances(tmp_path, seed) for seed in (1, 2, 3)])
    assert np.isfinite(z).all()
    assert np.abs(z).max() < 3, z
    # The mean of independent unit normals: an offset common to all toys is a biased background estimate.
    assert (np.abs(z.mean(0)) * np.sqrt(len(z)) < 3).all(), z


def test_a_signal_is_found(tmp_path):
    # 3 sqrt(B) signal events in the signal region.
    result = run_pipeline(_inputs(160, 4), _settings(4), TaskStore(tmp_path, SerialExecutor())).result
    strongest = result.working_points[-1]
    assert result.gate.status != "fail"
    assert strongest.significance > 4
    assert strongest.observed > strongest.expected + 60
    # Nobody told the search what is signal, so it knows nothing of the truth.
    assert result.truth is None
