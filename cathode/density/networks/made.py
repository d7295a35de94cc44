r"""MADE: one masked network for all conditionals of an autoregressive density.

Output block :math:`i` sees the features that come before feature :math:`i` and the whole context, never feature
:math:`i` itself or later ones (Germain et al., arXiv 1502.03509, section 4).  The masks are fixed by degrees: a hidden
unit of degree :math:`d` may look at the first :math:`d` features.  Degree 0 (context only) is included, so the first
conditional is a function of the context with hidden units of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cathode.density.registry import buildable

__all__ = ["Made", "MaskedLinear"]


class MaskedLinear(nn.Linear):
    """Linear layer whose weight is multiplied by a fixed 0/1 ``mask (out, in)``."""

    mask: Tensor

    def __init__(self, mask: Tensor, *, bias: bool = True) -> None:
        super().__init__(mask.shape[1], mask.shape[0], bias=bias)
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)
        with torch.no_grad():
            # Kaiming assumes that all inputs are live; rows with few live inputs would start too quiet.
            live = self.mask.mean(1, keepdim=True).clamp_min(1.0 / mask.shape[1])
            self.weight.mul_(live.rsqrt().clamp_max(4.0))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight * self.mask, self.bias)


@buildable("made")
class Made(nn.Module):
    """Masked residual network: ``(B, D)``, context ``(B, C)`` -> ``(B, D, outputs)``.

    Args:
        features: D.
        context_features: C; 0 for none.
        outputs: Numbers per feature.
        hidden: Widths of the hidden layers; equal neighbouring widths are joined by residual connections.
    """

    def __init__(self, features: int, context_features: int, outputs: int, hidden: list[int]) -> None:
        super().__init__()
        self.features, self.context_features, self.outputs = features, context_features, outputs
        self.hidden = list(hidden)
        degrees_in = torch.arange(1, features + 1)
        layers: list[nn.Module] = []
        contexts: list[nn.Module] = []
        previous = degrees_in
        for width in self.hidden:
            # Sorted degrees 0 … D-1, as even as possible.
            degrees = torch.arange(width) * features // width
            layers.append(MaskedLinear((previous[None, :] <= degrees[:, None]).float()))
            contexts.append(nn.Linear(context_features, width, bias=False) if context_features else nn.Identity())
            previous = degrees
        self.layers = nn.ModuleList(layers)
        self.contexts = nn.ModuleList(contexts)
        degrees_out = torch.arange(features).repeat_interleave(outputs)
        self.head = MaskedLinear((previous[None, :] <= degrees_out[:, None]).float())
        self.head_context = nn.Linear(context_features, features * outputs, bias=False) if context_features else None
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            if self.head_context is not None:
                self.head_context.weight.mul_(0.1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = x
        for index, (layer, from_context) in enumerate(zip(self.layers, self.contexts, strict=True)):
            z = layer(h)
            if context is not None and self.context_features:
                z = z + from_context(context)
            z = functional.silu(z)
            h = h + z if index and h.shape[-1] == z.shape[-1] else z
        out = self.head(h)
        if self.head_context is not None:
            out = out + self.head_context(context)
        return out.unflatten(-1, (self.features, self.outputs))
