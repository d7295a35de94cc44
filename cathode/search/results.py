"""What a search found, frozen: plain numbers and arrays, no models.  The report draws from these and computes nothing.

Everything converts to JSON-able values; ``results.json`` is :meth:`SearchResult.to_json`, whose schema is
``cathode/search/results.schema.json``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = [
    "SCHEMA_VERSION",
    "ConstituentSummary",
    "DensitySummary",
    "FeatureHistogram",
    "GateCheck",
    "GateResult",
    "MassFitSummary",
    "MassSpectrum",
    "ReweightingSummary",
    "SearchResult",
    "SicCurveBand",
    "TruthResult",
    "TruthSeries",
    "WorkingPoint",
    "plain",
]

SCHEMA_VERSION = 1
Array = NDArray[np.float64]


def plain(value: Any) -> Any:
    """``value`` as strict JSON-able data: arrays become lists, NaN and infinity become None."""
    if isinstance(value, dict):
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
class DensitySummary:
    """The background density: what it is and how well it does on sideband events it was not trained on.

    Attributes:
        name: Kind of density with its number of members, e.g. ``"autoregressive x 2"``.
        validation_nll: Mean negative log-density, each member on its own validation rows, nats per event, in the units
            of the features.
        validation_nll_error: Its statistical error.
        gaussian_nll: The same for the baseline, one Gaussian with mean and covariance linear in mass.
        seconds: Wall time of the training.
        cpu_seconds: CPU time of the training, summed over members.
        histories: One table per member: ``epoch``, ``train_loss``, ``validation_loss``.
    """

    name: str
    validation_nll: float
    validation_nll_error: float
    gaussian_nll: float
    seconds: float
    cpu_seconds: float
    histories: list[pd.DataFrame] = field(default_factory=list)


@dataclass(frozen=True)
class GateCheck:
    """One check of the template: ``value`` with ``error`` against the limits above which it warns or fails."""

    name: str
    value: float
    error: float
    warn: float
    fail: float
    status: str  # "pass" | "warn" | "fail" | "info"
    explanation: str


@dataclass(frozen=True)
class GateResult:
    """Template quality before anything is claimed; ``status`` is the worst of the checks."""

    status: str
    checks: list[GateCheck]
    c2st_auc_sideband: float
    c2st_auc_sideband_error: float
    c2st_auc_template: float
    c2st_auc_template_error: float


@dataclass(frozen=True)
class FeatureHistogram:
    """Data against template in one feature and one region, the template scaled to the data.

    Attributes:
        feature: Column name; ``unit`` is empty for pure numbers.
        region: ``"signal region"`` or ``"sideband"``.
        edges: ``(n + 1,)`` bin edges.
        data, data_error: Counts and their errors.
        template, template_error: Expected counts and statistical error.
        template_model_error: Spread over the members of the density ensemble (zeros for a single member).
    """

    feature: str
    unit: str
    region: str
    edges: Array
    data: Array
    data_error: Array
    template: Array
    template_error: Array
    template_model_error: Array


@dataclass(frozen=True)
class MassFitSummary:
    """Dijet fit to the sidebands of one mass spectrum.

    Attributes:
        parameters: Number of shape parameters that the F-test chose, normalisation included.
        expectation, expectation_error: Fitted counts per bin and their error, all bins including the signal region.
        pulls: (data - fit) / error per bin.
        chi2, ndof, fit_p_value: Goodness of fit in the sidebands.
        window_observed, window_expected, window_error: Counts in the signal region.
        p_value, significance: Excess in the signal region, one-sided, local.
    """

    parameters: int
    expectation: Array
    expectation_error: Array
    pulls: Array
    chi2: float
    ndof: int
    fit_p_value: float
    window_observed: float
    window_expected: float
    window_error: float
    p_value: float
    significance: float


@dataclass(frozen=True)
class MassSpectrum:
    """Counts in mass before (``background_efficiency`` 1) or after a cut, with the sideband fit if it converged."""

    background_efficiency: float
    edges: Array
    counts: Array
    fit: MassFitSummary | None
    fit_problem: str = ""


@dataclass(frozen=True)
class WorkingPoint:
    """Cut and count at one background efficiency, direct against the template, with the sideband fit beside it.

    Attributes:
        background_efficiency: Fraction of template events passing the cut, set per fold by quantile.
        observed, expected: Events of the signal region that pass, and their expectation without signal.
        statistical_error, systematic_error: Parts of ``expected_error``: template statistics and the correlation of the
            cross-fitted folds, and the non-closure measured in the sidebands and between ensemble members.
        p_value, significance: One-sided, local.
        sideband_closure, sideband_closure_error: Observed over expected minus one for sideband events.
        fit: Sideband fit of the mass spectrum after the cut, None if it was not possible (``fit_problem`` says why).
    """

    background_efficiency: float
    observed: float
    expected: float
    expected_error: float
    statistical_error: float
    systematic_error: float
    p_value: float
    significance: float
    sideband_closure: float
    sideband_closure_error: float
    fit: MassFitSummary | None = None
    fit_problem: str = ""


@dataclass(frozen=True)
class SicCurveBand:
    """A curve with its band over folds: ``y`` and 16-84 % limits on the grid ``x``."""

    x: Array
    y: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class TruthSeries:
    """One classifier judged with labels: the search itself, or a reference trained with the same classifier.

    Attributes:
        name: ``"search"``, ``"idealized"`` or ``"supervised"``.
        auc, auc_error: Area under the ROC curve.
        max_sic, max_sic_low, max_sic_high: Maximum of eps_S/sqrt(eps_B) where the relative error of the background is
            below 20 %, with its 68 % band over folds.
        sic: ``{"1e-2": {"value", "error"}, …}``; None where too few background events are left.
        roc: eps_S (``y``) against eps_B (``x``).
        sic_curve: SIC (``y``) against eps_S (``x``).
    """

    name: str
    auc: float
    auc_error: float
    max_sic: float
    max_sic_low: float
    max_sic_high: float
    sic: dict[str, dict[str, float | None]]
    roc: SicCurveBand
    sic_curve: SicCurveBand


@dataclass(frozen=True)
class TruthResult:
    """Everything that needed labels; computed after all scores were final."""

    n_signal_in_signal_region: int
    n_background_in_signal_region: int
    n_test_signal: int
    n_test_background: int
    search: TruthSeries
    references: dict[str, TruthSeries]


@dataclass(frozen=True)
class ReweightingSummary:
    """Reweighting of generated events to sideband data.

    Attributes:
        data, generated: Events it was learned from.
        columns: Numbers that it sees of an event.
        kept: Fraction of the generated events that stay, ``template`` and ``sideband_template``.
        cut: Fraction of them with a weight beyond the largest that is used.
        effective: Effective number of events with their weights over the number of events.
    """

    data: int
    generated: int
    columns: int
    kept: dict[str, float]
    cut: dict[str, float]
    effective: dict[str, float]


@dataclass(frozen=True)
class ConstituentSummary:
    """The background model of a search on constituents.

    Attributes:
        models: Folders of models that were given; empty if they were trained here.
        members: Models of the constituents of a jet.
        trained_jets: Jets that each was trained on, validation included.
        training_seconds: Wall time of the trainings, summed.
        dropped: Events of the files outside the acceptance.
        threshold: Smallest pT of a constituent in the sidebands, GeV.
        draws: Mean number of draws until a template event was in the acceptance.
        lost, lost_sideband: Masses without such a draw, in the signal region and in the sidebands.
        milliseconds_per_jet: Time to generate the constituents of a jet.
        histories: One table per model: ``epoch``, ``train_loss``, ``validation_loss``, ``stage``.
        reweighting: None if generated events were taken as they are.
    """

    models: list[str]
    members: int
    trained_jets: list[int]
    training_seconds: float
    dropped: int
    threshold: float
    draws: float
    lost: int
    lost_sideband: int
    milliseconds_per_jet: float
    histories: list[pd.DataFrame] = field(default_factory=list)
    reweighting: ReweightingSummary | None = None


@dataclass(frozen=True)
class SearchResult:
    """The whole outcome of ``cathode search``; see the attributes' own classes.

    ``constituents`` is None for a search on features.
    """

    config: dict[str, Any]
    signal_region: tuple[float, float]
    counts: dict[str, int]
    density: DensitySummary
    gate: GateResult
    feature_histograms: list[FeatureHistogram]
    classifier_histories: list[pd.DataFrame]
    mass_spectra: list[MassSpectrum]
    working_points: list[WorkingPoint]
    score_histogram: dict[str, Array]
    truth: TruthResult | None
    timing: dict[str, float]
    versions: dict[str, str]
    notes: list[str] = field(default_factory=list)
    constituents: ConstituentSummary | None = None

    def to_json(self) -> dict[str, Any]:
        """The content of ``results.json``."""
        points = []
        for point in self.working_points:
            entry = {k: v for k, v in vars(point).items() if k not in ("fit", "fit_problem")}
            entry["sideband_fit"] = _fit_json(point.fit, point.fit_problem)
            points.append(entry)
        truth = None
        if self.truth is not None:
            truth = {
                **_series_json(self.truth.search),
                "references": {k: _series_json(v) for k, v in self.truth.references.items()},
                "counts": {
                    "signal_in_signal_region": self.truth.n_signal_in_signal_region,
                    "background_in_signal_region": self.truth.n_background_in_signal_region,
                    "test_signal": self.truth.n_test_signal,
                    "test_background": self.truth.n_test_background,
                },
            }
        density = {k: v for k, v in vars(self.density).items() if k != "histories"}
        gate = {**vars(self.gate), "checks": [vars(c) for c in self.gate.checks]}
        content: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "signal_region": list(self.signal_region),
            "counts": self.counts,
            "density": density,
            "gate": gate,
            "working_points": points,
            "mass_spectrum": [
                {"background_efficiency": s.background_efficiency, "sideband_fit": _fit_json(s.fit, s.fit_problem)}
                for s in self.mass_spectra
            ],
            "timing": self.timing,
            "versions": self.versions,
            "notes": self.notes,
        }
        if truth is not None:
            content["truth"] = truth
        if self.constituents is not None:
            own = vars(self.constituents)
            content["constituents"] = {k: v for k, v in own.items() if k not in ("histories", "reweighting")}
            if self.constituents.reweighting is not None:
                content["constituents"]["reweighting"] = dict(vars(self.constituents.reweighting))
        result: dict[str, Any] = plain(content)
        return result


def _fit_json(fit: MassFitSummary | None, problem: str) -> dict[str, Any]:
    if fit is None:
        return {"problem": problem or "not attempted"}
    return {k: v for k, v in vars(fit).items() if k not in ("expectation", "expectation_error", "pulls")}


def _series_json(series: TruthSeries) -> dict[str, Any]:
    return {
        "auc": series.auc,
        "auc_error": series.auc_error,
        "max_sic": series.max_sic,
        "max_sic_low": series.max_sic_low,
        "max_sic_high": series.max_sic_high,
        "sic": series.sic,
    }
