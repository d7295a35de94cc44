r"""Set transformer: attention between the entries of a masked set, conditioned on time and context.

Equivariant under permutations of the entries, unless it is told their places.  Padded entries are never attended
to, come out as 0, and may hold anything on the way in, NaN included.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from cathode.density.networks.embeddings import (
    ConditionEmbedding,
    activation_module,
    multilayer,
    place_vectors,
    zero_initialised,
)
from cathode.density.registry import buildable

__all__ = ["ModulatedBlock", "SetTransformer"]


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, h: Tensor, keys: Tensor | None) -> Tensor:
        size, entries, width = h.shape
        q, k, v = self.qkv(h).view(size, entries, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(q, k, v, attn_mask=keys)
        return self.out(attended.transpose(1, 2).reshape(size, entries, width))


class ModulatedBlock(nn.Module):
    """Pre-norm block with adaptive normalisation: shift, scale and gate from the condition, gates starting at
    0.
    """

    def __init__(self, width: int, heads: int, expansion: int, activation: str) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.feed_forward = multilayer([width, expansion * width, width], activation)
        self.modulation = zero_initialised(nn.Linear(width, 6 * width))

    def forward(self, h: Tensor, condition: Tensor, keys: Tensor | None) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).unsqueeze(1).chunk(6, dim=-1)
        h = h + gate1 * self.attention(self.norm1(h) * (1 + scale1) + shift1, keys)
        return h + gate2 * self.feed_forward(self.norm2(h) * (1 + scale2) + shift2)


@buildable("set-transformer")
class SetTransformer(nn.Module):
    """Transformer over the entries of a set, with time and context as adaptive normalisation.

    Pre-norm blocks of masked multi-head self-attention (Lee et al., arXiv 1810.00825, the SAB of eq. 8, made
    pre-norm) with the adaLN-Zero conditioning of Peebles and Xie, arXiv 2212.09748, Sec. 3.2.

    Arguments:
        features: F, features of one entry.
        context_features: C.
        width: Size of the residual stream; a multiple of ``heads``.
        heads: Attention heads.
        blocks: Number of blocks.
        expansion: Hidden size of the feed-forward part over ``width``.
        activation: Name of the activation.
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
        width: int = 64,
        heads: int = 4,
        blocks: int = 3,
        expansion: int = 2,
        activation: str = "gelu_tanh",
        time_frequencies: int = 4,
        context_frequencies: int = 0,
        places: int = 0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        self.features, self.context_features = features, context_features
        self.condition = ConditionEmbedding(
            context_features, time_frequencies=time_frequencies, context_frequencies=context_frequencies
        )
        self.embed_condition = nn.Sequential(
            nn.Linear(self.condition.output_features, width),
            activation_module(activation),
            nn.Linear(width, width),
            activation_module(activation),
        )
        self.entrance = nn.Linear(features, width)
        self.places = place_vectors(places, width)
        self.blocks = nn.ModuleList(ModulatedBlock(width, heads, expansion, activation) for _ in range(blocks))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = zero_initialised(nn.Linear(width, 2 * width))
        self.exit = zero_initialised(nn.Linear(width, features))

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """``(B, P, F)`` to ``(B, P, F)``; ``t (B,)``, ``context (B, C)``, ``mask (B, P)``, True = real."""
        condition = self.embed_condition(self.condition(t, context))
        keys: Tensor | None = None
        if mask is not None:
            x = x.masked_fill(~mask.unsqueeze(-1), 0.0)
            # An empty set attends to its padding, because a softmax over nothing is NaN; its output is 0 all
            # the same.
            keys = (mask | ~mask.any(dim=1, keepdim=True))[:, None, None, :]
        h = self.entrance(x)
        if self.places is not None:
            h = h + self.places[: x.shape[1]]
        for block in self.blocks:
            h = block(h, condition, keys)
        shift, scale = self.modulation(condition).unsqueeze(1).chunk(2, dim=-1)
        out = self.exit(self.norm(h) * (1 + scale) + shift)
        return out if mask is None else torch.where(mask.unsqueeze(-1), out, 0.0)
