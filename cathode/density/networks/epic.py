r"""EPiC: equivariant point cloud layers, which exchange information through a global vector in linear time.

Equivariant under permutations, unless it is told the places of entries.  Padded entries enter no pooling, come out as
0, and may hold anything on the way in.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cathode.density.networks.embeddings import ConditionEmbedding, activation_module, place_vectors, zero_initialised
from cathode.density.registry import buildable

__all__ = ["EPiC", "EPiCLayer", "SplitLinear", "pool"]


def pool(h: Tensor, weights: Tensor | None, sum_scale: float) -> Tensor:
    """Mean and scaled sum over the real entries: ``(B, P, W)`` to ``(B, 2 W)``; zeros for an empty set."""
    if weights is None:
        total = h.sum(1)
        return torch.cat([total / h.shape[1], total * sum_scale], dim=-1)
    total = (h * weights).sum(1)
    return torch.cat([total / weights.sum(1).clamp(min=1.0), total * sum_scale], dim=-1)


class SplitLinear(nn.Module):
    """A linear layer of the concatenation [local, global], computed without repeating the global part for
    every entry.
    """

    def __init__(self, local_features: int, global_features: int, outputs: int) -> None:
        super().__init__()
        self.local_part = nn.Linear(local_features, outputs)
        self.global_part = nn.Linear(global_features, outputs, bias=False)

    def forward(self, local: Tensor, shared: Tensor) -> Tensor:
        return self.local_part(local) + self.global_part(shared).unsqueeze(1)


class EPiCLayer(nn.Module):
    """One layer: pooled entries update the global vector, then the global vector updates every entry, both
    residual.
    """

    def __init__(self, width: int, global_width: int, condition: int, activation: str, sum_scale: float) -> None:
        super().__init__()
        self.sum_scale = sum_scale
        self.act = activation_module(activation)
        self.global1 = nn.Linear(2 * width + global_width + condition, width)
        self.global2 = nn.Linear(width, global_width)
        self.local1 = SplitLinear(width, global_width + condition, width)
        self.local2 = nn.Linear(width, width)

    def forward(self, h: Tensor, g: Tensor, condition: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        pooled = torch.cat([pool(h, weights, self.sum_scale), g, condition], dim=-1)
        g = self.act(g + self.global2(self.act(self.global1(pooled))))
        h = self.act(h + self.local2(self.act(self.local1(h, torch.cat([g, condition], dim=-1)))))
        return h, g


@buildable("epic")
class EPiC(nn.Module):
    """Stack of EPiC layers with time and context in every layer.

    The layers are those of EPiC-GAN (Buhmann, Kasieczka, Thaler, arXiv 2301.08128, Sec. 3.1: mean and sum
    pooling, global then local update, residual connections, leaky ReLU), conditioned as in EPiC-FM (Buhmann
    et al., arXiv 2310.00049): time and context are concatenated to the inputs of every update.  Deviations:
    Fourier features of the time, no weight normalisation, and an output layer that starts at zero.

    Arguments:
        features: F, features of one entry.
        context_features: C.
        width: Size of the local vectors.
        global_width: Size of the global vector.
        layers: Number of EPiC layers.
        activation: Name of the activation.
        sum_scale: Factor on sum pooling, which keeps sums over many entries near 1.
        time_frequencies: Fourier frequencies of the time.
        context_frequencies: Fourier frequencies of the context; 0 gives the plain columns.
        places: Largest number of entries, if their places mean something (entries in an order): each place then has a
            learned vector.  0: entries are a set.
    """

    def __init__(
        self,
        features: int,
        context_features: int = 0,
        *,
        width: int = 128,
        global_width: int = 16,
        layers: int = 6,
        activation: str = "leaky_relu",
        sum_scale: float = 0.01,
        time_frequencies: int = 4,
        context_frequencies: int = 0,
        places: int = 0,
    ) -> None:
        super().__init__()
        self.features, self.context_features, self.sum_scale = features, context_features, sum_scale
        self.condition = ConditionEmbedding(
            context_features, time_frequencies=time_frequencies, context_frequencies=context_frequencies
        )
        conditions = self.condition.output_features
        self.act = activation_module(activation)
        self.local_entrance1 = SplitLinear(features, conditions, width)
        self.places = place_vectors(places, width)
        self.local_entrance2 = nn.Linear(width, width)
        self.global_entrance1 = nn.Linear(2 * width + conditions, width)
        self.global_entrance2 = nn.Linear(width, global_width)
        self.layers = nn.ModuleList(
            EPiCLayer(width, global_width, conditions, activation, sum_scale) for _ in range(layers)
        )
        self.exit = zero_initialised(nn.Linear(width, features))

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """``(B, P, F)`` to ``(B, P, F)``; ``t (B,)``, ``context (B, C)``, ``mask (B, P)``, True = real."""
        condition = self.condition(t, context)
        weights: Tensor | None = None
        if mask is not None:
            x = x.masked_fill(~mask.unsqueeze(-1), 0.0)
            weights = mask.unsqueeze(-1).to(x.dtype)
        h = self.local_entrance1(x, condition)
        h = self.act(h if self.places is None else h + self.places[: x.shape[1]])
        h = self.act(h + self.local_entrance2(h))
        pooled = torch.cat([pool(h, weights, self.sum_scale), condition], dim=-1)
        g = self.act(self.global_entrance2(self.act(self.global_entrance1(pooled))))
        for layer in self.layers:
            h, g = layer(h, g, condition, weights)
        out = self.exit(h)
        return out if mask is None else torch.where(mask.unsqueeze(-1), out, 0.0)
