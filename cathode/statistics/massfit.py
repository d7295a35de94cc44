"""Fit of the dijet function to the sidebands of a mass spectrum, with the signal window blinded.

Binned extended maximum likelihood with bins integrated, not evaluated at their centres.  The number of
parameters is the smallest that neither one nor two more improve at level ``alpha`` of an F-test: looking
only one ahead stops where the next term happens to be of no use and the one after it is needed.

The function describes a falling spectrum.  Bins in the turn-on of a trigger or a selection must be left out
(``low`` of :func:`cathode.statistics.binning.good_binning`); the goodness of fit shows when they were not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from cathode.statistics.dijet import (
    MAX_PARAMETERS,
    BinnedDijet,
    dijet_basis,
    orthonormal_transform,
    poisson_deviance,
)
from cathode.statistics.plain import Plain
from cathode.statistics.significance import signed_root_gamma
from cathode.support.errors import UserError

__all__ = ["FTest", "SidebandFit", "fit_sidebands", "goodness_of_fit"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FTest(Plain):
    """Do more parameters improve the fit?

    Attributes:
        parameters: Parameters of the smaller function.
        larger: Parameters of the larger function.
        chi2: chi2 of the smaller.
        chi2_larger: chi2 of the larger.
        statistic: F = (chi2 - chi2_larger) / (larger - parameters) / (chi2_larger / its degrees of freedom).
        p_value: Probability of this F or more if the smaller function is right.
    """

    parameters: int
    larger: int
    chi2: float
    chi2_larger: float
    statistic: float
    p_value: float


@dataclass(frozen=True)
class SidebandFit(Plain):
    """A fitted mass spectrum.

    Attributes:
        edges: Bin edges (B + 1,), TeV.
        counts: Events per bin (B,), blinded bins included; these took no part in the fit.
        fitted: Bins (B,) that took part.
        blind: Borders of the blinded window, TeV, or None.
        parameters: Number of parameters, normalisation included.
        coefficients: (ln p0, p1, ...) of the dijet function, with f in events per TeV.
        coefficient_errors: Their standard errors.
        expected: Fitted counts (B,) in every bin.
        expected_error: Their standard errors (B,) from the fit.
        pulls: (B,), signed roots of the deviance: (count - expected) / sqrt(expected) where counts are
            large; in blinded bins the uncertainty of the fit is included.
        chi2: Deviance of the fitted bins (Baker & Cousins).
        ndof: Fitted bins minus parameters.
        p_value: Goodness of fit (see :func:`goodness_of_fit`).
        f_tests: The F-tests made, smallest function first; empty when the number of parameters was given.
        alpha: Level of the F-tests.
        valid: The minimisation converged with a positive-definite covariance and nothing else went wrong.
        problems: What went wrong, in words.
        sqrt_s: Centre-of-mass energy, TeV.
        expected_covariance: Covariance (B, B) of ``expected``.
    """

    edges: Array
    counts: Array
    fitted: NDArray[np.bool_]
    blind: tuple[float, float] | None
    parameters: int
    coefficients: Array
    coefficient_errors: Array
    expected: Array
    expected_error: Array
    pulls: Array
    chi2: float
    ndof: int
    p_value: float
    f_tests: tuple[FTest, ...]
    alpha: float
    valid: bool
    problems: tuple[str, ...]
    sqrt_s: float
    expected_covariance: Array = field(repr=False)
    theta: Array = field(repr=False)
    theta_covariance: Array = field(repr=False)
    transform: Array = field(repr=False)

    def bins(self, low: ArrayLike, high: ArrayLike) -> BinnedDijet:
        """The fitted function integrated over other bins, in the parameters ``theta`` of this fit."""
        return BinnedDijet(np.asarray(low), np.asarray(high), self.transform, sqrt_s=self.sqrt_s)

    def density(self, mass: ArrayLike) -> tuple[Array, Array]:
        """Fitted events per TeV and their standard errors, both (N,), at masses (N,) in TeV."""
        basis = dijet_basis(np.asarray(mass, dtype=np.float64), self.parameters, self.sqrt_s) @ self.transform
        value = np.exp(basis @ self.theta)
        return value, value * np.sqrt(np.einsum("nk,kl,nl->n", basis, self.theta_covariance, basis))

    def expected_in(self, low: float, high: float) -> tuple[float, float]:
        """Fitted events between two masses in TeV, and their standard error.

        Raises:
            UserError: The interval is empty or not between 0 and sqrt(s).
        """
        if not 0 < low < high < self.sqrt_s:
            raise UserError(
                f"mass fit: cannot integrate from {low} to {high} TeV; needs 0 < low < high < {self.sqrt_s}"
            )
        steps = np.linspace(low, high, 9)
        value, jacobian = self.bins(steps[:-1], steps[1:]).expected_and_jacobian(self.theta[None])
        slope = jacobian[0].sum(axis=0)
        return float(value.sum()), float(np.sqrt(slope @ self.theta_covariance @ slope))


def fit_sidebands(
    counts: ArrayLike,
    edges: ArrayLike,
    *,
    blind: tuple[float, float] | None = (3.3, 3.7),
    parameters: int | Literal["auto"] = "auto",
    max_parameters: int = MAX_PARAMETERS,
    alpha: float = 0.05,
    sqrt_s: float = 13.0,
) -> SidebandFit:
    """Fit the dijet function to a mass spectrum outside the blinded window.

    Args:
        counts: Unweighted events per bin (B,).
        edges: Increasing bin edges (B + 1,), TeV; the borders of ``blind`` must be among them.
        blind: Window left out of the fit, TeV; None fits all bins.
        parameters: 2 to 5 (p0, p1, ... in this order), or ``"auto"``: the F-test chooses.
        max_parameters: The most that ``"auto"`` tries.
        alpha: Level of the F-test: more parameters are taken while they improve the fit with p < alpha.
        sqrt_s: Centre-of-mass energy, TeV.

    Raises:
        UserError: Unusable counts, edges or settings; no sideband on a side; too few bins or events to fit.
    """
    counts, edges = _checked(counts, edges, sqrt_s)
    fitted = _fitted_bins(edges, blind)
    if blind is not None and counts[edges[1:] <= blind[0] + 1e-9].sum() == 0:
        raise UserError(
            f"mass fit: no events below the window {blind} TeV, so nothing to interpolate from; lower the range"
        )
    candidates = _candidates(counts[fitted], parameters, max_parameters)
    if not 0 < alpha < 1:
        raise UserError(f"mass fit: alpha={alpha} must be between 0 and 1")

    chosen, tests = _choose(
        {n: _minimise(counts, edges, fitted, n, sqrt_s) for n in candidates}, int(fitted.sum()), alpha
    )

    bins = BinnedDijet(edges[:-1], edges[1:], chosen.transform, sqrt_s=sqrt_s)
    expected, jacobian = (a[0] for a in bins.expected_and_jacobian(chosen.theta[None]))
    covariance = jacobian @ chosen.covariance @ jacobian.T
    error = np.sqrt(np.diag(covariance))
    to_physical = chosen.transform @ chosen.covariance @ chosen.transform.T
    return SidebandFit(
        edges=edges,
        counts=counts,
        fitted=fitted,
        blind=blind,
        parameters=len(chosen.theta),
        coefficients=chosen.transform @ chosen.theta,
        coefficient_errors=np.sqrt(np.diag(to_physical)),
        expected=expected,
        expected_error=error,
        pulls=signed_root_gamma(counts, np.maximum(expected, 1e-12), np.where(fitted, 0.0, error)),
        chi2=chosen.chi2,
        ndof=int(fitted.sum()) - len(chosen.theta),
        p_value=goodness_of_fit(chosen.chi2, expected[fitted], len(chosen.theta)),
        f_tests=tuple(tests),
        alpha=alpha,
        valid=not chosen.problems,
        problems=chosen.problems,
        sqrt_s=sqrt_s,
        expected_covariance=covariance,
        theta=chosen.theta,
        theta_covariance=chosen.covariance,
        transform=chosen.transform,
    )


def goodness_of_fit(chi2: float, expected: ArrayLike, parameters: int) -> float:
    """Probability of a deviance of ``chi2`` or more from a right model with ``parameters`` fitted.

    In bins with few events the deviance does not follow the chi2 distribution.  A gamma distribution with
    the exact Poisson mean and variance of each bin's deviance, scaled for the fitted parameters, stands in
    for it; with many events per bin the two are the same.
    """
    mean, variance = deviance_moments(expected)
    bins = len(mean)
    if bins <= parameters:
        return float("nan")
    share = (bins - parameters) / bins
    total, spread = share * mean.sum(), share * variance.sum()
    return float(stats.gamma.sf(chi2, total**2 / spread, scale=spread / total))


def deviance_moments(expected: ArrayLike) -> tuple[Array, Array]:
    """Mean and variance (B,) of the Poisson deviance at expectations (B,)."""
    mu = np.atleast_1d(np.asarray(expected, dtype=np.float64))
    mean, variance = np.ones_like(mu), np.full_like(mu, 2.0)
    # Above this the next order of the expansion, mean 1 + 1/(6 mu), is below two per mille.
    few = mu < 100
    if few.any():
        small = np.maximum(mu[few], 1e-12)[:, None]
        n = np.arange(240.0)
        probability = np.exp(special.xlogy(n, small) - small - special.gammaln(n + 1))
        deviance = poisson_deviance(n, small)
        mean[few] = (probability * deviance).sum(axis=1)
        variance[few] = (probability * deviance**2).sum(axis=1) - mean[few] ** 2
    return mean, np.maximum(variance, 1e-12)


@dataclass(frozen=True)
class _Solution:
    theta: Array
    covariance: Array
    transform: Array
    chi2: float
    expected: Array
    problems: tuple[str, ...]


def _minimise(counts: Array, edges: Array, fitted: NDArray[np.bool_], parameters: int, sqrt_s: float) -> _Solution:
    from iminuit import Minuit

    n = counts[fitted]
    low, high = edges[:-1][fitted], edges[1:][fitted]
    centres = 0.5 * (low + high)
    transform = orthonormal_transform(centres, n + 0.5, parameters, sqrt_s)
    bins = BinnedDijet(low, high, transform, sqrt_s=sqrt_s)
    start, converged = bins.fit(n[None], bins.start(n))

    def cost(theta: Array) -> float:
        return float(bins.deviance(n, theta))

    def gradient(theta: Array) -> Array:
        expected, jacobian = bins.expected_and_jacobian(theta[None])
        return 2 * jacobian[0].T @ (1 - n / expected[0])

    minuit = Minuit(cost, start[0], grad=gradient)
    minuit.errordef = Minuit.LEAST_SQUARES  # the deviance is -2 ln L
    minuit.errors = 1 / np.sqrt(n.sum())
    minuit.tol = 0.01
    minuit.migrad()
    minuit.hesse()
    problems = []
    if not (minuit.valid or converged[0]):
        problems.append("the minimisation did not converge")
    if minuit.valid and minuit.accurate and minuit.covariance is not None:
        theta, covariance = np.array(minuit.values), np.array(minuit.covariance)
    else:
        theta = start[0]
        expected, jacobian = bins.expected_and_jacobian(theta[None])
        information = jacobian[0].T @ (jacobian[0] / expected[0][:, None])
        covariance = np.linalg.pinv(information, hermitian=True)
        if np.linalg.cond(information) > 1e12:
            problems.append("the sidebands do not determine all parameters")
    return _Solution(theta, covariance, transform, cost(theta), bins.expected(theta), tuple(problems))


def _choose(solutions: dict[int, _Solution], bins: int, alpha: float) -> tuple[_Solution, list[FTest]]:
    tests: list[FTest] = []
    for parameters, solution in solutions.items():
        larger = [solutions[n] for n in (parameters + 1, parameters + 2) if n in solutions]
        tests += [_f_test(solution, other, bins) for other in larger]
        if all(test.p_value >= alpha for test in tests[len(tests) - len(larger) :]):
            return solution, tests
    return solution, tests


def _f_test(smaller: _Solution, larger: _Solution, bins: int) -> FTest:
    ndof = bins - len(larger.theta)
    added = len(larger.theta) - len(smaller.theta)
    # With few events per bin a right model's deviance is not ndof on average; its Poisson expectation
    # replaces ndof.
    ndof_effective = ndof * float(deviance_moments(larger.expected)[0].mean())
    gain = max(smaller.chi2 - larger.chi2, 0.0)
    statistic = gain / added / (larger.chi2 / ndof_effective) if larger.chi2 > 0 else 0.0
    return FTest(
        parameters=len(smaller.theta),
        larger=len(larger.theta),
        chi2=smaller.chi2,
        chi2_larger=larger.chi2,
        statistic=statistic,
        p_value=float(stats.f.sf(statistic, added, ndof)),
    )


def _checked(counts: ArrayLike, edges: ArrayLike, sqrt_s: float) -> tuple[Array, Array]:
    n, e = np.asarray(counts, dtype=np.float64), np.asarray(edges, dtype=np.float64)
    if n.ndim != 1 or e.shape != (len(n) + 1,):
        raise UserError(f"mass fit: {n.shape} counts need {n.size + 1} edges, not {e.shape}")
    if not (np.isfinite(n).all() and (n >= 0).all()):
        raise UserError("mass fit: counts must be finite and >= 0")
    if not (np.isfinite(e).all() and (np.diff(e) > 0).all()):
        raise UserError("mass fit: edges must be finite and increasing")
    if not 0 < e[0] < e[-1] < sqrt_s:
        raise UserError(
            f"mass fit: edges from {e[0]:g} to {e[-1]:g} must lie between 0 and sqrt(s) = {sqrt_s:g}; are they in TeV?"
        )
    return n, e


def _fitted_bins(edges: Array, blind: tuple[float, float] | None) -> NDArray[np.bool_]:
    if blind is None:
        return np.ones(len(edges) - 1, dtype=bool)
    low, high = blind
    tolerance = 1e-6 * np.diff(edges).min()
    if not low < high:
        raise UserError(f"mass fit: the blinded window {blind} is empty")
    for border in blind:
        if edges[0] < border < edges[-1] and np.abs(edges - border).min() > tolerance:
            raise UserError(f"mass fit: {border:g} TeV, a border of the window, is not a bin edge; use good_binning")
    below, above = edges[1:] <= low + tolerance, edges[:-1] >= high - tolerance
    for side, bins in (("below", below), ("above", above)):
        if not bins.any():
            raise UserError(f"mass fit: no bins {side} the window {low:g}-{high:g} TeV; widen the range of masses")
    return below | above


def _candidates(counts: Array, parameters: int | str, max_parameters: int) -> list[int]:
    filled = int((counts > 0).sum())
    if counts.sum() < 10 or filled < 3:
        raise UserError(
            f"mass fit: {counts.sum():g} events in {filled} filled sideband bins are too few; "
            "needs 10 events in 3 bins; loosen the cut or widen the sidebands"
        )
    if parameters == "auto":
        if not 2 <= max_parameters <= MAX_PARAMETERS:
            raise UserError(f"mass fit: max_parameters={max_parameters} must be 2 to {MAX_PARAMETERS}")
        # More parameters than filled bins can hold would fit the empty ones with nothing.
        return list(range(2, max(2, min(max_parameters, filled - 1, len(counts) - 1)) + 1))
    if not isinstance(parameters, int) or not 2 <= parameters <= MAX_PARAMETERS:
        raise UserError(f"mass fit: parameters={parameters!r} must be 'auto' or 2 to {MAX_PARAMETERS}")
    if filled <= parameters:
        raise UserError(f"mass fit: {filled} filled sideband bins cannot determine {parameters} parameters; use fewer")
    return [parameters]
