"""Is a count an excess over an uncertain expectation?

The background estimate ``b0`` with standard error ``sigma`` enters as a measurement of the true background.
All p-values are one-sided, for an excess, and are not cut at 0.5: a deficit gives p > 0.5, and without
signal p is uniform up to the discreteness of counts (p is then conservative: P(p <= alpha) <= alpha;
``mid_p`` removes the bias on average instead).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special, stats

from cathode.statistics.plain import Plain
from cathode.statistics.significance import (
    gaussian_null_background,
    p_to_z,
    signed_root_gamma,
    signed_root_gaussian,
    z_to_p,
)
from cathode.support.errors import UserError
from cathode.support.seeding import numpy_generator

__all__ = ["CountingResult", "counting_test"]

Method = Literal["profile", "marginal", "toys"]
Constraint = Literal["gamma", "gaussian"]

_ROOTS = {"gamma": signed_root_gamma, "gaussian": signed_root_gaussian}


@dataclass(frozen=True)
class CountingResult(Plain):
    """One count against its expectation.

    Attributes:
        observed: Events counted.
        expected: Background expectation b0.
        expected_error: Its standard error.
        p_value: One-sided, for an excess; above 0.5 for a deficit.
        significance: The same as a number of standard deviations; negative for a deficit.
        method: How ``p_value`` was computed (see :func:`counting_test`).
        constraint: Likelihood of the background estimate.
        mid_p: Whether the observed count itself counts half.
        p_value_error: Standard error of ``p_value`` from the number of toys; 0 for the other methods.
        toys: Number of toys.
    """

    observed: float
    expected: float
    expected_error: float
    p_value: float
    significance: float
    method: str
    constraint: str
    mid_p: bool
    p_value_error: float = 0.0
    toys: int = 0

    @property
    def excess(self) -> float:
        """Observed minus expected."""
        return self.observed - self.expected


def counting_test(
    observed: float,
    expected: float,
    expected_error: float = 0.0,
    *,
    method: Method = "profile",
    constraint: Constraint = "gamma",
    mid_p: bool = False,
    toys: int = 100_000,
    seed: int = 0,
) -> CountingResult:
    """p-value and significance of ``observed`` events where ``expected`` +- ``expected_error`` are expected.

    Args:
        observed: Observed number of events, >= 0.
        expected: Background expectation, > 0.
        expected_error: Its standard error, >= 0.
        method: How the p-value is computed.

            * ``"profile"``: profile likelihood ratio, p = Phi(-r) with its signed root r (asymptotic,
            arXiv:1007.1727,
              eq. 52, extended to deficits).  Good from some ten events on.
            * ``"marginal"``: exact P(N >= observed) with the true background distributed as a gamma of mean
              ``expected`` and standard deviation ``expected_error``: a negative binomial (a Poisson when the
              error is 0).  For any count; gamma constraint only.
            * ``"toys"``: the distribution of r from pseudo-experiments at the background that fits best
            without
              signal, each with a fresh count and a fresh background estimate; ``p_value_error`` says how
              precisely.
        constraint: ``"gamma"`` (an auxiliary Poisson count, on/off problem) or ``"gaussian"``.
        mid_p: P(N > observed) + P(N = observed) / 2 instead of P(N >= observed); for ``"marginal"`` and
            ``"toys"``.
        toys: Number of pseudo-experiments.
        seed: Their seed.

    Raises:
        UserError: A number is out of range or not finite, or the method cannot do what is asked.
    """
    if not all(math.isfinite(value) for value in (observed, expected, expected_error)):
        raise UserError(f"counting test: not finite: observed={observed}, expected={expected} +- {expected_error}")
    if observed < 0 or expected_error < 0:
        raise UserError(f"counting test: observed={observed} and expected_error={expected_error} must be >= 0")
    if expected <= 0:
        raise UserError(
            f"counting test: the expectation is {expected}, but must be positive; "
            "loosen the cut or use a larger template"
        )
    if constraint not in _ROOTS:
        raise UserError(f"counting test: unknown constraint {constraint!r}; use 'gamma' or 'gaussian'")
    p_error = 0.0
    if method == "profile":
        if mid_p:
            raise UserError("counting test: mid_p needs method 'marginal' or 'toys'; 'profile' is continuous already")
        root = _ROOTS[constraint](observed, expected, expected_error)
        p, z = float(z_to_p(root)), float(root)
    elif method == "marginal":
        if constraint != "gamma":
            raise UserError("counting test: method 'marginal' needs constraint='gamma'")
        p = _negative_binomial_tail(observed, expected, expected_error, mid_p=mid_p)
        z = float(p_to_z(p))
    elif method == "toys":
        p, p_error = _toy_tail(observed, expected, expected_error, constraint, mid_p=mid_p, toys=toys, seed=seed)
        z = float(p_to_z(p))
    else:
        raise UserError(f"counting test: unknown method {method!r}; use 'profile', 'marginal' or 'toys'")
    return CountingResult(
        observed=float(observed),
        expected=float(expected),
        expected_error=float(expected_error),
        p_value=p,
        significance=z,
        method=method,
        constraint=constraint,
        mid_p=mid_p,
        p_value_error=p_error,
        toys=toys if method == "toys" else 0,
    )


def _negative_binomial_tail(n: float, b: float, error: float, *, mid_p: bool) -> float:
    if n != math.floor(n):
        raise UserError(f"counting test: method 'marginal' needs a whole number of observed events, not {n}")
    if error < 1e-5 * b:
        # Indistinguishable from a known background.
        tail = float(special.pdtrc(n - 1, b)) if n > 0 else 1.0
        here = float(stats.poisson.pmf(n, b))
    else:
        shape, success = (b / error) ** 2, b / (b + error**2)
        # P(N >= n) is the incomplete beta function, accurate far into the tail.
        tail = float(special.betainc(n, shape, 1 - success)) if n > 0 else 1.0
        here = float(stats.nbinom.pmf(n, shape, success))
    return min(1.0, tail - 0.5 * here) if mid_p else tail


def _toy_tail(
    n: float, b: float, error: float, constraint: Constraint, *, mid_p: bool, toys: int, seed: int
) -> tuple[float, float]:
    if toys < 100:
        raise UserError(f"counting test: {toys} toys are too few; use 100 or more")
    generator = numpy_generator(seed, "counting test")
    if error == 0:
        estimates = np.full(toys, b)
        truth = b
    elif constraint == "gamma":
        tau = b / error**2
        truth = (n + b * tau) / (1 + tau)
        # An estimate of exactly zero has no likelihood ratio; half an auxiliary event stands for "none seen".
        estimates = np.maximum(generator.poisson(truth * tau, size=toys), 0.5) / tau
    else:
        truth = float(gaussian_null_background(*(np.asarray(v) for v in (n, b, error))))
        estimates = generator.normal(truth, error, size=toys)
    counts = generator.poisson(truth, size=toys)
    if constraint == "gamma":
        # The auxiliary exposure tau is fixed, so the error of an estimate b is sqrt(b / tau).
        errors = np.sqrt(estimates * error**2 / b)
    else:
        errors = np.full(toys, error)
    roots = _ROOTS[constraint](counts, estimates, errors)
    seen = float(_ROOTS[constraint](n, b, error))
    tolerance = 1e-9 * (1 + abs(seen))
    above = int((roots > seen + tolerance).sum())
    equal = int((np.abs(roots - seen) <= tolerance).sum())
    # The observed experiment is itself one outcome of the null: p is never an unfounded zero.
    p = (above + 0.5 * equal + 0.5) / (toys + 1) if mid_p else (above + equal + 1) / (toys + 1)
    return p, math.sqrt(max(p * (1 - p), 0.0) / toys)
