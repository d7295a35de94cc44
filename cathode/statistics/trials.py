"""From the best of many tests to one p-value: the trials factor (look-elsewhere effect).

The smallest of many local p-values is small by chance alone.  The Sidak formula is exact for independent
tests and conservative for positively correlated ones, such as overlapping windows or nested cuts; toys of
all tests together carry their true correlation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cathode.statistics.plain import Plain
from cathode.statistics.significance import p_to_z
from cathode.support.errors import UserError
from cathode.support.seeding import numpy_generator

__all__ = ["GlobalSignificance", "global_from_correlation", "global_from_toys", "sidak"]


@dataclass(frozen=True)
class GlobalSignificance(Plain):
    """The best local result after the trials factor.

    Attributes:
        local_p_value: Smallest local p-value.
        local_significance: The same in standard deviations.
        best: Index of the test that has it.
        p_value: Probability, without signal, that any of the tests is as extreme.
        p_value_error: Its error from the number of toys; 0 for a formula.
        significance: ``p_value`` in standard deviations.
        tests: Number of tests.
        trials_factor: ``p_value / local_p_value``.
        method: ``"sidak"``, ``"toys"`` or ``"correlation"``.
    """

    local_p_value: float
    local_significance: float
    best: int
    p_value: float
    p_value_error: float
    significance: float
    tests: int
    trials_factor: float
    method: str


def sidak(local: ArrayLike) -> GlobalSignificance:
    """Global p-value 1 - (1 - p)^n of ``n`` local p-values (n,) as if the tests were independent.

    An upper bound when the tests are positively correlated (Sidak 1967).

    Raises:
        UserError: No p-values, or one outside [0, 1].
    """
    p = _checked(local)
    smallest = float(p.min())
    value = 1.0 if smallest == 1 else -math.expm1(len(p) * math.log1p(-smallest))
    return _result(p, value, 0.0, "sidak")


def global_from_toys(local: ArrayLike, toy_p_values: ArrayLike) -> GlobalSignificance:
    """Global p-value from background-only repetitions of all tests together.

    Args:
        local: Local p-values (n,) of the data.
        toy_p_values: Local p-values (T, n) of T background-only experiments, the same tests in the same
            order.

    Raises:
        UserError: The shapes do not fit, or a p-value is outside [0, 1].
    """
    p = _checked(local)
    toys = np.asarray(toy_p_values, dtype=np.float64)
    if toys.ndim != 2 or toys.shape[1] != len(p) or len(toys) == 0:
        raise UserError(f"trials: toys of shape {toys.shape} do not fit {len(p)} tests; needs (toys, {len(p)})")
    if not np.all((toys >= 0) & (toys <= 1)):
        raise UserError("trials: a p-value of a toy is outside [0, 1] or NaN")
    value = (int((toys.min(axis=1) <= p.min()).sum()) + 1) / (len(toys) + 1)
    return _result(p, value, math.sqrt(value * (1 - value) / len(toys)), "toys")


def global_from_correlation(
    local: ArrayLike, correlation: ArrayLike, *, toys: int = 200_000, seed: int = 0
) -> GlobalSignificance:
    """Global p-value when the local significances are jointly normal with a known correlation matrix.

    Args:
        local: Local p-values (n,).
        correlation: Correlation (n, n) of the significances without signal.
        toys: Normal toys drawn; the result cannot be below 1 / (toys + 1).
        seed: Their seed.

    Raises:
        UserError: The matrix is not a correlation matrix, or a p-value is outside [0, 1].
    """
    p = _checked(local)
    matrix = np.asarray(correlation, dtype=np.float64)
    if matrix.shape != (len(p), len(p)):
        raise UserError(f"trials: correlation of shape {matrix.shape} does not fit {len(p)} tests")
    if not (np.allclose(matrix, matrix.T, atol=1e-8) and np.allclose(np.diag(matrix), 1, atol=1e-8)):
        raise UserError("trials: a correlation matrix is symmetric with ones on its diagonal")
    values, vectors = np.linalg.eigh(matrix)
    if values.min() < -1e-8 * len(p):
        raise UserError(f"trials: the correlation matrix has a negative eigenvalue, {values.min():.3g}")
    factor = vectors * np.sqrt(np.maximum(values, 0))
    generator = numpy_generator(seed, "trials")
    threshold = float(p_to_z(p.min()))
    above, left = 0, toys
    while left > 0:
        size = min(left, max(1, 4_000_000 // len(p)))
        above += int(((generator.standard_normal((size, len(p))) @ factor.T).max(axis=1) >= threshold).sum())
        left -= size
    value = (above + 1) / (toys + 1)
    return _result(p, value, math.sqrt(value * (1 - value) / toys), "correlation")


def _checked(local: ArrayLike) -> np.ndarray:
    p = np.asarray(local, dtype=np.float64)
    if p.ndim != 1 or len(p) == 0 or not np.all((p >= 0) & (p <= 1)):
        raise UserError("trials: needs a list of local p-values between 0 and 1")
    return p


def _result(p: np.ndarray, value: float, error: float, method: str) -> GlobalSignificance:
    smallest = float(p.min())
    return GlobalSignificance(
        local_p_value=smallest,
        local_significance=float(p_to_z(smallest)),
        best=int(p.argmin()),
        p_value=value,
        p_value_error=error,
        significance=float(p_to_z(value)),
        tests=len(p),
        trials_factor=value / smallest if smallest > 0 else math.inf,
        method=method,
    )
