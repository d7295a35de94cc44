"""Transformer block that looks back only, for sequences that are drawn one token after the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CausalBlock"]


class CausalBlock(nn.Module):
    """Pre-norm transformer block that looks back only; its keys and values are kept while sampling."""

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, expansion * width), nn.Linear(expansion * width, width)
        for last in (self.out, self.down):
            nn.init.normal_(last.weight, std=0.02)
            nn.init.zeros_(last.bias)

    def _split(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, steps, width = h.shape
        parts = self.qkv(self.norm1(h)).view(rows, steps, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        return q, k, v

    def _finish(self, h: Tensor, attended: Tensor) -> Tensor:
        h = h + self.out(attended.transpose(1, 2).reshape(h.shape))
        return h + self.down(functional.gelu(self.up(self.norm2(h)), approximate="tanh"))

    def forward(self, h: Tensor) -> Tensor:
        projected = self._split(h)
        # In bfloat16 the backward pass of fused attention is several times slower on CPUs than in float32.
        q, k, v = (part.to(h.dtype) for part in projected)
        with torch.autocast(h.device.type, enabled=False):
            attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self._finish(h, attended)

    def step(self, h: Tensor, keys: Tensor, values: Tensor, place: int) -> Tensor:
        """One further token ``(B, 1, W)``; ``keys`` and ``values (B, H, P, W/H)`` are filled at ``place``."""
        q, k, v = self._split(h)
        keys[:, :, place], values[:, :, place] = k[:, :, 0], v[:, :, 0]
        attended = functional.scaled_dot_product_attention(q, keys[:, :, : place + 1], values[:, :, : place + 1])
        return self._finish(h, attended)
