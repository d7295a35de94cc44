from __future__ import annotations

import numpy as np
import pytest

from cathode.data.events import Events
from cathode.data.regions import Regions
from cathode.density.analytic import LinearGaussian
from cathode.run.executors import SerialExecutor
from cathode.run.tasks import TaskStore
from cathode.search.background import Background
from cathode.search.classify import Scores
from cathode.search.results import DensitySummary

REGIONS = Regions(signal=(3.3, 3.7), sideband=(2.3, 5.0))
SLOPE, BIAS = np.array([0.6, -0.3]), np.array([-1.0, 0.5])
FACTOR = np.array([[0.5, 0.0], [0.3, 0.4]])


@pytest.fixture
def runner(tmp_path):
    return TaskStore(tmp_path / "tasks", SerialExecutor())


@pytest.fixture
def make_gaussian():
    """Background whose features are Gaussian around a mean linear in the mass, and the exact density of it."""

    def make(rows: int, seed: int = 0, *, shift: float = 0.0) -> Events:
        random = np.random.default_rng(seed)
        # The exponential fall of a dijet spectrum, by its inverse distribution function.
        span = 1 - np.exp(-1.6 * 2.7)
        mass = 2.3 - np.log1p(-random.random(rows) * span) / 1.6
        features = BIAS + shift + np.outer(mass, SLOPE) + random.normal(size=(rows, 2)) @ FACTOR.T
        return Events(features, ("a", "b"), mass, np.arange(rows))

    return make


@pytest.fixture
def exact():
    return LinearGaussian(BIAS.tolist(), FACTOR.tolist(), SLOPE[:, None].tolist())


@pytest.fixture
def make_background(make_gaussian):
    """A fitted background made of given densities."""

    def make(*members, nll: float = 0.0, gaussian_nll: float = 0.1) -> Background:
        x = make_gaussian(50_000, 99).features
        summary = DensitySummary("given", nll, 0.01, gaussian_nll, 0.0, 0.0)
        return Background(
            density=members[0], members=members, summary=summary, lowest=x.min(0) - 0.5, highest=x.max(0) + 0.5,
            clipped=0, rejected=0,
        )  # fmt: skip

    return make


@pytest.fixture
def make_scores():
    """Scores of samples that all follow the same normal distribution; each fold has a scale of its own."""

    def make(
        seed: int = 0, *, data: int = 4000, template: int = 16_000, closure: int = 8000, folds: int = 4, shift=0.0
    ) -> Scores:
        random = np.random.default_rng(seed)
        sizes = {"data": data, "template": template, "closure_data": closure, "closure_template": 4 * closure}
        score, fold = {}, {}
        for name, size in sizes.items():
            fold[name] = np.arange(size) % folds
            score[name] = random.normal(size=size) + (shift if name == "closure_data" else 0.0)
            score[name] = score[name] * (1 + fold[name]) - 3.0 * fold[name]
        return Scores(score, fold, folds, [])

    return make
