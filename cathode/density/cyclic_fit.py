r"""Fit of :class:`CyclicCopula`: closed form through the zeros, then corrections for what the sums do.

A zero says only that a latent value lies below a bound.  What an event says about a latent value is its score
:math:`t = E[r \mid x]`, the standardised residual itself above the bound and its mean below where it is zero.  For two
jointly Gaussian residuals with correlation :math:`\rho`, and with :math:`a_k` the coefficients of the scores in Hermite
polynomials,

.. math:: E[t_p t_q] = \sum_{k \ge 1} \frac{\rho^k}{k!}\, a_k(p)\, a_k(q)

(Mehler's formula), so that the correlations of all pairs follow from sums over events of products of scores and of
their coefficients, by Newton's method on polynomials; no event is ever filled.  The regression on the context is found
from the same scores by Fisher scoring.  Correlations are pulled to 0 by what their information is worth against a
prior width, and brought to a positive spectrum frequency by frequency.

The second part needs no theory of how given sums change a Gaussian: the model is sampled at the contexts of the
training events, the same means and products of scores are measured in the sample, and differences to those of the
training events are moved into the model (the method of simulated moments; McFadden 1989).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from cathode.density.cyclic_copula import CyclicCopula
from cathode.support.errors import UserError
from cathode.support.progress import progress
from cathode.support.seeding import derive_seed

__all__ = ["fit_cyclic_copula"]

logger = logging.getLogger(__name__)

_ROWS = 500
#: Order of the expansion in Hermite polynomials.
_ORDER = 12
#: Rows that marginal distributions are fitted to, of all sectors together.
_MARGINAL_ROWS = 50_000
#: Pseudo-events of the regression of each feature, in one sector.
_RIDGE = 4.0
_SMALLEST_EIGENVALUE = 0.02
_WINDOW = 1e-3


class _Moments(NamedTuple):
    """Sums over events at each node.

    Attributes:
        first: Scores times regressors, ``(nodes, R, F)``, all sectors together.
        second: Mean over sectors of products of scores of features ``j`` sectors apart, ``(nodes, n/2 + 1, F, F)``.
    """

    first: Tensor
    second: Tensor


class _Information(NamedTuple):
    """What the scores of the training events can tell.

    Attributes:
        inverse: Inverse of the penalised information on the regression, ``(nodes, F, R, R)``.
        series: Sums of products of Hermite coefficients, ``(nodes, order, F, F)``.
    """

    inverse: Tensor
    series: Tensor


@torch.no_grad()
def fit_cyclic_copula(
    copula: CyclicCopula,
    x: Tensor,
    context: Tensor,
    *,
    rounds: int = 6,
    prior_width: float = 0.05,
    gain: float = 0.7,
    seed: int,
) -> CyclicCopula:
    """Fit ``copula`` in place.

    Args:
        copula: Unfitted.
        x: ``(N, D)`` events; below the threshold is zero.
        context: ``(N, C)``, with the sums of the blocks.
        rounds: Corrections by simulated moments; each samples as many events as there are.
        prior_width: Standard deviation of correlations before anything is known of them.
        gain: Part of each difference that is moved into the model in a round.
        seed: Of the simulated moments.

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
    _Fit(copula, x, context, prior_width=prior_width, gain=gain, seed=seed).run(rounds)
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

    def __init__(
        self, copula: CyclicCopula, x: Tensor, context: Tensor, *, prior_width: float, gain: float, seed: int
    ) -> None:
        self.copula, self.x, self.context = copula, x, context
        self.precision, self.gain = prior_width**-2, gain
        self.generator = torch.Generator().manual_seed(derive_seed(seed, "simulated"))
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

    def run(self, rounds: int) -> None:
        logger.info("latent values found")
        for _ in range(2):
            self._freeze()
            self._regress()
        logger.info("regression fitted")
        self._freeze()
        information = self._information()
        target = self._moments(self._observed)
        logger.info("moments measured")
        correlation = self._solve(target.second, information)
        self._set_correlation(correlation)
        logger.info("correlations solved")
        for number in progress(range(rounds), description="simulated moments"):
            simulated = self._moments(self._simulated)
            logger.info(
                "round %d: means off by %.4f, products by %.4f",
                number + 1,
                *(float((a - b).abs().mean() / b.abs().mean()) for a, b in zip(simulated, target, strict=True)),
            )
            self._correct(target, simulated, information)

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

    def _observed(self, rows: slice) -> tuple[Tensor, Tensor]:
        return self.latent[rows], self.zero[rows]

    def _simulated(self, rows: slice) -> tuple[Tensor, Tensor]:
        context = self.context[rows]
        noise = self.copula.noise(len(context), generator=self.generator)
        latent, x = self.copula.solved(noise, context)
        return latent.transpose(1, 2), (x == 0).transpose(1, 2)

    def _scores(self, events: Callable[[slice], tuple[Tensor, Tensor]], rows: slice) -> Tensor:
        """``(B, turns, F)``."""
        latent, zero = events(rows)
        residual = ((latent - self.centre[rows].unsqueeze(1)) / self.scale[rows].unsqueeze(1)).clamp(-5.5, 5.5)
        return torch.where(zero, -_mills(self.bound[rows]).unsqueeze(1), residual)

    def _moments(self, events: Callable[[slice], tuple[Tensor, Tensor]]) -> _Moments:
        copula = self.copula
        nodes, features = copula.nodes, copula.inner
        first = torch.zeros_like(copula.coefficients)
        spectrum = torch.zeros(nodes, len(self.multiplicity), features, features)
        for start in range(0, len(self.x), _ROWS):
            rows = slice(start, start + _ROWS)
            scores = self._scores(events, rows)
            total = scores.sum(1)
            components = torch.einsum("ks,nsp->knp", copula.basis, scores)
            for node in range(nodes):
                w = self.hats[rows, node]
                used = (w > _WINDOW).nonzero()[:, 0]
                if not len(used):
                    continue
                w = w[used].unsqueeze(1)
                first[node] += self.design[rows][used].T @ (w * total[used])
                for component, k in zip(components, copula.frequencies, strict=True):
                    part = component[used]
                    spectrum[node, k] += part.T @ (w * part) / self.multiplicity[k]
        return _Moments(first, self._to_distances(spectrum))

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
        used, w, variance = self._node(node)
        f = self.design[used]
        w = w * variance * self.copula.turns
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

    def _score_sums(self) -> Tensor:
        first = torch.zeros_like(self.copula.coefficients)
        for start in range(0, len(self.x), _ROWS):
            rows = slice(start, start + _ROWS)
            total = self._scores(self._observed, rows).sum(1) * self.scale[rows]
            for node in range(self.copula.nodes):
                first[node] += self.design[rows].T @ (self.hats[rows, node].unsqueeze(1) * total)
        return first

    def _information(self) -> _Information:
        series = []
        for node in range(self.copula.nodes):
            used, w, _ = self._node(node)
            series.append(torch.stack([(a * w).T @ a for a in _hermite_scores(self.bound[used])]))
        return _Information(torch.stack([self._inverse(n) for n in range(self.copula.nodes)]), torch.stack(series))

    def _events(self, information: _Information) -> Tensor:
        """Information on each correlation, ``(nodes, distances, F, F)``."""
        pairs = self.copula.turns * self.multiplicity[:, None, None]
        return pairs * information.series[:, :1]

    def _solve(self, products: Tensor, information: _Information) -> Tensor:
        result = torch.empty_like(products)
        events = self._events(information)
        for node in range(self.copula.nodes):
            series = information.series[node]
            steepness = (0.3 * series[0]).clamp(min=1e-9)
            rho = (products[node] / series[0].clamp(min=1e-9)).clamp(-0.5, 0.5)
            for _ in range(12):
                value, slope = torch.zeros_like(rho), torch.zeros_like(rho)
                for k in range(len(series), 0, -1):
                    value, slope = value * rho + series[k - 1], slope * rho + k * series[k - 1]
                step = (value * rho - products[node]) / torch.maximum(slope, steepness)
                rho = (rho - step.clamp(-0.2, 0.2)).clamp(-0.95, 0.97)
            result[node] = rho * events[node] / (events[node] + self.precision)
        return result

    def _set_correlation(self, correlation: Tensor) -> None:
        copula = self.copula
        for node in range(copula.nodes):
            rho = correlation[node].clone()
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

    # Simulated moments.

    def _correct(self, target: _Moments, simulated: _Moments, information: _Information) -> None:
        copula, gain = self.copula, self.gain
        difference = target.first - simulated.first
        for node in range(copula.nodes):
            pull = difference[node]
            copula.coefficients[node] += gain * torch.einsum("prs,sp->rp", information.inverse[node], pull)
        spread, expected = (m.second[:, 0].diagonal(dim1=1, dim2=2) for m in (simulated, target))
        ratio = (expected + 1e-3 * expected.amax()) / (spread + 1e-3 * expected.amax())
        copula.scales.mul_(ratio.clamp(0.7, 1.4).pow(0.5 * gain)).clamp_(0.2, 2.0)
        correlation = self._to_distances(copula.roots @ copula.roots)
        events = self._events(information)
        step = (target.second - simulated.second) / information.series[:, :1].clamp(min=1e-9)
        share = events / (events + self.precision)
        step = share * step.clamp(-0.5, 0.5) - (1 - share) * correlation
        self._set_correlation((correlation + gain * step).clamp(-0.97, 0.97))


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
