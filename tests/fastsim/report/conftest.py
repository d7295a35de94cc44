from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastsim.data import Showers, read_showers
from fastsim.evaluation.classifiers.results import (
    ClassifierResults,
    ClassifierScore,
    Interval,
    Roc,
    SeparatingFeature,
)
from fastsim.evaluation.pipeline import evaluate
from fastsim.evaluation.settings import EvaluationSettings
from fastsim.evaluation.timing import Timing
from fastsim.geometry import Geometry
from fastsim.report.standing import report_figures


def score(auc: float) -> ClassifierScore:
    x = np.linspace(0, 1, 11)
    # ROC curve y = x^a has the area 1 / (1 + a).
    curve = Roc(tuple(x), tuple(x ** (1 / auc - 1)))
    return ClassifierScore(
        Interval(auc, auc - 0.01, auc + 0.01, 0.005), Interval(0.1, 0.05, 0.15, 0.025), curve, (auc,), (3,), 12.5
    )


def feature(name: str, kind: str, auc: float) -> SeparatingFeature:
    return SeparatingFeature(name, kind, 3, auc, 0.01, 1.5, 1.25, 0.9, 0.8)


@pytest.fixture(scope="session")
def classifiers() -> ClassifierResults:
    names = {"low_dnn": 0.62, "high_dnn": 0.55, "low_trees": 0.631, "high_trees": 0.56, "cnn": 0.6}
    return ClassifierResults(
        mode="strict",
        profile="standard",
        seed=0,
        showers=(1500, 1500),
        scores={k: score(v) for k, v in names.items()},
        voxels=(feature("voxel 12 (layer 1)", "voxel", 0.57), feature("voxel 14 (layer 2)", "voxel", 0.44)),
        observables=(feature("e_layer_2", "observable", 0.53),),
        feature_threshold=3.8,
    )


@pytest.fixture(scope="session")
def result(classifiers):
    """An evaluation of real showers with their own kind, with classifiers made up."""
    samples = [
        read_showers("sample:ds1-photons", "ds1-photons", start=start, stop=start + 1500) for start in (0, 1500, 3000)
    ]
    settings = EvaluationSettings(quick=True, classifiers=False)
    found = evaluate(
        samples[0],
        samples[1],
        settings,
        name="A <generator> & more",
        sources=("full.hdf5", "made.hdf5"),
        training=samples[2][:300],
        timing=Timing({"cpu_batch100": 1.25}, "latency.json"),
    )
    return replace(found, classifiers=classifiers)


@pytest.fixture(scope="session")
def drawn(result):
    """All figures of ``result``; drawing them takes longer than everything else here."""
    return report_figures(result)


@pytest.fixture(scope="session")
def toy():
    """Showers in any geometry."""

    def make(layout: Geometry, n: int = 300, seed: int = 0) -> Showers:
        generator = np.random.default_rng(seed)
        incident = np.exp(generator.uniform(np.log(1e3), np.log(1e4), (n, 1)))
        shape = generator.gamma(0.7, 1.0, (n, layout.n_voxels)) * np.exp(-layout.r / 20)
        shape[shape < 0.02] = 0
        energies = incident * shape / shape.sum(axis=1, keepdims=True)
        return Showers(incident.astype(np.float32), energies.astype(np.float32), layout)

    return make
