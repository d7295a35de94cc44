r"""Normalising flows through zuko: affine MAF as CATHODE used it, and rational-quadratic splines.

zuko builds a transform lazily from the context; noise is drawn by the caller and decoded through ``transform.inv``, so
that a seed fixes the events and nothing draws from a global generator.  See :mod:`cathode.density.layered` for what all
flows share and :mod:`cathode.density.nflows_backend` for the same architectures through nflows.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch
import zuko
from torch import Tensor, nn
from torch.distributions import Transform, constraints

from cathode.density.batchnorm import BatchNormFlow
from cathode.density.layered import LayeredFlow
from cathode.density.networks.embeddings import activation_module
from cathode.density.registry import buildable

__all__ = ["MAF", "AutoregressiveSpline", "CouplingSpline"]


class _ShiftScale(Transform):
    r"""``u = (x - m) exp(-a)``: arXiv:1705.07057, eq. 4, in the parametrisation of CATHODE's MADE."""

    domain = constraints.real
    codomain = constraints.real
    bijective = True
    sign = +1

    def __init__(self, m: Tensor, a: Tensor, bound: float | None = None) -> None:
        super().__init__()
        self.m = m
        self.a = a if bound is None else a / (1 + a.abs() / bound)

    def _call(self, x: Tensor) -> Tensor:
        return (x - self.m) * (-self.a).exp()

    def _inverse(self, y: Tensor) -> Tensor:
        return y * self.a.exp() + self.m

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return (-self.a).expand(x.shape)


class _ZukoFlow(LayeredFlow):
    def _direct(self, layer: nn.Module, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return layer(context).call_and_ladj(x)

    def _inverse(self, layer: nn.Module, y: Tensor, context: Tensor | None) -> Tensor:
        return layer(context).inv(y)


def _order(features: int, index: int) -> Tensor:
    """Every second layer sees the features in reverse."""
    order = torch.arange(features)
    return order if index % 2 == 0 else order.flip(0)


@buildable("maf")
class MAF(_ZukoFlow):
    r"""Affine masked autoregressive flow with batch normalisation: the density estimator of CATHODE.

    Each of the ``transforms`` blocks is a MADE, :math:`u_i = (x_i - m_i) e^{-a_i}` with :math:`m_i, a_i` from
    :math:`x_{<i}` and c, then :class:`BatchNormFlow`, then a reversal of the features (realised as the reversed order
    of the next MADE).  The defaults are those of CATHODE: 274,800 parameters at 4 features and 1 context column.

    References:
        Papamakarios et al., arXiv:1705.07057; Hallin et al., arXiv:2109.00546, section III.

    Deviations from CATHODE's code: its MADE leaves the first feature of a block independent of the context, here it
    depends on it; weights of ``x`` and context enter the orthogonal initialisation as one matrix.

    Args:
        features: D.
        context_features: C.
        transforms: Number of blocks.
        hidden: Widths of the MADE's hidden layers; two of 128 without it.
        activation: Name of the activation.
        batch_norm: Normalise after each MADE.  The training loop then calls ``before_evaluation`` between epochs.
        momentum: Of the batch normalisation; 1 as in CATHODE.
        orthogonal: Orthogonal initial weights and zero biases.
        log_scale_bound: Soft limit of \|a\|; none as in CATHODE, about 7 keeps far outliers finite.
    """

    def __init__(
        self,
        features: int,
        context_features: int = 0,
        transforms: int = 15,
        hidden: list[int] | None = None,
        activation: str = "relu",
        batch_norm: bool = True,
        momentum: float = 1.0,
        orthogonal: bool = True,
        log_scale_bound: float | None = None,
    ) -> None:
        layers: list[nn.Module] = []
        for index in range(transforms):
            made = zuko.flows.MaskedAutoregressiveTransform(
                features=features,
                context=context_features,
                order=_order(features, index),
                univariate=partial(_ShiftScale, bound=log_scale_bound),
                shapes=[(), ()],
                **_network(features, context_features, hidden, activation),
            )
            if orthogonal:
                initialise_orthogonally(made)
            layers.append(made)
            if batch_norm:
                layers.append(BatchNormFlow(features, momentum=momentum))
        super().__init__(features, context_features, layers, decode_in_double=False)


class _Spline(_ZukoFlow):
    _coupling: ClassVar[bool]

    def __init__(
        self,
        features: int,
        context_features: int = 0,
        transforms: int = 6,
        hidden: list[int] | None = None,
        activation: str = "relu",
        bins: int = 8,
        bound: float = 8.0,
    ) -> None:
        if bins < 2 or bound <= 0:
            raise ValueError(f"a spline needs at least 2 bins and a positive bound, got {bins} and {bound}")
        layers: list[nn.Module] = []
        for index in range(transforms):
            shared = {
                "features": features,
                "context": context_features,
                "univariate": partial(zuko.transforms.MonotonicRQSTransform, bound=bound),
                "shapes": [(bins,), (bins,), (bins - 1,)],
                **_network(features, context_features, hidden, activation),
            }
            if self._coupling:
                mask = torch.arange(features) % 2 == index % 2
                layers.append(zuko.flows.coupling.GeneralCouplingTransform(mask=mask, **shared))
            else:
                layers.append(zuko.flows.MaskedAutoregressiveTransform(order=_order(features, index), **shared))
        super().__init__(features, context_features, layers, decode_in_double=True)


@buildable("rqs-autoregressive")
class AutoregressiveSpline(_Spline):
    """Neural spline flow with autoregressive rational-quadratic splines.

    Warning:
        Outside ``[-bound, bound]`` a spline is the identity: standardise, and keep the tails inside.

    References:
        Durkan et al., arXiv:1906.04032.

    Args:
        features: D.
        context_features: C.
        transforms: Number of layers; every second one sees the features in reverse.
        hidden: Widths of the hidden layers; two of 128 without it.
        activation: Name of the activation.
        bins: Bins of each spline.
        bound: Half-width of the splines' domain.
    """

    _coupling = False

    def __init__(
        self,
        features: int,
        context_features: int = 0,
        transforms: int = 6,
        hidden: list[int] | None = None,
        activation: str = "relu",
        bins: int = 8,
        bound: float = 8.0,
    ) -> None:
        super().__init__(features, context_features, transforms, hidden, activation, bins, bound)


@buildable("rqs-coupling")
class CouplingSpline(_Spline):
    """Neural spline flow with coupling layers: one network pass each way, whatever the number of features.

    Every second feature is transformed given the others, in turns.  A single feature is transformed given the context.
    See :class:`AutoregressiveSpline` for the arguments, the warning and the reference.
    """

    _coupling = True

    def __init__(
        self,
        features: int,
        context_features: int = 0,
        transforms: int = 6,
        hidden: list[int] | None = None,
        activation: str = "relu",
        bins: int = 8,
        bound: float = 8.0,
    ) -> None:
        super().__init__(features, context_features, transforms, hidden, activation, bins, bound)


def _network(features: int, context_features: int, hidden: list[int] | None, activation: str) -> dict[str, object]:
    # zuko has no network for one feature without context, and takes no arguments for it.
    if features == 1 and context_features == 0:
        return {}
    return {
        "hidden_features": tuple(hidden if hidden is not None else [128, 128]),
        "activation": partial(activation_module, activation),
    }


def initialise_orthogonally(module: nn.Module) -> None:
    """Orthogonal weights and zero biases for every linear layer, as in CATHODE."""
    for part in module.modules():
        weight, bias = getattr(part, "weight", None), getattr(part, "bias", None)
        if isinstance(weight, nn.Parameter) and weight.ndim == 2:
            nn.init.orthogonal_(weight)
            if isinstance(bias, nn.Parameter):
                nn.init.zeros_(bias)
