"""Mixtures of Gaussians in the plane: at freely predicted places, and around points that are there already.

The free part lives in a stretched plane, the part around points in the plane itself; both are components of one
mixture.  Raw outputs of a network are packed along the last axis: K logits, 2 K coordinates, 2 K logarithms of widths
and K couplings of the second coordinate to the first.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Spots", "component", "initial_components", "log_mixture", "sample_mixture", "sample_mixture_with_spots"]

_LOG_SCALE = (-6.0, 2.5)
_LOG_2PI = math.log(2 * math.pi)


class Spots(NamedTuple):
    """Gaussians around points: logits and log-widths ``(B, P, M, S)``, centres ``(B, M, 2)``."""

    logits: Tensor
    log_scale: Tensor
    positions: Tensor


def initial_components(components: int) -> Tensor:
    """Starting values ``(6K,)``: places that cover a disk evenly (points of a sunflower), no couplings."""
    k = torch.arange(components, dtype=torch.float32)
    radius, angle = 2.5 * torch.sqrt((k + 0.5) / components), k * math.pi * (3.0 - math.sqrt(5.0))
    location = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1).flatten()
    return torch.cat([torch.zeros(components), location, torch.full((2 * components,), -0.3), torch.zeros(components)])


def log_mixture(raw: Tensor, w: Tensor, log_det: Tensor, spots: Spots | None, position: Tensor) -> Tensor:
    """Log-density ``(B, P)`` of positions in the plane.

    Args:
        raw: Free components ``(B, P, 6K)``.
        w: The positions in the stretched plane ``(B, P, 2)``.
        log_det: Logarithm of the determinant of the map to it ``(B, P)``.
        spots: Components around points; None: there are none.
        position: The positions ``(B, P, 2)``.
    """
    weights, location, log_scale, coupling = _parts(raw)
    r = (w.unsqueeze(-2) - location) * torch.exp(-log_scale)
    first = r[..., 0]
    second = r[..., 1] - coupling * first
    terms = weights - 0.5 * (first * first + second * second) - log_scale.sum(-1) + log_det.unsqueeze(-1)
    if spots is not None:
        square = (position.unsqueeze(2) - spots.positions.unsqueeze(1)).square().sum(-1, keepdim=True)
        near = spots.logits - 0.5 * square * torch.exp(-2.0 * spots.log_scale) - 2.0 * spots.log_scale
        terms = torch.cat([terms, near.flatten(2)], dim=-1)
        weights = torch.cat([weights, spots.logits.flatten(2)], dim=-1)
    return torch.logsumexp(terms, -1) - torch.logsumexp(weights, -1) - _LOG_2PI


def component(logits: Tensor, noise: Tensor) -> Tensor:
    """Index ``(B, 1)`` of the component that the standard normal number of each row stands for."""
    level = torch.special.ndtr(noise.double()).unsqueeze(-1)
    chosen = (torch.softmax(logits.double(), -1).cumsum(-1) < level).sum(-1, keepdim=True)
    return chosen.clamp(max=logits.shape[-1] - 1)


def sample_mixture(raw: Tensor, choice: Tensor, value: Tensor) -> Tensor:
    """Places in the stretched plane ``(B, 2)`` from the free components ``(B, 6K)`` alone.

    Args:
        raw: Free components.
        choice: Standard normal numbers ``(B,)`` that choose the components.
        value: Standard normal numbers ``(B, 2)``.
    """
    return _values(raw, component(_parts(raw)[0], choice), value)


def sample_mixture_with_spots(
    raw: Tensor, spots: Spots, choice: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the whole mixture at one place: which rows are from a free component, and what either kind gives.

    Returns:
        ``(B, 1)`` boolean; places in the stretched plane ``(B, 2)``; places in the plane ``(B, 2)``.
    """
    free = raw.shape[-1] // 6
    k = component(torch.cat([raw[:, :free], spots.logits.flatten(1)], dim=1), choice)
    index = (k - free).clamp(min=0)
    scale = torch.exp(spots.log_scale.flatten(1).gather(1, index))
    point = torch.div(index, spots.log_scale.shape[-1], rounding_mode="floor").unsqueeze(-1).expand(-1, 1, 2)
    near = spots.positions.gather(1, point).squeeze(1) + scale * value
    return k < free, _values(raw, k.clamp(max=free - 1), value), near


def _parts(raw: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits ``(..., K)``, locations and log-scales ``(..., K, 2)``, coupling of second to first ``(..., K)``."""
    k = raw.shape[-1] // 6
    logits, location, log_scale, coupling = raw.split([k, 2 * k, 2 * k, k], dim=-1)
    pair = (*raw.shape[:-1], k, 2)
    return logits, location.reshape(pair), log_scale.clamp(*_LOG_SCALE).reshape(pair), coupling


def _values(raw: Tensor, k: Tensor, value: Tensor) -> Tensor:
    """Values ``(B, 2)`` of the components ``k (B, 1)`` for standard normal numbers ``value (B, 2)``."""
    _, location, log_scale, coupling = _parts(raw)
    pair = k.unsqueeze(-1).expand(-1, 1, 2)
    first = value[:, 0]
    second = value[:, 1] + coupling.gather(1, k).squeeze(1) * first
    r = torch.stack([first, second], dim=1)
    return location.gather(1, pair).squeeze(1) + torch.exp(log_scale.gather(1, pair).squeeze(1)) * r
