"""p-values and significances, one-sided: Z standard deviations are p = 1 - Phi(Z).

p = 0.5 is Z = 0; a deficit has p > 0.5 and a negative Z, so that p is uniform and Z standard normal when
there is no signal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from cathode.support.errors import UserError

__all__ = ["asimov_significance", "p_to_z", "signed_root_gamma", "signed_root_gaussian", "z_to_p"]

Array = NDArray[np.float64]


def p_to_z(p_value: ArrayLike) -> Array:
    """Significance of a one-sided p-value, any shape; p = 0 gives inf, p = 1 gives -inf.

    Raises:
        UserError: A p-value is outside [0, 1] or NaN.
    """
    p = np.asarray(p_value, dtype=np.float64)
    if not np.all((p >= 0) & (p <= 1)):
        raise UserError("a p-value is outside [0, 1] or NaN; check where it was computed")
    return -special.ndtri(p)


def z_to_p(significance: ArrayLike) -> Array:
    """One-sided p-value of a significance, any shape; accurate in the far tail."""
    return special.ndtr(-np.asarray(significance, dtype=np.float64))


def signed_root_gamma(observed: ArrayLike, expected: ArrayLike, expected_error: ArrayLike) -> Array:
    """Signed root of the profile likelihood ratio of "no signal", background known from an auxiliary Poisson
    count.

    The background ``b`` has the likelihood of an auxiliary measurement of ``b0 tau`` events with ``tau = b0 /
    sigma^2``: a gamma constraint with mean ``b0`` and error ``sigma``.  This is the on/off problem (Li & Ma
    1983, eq. 17; Cowan, "Discovery sensitivity for a counting experiment with background uncertainty", 2012,
    eq. 17). ``sigma = 0`` gives the known-background limit, Cowan et al., arXiv:1007.1727, eq. 97 with n for
    s + b.

    Args:
        observed: Counts n >= 0, broadcast with the others.
        expected: Background estimates b0 > 0.
        expected_error: Their standard errors sigma >= 0.
    """
    n, b, error = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in (observed, expected, expected_error)))
    # Below this the constraint cannot be told from a known background, and 1/sigma^2 would overflow.
    known = error < 1e-7 * b
    variance = np.where(known, 1.0, error) ** 2
    likelihood = special.xlogy(n, n / b) - (n - b)
    shrink = np.log1p(variance * (b - n) / (b**2 + n * variance))
    # ln((b^2 + n v) / (b (b + v))); its two forms are exact where the other one cancels.
    argument = variance * (n - b) / (b * (b + variance))
    empty = n == 0
    logarithm = np.where(empty, -np.log1p(variance / b), np.log1p(np.where(empty, 0.0, argument)))
    pull = (b / np.sqrt(variance)) ** 2 * logarithm
    profiled = special.xlogy(n, n / b) + n * shrink - pull
    return np.sign(n - b) * np.sqrt(2 * np.maximum(np.where(known, likelihood, profiled), 0))


def signed_root_gaussian(observed: ArrayLike, expected: ArrayLike, expected_error: ArrayLike) -> Array:
    """As :func:`signed_root_gamma`, with a Gaussian constraint on the background, b0 ~ N(b, sigma).

    The conditional maximum of Pois(n | b) N(b0 | b, sigma) over ``b`` solves b^2 + (sigma^2 - b0) b - n
    sigma^2 = 0.
    """
    n, b0, error = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in (observed, expected, expected_error)))
    b = gaussian_null_background(n, b0, error)
    # Where b is 0 there are no observed events and a negative estimate; the Poisson term vanishes.
    ratio = np.divide(n, b, out=np.ones_like(b), where=b > 0)
    constraint = np.divide(b - b0, error, out=np.zeros_like(b), where=error > 0) ** 2
    q = 2 * (special.xlogy(n, ratio) - (n - b)) + constraint
    return np.sign(n - b0) * np.sqrt(np.maximum(q, 0))


def gaussian_null_background(observed: Array, expected: Array, expected_error: Array) -> Array:
    """Most likely background without signal under a Gaussian constraint, any shape."""
    half = 0.5 * (expected - expected_error**2)
    root = np.sqrt(half**2 + observed * expected_error**2)
    # The sum cancels when half is negative: the other root of the quadratic is the exact way out.
    denominator = np.where(half < 0, root - half, 1.0)
    return np.where(half < 0, observed * expected_error**2 / denominator, half + root)


def asimov_significance(signal: ArrayLike, background: ArrayLike, background_error: ArrayLike = 0.0) -> Array:
    """Median expected discovery significance of a counting experiment, any shape.

    Cowan, Cranmer, Gross, Vitells, arXiv:1007.1727, eq. 97, and with an uncertain background its extension
    (Cowan 2012, eq. 20; ATL-PHYS-PUB-2020-025, eq. 1).  Negative for a negative signal.

    Args:
        signal: Expected signal events s >= -b.
        background: Expected background events b > 0.
        background_error: Standard error of the background, >= 0.

    Raises:
        UserError: An argument is out of range.
    """
    s, b, error = (np.asarray(v, dtype=np.float64) for v in (signal, background, background_error))
    if not (np.all(b > 0) and np.all(error >= 0) and np.all(s + b >= 0)):
        raise UserError("asimov significance: needs background > 0, its error >= 0 and signal + background >= 0")
    return signed_root_gamma(s + b, b, error)
