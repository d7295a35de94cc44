"""Distances and two-sample tests of two samples of jets, whose features are computed once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cathode.comparison.c2st import C2ST, c2st
from cathode.jets.evaluation.results import Score, TwoSampleTest
from cathode.jets.evaluation.settings import JetsEvaluationSettings
from cathode.jets.metrics import cov_mmd, fpnd, jet_fpd, jet_kpd, physics_features, relative_mass, w1_of_features, w1p
from cathode.jets.metrics.wasserstein import W1EFP_NAMES
from cathode.jets.observables import graphs, observables, w1efp_graphs
from cathode.jets.observables.padded import Floats
from cathode.jets.schema import Jets
from cathode.support.seeding import numpy_generator

__all__ = ["Sample", "distances", "two_sample_tests"]

# Jets of each sample that classifiers see: beyond, they only cost time.
_TREES = {False: 40_000, True: 10_000}
_TRANSFORMER = {False: 20_000, True: 6_000}
# Library settings of coverage, and fewer for a quick look.
_COVERAGE = {False: (100, 10), True: (40, 3)}
# Random divisions of the true jets for the floor.
_DIVISIONS = {False: 16, True: 8}
# Below so many jets the library's protocols for FPD and KPD mean little.
_LEAST_FOR_PROTOCOL = 10_000


@dataclass(frozen=True)
class Sample:
    """Jets with the features that several comparisons need.

    Args:
        jets: The jets.
        names: Observables.
        whole: The sample that these jets are rows of, if its features can be taken over.
        rows: Which rows.
    """

    jets: Jets
    names: tuple[str, ...]
    whole: Sample | None = None
    rows: np.ndarray | None = None

    @cached_property
    def mass(self) -> Floats:
        """Relative masses ``(N,)``."""
        return relative_mass(self.jets) if self.whole is None else self.whole.mass[self.rows]

    @cached_property
    def efps(self) -> Floats:
        """Energy flow polynomials ``(N, 36)``."""
        return physics_features(self.jets) if self.whole is None else self.whole.efps[self.rows]

    @cached_property
    def observables(self) -> dict[str, Floats]:
        """Observables by name, ``(N,)`` each."""
        if self.whole is None:
            return observables(self.jets, self.names)
        return {name: values[self.rows] for name, values in self.whole.observables.items()}

    @staticmethod
    def joined(first: Sample, second: Sample) -> Sample:
        """All jets of both, with the features that the distances need."""
        pool = Sample(Jets.concatenate([first.jets, second.jets]), first.names)
        for name in ("mass", "efps"):
            pool.__dict__[name] = np.concatenate([getattr(first, name), getattr(second, name)])
        return pool

    def take(self, rows: np.ndarray) -> Sample:
        """The jets of these rows."""
        return Sample(self.jets.select(rows), self.names, self, rows)


Values = dict[str, tuple[float, float]]


def distances(
    reference: Sample, generated: Sample, floor: tuple[Sample, Sample] | None, settings: JetsEvaluationSettings
) -> list[Score]:
    """Every distance, with that of truth and truth beside it."""
    found = _resampled(reference, generated, settings) | _others(reference, generated, settings)
    below = {} if floor is None else _floor(*floor, settings) | _others(*floor, settings)
    scores = []
    for name, (value, error) in found.items():
        own = below.get(name)
        scores.append(
            Score(
                name=name,
                label=_LABELS[name],
                value=value,
                error=error,
                floor=None if own is None else own[0],
                floor_error=None if own is None else own[1],
                better="high" if name == "coverage" else "low",
            )
        )
    return scores


def _floor(first: Sample, second: Sample, settings: JetsEvaluationSettings) -> Values:
    """Resampled distances of truth and truth: mean and standard deviation over random divisions of all the jets."""
    pool = Sample.joined(first, second)
    values: dict[str, list[float]] = {}
    for k in range(_DIVISIONS[settings.quick]):
        order = numpy_generator(settings.seed, "evaluation", "division", k).permutation(len(pool.jets))
        parts = pool.take(order[: len(first.jets)]), pool.take(order[len(first.jets) :])
        for name, (value, _) in _resampled(*parts, settings).items():
            values.setdefault(name, []).append(value)
    return {name: (float(np.mean(v)), float(np.std(v))) for name, v in values.items()}


def _resampled(first: Sample, second: Sample, settings: JetsEvaluationSettings) -> Values:
    """W1M, W1P and W1EFP with their spread over the batches."""
    draws = {
        "num_eval_samples": settings.num_eval_samples,
        "num_batches": settings.num_batches,
        "seed": settings.seed,
    }
    found: Values = {}
    masses = w1_of_features(first.mass[:, None], second.mass[:, None], ["mass"], **draws)
    found["w1m"] = masses.average
    constituents = w1p(first.jets, second.jets, **draws)
    found["w1p"] = constituents.average
    for k, name in enumerate(constituents.names):
        found[f"w1p_{name}"] = float(constituents.mean[k]), float(constituents.std[k])
    columns = [graphs(4).index(graph) for graph in w1efp_graphs()]
    polynomials = w1_of_features(first.efps[:, columns], second.efps[:, columns], W1EFP_NAMES, **draws)
    found["w1efp"] = polynomials.average
    return found


def _others(first: Sample, second: Sample, settings: JetsEvaluationSettings) -> Values:
    """What is not resampled jet by jet."""
    found: Values = {}
    for name, function in (("fpd", jet_fpd), ("kpd", jet_kpd)):
        strict = function(first.efps, second.efps)
        found[name] = strict.value, strict.error
        if not settings.quick and min(len(first.jets), len(second.jets)) >= _LEAST_FOR_PROTOCOL:
            library = function(first.efps, second.efps, protocol="jetnet")
            found[f"{name}_jetnet"] = library.value, library.error
    if settings.coverage:
        samples, batches = _COVERAGE[settings.quick]
        covered = cov_mmd(first.jets, second.jets, num_eval_samples=samples, num_batches=batches, seed=settings.seed)
        found["coverage"] = covered.coverage, covered.coverage_std
        found["mmd"] = covered.mmd, covered.mmd_std
    if settings.fpnd is not None:
        # The library's own statistics are the reference of both; the floor is then the truth against them.
        against = settings.fpnd_type or first.jets
        found["fpnd"] = fpnd(second.jets, against, settings.fpnd), float("nan")
    return found


_LABELS = {
    "w1m": "W1M: relative jet mass",
    "w1p": "W1P: constituents, mean of three",
    "w1p_eta_rel": "W1P: η relative to the jet",
    "w1p_phi_rel": "W1P: φ relative to the jet",
    "w1p_pt_rel": "W1P: pT relative to the jet",
    "w1efp": "W1EFP: five energy flow polynomials",
    "fpd": "FPD, unbiased",
    "fpd_jetnet": "FPD, protocol of the JetNet library",
    "kpd": "KPD, unbiased",
    "kpd_jetnet": "KPD, protocol of the JetNet library",
    "coverage": "coverage (energy mover's distance)",
    "mmd": "minimum matching distance",
    "fpnd": "FPND",
}


def two_sample_tests(
    reference: Sample, generated: Sample, floor: tuple[Sample, Sample] | None, settings: JetsEvaluationSettings
) -> list[TwoSampleTest]:
    """Classifiers on observables and on constituents, and what they say of truth against truth."""
    tests: list[tuple[str, str, Callable[[Sample, Sample], C2ST]]] = []
    if settings.classifiers:
        tests.append(("observables", "boosted trees on the observables", lambda x, y: _trees(x, y, settings)))
    if settings.transformer:
        tests.append(("constituents", "transformer on the constituents", lambda x, y: _transformer(x, y, settings)))
    found = []
    for name, label, test in tests:
        started = time.perf_counter()
        result = test(generated, reference)
        seconds = time.perf_counter() - started
        found.append(TwoSampleTest(name, label, result, None if floor is None else test(*floor), seconds))
    return found


def _trees(first: Sample, second: Sample, settings: JetsEvaluationSettings) -> C2ST:
    columns = [np.stack(list(s.observables.values()), axis=1) for s in (first, second)]
    folds, members = (3, 1) if settings.quick else (5, 2)
    return c2st(
        columns[0], columns[1], folds=folds, members=members, seed=settings.seed, max_events=_TREES[settings.quick]
    )


def _transformer(first: Sample, second: Sample, settings: JetsEvaluationSettings) -> C2ST:
    from cathode.classifiers.transformer.features import constituent_inputs
    from cathode.classifiers.transformer.two_sample import set_c2st

    inputs = [
        constituent_inputs(s.jets.points, s.jets.mask, s.jets.axis if not settings.own_axis else None)
        for s in (first, second)
    ]
    return set_c2st(
        inputs[0],
        inputs[1],
        seed=settings.seed,
        quick=settings.quick,
        max_events=_TRANSFORMER[settings.quick],
    )
