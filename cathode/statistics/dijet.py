"""The dijet function, integrated over bins, and its maximum-likelihood fit to many spectra at once.

    f(x) = p0 (1 - x)^p1 x^-(p2 + p3 ln x + p4 ln^2 x),      x = m / sqrt(s),

the parametrisation of dijet searches since CDF (arXiv:0812.4036) with two terms more.  Its logarithm is
linear in (ln p0, p1, ..., p4), so the fit is done in an orthonormal basis of the same space of functions:
there the parameters are uncorrelated to first order and of the size 1/sqrt(events), and scoring steps
converge from anywhere sensible, while in p0...p4 they are correlated to many digits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["MAX_PARAMETERS", "BinnedDijet", "dijet_basis", "orthonormal_transform", "poisson_deviance"]

Array = NDArray[np.float64]
MAX_PARAMETERS = 5

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)
# ln(events per TeV) far beyond this is a diverging fit; the bound keeps exp() finite.
_LOG_BOUND = 300.0


def dijet_basis(mass: Array, parameters: int, sqrt_s: float) -> Array:
    """The functions (..., parameters) whose coefficients in ln f are (ln p0, p1, p2, p3, p4), at masses in
    TeV.
    """
    x = np.asarray(mass, dtype=np.float64) / sqrt_s
    log_x = np.log(x)
    functions = [np.ones_like(x), np.log1p(-x), -log_x, -(log_x**2), -(log_x**3)]
    return np.stack(functions[:parameters], axis=-1)


def orthonormal_transform(mass: Array, probability: Array, parameters: int, sqrt_s: float) -> Array:
    """Matrix T (K, K) that makes ``dijet_basis(m) @ T`` orthonormal under ``probability`` (N,) at ``mass``
    (N,).
    """
    weighted = np.sqrt(probability / probability.sum())[:, None] * dijet_basis(mass, parameters, sqrt_s)
    return np.linalg.inv(np.linalg.qr(weighted).R)


def poisson_deviance(counts: Array, expected: Array) -> Array:
    """-2 ln (Poisson likelihood / saturated likelihood) per bin (Baker & Cousins, NIM 221 (1984) 437)."""
    return np.maximum(2 * (special.xlogy(counts, counts) - special.xlogy(counts, expected) - (counts - expected)), 0)


class BinnedDijet:
    """Expected counts of the dijet function in bins.

    Args:
        low: Lower edges (B,) of the bins, TeV; bins need not be adjacent.
        high: Upper edges (B,), TeV.
        transform: (K, K), the basis of the parameters theta (see :func:`orthonormal_transform`).
        sqrt_s: Centre-of-mass energy, TeV.
    """

    def __init__(self, low: Array, high: Array, transform: Array, *, sqrt_s: float) -> None:
        low, high = np.atleast_1d(low).astype(np.float64), np.atleast_1d(high).astype(np.float64)
        self.masses = 0.5 * (low + high)[:, None] + 0.5 * (high - low)[:, None] * _NODES
        self.weights = 0.5 * (high - low)[:, None] * _WEIGHTS
        self.basis = dijet_basis(self.masses, len(transform), sqrt_s) @ transform

    def expected(self, theta: Array) -> Array:
        """Expected counts (..., B) for parameters (..., K)."""
        log_density = np.tensordot(theta, self.basis, axes=(-1, -1))
        return (np.exp(np.clip(log_density, -_LOG_BOUND, _LOG_BOUND)) * self.weights).sum(axis=-1)

    def expected_and_jacobian(self, theta: Array) -> tuple[Array, Array]:
        """Expected counts (T, B) and their derivatives (T, B, K) for parameters (T, K)."""
        log_density = np.tensordot(theta, self.basis, axes=(-1, -1))
        content = np.exp(np.clip(log_density, -_LOG_BOUND, _LOG_BOUND)) * self.weights
        return content.sum(axis=-1), np.einsum("tbq,bqk->tbk", content, self.basis)

    def deviance(self, counts: Array, theta: Array) -> Array:
        """Deviance (...) of counts (..., B) summed over bins."""
        return poisson_deviance(counts, self.expected(theta)).sum(axis=-1)

    def start(self, counts: Array) -> Array:
        """First guess (K,): least squares of the logarithm of the counts (B,)."""
        weight = np.sqrt(counts + 0.5)
        width = self.weights.sum(axis=1)
        centre = (self.basis * self.weights[..., None]).sum(axis=1) / width[:, None]
        target = np.log((counts + 0.5) / width)
        return np.linalg.lstsq(weight[:, None] * centre, weight * target, rcond=None)[0]

    def fit(
        self, counts: Array, start: Array, *, iterations: int = 100, tolerance: float = 1e-10
    ) -> tuple[Array, NDArray[np.bool_]]:
        """Maximum-likelihood parameters of many spectra at once, by Fisher scoring with step halving.

        Args:
            counts: Counts (T, B).
            start: First guess (K,) or (T, K).
            iterations: Most steps taken.
            tolerance: A spectrum has converged when a step promises to lower its deviance by less than this.

        Returns:
            Parameters (T, K), and which spectra converged (T,).
        """
        theta = np.broadcast_to(start, (len(counts), self.basis.shape[-1])).astype(np.float64).copy()
        deviance = self.deviance_rows(counts, theta)
        converged = np.zeros(len(counts), dtype=bool)
        active = np.arange(len(counts))
        for _ in range(iterations):
            if len(active) == 0:
                break
            n = counts[active]
            expected, jacobian = self.expected_and_jacobian(theta[active])
            gradient = np.einsum("tbk,tb->tk", jacobian, n / expected - 1)
            information = np.einsum("tbk,tbl,tb->tkl", jacobian, jacobian, 1 / expected)
            ridge = 1e-12 * np.trace(information, axis1=1, axis2=2)[:, None, None]
            information = information + ridge * np.eye(theta.shape[1])
            step = np.linalg.solve(information, gradient[..., None])[..., 0]
            promise = np.einsum("tk,tk->t", gradient, step)
            # A change of ln f by more than this is beyond the linear regime.
            reach = np.abs(np.tensordot(step, self.basis, axes=(-1, -1))).max(axis=(1, 2))
            step *= np.minimum(1, 3 / np.maximum(reach, 1e-300))[:, None]
            improved = np.zeros(len(active), dtype=bool)
            for _ in range(12):
                trial = theta[active] + step
                value = self.deviance_rows(n, trial)
                better = ~improved & (value <= deviance[active] + 1e-13 * (1 + deviance[active]))
                theta[active[better]] = trial[better]
                deviance[active[better]] = value[better]
                improved |= better
                if improved.all():
                    break
                step[~improved] /= 2
            done = promise < tolerance * (1 + deviance[active])
            converged[active[done]] = True
            # Where no step improves, rounding has been reached: that is as converged as it gets.
            active = active[~done & improved]
        return theta, converged

    def deviance_rows(self, counts: Array, theta: Array) -> Array:
        """Deviance (T,) of spectra (T, B) at their own parameters (T, K)."""
        return poisson_deviance(counts, self.expected(theta)).sum(axis=-1)
