r"""The architectures of :mod:`cathode.density.flows` through nflows 0.14, behind the same interface.

For comparison with published models and as a check of either library by the other.  What nflows 0.14 needs around it:

* its spline inverse asserts a positive discriminant, which rounding breaks in float32: inversion is in float64;
* its bin search adds 1e-6 to the last knot, which vanishes in float32 from 32 on, so larger bounds are refused;
* its ``sample`` draws float32 noise from the global generator: noise comes from the caller instead;
* its splines and scales do not start at the identity: biases are set so that they do;
* its ``BatchNorm`` starts from zero variance and is not what CATHODE used: :class:`BatchNormFlow` takes its place;
* its MADE leaves the first feature of a layer independent of the context (as CATHODE's does).
"""

from __future__ import annotations

import math
import warnings
from types import ModuleType
from typing import ClassVar

import torch
from torch import Tensor, nn

from cathode.density.base import NonFiniteError
from cathode.density.batchnorm import BatchNormFlow
from cathode.density.flows import initialise_orthogonally
from cathode.density.layered import LayeredFlow
from cathode.density.networks.embeddings import activation_module, multilayer
from cathode.density.registry import buildable

__all__ = ["NflowsAutoregressiveSpline", "NflowsCouplingSpline", "NflowsMAF"]

#: Smallest slope and scale in nflows; the value whose softplus, added to it, is 1.
_SMALLEST = 1e-3
_UNIT = math.log(math.expm1(1.0 - _SMALLEST))


def _nflows() -> ModuleType:
    # Parts of nflows 0.14 that are not used here trip over interfaces that torch and NumPy are giving up.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="torch")
        import nflows.transforms
    return nflows.transforms


class _NflowsFlow(LayeredFlow):
    def _direct(self, layer: nn.Module, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return layer(x, context)

    def _inverse(self, layer: nn.Module, y: Tensor, context: Tensor | None) -> Tensor:
        try:
            return layer.inverse(y, context)[0]  # type: ignore[operator]
        except AssertionError as error:
            raise NonFiniteError(f"nflows cannot invert a spline for some of {len(y)} events: {error}") from error


def _widths(hidden: list[int] | None) -> list[int]:
    widths = [128, 128] if hidden is None else list(hidden)
    if not widths or len(set(widths)) > 1:
        raise ValueError(f"nflows networks have hidden layers of one width, got {widths}")
    return widths


def _made_arguments(
    features: int, context_features: int, hidden: list[int] | None, activation: str
) -> dict[str, object]:
    widths = _widths(hidden)
    return {
        "features": features,
        "hidden_features": widths[0],
        "context_features": context_features or None,
        "num_blocks": len(widths) - 1,
        "use_residual_blocks": False,
        "activation": activation_module(activation),
    }


@buildable("nflows-maf")
class NflowsMAF(_NflowsFlow):
    """Affine masked autoregressive flow: as :class:`cathode.density.flows.MAF`, through nflows.

    nflows parametrises the scale as ``softplus(a) + 0.001``, multiplies and then shifts.

    Args:
        features: D.
        context_features: C.
        transforms: Number of blocks of MADE, :class:`BatchNormFlow`, reversal.
        hidden: Widths of the hidden layers, all the same; two of 128 without it.
        activation: Name of the activation.
        batch_norm: Normalise after each MADE.
        momentum: Of the batch normalisation.
        orthogonal: Orthogonal initial weights and zero biases.
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
    ) -> None:
        library = _nflows()
        layers: list[nn.Module] = []
        for index in range(transforms):
            made = library.MaskedAffineAutoregressiveTransform(
                **_made_arguments(features, context_features, hidden, activation)
            )
            if orthogonal:
                initialise_orthogonally(made)
            with torch.no_grad():
                made.autoregressive_net.final_layer.bias.view(features, 2)[:, 0] = _UNIT
            layers.append(made)
            if batch_norm:
                layers.append(BatchNormFlow(features, momentum=momentum))
            if index < transforms - 1:
                layers.append(library.ReversePermutation(features))
        super().__init__(features, context_features, layers, decode_in_double=False)


class _Conditioner(nn.Module):
    """Plain network of a coupling layer, in the form that nflows expects of it."""

    def __init__(self, inputs: int, outputs: int, context_features: int, widths: list[int], activation: str) -> None:
        super().__init__()
        self.hidden_features = widths[0]  # nflows divides the logits of widths and heights by its root
        self.network = multilayer([inputs + context_features, *widths, outputs], activation)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.network(x if context is None else torch.cat([x, context], dim=1))


class _NflowsSpline(_NflowsFlow):
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
        if bound >= 32:
            raise ValueError(f"the bound is {bound}; nflows fails at its own edge from 32 on, in float32")
        if self._coupling and features < 2:
            raise ValueError("nflows has no coupling layer for a single feature: use 'nflows-rqs-autoregressive'")
        library = _nflows()
        spline = {"num_bins": bins, "tails": "linear", "tail_bound": bound}
        layers: list[nn.Module] = []
        for index in range(transforms):
            if self._coupling:
                layer = library.PiecewiseRationalQuadraticCouplingTransform(
                    # nflows marks the transformed features, zuko the others.
                    mask=(torch.arange(features) % 2 != index % 2).int(),
                    transform_net_create_fn=lambda inputs, outputs: _Conditioner(
                        inputs, outputs, context_features, _widths(hidden), activation
                    ),
                    **spline,
                )
                bias = layer.transform_net.network[-1].bias
            else:
                layer = library.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
                    **_made_arguments(features, context_features, hidden, activation), **spline
                )
                bias = layer.autoregressive_net.final_layer.bias
            with torch.no_grad():
                bias.view(-1, 3 * bins - 1)[:, 2 * bins :] = _UNIT
            layers.append(layer)
            if not self._coupling and index < transforms - 1:
                layers.append(library.ReversePermutation(features))
        super().__init__(features, context_features, layers, decode_in_double=True)


@buildable("nflows-rqs-autoregressive")
class NflowsAutoregressiveSpline(_NflowsSpline):
    """As :class:`cathode.density.flows.AutoregressiveSpline`, through nflows; arguments and warning as there."""

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


@buildable("nflows-rqs-coupling")
class NflowsCouplingSpline(_NflowsSpline):
    """As :class:`cathode.density.flows.CouplingSpline`, through nflows; two features or more."""

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
