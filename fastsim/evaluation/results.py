"""What an evaluation found, frozen: plain numbers and arrays, no models.  The report draws from these alone.

``results.json`` is :meth:`EvaluationResult.to_json`; its schema is ``fastsim/evaluation/results.schema.json``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cathode.comparison.amplification import Amplification
from cathode.comparison.estimate import Estimate
from cathode.comparison.prdc import PRDC
from cathode.comparison.support import SupportSize
from fastsim.evaluation.classifiers.results import ClassifierResults, SeparatingFeature
from fastsim.evaluation.closures import EnergyClosure, ParticleClosure
from fastsim.evaluation.correlations import LayerCorrelations
from fastsim.evaluation.leaderboard import Ranking
from fastsim.evaluation.profiles import MeanShower, Profile
from fastsim.evaluation.response import ExampleShower, Response, Spread
from fastsim.evaluation.separation import SeparationPower
from fastsim.evaluation.settings import EvaluationSettings
from fastsim.evaluation.similarity import LayerSimilarity
from fastsim.evaluation.timing import Timing
from fastsim.evaluation.topology import MultiPeakRate
from fastsim.geometry import Geometry

__all__ = ["KIND", "SCHEMA_VERSION", "EvaluationResult", "Floor", "plain"]

#: First field of ``results.json``: what the file is.
KIND = "fastsim evaluation"
SCHEMA_VERSION = 1
# Features that ``results.json`` names; the rest separates less.
_FEATURES = 25


def plain(value: Any) -> Any:
    """``value`` as strict JSON-able data: dataclasses become mappings, arrays lists, NaN and infinity None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value


@dataclass(frozen=True)
class Floor:
    """What two samples of one distribution give: two parts of the reference, compared like reference and generated.

    Attributes:
        showers: Showers in each part; where they are fewer than were compared, the floor is somewhat too high.
        classifiers: Classifier tests, None if they were left out.
        fpd, kpd: Distances of the observables' distributions.
        prdc: Precision, recall, density, coverage.
        separations: Separation power of every observable.
    """

    showers: int
    classifiers: ClassifierResults | None
    fpd: Estimate
    kpd: Estimate
    prdc: PRDC
    separations: dict[str, Estimate]


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """The whole outcome of ``fastsim evaluate``.

    Attributes:
        name: Of the generator.
        sources: Where the showers came from, ``(reference, generated)``.
        settings: What was asked for.
        geometry: Of both samples.
        threshold: Energy in MeV below which voxels were set to zero.
        counts: Showers read and compared, voxels zeroed.
        classifiers: None if they were left out.
        fpd, kpd: Frechet and kernel physics distance of the high-level observables.
        prdc: Precision, recall, density and coverage of the voxels' logarithms.
        separations: Separation power and histograms of every observable.
        mean_separations: Mean over layers of each kind, as published tables quote it.
        wasserstein: Distances of every observable in standard deviations of the reference.
        response: Closure of total and layer energies per incident energy.
        regression: Energy reconstructed from the showers, trained on either sample; empty if too few showers.
        identification: Particle identification, trained on either sample; empty without another particle.
        floor: None if the reference is too small or it was not asked for.
        correlations: Correlation matrices of the layer energies.
        similarity: Structural similarity of every layer's pictures; empty for detectors of cells.
        multi_peak: How often showers have two separated maxima.
        support: Birthday-paradox size of the support, None if too few showers.
        amplification: Quantile errors per observable; empty without the training sample.
        timing: None if no time per shower is known.
        ranking: Rank among the published submissions; None without a public dataset.
        mean, profiles, examples: For the pictures.
        seconds: Wall time of each step of the evaluation.
        versions: Of Python and libraries.
        notes: What a reader must know.
    """

    name: str
    sources: tuple[str, str]
    settings: EvaluationSettings
    geometry: Geometry
    threshold: float
    counts: dict[str, int]
    classifiers: ClassifierResults | None
    fpd: Estimate
    kpd: Estimate
    prdc: PRDC
    separations: tuple[SeparationPower, ...]
    mean_separations: dict[str, Estimate]
    wasserstein: dict[str, Estimate]
    response: tuple[Response, ...]
    regression: tuple[EnergyClosure, ...]
    identification: tuple[ParticleClosure, ...]
    floor: Floor | None
    correlations: LayerCorrelations
    similarity: tuple[LayerSimilarity, ...]
    multi_peak: tuple[MultiPeakRate, ...]
    support: SupportSize | None
    amplification: dict[str, Amplification]
    timing: Timing | None
    ranking: Ranking | None
    mean: MeanShower
    profiles: tuple[Profile, ...]
    examples: tuple[tuple[ExampleShower, ExampleShower], ...]
    seconds: dict[str, float]
    versions: dict[str, str]
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The content of ``results.json``."""
        timing = self.timing
        content: dict[str, Any] = {
            "kind": KIND,
            "schema_version": SCHEMA_VERSION,
            "generator": self.name,
            "sources": {"reference": self.sources[0], "generated": self.sources[1]},
            "settings": self.settings,
            "geometry": {
                "name": self.geometry.name,
                "kind": self.geometry.kind,
                "particle": self.geometry.particle,
                "voxels": self.geometry.n_voxels,
                "layers": list(self.geometry.layer_ids),
            },
            "threshold": self.threshold,
            "counts": self.counts,
            "auc": _areas(self.classifiers),
            "jsd": _divergences(self.classifiers),
            "fpd": self.fpd,
            "kpd": self.kpd,
            "prdc": _prdc(self.prdc),
            "separation": {s.name: s.power.value for s in self.separations},
            "separation_detail": {s.name: _separation(s) for s in self.separations},
            "separation_mean": self.mean_separations,
            "wasserstein": self.wasserstein,
            "closure": [_closure(r) for r in self.response],
            "regression": {c.trained_on: c.points for c in self.regression},
            "particle_id": {c.trained_on: c for c in self.identification},
            "separating": _separating(self.classifiers),
            "correlations": {
                "method": self.correlations.method,
                "layers": self.correlations.layers,
                "distance": self.correlations.distance,
            },
            "ssim": list(self.similarity),
            "multi_peak": [{**plain(m), "pull": m.pull} for m in self.multi_peak],
            "birthday": self.support,
            "amplification": self.amplification,
            "ranking": self.ranking,
            "floor": None if self.floor is None else _floor(self.floor),
            "timing": {
                "milliseconds_per_shower": {} if timing is None else timing.milliseconds,
                "source": "" if timing is None else timing.source,
                "note": "" if timing is None else timing.note,
                "evaluation_seconds": self.seconds,
            },
            "versions": self.versions,
            "notes": self.notes,
        }
        result: dict[str, Any] = plain(content)
        return result


def _areas(results: ClassifierResults | None) -> dict[str, Any]:
    return {} if results is None else dict(results.auc)


def _divergences(results: ClassifierResults | None) -> dict[str, Any]:
    return {} if results is None else dict(results.jsd)


def _prdc(found: PRDC) -> dict[str, Any]:
    return {name: getattr(found, name) for name in ("precision", "recall", "density", "coverage")} | {
        "neighbours": found.neighbours,
        "showers": list(found.events),
    }


def _separation(found: SeparationPower) -> dict[str, Any]:
    return {
        "label": found.label,
        "unit": found.unit,
        "kind": found.kind,
        "layer": found.layer,
        "energy": found.energy,
        "value": found.power.value,
        "error": found.power.error,
        "expected": found.power.expected,
    }


def _closure(found: Response) -> dict[str, Any]:
    mean, width = found.mean_ratio, found.width_ratio
    return {
        "energy": found.energy,
        "low": found.low,
        "high": found.high,
        "showers": list(found.showers),
        "reference": _spread(found.reference),
        "generated": _spread(found.generated),
        "mean_ratio": {"value": mean[0], "error": mean[1]},
        "width_ratio": {"value": width[0], "error": width[1]},
        "layers": [
            {
                "layer": part.layer,
                "reference": _spread(part.reference),
                "generated": _spread(part.generated),
                "reference_empty": part.reference_empty,
                "generated_empty": part.generated_empty,
            }
            for part in found.layers
        ],
    }


def _spread(found: Spread) -> dict[str, Any]:
    return dataclasses.asdict(found)


def _separating(results: ClassifierResults | None) -> dict[str, Any]:
    if results is None:
        return {"voxels": [], "observables": [], "threshold": None}

    def listed(features: tuple[SeparatingFeature, ...]) -> list[dict[str, Any]]:
        return [dataclasses.asdict(f) for f in features[:_FEATURES]]

    return {
        "voxels": listed(results.voxels),
        "observables": listed(results.observables),
        "threshold": results.feature_threshold,
    }


def _floor(found: Floor) -> dict[str, Any]:
    return {
        "showers": found.showers,
        "auc": _areas(found.classifiers),
        "fpd": found.fpd,
        "kpd": found.kpd,
        "prdc": _prdc(found.prdc),
        "separation": {name: e.value for name, e in found.separations.items()},
    }
