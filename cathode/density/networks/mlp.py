r"""Networks for events that are vectors: a multilayer perceptron and a residual network.

Both start at zero output, so a preconditioned density starts as the Gaussian of unit variance.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cathode.density.networks.embeddings import ConditionEmbedding, activation_module, multilayer, zero_initialised
from cathode.density.registry import buildable

__all__ = ["MLP", "ResNet"]


def _refuse_mask(mask: Tensor | None) -> None:
    if mask is not None:
        raise ValueError("this network takes vectors (B, D) without a mask; use SetTransformer or EPiC for masked sets")


@buildable("mlp")
class MLP(nn.Module):
    """Multilayer perceptron of the event, Fourier features of the time, and the context, concatenated.

    Arguments:
        features: D, size of the event.
        context_features: C.
        hidden: Widths of the hidden layers; ``[]`` is one linear layer.
        activation: Name of the activation.
        time_frequencies: Fourier frequencies of the time.
        context_frequencies: Fourier frequencies of the context; 0 gives the plain columns.
    """

    def __init__(
        self,
        features: int,
        context_features: int = 0,
        *,
        hidden: Sequence[int] = (128, 128, 128),
        activation: str = "silu",
        time_frequencies: int = 4,
        context_frequencies: int = 0,
    ) -> None:
        super().__init__()
        self.features, self.context_features = features, context_features
        self.condition = ConditionEmbedding(
            context_features, time_frequencies=time_frequencies, context_frequencies=context_frequencies
        )
        self.layers = multilayer([features + self.condition.output_features, *hidden, features], activation)
        zero_initialised(self.layers[-1])  # type: ignore[arg-type]

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """``(B, D)`` to ``(B, D)``; ``t (B,)``, ``context (B, C)``."""
        _refuse_mask(mask)
        return self.layers(torch.cat([x, self.condition(t, context)], dim=-1))


class _Block(nn.Module):
    def __init__(self, width: int, condition: int, activation: str, *, normalise: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if normalise else nn.Identity()
        self.first = nn.Linear(width, width)
        self.condition = nn.Linear(condition, width, bias=False)
        self.act = activation_module(activation)
        self.second = zero_initialised(nn.Linear(width, width))

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        return h + self.second(self.act(self.first(self.norm(h)) + self.condition(condition)))


@buildable("resnet")
class ResNet(nn.Module):
    """Residual network; every block sees time and context through an additive projection.

    Block: ``h + W2 act(W1 norm(h) + W3 e)`` with the time and context features ``e`` (pre-activation residual
        networks, He et al.,
    arXiv 1603.05027).

    Arguments:
        features: D, size of the event.
        context_features: C.
        width: Size of the residual stream.
        blocks: Number of blocks.
        activation: Name of the activation.
        normalise: LayerNorm at the entrance of each block; worth its time only for many blocks.
        time_frequencies: Fourier frequencies of the time.
        context_frequencies: Fourier frequencies of the context; 0 gives the plain columns.
    """

    def __init__(
        self,
        features: int,
        context_features: int = 0,
        *,
        width: int = 128,
        blocks: int = 3,
        activation: str = "silu",
        normalise: bool = False,
        time_frequencies: int = 4,
        context_frequencies: int = 0,
    ) -> None:
        super().__init__()
        self.features, self.context_features = features, context_features
        self.condition = ConditionEmbedding(
            context_features, time_frequencies=time_frequencies, context_frequencies=context_frequencies
        )
        conditions = self.condition.output_features
        self.entrance = nn.Linear(features + conditions, width)
        self.blocks = nn.ModuleList(_Block(width, conditions, activation, normalise=normalise) for _ in range(blocks))
        self.act = activation_module(activation)
        self.exit = zero_initialised(nn.Linear(width, features))

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """``(B, D)`` to ``(B, D)``; ``t (B,)``, ``context (B, C)``."""
        _refuse_mask(mask)
        condition = self.condition(t, context)
        h = self.entrance(torch.cat([x, condition], dim=-1))
        for block in self.blocks:
            h = block(h, condition)
        return self.exit(self.act(h))
