"""The evaluation from two samples to one frozen result."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cathode.comparison.amplification import Amplification
from cathode.comparison.estimate import Estimate
from cathode.comparison.frechet import fpd
from cathode.comparison.kernel import kpd
from cathode.comparison.prdc import PRDC
from cathode.comparison.support import SupportSize
from cathode.support.errors import UserError
from cathode.support.progress import progress
from cathode.support.provenance import versions
from cathode.support.seeding import derive_seed, numpy_generator
from fastsim.data import Showers
from fastsim.evaluation.classifiers import PROFILES, ClassifierResults, classifier_tests
from fastsim.evaluation.closures import EnergyClosure, ParticleClosure, energy_regression, particle_identification
from fastsim.evaluation.correlations import layer_correlations
from fastsim.evaluation.distances import amplification_test, precision_recall, support
from fastsim.evaluation.energies import check_spectra
from fastsim.evaluation.features import high_level_features
from fastsim.evaluation.inputs import Pair, prepare
from fastsim.evaluation.leaderboard import rank
from fastsim.evaluation.profiles import mean_shower, profiles
from fastsim.evaluation.response import example_showers, response
from fastsim.evaluation.results import EvaluationResult, Floor
from fastsim.evaluation.separation import mean_separations, separation_powers, wasserstein_distances
from fastsim.evaluation.settings import EvaluationSettings
from fastsim.evaluation.similarity import image_similarity
from fastsim.evaluation.standing import table_columns
from fastsim.evaluation.timing import Timing
from fastsim.evaluation.topology import multi_peak_rates

__all__ = ["evaluate"]

logger = logging.getLogger(__name__)

# Half of the reference must hold so many showers for a floor to mean something.
_FLOOR_LEAST = 500


def evaluate(
    reference: Showers,
    generated: Showers,
    settings: EvaluationSettings | None = None,
    *,
    name: str = "generator",
    sources: tuple[str, str] = ("", ""),
    training: Showers | None = None,
    against: tuple[Showers, Showers] | None = None,
    timing: Timing | None = None,
    executor: Executor | None = None,
) -> EvaluationResult:
    """Compare generated showers with full simulation.

    Args:
        reference: Full simulation that the generator never saw.
        generated: Showers at the incident energies of the reference.
        settings: What to do; default: everything, strictly.
        name: Of the generator.
        sources: Where the samples came from, for the record.
        training: Showers that the generator was trained on, for the amplification test.
        against: Reference and generated showers of another particle, for the closure of particle identification.
        timing: Time per shower, for the record and the comparison with others.
        executor: Where classifiers are trained; None: in this process, one after the other.

    Raises:
        UserError: Samples that cannot be compared with each other or under these settings.
    """
    settings = settings or EvaluationSettings()
    pair = prepare(reference, generated, settings)
    steps = _Steps(total=10)
    with steps:
        with steps.step("mean showers and energy closure"):
            mean = mean_shower(pair.reference, pair.generated)
            profiled = profiles(pair.reference, pair.generated)
            closure = response(pair.all_reference, pair.all_generated)
            examples = example_showers(pair.reference, pair.generated, seed=settings.seed)
        with steps.step("separation powers"):
            separations = _separations(pair.reference, pair.generated, pair.threshold, settings)
        with steps.step("Wasserstein distances"):
            distances = wasserstein_distances(
                pair.reference, pair.generated, settings.mode, threshold=pair.threshold, seed=settings.seed
            )
        with steps.step("FPD and KPD"):
            frechet, kernel = _physics_distances(pair.reference, pair.generated, pair.threshold, settings)
        with steps.step("precision, recall, density, coverage"):
            neighbourhood = _neighbourhood(pair.reference, pair.generated, pair.threshold, settings)
        with steps.step("size of the support"):
            supported = _support(pair, settings)
            amplified = {} if training is None else _amplification(pair, training)
        with steps.step("layers: correlations, pictures, cores"):
            correlations = layer_correlations(
                pair.reference, pair.generated, seed=derive_seed(settings.seed, "correlations")
            )
            similarity = image_similarity(
                pair.reference,
                pair.generated,
                threshold=pair.threshold or None,
                max_pairs=500 if settings.quick else 2_000,
                seed=derive_seed(settings.seed, "similarity"),
            )
            cores = multi_peak_rates(
                pair.reference,
                pair.generated,
                threshold=pair.threshold,
                max_layers=6 if settings.quick else 12,
                max_events=5_000 if settings.quick else 10_000,
            )
        with steps.step("regression and identification"):
            regression = _regression(pair, settings)
            identified = () if against is None else _identification(pair, against, settings)
        with steps.step("classifiers"):
            classifiers = _classifiers(pair, settings, executor) if settings.classifiers else None
        with steps.step("two halves of the reference"):
            floor = _floor(pair, settings, executor) if settings.floor else None
    means = {str(k): v for k, v in mean_separations(separations).items()}
    ranking = None
    if settings.dataset is not None:
        columns = table_columns(classifiers, frechet, kernel, neighbourhood, means, timing)
        ranking = rank(settings.dataset, columns, reference=pair.reference, mode=settings.mode, name=name)
    notes = [*pair.notes, *_remarks(pair, settings, floor)]
    return EvaluationResult(
        name=name,
        sources=sources,
        settings=settings,
        geometry=pair.reference.geometry,
        threshold=pair.threshold,
        counts=pair.counts,
        classifiers=classifiers,
        fpd=frechet,
        kpd=kernel,
        prdc=neighbourhood,
        separations=separations,
        mean_separations=means,
        wasserstein=distances,
        response=closure,
        regression=regression,
        identification=identified,
        floor=floor,
        correlations=correlations,
        similarity=similarity,
        multi_peak=cores,
        support=supported,
        amplification=amplified,
        timing=timing,
        ranking=ranking,
        mean=mean,
        profiles=profiled,
        examples=examples,
        seconds=dict(steps.seconds),
        versions=versions(),
        notes=tuple(notes),
    )


def _physics_distances(
    reference: Showers, generated: Showers, threshold: float, settings: EvaluationSettings
) -> tuple[Estimate, Estimate]:
    """FPD and KPD of the high-level vectors, from fewer draws and showers in the quick profile."""
    first, second = (high_level_features(s, settings.mode, threshold=threshold)[0] for s in (reference, generated))
    published = settings.mode == "calochallenge"
    seed = 42 if published else derive_seed(settings.seed, "physics distances")
    protocol: Any = "jetnet" if published else "strict"
    limit = 5_000 if settings.quick else 20_000
    draws = {"draws": 5, "points": 6} if settings.quick else {}
    batches = {"batches": 4, "batch_size": 5_000} if settings.quick else {}
    return (
        fpd(first, second, protocol=protocol, seed=seed, **draws),
        kpd(first, second, protocol=protocol, seed=seed, max_events=limit, **batches),
    )


def _neighbourhood(reference: Showers, generated: Showers, threshold: float, settings: EvaluationSettings) -> PRDC:
    return precision_recall(
        reference,
        generated,
        settings.mode,
        threshold=threshold,
        max_events=4_000 if settings.quick else 10_000,
        seed=derive_seed(settings.seed, "prdc"),
    )


def _support(pair: Pair, settings: EvaluationSettings) -> SupportSize | None:
    try:
        return support(
            pair.reference,
            pair.generated,
            threshold=pair.threshold,
            max_events=4_000 if settings.quick else 10_000,
            seed=derive_seed(settings.seed, "support"),
        )
    except UserError as error:
        logger.warning("no size of the support: %s", error)
        return None


def _separations(
    reference: Showers, generated: Showers, threshold: float, settings: EvaluationSettings
) -> tuple[Any, ...]:
    return separation_powers(
        reference, generated, settings.mode, threshold=threshold, seed=derive_seed(settings.seed, "separation")
    )


def _amplification(pair: Pair, training: Showers) -> dict[str, Amplification]:
    if training.geometry != pair.reference.geometry:
        raise UserError(
            f"training showers are in geometry {training.geometry.name!r}, the others in "
            f"{pair.reference.geometry.name!r}: give the sample that the generator was trained on"
        )
    check_spectra(pair.reference.incident_energy, training.incident_energy)
    return amplification_test(pair.reference, training, pair.generated, threshold=pair.threshold)


def _regression(pair: Pair, settings: EvaluationSettings) -> tuple[EnergyClosure, ...]:
    try:
        return energy_regression(
            pair.all_reference,
            pair.all_generated,
            seed=derive_seed(settings.seed, "regression"),
            threshold=pair.threshold,
        )
    except UserError as error:
        logger.warning("no energy regression: %s", error)
        return ()


def _identification(
    pair: Pair, against: tuple[Showers, Showers], settings: EvaluationSettings
) -> tuple[ParticleClosure, ...]:
    return particle_identification(
        (pair.all_reference, against[0].cut(pair.threshold)),
        (pair.all_generated, against[1].cut(pair.threshold)),
        particles=("this particle", "the other"),
        seed=derive_seed(settings.seed, "identification"),
        threshold=pair.threshold,
    )


def _classifiers(pair: Pair, settings: EvaluationSettings, executor: Executor | None) -> ClassifierResults:
    chosen = "quick" if settings.quick else "published" if settings.mode == "calochallenge" else "standard"
    profile = PROFILES[chosen]
    if settings.cnn is not None:
        profile = replace(profile, cnn=settings.cnn)
    return classifier_tests(
        pair.reference,
        pair.generated,
        mode=settings.mode,
        profile=profile,
        seed=derive_seed(settings.seed, "classifiers"),
        threshold=pair.threshold,
        executor=executor,
    )


def _floor(pair: Pair, settings: EvaluationSettings, executor: Executor | None) -> Floor | None:
    """Two disjoint parts of the reference, as large as what was compared if that is possible."""
    showers = min(len(pair.reference) // 2, len(pair.generated))
    if showers < _FLOOR_LEAST:
        return None
    order = numpy_generator(settings.seed, "evaluation", "floor").permutation(len(pair.reference))
    first, second = (pair.reference[np.sort(rows)] for rows in (order[:showers], order[showers : 2 * showers]))
    frechet, kernel = _physics_distances(first, second, pair.threshold, settings)
    return Floor(
        showers=showers,
        # Cross-fitting makes 0.5 the floor of every area: the quick profile takes that for granted.
        classifiers=None
        if settings.quick or not settings.classifiers
        else classifier_tests(
            first,
            second,
            profile="quick",
            seed=derive_seed(settings.seed, "floor classifiers"),
            threshold=pair.threshold,
            executor=executor,
        ),
        fpd=frechet,
        kpd=kernel,
        prdc=_neighbourhood(first, second, pair.threshold, settings),
        separations={s.name: s.power for s in _separations(first, second, pair.threshold, settings)},
    )


def _remarks(pair: Pair, settings: EvaluationSettings, floor: Floor | None) -> list[str]:
    said = []
    if settings.floor and floor is None:
        said.append(
            f"No floor: it needs {2 * _FLOOR_LEAST} reference showers to split in two, there are {len(pair.reference)}."
        )
    if pair.counts["generated_voxels_below_threshold"]:
        said.append(
            f"{pair.counts['generated_voxels_below_threshold']:,} generated voxels lay between zero and the threshold "
            f"of {pair.threshold:g} MeV and were set to zero before anything was compared."
        )
    if settings.quick:
        said.append(
            "Quick profile: smaller subsamples and shorter trainings; areas are lower than a full evaluation's."
        )
    return said


@dataclass
class _Steps:
    """Names, times and shows the steps of an evaluation."""

    total: int
    seconds: dict[str, float] = field(default_factory=dict)
    _bar: Any = None

    def __enter__(self) -> _Steps:
        self._bar = progress(description="evaluation", total=self.total, unit="step")
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self.seconds["total"] = time.perf_counter() - self._start

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self._bar.set_postfix_str(name)
        logger.info("%s", name)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        self._bar.update()
