"""What an evaluation of jets found, frozen: numbers and arrays.  The report draws from these alone.

``results.json`` is :meth:`JetsEvaluation.to_json`; its schema is ``cathode/jets/evaluation/results.schema.json``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cathode.comparison.c2st import C2ST
from cathode.comparison.estimate import Estimate
from cathode.jets.evaluation.settings import JetsEvaluationSettings
from cathode.statistics.plain import plain

__all__ = ["KIND", "SCHEMA_VERSION", "Images", "JetsEvaluation", "PairedHistogram", "Ranks", "Score", "TwoSampleTest"]

Floats = NDArray[np.float64]

#: First field of ``results.json``: what the file is.
KIND = "cathode jets evaluation"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Score:
    """One number that measures how far the generated jets are from the reference.

    Attributes:
        name: Identifier: ``w1m``, ``w1p``, ``w1p_eta_rel``, ``fpd``, ...
        label: In words.
        value: For generated jets against the reference.
        error: Standard deviation over the batches that were drawn, or standard error.
        floor: For truth against truth; None if that was not asked for.  For W1M, W1P and W1EFP the mean over several
            random divisions of the true jets.
        floor_error: Its error; for W1M, W1P and W1EFP the standard deviation over the divisions, which is how far the
            value of a perfect generator scatters.
        better: Whether a good generator has a ``low`` or a ``high`` value.
    """

    name: str
    label: str
    value: float
    error: float
    floor: float | None = None
    floor_error: float | None = None
    better: Literal["low", "high"] = "low"


@dataclass(frozen=True)
class TwoSampleTest:
    """A classifier that was trained to tell generated jets from the reference, on jets it never saw.

    Attributes:
        name: ``observables`` or ``constituents``.
        label: In words.
        found: AUC with its error; 0.5 is a perfect generator.
        floor: The same for truth against truth; None if that was not asked for.
        seconds: Wall time of ``found``.
    """

    name: str
    label: str
    found: C2ST
    floor: C2ST | None
    seconds: float


@dataclass(frozen=True, eq=False)
class PairedHistogram:
    """One observable of both samples in the same bins.

    Attributes:
        name: Identifier.
        label: In words.
        unit: ``GeV`` or empty.
        kind: ``jet`` (one entry per jet) or ``constituent``.
        edges: ``(bins + 1,)``.
        reference, generated: Counts ``(bins,)``.
        reference_error, generated_error: Their standard errors ``(bins,)``; constituents of one jet are correlated.
        outside: Counts below and above the edges, ``((reference, generated), ...)``.
        logarithmic: Draw the axis with a logarithmic scale.
        w1: 1-Wasserstein distance in standard deviations of the reference, with what chance gives.
        floor: The same distance of truth and truth.
    """

    name: str
    label: str
    unit: str
    kind: Literal["jet", "constituent"]
    edges: Floats
    reference: Floats
    reference_error: Floats
    generated: Floats
    generated_error: Floats
    outside: tuple[tuple[int, int], tuple[int, int]]
    logarithmic: bool
    w1: Estimate
    floor: float | None = None


@dataclass(frozen=True, eq=False)
class Ranks:
    """Constituents by their rank in pT.

    Attributes:
        reference, generated: Mean pT of rank 1, 2, ... over the pT of the jet ``(P,)``; absent ones count as zero.
        reference_error, generated_error: Standard errors ``(P,)``.
        reference_filled, generated_filled: Share of jets that have so many constituents ``(P,)``.
    """

    reference: Floats
    reference_error: Floats
    generated: Floats
    generated_error: Floats
    reference_filled: Floats
    generated_filled: Floats


@dataclass(frozen=True, eq=False)
class Images:
    """Mean share of the jet's pT per pixel.

    Attributes:
        edges: Of the pixels in eta and in phi relative to the jet ``(K + 1,)``.
        reference, generated: ``(K, K)``, eta first.
    """

    edges: Floats
    reference: Floats
    generated: Floats


@dataclass(frozen=True, eq=False)
class JetsEvaluation:
    """The whole outcome of ``cathode jets evaluate``.

    Attributes:
        name: Of the generator.
        sources: Where the jets came from, ``(reference, generated)``.
        settings: What was asked for.
        counts: Jets and constituents that were compared.
        scores: In the order of the report.
        tests: Two-sample tests.
        histograms: Of jets and of constituents.
        ranks, images: For the pictures.
        floor_note: Which jets the floor compares.
        seconds: Wall time of each step.
        versions: Of Python and libraries.
        notes: What a reader must know.
    """

    name: str
    sources: tuple[str, str]
    settings: JetsEvaluationSettings
    counts: dict[str, int]
    scores: tuple[Score, ...]
    tests: tuple[TwoSampleTest, ...]
    histograms: tuple[PairedHistogram, ...]
    ranks: Ranks
    images: Images
    floor_note: str
    seconds: dict[str, float]
    versions: dict[str, str]
    notes: tuple[str, ...] = field(default=())

    def score(self, name: str) -> Score:
        """The score of that name.

        Raises:
            KeyError: There is none.
        """
        return {score.name: score for score in self.scores}[name]

    def to_json(self) -> dict[str, Any]:
        """The content of ``results.json``."""
        content = {
            "kind": KIND,
            "schema_version": SCHEMA_VERSION,
            "generator": self.name,
            "sources": {"reference": self.sources[0], "generated": self.sources[1]},
            "settings": self.settings,
            "counts": self.counts,
            "scores": {s.name: {k: v for k, v in plain(s).items() if k != "name"} for s in self.scores},
            "two_sample_tests": {
                t.name: {
                    "label": t.label,
                    "auc": t.found.auc,
                    "error": t.found.error,
                    "p_value": t.found.p_value,
                    "jets": t.found.events,
                    "floor": None if t.floor is None else t.floor.auc,
                    "floor_error": None if t.floor is None else t.floor.error,
                    "seconds": t.seconds,
                }
                for t in self.tests
            },
            "wasserstein": {
                h.name: {
                    "label": h.label,
                    "value": h.w1.value,
                    "error": h.w1.error,
                    "expected": h.w1.expected,
                    "floor": h.floor,
                }
                for h in self.histograms
            },
            "floor": self.floor_note,
            "seconds": self.seconds,
            "versions": self.versions,
            "notes": self.notes,
        }
        result: dict[str, Any] = plain(content)
        return result
