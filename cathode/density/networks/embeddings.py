r"""Embeddings of time and context, and the small pieces that all networks share.

Networks have one signature, ``forward(x, t, context=None, *, mask=None)``, with ``x`` of shape ``(B, D)`` or
``(B, P, F)``, the time ``t (B,)`` (0 = noise, 1 = data; the diffusion passes its noise level ``c_noise``
instead), the context ``(B, C)`` and for sets a boolean ``mask (B, P)``; the output is shaped as ``x``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

__all__ = [
    "ConditionEmbedding",
    "FourierFeatures",
    "activation_module",
    "activations",
    "multilayer",
    "place_vectors",
    "zero_initialised",
]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
    "mish": nn.Mish,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


def activations() -> list[str]:
    """Names that :func:`activation_module` knows."""
    return sorted(_ACTIVATIONS)


def activation_module(name: str) -> nn.Module:
    """The activation called ``name``.

    Raises:
        ValueError: Unknown name.
    """
    if name not in _ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; known: {', '.join(activations())}")
    return _ACTIVATIONS[name]()


def zero_initialised(linear: nn.Linear) -> nn.Linear:
    """The layer with weights and biases set to 0, so that what it feeds starts as the identity (or as 0)."""
    nn.init.zeros_(linear.weight)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    return linear


def multilayer(sizes: Sequence[int], activation: str) -> nn.Sequential:
    """Linear layers of the given sizes with the activation between them, none after the last."""
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        layers += [activation_module(activation)] if i else []
        layers.append(nn.Linear(inputs, outputs))
    return nn.Sequential(*layers)


def place_vectors(places: int, width: int) -> nn.Parameter | None:
    """A learned vector for each place in an ordered set, ``(places, width)``; None for no places."""
    return nn.Parameter(0.1 * torch.randn(places, width)) if places else None


class FourierFeatures(nn.Module):
    r"""``[u, sin(2 pi f_k u), cos(2 pi f_k u)]`` with ``f_k = lowest * 2^k``, k = 0 … frequencies-1, for
    every column ``u``.

    The plain columns are kept, so slow trends stay easy, and ``frequencies = 0`` is the identity.

    Arguments:
        columns: Number C of input columns, ``(..., C)``.
        frequencies: Number of frequencies.
        lowest: Lowest frequency, in periods per unit of ``u``; 0.25 turns a quarter period over the times 0 …
            1.

    References:
        Tancik et al., arXiv 2006.10739; octave-spaced frequencies as in Mildenhall et al., arXiv 2003.08934,
        eq. 4.
    """

    scales: Tensor

    def __init__(self, columns: int, frequencies: int, *, lowest: float = 0.25) -> None:
        super().__init__()
        if frequencies < 0:
            raise ValueError(f"frequencies is {frequencies}; give 0 or more")
        self.columns = columns
        self.output_features = columns * (1 + 2 * frequencies)
        self.register_buffer("scales", 2 * math.pi * lowest * 2.0 ** torch.arange(frequencies), persistent=False)

    def forward(self, u: Tensor) -> Tensor:
        """``(..., C)`` to ``(..., C * (1 + 2 frequencies))``."""
        if not len(self.scales):
            return u
        angles = (u.unsqueeze(-1) * self.scales.to(u.dtype)).flatten(-2)
        return torch.cat([u, angles.sin(), angles.cos()], dim=-1)


class ConditionEmbedding(nn.Module):
    """Features of the time and the context in one row per event: ``(B,), (B, C) -> (B, output_features)``.

    Arguments:
        context_features: C.
        time_frequencies: Fourier frequencies of the time.
        context_frequencies: Fourier frequencies of each context column.  0, the plain columns, extrapolates
            and interpolates most smoothly; frequencies resolve narrow structure in the context but may
            overshoot in gaps of it.
    """

    def __init__(self, context_features: int = 0, *, time_frequencies: int = 4, context_frequencies: int = 0) -> None:
        super().__init__()
        self.context_features = context_features
        self.time = FourierFeatures(1, time_frequencies)
        self.context = FourierFeatures(context_features, context_frequencies)
        self.output_features = self.time.output_features + self.context.output_features

    def forward(self, t: Tensor, context: Tensor | None) -> Tensor:
        """Raises ``ValueError`` when the context has the wrong number of columns."""
        columns = 0 if context is None else context.shape[-1]
        if columns != self.context_features:
            raise ValueError(f"context has {columns} columns, the network was built for {self.context_features}")
        features = self.time(t.unsqueeze(-1))
        return features if context is None else torch.cat([features, self.context(context)], dim=-1)
