r"""Fit of :class:`CyclicCopula`: closed form, through the zeros.

A zero says only that a latent value lies below a bound.  What an event says about a latent value is its score
:math:`t = E[r \mid x]`, the standardised residual itself above the bound and its mean below where it is zero.  For two
jointly Gaussian residuals with correlation :math:`\rho`, and with :math:`a_k` the coefficients of the scores in Hermite
polynomials,

.. math:: E[t_p t_q] = \sum_{k \ge 1} \frac{\rho^k}{k!}\, a_k(p)\, a_k(q)

(Mehler's formula), so that the correlations of all pairs follow from sums over events of products of scores and of
their coefficients, by Newton's method on polynomials; no event is ever filled.  The regression on the context is found
from the same scores by Fisher scoring.  Correlations are pulled to 0 by what their information is worth against a
prior width, and brought to a positive spectrum frequency by frequency.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from cathode.density.cyclic_copula import CyclicCopula
from cathode.support.errors import UserError
from cathode.support.progress import progress
from cathode.support.seeding import derive_seed

__all__ = ["fit_cyclic_copula"]

_ROWS = 500
#: Order of the expansion in Hermite polynomials.
_ORDER = 12
#: Rows that marginal distributions are fitted to, of all sectors together.
_MARGINAL_ROWS = 50_000
#: Pseudo-events of the regression of each feature, in one sector.
_RIDGE = 4.0
_SMALLEST_EIGENVALUE = 0.02
_WINDOW = 1e-3


@torch.no_grad()
def fit_cyclic_copula(
    copula: CyclicCopula,
    x: Tensor,
    context: Tensor,
    *,
    prior_width: float = 0.05,
    seed: int,
) -> CyclicCopula:
    """Fit ``copula`` in place.

    Args:
        copula: Unfitted.
        x: ``(N, D)`` events; below the threshold is zero.
        context: ``(N, C)``, with the sums of the blocks.
        prior_width: Standard deviation of correlations before anything is known of them.
        seed: Of the choice of rows for the marginal distributions.

    Returns:
        ``copula``.

    Raises:
        UserError: Events or context of the wrong size.
    """
    if x.shape[1:] != copula.event_shape or context.shape != (len(x), copula.context_features):
        raise UserError(
            f"events {tuple(x.shape)} with context {tuple(context.shape)} do not fit {copula.event_shape[0]} features "
            f"and {copula.context_features} context columns"
        )
    context = context.to(copula.location.dtype)
    _fit_marginals(copula, x, context, seed=seed)
    _fit_nodes(copula, context)
    _Fit(copula, x, context, prior_width=prior_width).run()
    return copula


def _fit_marginals(copula: CyclicCopula, x: Tensor, context: Tensor, *, seed: int) -> None:
    rows = torch.arange(len(x) * copula.turns)
    generator = torch.Generator().manual_seed(derive_seed(seed, "marginals"))
    if len(rows) > _MARGINAL_ROWS:
        rows = torch.randperm(len(rows), generator=generator)[:_MARGINAL_ROWS].sort().values
    event, sector = rows // copula.turns, rows % copula.turns
    values = x[event.unsqueeze(1), copula.order.unflatten(0, (copula.turns, -1))[sector]]
    copula.marginals = copula.marginals.fit(values.clamp(min=1e-6), context=context[event])


def _fit_nodes(copula: CyclicCopula, context: Tensor) -> None:
    s = context[:, copula.column].clamp(min=copula.marginals.floor).log()
    low, high = float(s.min()), float(s.max())
    copula.ends.copy_(torch.tensor([low, max(high, low + 1e-3)]))
    regressors = copula.regressors(context)
    copula.location.copy_(regressors.mean(0))
    copula.width.copy_(regressors.std(0) + 0.01)


class _Fit:
    """The latent Gaussian of a copula whose marginals are fitted."""

    def __init__(self, copula: CyclicCopula, x: Tensor, context: Tensor, *, prior_width: float) -> None:
        self.copula, self.x, self.context = copula, x, context
        self.precision = prior_width**-2
        self.hats = copula.weights(context)
        self.design = copula.design(context)
        bounds = [copula.marginals.bounds(c).float() for c in context.split(4 * _ROWS)]
        self.bounds = torch.cat(bounds).clamp(-6.0, 6.0)
        turns = copula.turns
        frequencies = torch.arange(turns // 2 + 1, dtype=torch.float64)
        # Of each frequency, or of each distance between sectors in both directions.
        self.multiplicity = torch.tensor([1.0] + [2.0] * ((turns - 1) // 2) + [1.0] * (1 - turns % 2))
        self.latent, self.zero = self._latent()
        self.cosines = torch.cos(2 * math.pi / turns * frequencies.unsqueeze(1) * frequencies).float()

    def run(self) -> None:
        self._freeze()
        for _ in range(2):
            self._regress()
            self._freeze()
        products = self._products()
        for node in progress(range(self.copula.nodes), description="correlations"):
            self._correlate(node, products[node])

    # Scores.

    def _freeze(self) -> None:
        """Fix what scores are relative to."""
        self.centre = self.copula.mean(self.context)
        self.scale = self.hats @ self.copula.scales
        self.bound = ((self.bounds - self.centre) / self.scale).clamp(-5.5, 5.5)

    def _latent(self) -> tuple[Tensor, Tensor]:
        """Latent values of the training events and which of them are zeros, both ``(N, turns, F)``."""
        copula = self.copula
        pieces = zip(self.x.split(_ROWS), self.context.split(_ROWS), strict=True)
        latent = torch.cat([copula.latent_values(x, c) for x, c in pieces])
        zero = (self.x < copula.threshold)[:, copula.order].unflatten(1, (copula.turns, -1))
        return latent, zero

    def _scores(self, rows: slice) -> Tensor:
        """``(B, turns, F)``."""
        residual = (self.latent[rows] - self.centre[rows].unsqueeze(1)) / self.scale[rows].unsqueeze(1)
        return torch.where(self.zero[rows], -_mills(self.bound[rows]).unsqueeze(1), residual.clamp(-5.5, 5.5))

    def _score_sums(self) -> Tensor:
        """Gradient of the likelihood of the regression at each node, all sectors together: ``(nodes, R, F)``."""
        first = torch.zeros_like(self.copula.coefficients)
        for rows in self._chunks():
            total = self._scores(rows).sum(1) / self.scale[rows]
            for node in range(self.copula.nodes):
                first[node] += self.design[rows].T @ (self.hats[rows, node].unsqueeze(1) * total)
        return first

    def _products(self) -> Tensor:
        """Mean over sectors of products of scores of features j sectors apart, ``(nodes, n / 2 + 1, F, F)``."""
        copula = self.copula
        spectrum = torch.zeros(copula.nodes, len(self.multiplicity), copula.inner, copula.inner)
        for rows in self._chunks():
            components = torch.einsum("ks,nsp->knp", copula.basis, self._scores(rows))
            for node in range(copula.nodes):
                w = self.hats[rows, node]
                used = (w > _WINDOW).nonzero()[:, 0]
                for component, k in zip(components, copula.frequencies, strict=True):
                    part = component[used] * w[used].sqrt().unsqueeze(1)
                    spectrum[node, k] += part.T @ part / self.multiplicity[k]
        return self._to_distances(spectrum)

    def _chunks(self) -> Iterator[slice]:
        return (slice(start, start + _ROWS) for start in range(0, len(self.x), _ROWS))

    def _to_distances(self, spectrum: Tensor) -> Tensor:
        return torch.einsum("kj,k,...kpq->...jpq", self.cosines, self.multiplicity, spectrum) / self.copula.turns

    def _to_spectrum(self, correlation: Tensor) -> Tensor:
        spectrum = torch.einsum("kj,j,...jpq->...kpq", self.cosines, self.multiplicity, correlation)
        return 0.5 * (spectrum + spectrum.mT)

    # The closed form.

    def _node(self, node: int) -> tuple[Tensor, Tensor, Tensor]:
        """Events of a node: index, weights ``(n, 1)``, information of each event on each feature ``(n, F)``."""
        used = (self.hats[:, node] > _WINDOW).nonzero()[:, 0]
        b = self.bound[used]
        density = _density(b)
        variance = b * density + 0.5 * torch.erfc(b * math.sqrt(0.5)) + density * _mills(b)
        return used, self.hats[used, node].unsqueeze(1), variance.clamp(min=1e-7)

    def _inverse(self, node: int) -> Tensor:
        """Inverse of the penalised information on the regression of each feature, ``(F, R, R)``."""
        used, w, variance = self._node(node)
        f = self.design[used]
        w = w * variance * self.copula.turns / self.scale[used].square()
        information = torch.stack([f.T @ (f * w[:, p : p + 1]) for p in range(self.copula.inner)])
        return torch.linalg.inv(information + _RIDGE * torch.eye(f.shape[1]))

    def _regress(self) -> None:
        """A step of Fisher scoring, and the scale that leaves the marginal distributions as they are."""
        copula = self.copula
        target = self._score_sums()
        for node in range(copula.nodes):
            pull = target[node] - _RIDGE * copula.coefficients[node]
            copula.coefficients[node] += torch.einsum("prs,sp->rp", self._inverse(node), pull)
        explained = copula.mean(self.context).square()
        share = (self.hats.T @ explained) / self.hats.sum(0).clamp(min=1e-6).unsqueeze(1)
        copula.scales.copy_((1 - share).clamp(min=0.2).sqrt())

    def _correlate(self, node: int, products: Tensor) -> None:
        """Correlations of all pairs at a node."""
        used, w, _ = self._node(node)
        series = torch.stack([(a * w).T @ a for a in _hermite_scores(self.bound[used])])
        self._set_correlation(node, self._solve(products, series))

    def _solve(self, products: Tensor, series: Tensor) -> Tensor:
        """Correlations ``(distances, F, F)`` from products and the series in Hermite polynomials ``(order, F, F)``."""
        first = series[0].clamp(min=1e-9)
        steepness = 0.3 * first
        rho = (products / first).clamp(-0.5, 0.5)
        for _ in range(12):
            value, slope = torch.zeros_like(rho), torch.zeros_like(rho)
            for k in range(len(series), 0, -1):
                value, slope = value * rho + series[k - 1], slope * rho + k * series[k - 1]
            step = (value * rho - products) / torch.maximum(slope, steepness)
            rho = (rho - step.clamp(-0.2, 0.2)).clamp(-0.95, 0.97)
        events = self.copula.turns * self.multiplicity[:, None, None] * first
        return rho * events / (events + self.precision)

    def _set_correlation(self, node: int, rho: Tensor) -> None:
        copula = self.copula
        rho[0].fill_diagonal_(1.0)
        spectrum = self._to_spectrum(rho)
        for _ in range(3):
            value, vector = torch.linalg.eigh(spectrum)
            spectrum = (vector * value.clamp(min=_SMALLEST_EIGENVALUE).unsqueeze(1)) @ vector.mT
            diagonal = spectrum.diagonal(dim1=1, dim2=2)
            scale = ((self.multiplicity.unsqueeze(1) * diagonal).sum(0) / copula.turns).rsqrt()
            spectrum = spectrum * scale.unsqueeze(1) * scale
        value, vector = torch.linalg.eigh(spectrum)
        copula.roots[node] = (vector * value.clamp(min=1e-6).sqrt().unsqueeze(1)) @ vector.mT


def _density(b: Tensor) -> Tensor:
    return torch.exp(-0.5 * b.square()) / math.sqrt(2 * math.pi)


def _mills(b: Tensor) -> Tensor:
    """Minus the mean of a standard normal below ``b``."""
    return _density(b) / (0.5 * torch.erfc(-b * math.sqrt(0.5))).clamp(min=1e-12)


def _hermite_scores(b: Tensor) -> list[Tensor]:
    r"""Coefficients :math:`a_k / \sqrt{k!}`, k = 1 ..., of scores that are censored at ``b``."""
    density, mills = _density(b), _mills(b)
    polynomials = [torch.ones_like(b), b]
    for k in range(2, _ORDER + 1):
        polynomials.append(b * polynomials[-1] - (k - 1) * polynomials[-2])
    above = 0.5 * torch.erfc(b * math.sqrt(0.5))
    result = []
    for k in range(1, _ORDER + 1):
        lower = polynomials[k - 2] * density if k > 1 else above
        a = polynomials[k] * density + k * lower + mills * polynomials[k - 1] * density
        result.append(a / math.sqrt(math.factorial(k)))
    return result
