r"""A Gaussian copula with censored marginals, given a context: the closed-form model of values with many exact zeros.

The principle: each feature has its own distribution given its column of the context, with a probability of being zero
(below a threshold) and quantiles above it (:class:`ConditionalGaussianize`); the transformed features are jointly
Gaussian given the whole context (:class:`ConditionalWhiten`).  A zero then says only that its latent value lies below a
bound.  Filling zeros with independent noise would dilute the correlations of what is often zero, so the Gaussian is
fitted by Monte Carlo expectation-maximisation (Wei & Tanner 1990): zeros are drawn from their conditional distribution
given everything else by Gibbs sampling, and mean and covariance are re-estimated from the filled events.  No network
and no gradient is involved.

Given the whole context the latent marginals are not standard normal, only given their own column: forcing them to be
makes DS1-like showers worse (low-level AUC 0.62 in place of 0.57).

The filled events are also the best training data for a density that refines the copula: they are much closer to
Gaussian, and decode to the same events, than independently filled ones.
"""

from __future__ import annotations

import copy
import logging
import math
from typing import NamedTuple

import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity
from cathode.density.bijections.combine import Compose
from cathode.density.bijections.conditional_quantile import ConditionalGaussianize
from cathode.density.bijections.conditional_whiten import ConditionalWhiten
from cathode.density.dequantised import Dequantised
from cathode.density.preprocessed import Preprocessed
from cathode.density.registry import buildable
from cathode.support.progress import progress

__all__ = ["CopulaFit", "StandardNormal", "censored_copula", "fit_copula", "impute"]

logger = logging.getLogger(__name__)

#: Rows whose latent values are swept together: they stay in the processor's cache.
_ROWS = 1024
#: Latent values of zeros are drawn no further out than this.
_OUTERMOST = 6.0


@buildable("standard-normal")
class StandardNormal(ConditionalDensity):
    """N(0, I), whatever the context; behind bijections that depend on the context, a model of its own.

    Args:
        features: D.
        context_features: C, looked at by nobody here.
    """

    loss_is_nll = True

    def __init__(self, features: int, context_features: int = 0) -> None:
        super().__init__()
        self.event_shape = (features,)
        self.context_features = context_features

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return -0.5 * x.square().sum(1) - 0.5 * math.log(2 * math.pi) * x.shape[1]

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``-log p(x)``, nats."""
        return -self.log_prob(x)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        return noise

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return x


class CopulaFit(NamedTuple):
    """What :func:`fit_copula` returns.

    Attributes:
        marginals: Fitted.
        whitening: Fitted on the filled latent values.
        latent: ``(N, D)`` float32, the latent values of the training events after the last sweep, zeros filled.
    """

    marginals: ConditionalGaussianize
    whitening: ConditionalWhiten
    latent: Tensor


def fit_copula(
    marginals: ConditionalGaussianize,
    whitening: ConditionalWhiten,
    x: Tensor,
    context: Tensor,
    *,
    rounds: int = 10,
    weight: Tensor | None = None,
    seed: int,
) -> CopulaFit:
    """Fit marginals, mean and covariance by Monte Carlo expectation-maximisation.

    Args:
        marginals: Unfitted; its threshold says what a zero is.
        whitening: Unfitted.
        x: ``(N, D)`` events with zeros.
        context: ``(N, C)``.
        rounds: Rounds of one Gibbs sweep and one estimate each; 0 fits to independently filled zeros.
        weight: ``(N,)``.
        seed: Of the filling.

    Raises:
        UserError: Events or context that cannot be used.
    """
    generator = torch.Generator().manual_seed(seed)
    filled = _fill(x, marginals.threshold, generator)
    fitted = marginals.fit(filled, context=context, weight=weight)
    latent = _latent(fitted, filled, context)
    w = torch.ones(len(x), dtype=torch.float64) if weight is None else weight.double()
    gaussian = copy.deepcopy(whitening)
    gaussian.fit_nodes(context)
    gaussian.fit_gaussian(latent.double(), context, w)
    for _ in progress(range(rounds), description="copula"):
        latent = impute(fitted, gaussian, x, context, start=latent, generator=generator)
        gaussian.fit_gaussian(latent.double(), context, w)
    return CopulaFit(fitted, gaussian, latent)


@torch.no_grad()
def impute(
    marginals: ConditionalGaussianize,
    whitening: ConditionalWhiten,
    x: Tensor,
    context: Tensor,
    *,
    sweeps: int = 1,
    start: Tensor | None = None,
    generator: torch.Generator,
) -> Tensor:
    """Latent values of events, those of zeros drawn given all others by Gibbs sweeps: ``(N, D)`` float32.

    The conditional mean is that of the event's context, the covariance that of the node next to it.

    Args:
        marginals: Fitted.
        whitening: Fitted.
        x: ``(N, D)`` events with zeros.
        context: ``(N, C)``.
        sweeps: Sweeps over all features; continue a chain with 1, start one with about 10.
        start: Latent values to start from; without it zeros are filled with independent noise.
        generator: Source of the draws.
    """
    if start is None:
        start = _latent(marginals, _fill(x, marginals.threshold, generator), context)
    result = torch.empty_like(start)
    nearest = whitening.weights(context).argmax(1)
    for node in range(whitening.nodes):
        members = (nearest == node).nonzero()[:, 0]
        if not len(members):
            continue
        factor = whitening.factors[node].double()
        precision = torch.cholesky_inverse(factor)
        scale = precision.diagonal().rsqrt()
        # Residual of feature j given the others: r_j = sum_k pull[k, j] r_k + scale_j e.
        pull = (torch.diag(precision.diagonal()) - precision) / precision.diagonal()
        for rows in members.split(_ROWS):
            mean = whitening.mean(context[rows], whitening.weights(context[rows]))
            result[rows] = _sweep(
                start[rows],
                mean.float(),
                marginals.bounds(context[rows]).float(),
                x[rows] < marginals.threshold,
                pull.float(),
                scale.float(),
                sweeps,
                generator,
            )
    return result


def _sweep(
    latent: Tensor,
    mean: Tensor,
    bound: Tensor,
    zero: Tensor,
    pull: Tensor,
    scale: Tensor,
    sweeps: int,
    generator: torch.Generator,
) -> Tensor:
    residual = (latent - mean).T.contiguous()  # feature first: each step writes one contiguous row
    bound, zero, mean = (bound - mean).T.contiguous(), zero.T.contiguous(), mean.T.contiguous()
    columns = pull.T.contiguous()
    for _ in range(sweeps):
        uniform = torch.rand(residual.shape, generator=generator)
        for j in zero.any(1).nonzero()[:, 0].tolist():
            centre = columns[j] @ residual
            below = 0.5 * torch.erfc((centre - bound[j]) / (scale[j] * math.sqrt(2)))
            draw = centre + scale[j] * torch.special.ndtri((uniform[j] * below).clamp(1e-7, 1 - 1e-7))
            draw = torch.maximum(torch.minimum(draw, bound[j]), -_OUTERMOST - mean[j])
            residual[j] = torch.where(zero[j], draw, residual[j])
    return (residual + mean).T


def censored_copula(fit: CopulaFit, density: ConditionalDensity | None = None) -> Dequantised:
    """The fitted copula as a density of events with zeros.

    Args:
        fit: Of :func:`fit_copula`.
        density: Of the whitened latent values ``(B, D)`` given the context, in place of the standard normal: what
            refines the copula.
    """
    features = fit.marginals.features
    if density is None:
        density = StandardNormal(features, fit.whitening.context_features)
    chain = Compose([copy.deepcopy(fit.marginals), copy.deepcopy(fit.whitening)])
    return Dequantised(Preprocessed(chain, density), fit.marginals.threshold)


def _fill(x: Tensor, threshold: float, generator: torch.Generator) -> Tensor:
    noise = torch.rand(x.shape, generator=generator, dtype=torch.float32).clamp(1e-6, 1 - 1e-6).to(x.dtype)
    return torch.where(x < threshold, threshold * noise, x)


def _latent(marginals: ConditionalGaussianize, filled: Tensor, context: Tensor) -> Tensor:
    pieces = [
        marginals.forward_and_log_det(filled[i : i + _ROWS], context[i : i + _ROWS])[0].float()
        for i in range(0, len(filled), _ROWS)
    ]
    return torch.cat(pieces)
