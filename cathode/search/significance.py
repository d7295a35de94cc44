"""How significant is what the cut leaves: direct counting against the template, and a fit of the mass spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cathode.data.regions import Regions
from cathode.search.classify import Scores
from cathode.search.results import MassFitSummary, MassSpectrum, WorkingPoint
from cathode.search.settings import SignificanceSettings
from cathode.search.template import spectrum_fit
from cathode.statistics.counting import counting_test
from cathode.statistics.massfit import SidebandFit
from cathode.statistics.window import window_test
from cathode.support.errors import UserError

__all__ = ["FOLD_CORRELATION", "Expectation", "expectation", "mass_spectrum", "working_point"]

Array = NDArray[np.float64]

# A fluctuation that two folds share by chance is learned from each and counted in the other, so the counts of the folds
# are correlated: the variance of their sum grows by a factor that is exactly two for a linear classifier, whatever
# the number of folds.  For tree ensembles it was measured as 1.44 +- 0.24 at a background efficiency of 1e-2, where the
# template's own variance is a fifth of the total (tests/benchmarks/bench_crossfit_null.py).
FOLD_CORRELATION = 0.5


@dataclass(frozen=True)
class Expectation:
    """Background expected to pass a cut in the signal region.

    Attributes:
        value: Sum over folds of (data events of the fold) x (fraction of the fold's template that passes).
        statistical: From the size of the template and the correlation of the folds.
        systematic: Non-closure; see :func:`expectation`.
        closure, closure_error: Observed over expected minus one of the held-out sideband events.
    """

    value: float
    statistical: float
    systematic: float
    closure: float
    closure_error: float


def expectation(
    scores: Scores,
    thresholds: Array,
    *,
    data_weight: Array | None,
    member: NDArray[np.int64],
    closure_weight: Array | None,
    closure_error: bool = False,
    fold_correlation: float = FOLD_CORRELATION,
) -> Expectation:
    r"""Expected background above ``thresholds`` and its errors.

    The template is normalised to all data of the signal region, so a signal of fraction f raises the expectation by f:
    conservative, and small wherever a weak search is worth doing.

    The systematic error is measured, not assumed, from two sources, each after subtracting what statistics alone gives:

    * closure: held-out sideband data against template events drawn at sideband masses, same classifiers and cuts;
    * model: spread of the passing fraction over the members of the density ensemble, as error of their mean.

    Args:
        scores: Needs the samples ``data``, ``template``, ``closure_data`` and ``closure_template``.
        thresholds: Per fold.
        data_weight: ``(N,)`` weights of the signal-region data.
        member: Member of the density ensemble that each template event came from ``(M,)``.
        closure_weight: Weights of the held-out sideband events.
        closure_error: Add the statistical error of the closure: no template is then believed to close better than the
            held-out events can say.
        fold_correlation: Extra variance of the count from cross-fitting, relative to its Poisson variance.
    """
    value = variance = 0.0
    n_data = np.ones(len(scores.score["data"])) if data_weight is None else data_weight
    passed = scores.passing("template", thresholds)
    for k in range(scores.folds):
        of_fold = scores.fold["template"] == k
        size = int(of_fold.sum())
        # One more trial and one more success keep the error finite when nothing passes (Agresti and Coull).
        efficiency = passed[of_fold].mean()
        smoothed = (passed[of_fold].sum() + 1) / (size + 2)
        total = n_data[scores.fold["data"] == k].sum()
        value += total * efficiency
        variance += total**2 * smoothed * (1 - smoothed) / size
    variance += fold_correlation * value * float((n_data**2).sum() / n_data.sum())
    closure, error = _closure(scores, thresholds, closure_weight)
    spread = _member_spread(passed, member)
    # Where no held-out event passes nothing is known: an error of the size of the expectation.
    unknown = min(error, 1.0) if closure_error else 0.0
    systematic = np.sqrt(max(closure**2 - error**2, 0.0) + unknown**2 + spread**2)
    return Expectation(
        value=float(value),
        statistical=float(np.sqrt(variance)),
        systematic=float(systematic * value),
        closure=closure,
        closure_error=error,
    )


def _closure(scores: Scores, thresholds: Array, weight: Array | None) -> tuple[float, float]:
    w = np.ones(len(scores.score["closure_data"])) if weight is None else weight
    passed_data = scores.passing("closure_data", thresholds)
    passed_template = scores.passing("closure_template", thresholds)
    observed, observed_variance = w[passed_data].sum(), (w[passed_data] ** 2).sum()
    expected = w.sum() * passed_template.mean()
    if expected <= 0 or observed_variance <= 0:
        return 0.0, float("inf")
    relative_variance = observed_variance / observed**2 + (1 - passed_template.mean()) / passed_template.sum()
    return float(observed / expected - 1), float(observed / expected * np.sqrt(relative_variance))


def _member_spread(passed: NDArray[np.bool_], member: NDArray[np.int64]) -> float:
    names = np.unique(member)
    if len(names) < 2:
        return 0.0
    rates = np.array([passed[member == k].mean() for k in names])
    sizes = np.array([np.sum(member == k) for k in names])
    mean = rates.mean()
    if mean <= 0:
        return 0.0
    statistical = np.mean(mean * (1 - mean) / sizes)
    excess = max(float(rates.var(ddof=1) - statistical), 0.0)
    return float(np.sqrt(excess / len(names)) / mean)


def working_point(
    scores: Scores,
    efficiency: float,
    *,
    data_weight: Array | None,
    member: NDArray[np.int64],
    closure_weight: Array | None,
    closure_error: bool = False,
    fold_correlation: float = FOLD_CORRELATION,
) -> WorkingPoint:
    """Cut and count at one background efficiency; the mass fit is added by the caller.

    Arguments as :func:`expectation`.
    """
    thresholds = scores.thresholds(efficiency)
    expected = expectation(
        scores,
        thresholds,
        data_weight=data_weight,
        member=member,
        closure_weight=closure_weight,
        closure_error=closure_error,
        fold_correlation=fold_correlation,
    )
    passed = scores.passing("data", thresholds)
    weight = np.ones(len(passed)) if data_weight is None else data_weight
    observed = float(weight[passed].sum())
    error = float(np.hypot(expected.statistical, expected.systematic))
    if data_weight is None:
        test = counting_test(observed, expected.value, error)
    else:
        # Weighted counts fluctuate as sum of squared weights: scale to the equivalent number of unweighted events.
        scale = observed / float((weight[passed] ** 2).sum()) if passed.any() else 1.0 / float(weight.mean())
        test = counting_test(observed * scale, expected.value * scale, error * scale)
    return WorkingPoint(
        background_efficiency=efficiency,
        observed=observed,
        expected=expected.value,
        expected_error=error,
        statistical_error=expected.statistical,
        systematic_error=expected.systematic,
        p_value=test.p_value,
        significance=test.significance,
        sideband_closure=expected.closure,
        sideband_closure_error=expected.closure_error,
    )


def mass_spectrum(
    mass: Array, regions: Regions, settings: SignificanceSettings, *, efficiency: float, low: float | None
) -> MassSpectrum:
    """Spectrum of the selected events with its sideband fit, or why there is none.

    Args:
        mass: Selected masses, signal region and sidebands, TeV.
        regions: Signal region and outer limits.
        settings: Settings of the fit.
        efficiency: Background efficiency of the cut, 1 before it.
        low: Start of the fit in TeV; None lets the spectrum decide.
    """
    try:
        fit = spectrum_fit(mass, regions, settings, low=low)
    except UserError as problem:
        edges = np.linspace(mass.min(), mass.max(), 21) if len(mass) else np.linspace(0.0, 1.0, 2)
        return MassSpectrum(efficiency, edges, np.histogram(mass, edges)[0].astype(float), None, str(problem))
    summary = _summary(fit, mass, regions) if fit.valid else None
    return MassSpectrum(efficiency, fit.edges, fit.counts, summary, "; ".join(fit.problems))


def _summary(fit: SidebandFit, mass: Array, regions: Regions) -> MassFitSummary:
    observed = float(regions.in_signal(mass).sum())
    test = window_test(fit, observed)
    return MassFitSummary(
        parameters=fit.parameters,
        expectation=fit.expected,
        expectation_error=fit.expected_error,
        pulls=fit.pulls,
        chi2=fit.chi2,
        ndof=fit.ndof,
        fit_p_value=fit.p_value,
        window_observed=observed,
        window_expected=test.expected,
        window_error=test.expected_error,
        p_value=test.p_value,
        significance=test.significance,
    )
