"""A made-up but realistic search result, with knobs for everything that can be missing or go wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from cathode.report.figures import all_figures
from cathode.search.results import (
    DensitySummary,
    FeatureHistogram,
    GateCheck,
    GateResult,
    MassFitSummary,
    MassSpectrum,
    SearchResult,
    SicCurveBand,
    TruthResult,
    TruthSeries,
    WorkingPoint,
)

REGION = (3.3, 3.7)


def _histories(members: int, rng: np.random.Generator, start: float, end: float, gap: float) -> list[pd.DataFrame]:
    tables = []
    for _ in range(members):
        epochs = np.arange(1, int(rng.integers(35, 60)))
        fall = end + (start - end) * np.exp(-epochs / 7.0)
        tables.append(
            pd.DataFrame(
                {
                    "epoch": epochs,
                    "train_loss": fall + rng.normal(0, 0.03 * gap, len(epochs)) - gap * epochs / 60,
                    "validation_loss": fall + rng.normal(0, 0.05 * gap, len(epochs)) + 0.2 * gap,
                }
            )
        )
    return tables


def _spectrum(efficiency: float, signal: float, rng: np.random.Generator, *, fit: bool) -> MassSpectrum:
    edges = np.round(np.arange(2.3, 5.501, 0.1), 3)
    x = 0.5 * (edges[1:] + edges[:-1]) / 13.0
    shape = (1 - x) ** 9 / x**6.2
    truth = efficiency * 280_000 * shape / shape.sum()
    centres = x * 13.0
    counts = rng.poisson(truth + signal * np.exp(-0.5 * ((centres - 3.5) / 0.09) ** 2) / 2.256).astype(float)
    expectation = truth * 0.995
    error = np.sqrt(expectation) * 0.25
    inside = (centres > REGION[0]) & (centres < REGION[1])
    summary = MassFitSummary(
        parameters=3,
        expectation=expectation,
        expectation_error=error,
        pulls=(counts - expectation) / np.sqrt(expectation + error**2),
        chi2=27.3,
        ndof=25,
        fit_p_value=0.34,
        window_observed=float(counts[inside].sum()),
        window_expected=float(expectation[inside].sum()),
        window_error=float(np.sqrt((error[inside] ** 2).sum()) * 2),
        p_value=0.2 if efficiency == 1 else 3.1e-6,
        significance=0.84 if efficiency == 1 else 4.52,
    )
    problem = "" if fit else "only 7 events outside <the window>"
    return MassSpectrum(efficiency, edges, counts, summary if fit else None, problem)


def _feature(
    name: str, unit: str, region: str, rng: np.random.Generator, *, empty: bool, model: bool
) -> FeatureHistogram:
    ranges = {"m_j1": (0.0, 1.0), "delta_m": (0.0, 1.2), "tau21_j1": (0.0, 1.0), "tau21_j2": (0.0, 1.0)}
    edges = np.linspace(*ranges.get(name, (0.0, 1.0)), 41)
    u = np.linspace(0.0125, 0.9875, 40)
    shape = u**1.2 * np.exp(-u * 9) if unit else u**4 * (1 - u) ** 2.2
    template = (0 if empty else 31_000 if region == "signal region" else 130_000) * shape / shape.sum()
    data = rng.poisson(template * (1 + 0.02 * np.sin(7 * u))).astype(float)
    return FeatureHistogram(
        feature=name,
        unit=unit,
        region=region,
        edges=edges,
        data=data,
        data_error=np.sqrt(data),
        template=template,
        template_error=np.sqrt(template / 4),
        template_model_error=template * (0.015 + 0.05 * (u - 0.5) ** 2) * model,
    )


def _series(name: str, separation: float) -> TruthSeries:
    """A binormal ROC curve: background N(0, 1), signal N(separation, 1)."""
    eps_b = np.geomspace(1e-4, 1.0, 160)
    eps_s = norm.cdf(separation + norm.ppf(eps_b))
    sic = eps_s / np.sqrt(eps_b)
    spread = 0.03 + 0.05 * np.log10(eps_b) ** 2 / 16
    best = float(sic[eps_b > 25 / 41_000].max())
    points: dict[str, dict[str, float | None]] = {"1e-4": {"value": None, "error": None}}
    for key in ("1e-3", "1e-2"):
        points[key] = {"value": float(np.interp(float(key), eps_b, sic)), "error": 0.3}
    return TruthSeries(
        name=name,
        auc=float(norm.cdf(separation / 2**0.5)),
        auc_error=0.004,
        max_sic=best,
        max_sic_low=0.93 * best,
        max_sic_high=1.06 * best,
        sic=points,
        roc=SicCurveBand(eps_b, eps_s, eps_s * (1 - spread), np.minimum(eps_s * (1 + spread), 1.0)),
        sic_curve=SicCurveBand(eps_s, sic, sic * (1 - spread), sic * (1 + spread)),
    )


def build_result(
    *,
    truth: bool = True,
    gate: str = "pass",
    significance: float = 5.17,
    fits: bool = True,
    empty_sideband: bool = False,
    nan: bool = False,
    members: int = 2,
    classifiers: int = 5,
    model: bool = True,
    slim: bool = False,
    **replace: Any,
) -> SearchResult:
    """The result; ``nan`` makes the quoted numbers not-a-number, ``slim`` leaves out most figures, to save time."""
    rng = np.random.default_rng(11)
    odd = float("nan")
    auc = {"pass": 0.5031, "warn": 0.5078, "fail": 0.5236}[gate]
    checks = [
        GateCheck(
            "C2ST AUC, sidebands",
            odd if nan else 0.5024,
            0.0021,
            0.505,
            0.51,
            "pass",
            "Held-out sideband events & samples at their masses; 0.5 means alike.",
        ),
        GateCheck("C2ST AUC, template", auc, 0.0023, 0.505, 0.515, gate, "The same in the signal region."),
        GateCheck("largest marginal pull", 2.2, 0.0, 3.0, 5.0, "pass", "Largest |data - template| / error of a mean."),
        GateCheck("largest correlation pull", 1.4, 0.0, 3.0, 5.0, "pass", "The same for correlation coefficients."),
        GateCheck("clipped samples", 0.0004, 0.0, 0.01, 0.05, "pass", "Fraction of samples that left the domain."),
        GateCheck("NLL gain over Gaussian", -1.82, 0.004, odd, odd, "info", "Nats per event; only for information."),
    ]
    points = []
    for efficiency, observed, expected, z in (
        (1e-2, 421, 310.4, significance),
        (1e-3, 71, 31.2, significance - 0.4),
        (5e-4, 38, 15.8, significance - 1.1),
    ):
        fit = _spectrum(efficiency, observed - expected, rng, fit=True).fit
        points.append(
            WorkingPoint(
                background_efficiency=efficiency,
                observed=observed,
                expected=odd if nan else expected,
                expected_error=odd if nan else float(np.hypot(0.02 * expected, 0.03 * expected)),
                statistical_error=0.02 * expected,
                systematic_error=0.03 * expected,
                p_value=odd if nan else 1.2e-7,
                significance=odd if nan else z,
                sideband_closure=0.012,
                sideband_closure_error=0.011,
                fit=fit if fits else None,
                fit_problem="" if fits else "too few events after the cut: 9 < 10",
            )
        )
    spectra = [_spectrum(1.0, 150, rng, fit=True)]
    spectra += [
        _spectrum(p.background_efficiency, 0.0 if nan else p.observed - p.expected, rng, fit=fits) for p in points
    ]
    histograms = [
        _feature(name, unit, region, rng, empty=empty_sideband and region == "sideband", model=model)
        for name, unit in (("m_j1", "TeV"), ("delta_m", "TeV"), ("tau21_j1", ""), ("tau21_j2", ""))[: 1 if slim else 4]
        for region in ("sideband", "signal region")
    ]
    edges = np.linspace(0.0, 1.0, 41)
    u = 0.5 * (edges[1:] + edges[:-1])
    shape = np.exp(-(((u - 0.47) / 0.1) ** 2)) + 3e-3 * np.exp(-(((u - 0.6) / 0.25) ** 2))
    template = 31_000 * shape / shape.sum()
    score = {
        "edges": edges,
        "data": rng.poisson(template + 140 * u**12).astype(float),
        "template": template,
        "template_error": np.sqrt(template / 4 + (0.03 * template) ** 2),
    }
    values: dict[str, Any] = {
        "config": {
            "data": {"files": ["events.h5"], "features": ["m_j1", "delta_m", "tau21_j1", "tau21_j2"], "mass": "m_jj"},
            "signal_region": list(REGION),
            "density": {"name": "autoregressive", "components": 16, "members": 2},
            "classifier": {"name": "trees", "members": 50, "folds": 5},
            "seed": 1,
            "title": "<script>alert('x')</script>",
        },
        "signal_region": REGION,
        "counts": {"sideband": 246_113, "signal_region": 31_427, "template": 125_708},
        "density": DensitySummary(
            "autoregressive x 2", -4.1837, 0.0041, -2.3611, 41.3, 80.2, _histories(members, rng, 0.8, -2.6, 0.05)
        ),
        "gate": GateResult(gate, checks, 0.5024, 0.0021, auc, 0.0023),
        "feature_histograms": histograms,
        "classifier_histories": _histories(classifiers, rng, 0.694, 0.688, 0.002),
        "mass_spectra": spectra[:2] if slim else spectra,
        "working_points": points,
        "score_histogram": score,
        "truth": TruthResult(
            480,
            30_947,
            4_800,
            41_000,
            _series("search", 2.5),
            {"idealized": _series("idealized", 2.58), "supervised": _series("supervised", 2.75)},
        )
        if truth
        else None,
        "timing": {
            "read": 0.8,
            "density": 41.3,
            "template": 2.2,
            "classifier": 38.7,
            "references": 71.2,
            "total": 155.4,
        },
        "versions": {"python": "3.11.2", "cathode-hep": "0.1.0", "torch": "2.13.0"},
        "notes": ["2 of 277,542 events had a negative mass & were dropped."],
    }
    return SearchResult(**{**values, **replace})


@pytest.fixture(scope="session")
def make_result() -> Callable[..., SearchResult]:
    return build_result


@pytest.fixture(scope="session")
def result() -> SearchResult:
    return build_result()


@pytest.fixture(scope="session")
def drawn(result: SearchResult) -> dict[str, Any]:
    return all_figures(result)
