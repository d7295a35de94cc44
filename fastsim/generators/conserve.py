r"""The last step of every shower generator: exact zeros, the threshold, and the energy of each layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["conserve"]


def conserve(
    energies: Tensor, layer_energies: Tensor, *, slices: Sequence[tuple[int, int]], threshold: float
) -> Tensor:
    r"""Voxel energies that are 0 or at least the threshold and add up to the energy of their layer.

    First everything below the threshold becomes 0, then what the remaining n voxels have *above* it is scaled,
    :math:`v \to t + (v - t)\,(E_l - n t) / \sum (v - t)`, so that no voxel falls below the threshold again (scaling
    first and cutting afterwards loses energy).  Where a layer has energy for fewer voxels than are lit, the faintest go
    out; where none is lit, the brightest, even if below threshold, takes all.

    Args:
        energies: ``(B, V)`` MeV; negative values count as 0.
        layer_energies: ``(B, L)`` MeV; below the threshold counts as 0.
        slices: First voxel of each layer and the one after its last.
        threshold: t > 0 [MeV].

    Returns:
        ``(B, V)`` MeV.  A NaN (or +infinity) in a layer with energy, or in that energy, comes out as NaN: a broken
        shower must show.
    """
    layers = [
        _layer(energies[:, first:stop], layer_energies[:, i : i + 1], threshold)
        for i, (first, stop) in enumerate(slices)
    ]
    return torch.cat(layers, 1)


def _layer(energies: Tensor, total: Tensor, threshold: float) -> Tensor:
    # Rounding of a sum of float32 voxels must not make a voxel of exactly the threshold go out.
    total = torch.where(total < threshold * (1 - 1e-6), torch.zeros_like(total), total)
    order = torch.sort(energies, dim=1, descending=True).indices
    places = torch.arange(energies.shape[1]).to(energies).expand_as(energies)
    rank = torch.zeros_like(energies).scatter(1, order, places)
    allowed = torch.floor(total / threshold * (1 + 1e-6))
    # Written so that NaN counts as allowed, and not as none: it goes on into the energies.
    lit = ((energies >= threshold) | (rank < 0.5)) & ~(rank >= allowed)
    excess = torch.where(lit, (energies - threshold).clamp_min(0.0), torch.zeros_like(energies))
    count = lit.to(energies).sum(1, keepdim=True)
    spare = (total - count * threshold).clamp_min(0.0)
    summed = excess.sum(1, keepdim=True)
    share = torch.where(summed == 0, lit / count.clamp_min(1.0), excess / summed.clamp_min(1e-30))
    return torch.where(lit, threshold + spare * share, torch.zeros_like(energies))
