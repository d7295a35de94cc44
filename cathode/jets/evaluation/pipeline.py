"""The evaluation of generated jets, from two samples to one frozen result."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from cathode.jets.evaluation.profiles import constituent_columns, histograms, images, ranks
from cathode.jets.evaluation.results import JetsEvaluation
from cathode.jets.evaluation.scores import Sample, distances, two_sample_tests
from cathode.jets.evaluation.settings import JetsEvaluationSettings
from cathode.jets.schema import Jets
from cathode.support.errors import UserError
from cathode.support.provenance import versions
from cathode.support.seeding import numpy_generator

__all__ = ["evaluate_jets"]

logger = logging.getLogger(__name__)

_LEAST_JETS = 200
# Difference of the mean share of the jet's pT that the constituents carry: no generator is that wrong, axes are.
_AXIS_TOLERANCE = 0.02


def evaluate_jets(
    reference: Jets,
    generated: Jets,
    settings: JetsEvaluationSettings | None = None,
    *,
    truth: Jets | None = None,
    name: str = "generated jets",
    sources: tuple[str, str] = ("", ""),
) -> JetsEvaluation:
    """Judge generated jets.

    Every distance has the value beside it that truth has against truth, because none of the resampled ones is zero for
    samples of one distribution: ``truth`` against the reference if more true jets are given, else two halves of the
    reference, which have half the jets and therefore a somewhat larger floor.

    Args:
        reference: True jets that the generator never saw.
        generated: Generated jets, with the same conditions (pT, eta, mass of the jets) if it has any.
        settings: How; see :class:`JetsEvaluationSettings`.
        truth: More true jets, for the floor; as many as generated ones make it exact.
        name: Of the generator.
        sources: Where the jets come from, for the report.

    Raises:
        UserError: Fewer than 200 jets with constituents in a sample.
    """
    settings = settings or JetsEvaluationSettings()
    seconds: dict[str, float] = {}
    notes: list[str] = []
    first = _prepared(reference, "reference", settings, notes)
    second = _prepared(generated, "generated", settings, notes)
    _compare_axes(first.jets, second.jets, notes)
    floor, floor_note = None, "not computed"
    if settings.floor:
        floor, floor_note = _floor(first, truth, settings, notes)
    with _timed(seconds, "observables"):
        jet_columns = [s.observables for s in (first, second)]
        below = None if floor is None else (floor[0].observables, floor[1].observables)
        drawn = histograms(jet_columns[0], jet_columns[1], below, seed=settings.seed)
    with _timed(seconds, "constituents"):
        columns = [constituent_columns(s.jets) for s in (first, second)]
        pair = None if floor is None else (constituent_columns(floor[0].jets), constituent_columns(floor[1].jets))
        owners = np.nonzero(first.jets.mask)[0], np.nonzero(second.jets.mask)[0]
        drawn += histograms(columns[0], columns[1], pair, owners=owners, seed=settings.seed)
    with _timed(seconds, "distances"):
        scores = distances(first, second, floor, settings)
    with _timed(seconds, "two-sample tests"):
        tests = two_sample_tests(first, second, floor, settings)
    return JetsEvaluation(
        name=name,
        sources=sources,
        settings=settings,
        counts={
            "reference": len(first.jets),
            "generated": len(second.jets),
            "reference_constituents": int(first.jets.mask.sum()),
            "generated_constituents": int(second.jets.mask.sum()),
        },
        scores=tuple(scores),
        tests=tuple(tests),
        histograms=tuple(drawn),
        ranks=ranks(first.jets, second.jets),
        images=images(first.jets, second.jets),
        floor_note=floor_note,
        seconds=seconds,
        versions=versions(),
        notes=tuple(notes),
    )


def _prepared(jets: Jets, what: str, settings: JetsEvaluationSettings, notes: list[str]) -> Sample:
    """The jets as they are compared: leading constituents, none empty, not more than asked for."""
    if settings.particles is not None:
        jets = jets.leading(settings.particles)
    filled = jets.mask.any(axis=1)
    if not filled.all():
        notes.append(f"{int((~filled).sum())} of {len(jets)} {what} jets have no constituents and are left out.")
        jets = jets.select(filled)
    if settings.max_jets is not None and len(jets) > settings.max_jets:
        rows = numpy_generator(settings.seed, "evaluation", what).choice(len(jets), settings.max_jets, replace=False)
        jets = jets.select(np.sort(rows))
    if len(jets) < _LEAST_JETS:
        raise UserError(f"an evaluation needs at least {_LEAST_JETS} {what} jets with constituents, got {len(jets)}")
    if settings.own_axis:
        jets = jets.with_own_axis()
    return Sample(jets, settings.observables)


def _floor(
    reference: Sample, truth: Jets | None, settings: JetsEvaluationSettings, notes: list[str]
) -> tuple[tuple[Sample, Sample], str]:
    if truth is not None:
        other = _prepared(truth, "further true", settings, notes)
        return (reference, other), f"{len(other.jets)} further true jets against the reference"
    order = numpy_generator(settings.seed, "evaluation", "floor").permutation(len(reference.jets))
    half = len(order) // 2
    parts = reference.take(np.sort(order[:half])), reference.take(np.sort(order[half : 2 * half]))
    return parts, f"two halves of the reference, {half} jets each"


def _compare_axes(reference: Jets, generated: Jets, notes: list[str]) -> None:
    """Say so if the axes of the two samples are plainly not of the same kind."""
    shares = [float(jets.relative()[..., 0].sum(axis=1).mean()) for jets in (reference, generated)]
    if abs(shares[0] - shares[1]) > _AXIS_TOLERANCE:
        note = (
            f"Constituents carry {shares[0]:.3f} of the pT of the jet's axis in the reference and {shares[1]:.3f} in"
            " the generated jets: are both axes those of the whole jet? If not, compare with own-axis."
        )
        logger.warning(note)
        notes.append(note)


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - started
    logger.info("%s: %.1f s", step, seconds[step])
