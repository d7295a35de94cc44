"""Changes of variables for jets, made of the bijections of the core."""

from __future__ import annotations

import torch
from torch import Tensor

from cathode.density.bijections import (
    Affine,
    Arcsinh,
    Bijection,
    Columns,
    Compose,
    Gaussianize,
    Identity,
    Log,
    PlaceStandardize,
    Standardize,
)
from cathode.jets.generators.context import MULTIPLICITY, SUMMARY

__all__ = ["context_bijection", "point_bijection", "summary_bijection"]


def point_bijection(features: int, places: int, *, ordered: bool, scale: float) -> Bijection:
    """Constituents (pT fraction, distances in eta and phi[, bit of the lattice]) with about unit spread; unfitted.

    Args:
        features: 3, or 4 with the bit.
        places: Largest number of constituents.
        ordered: Standardise each place in the order by itself.
        scale: Distance at which the arcsinh sets in.
    """
    blocks: list[Bijection] = [Log(1, epsilon=1e-9), Arcsinh(2, scale=scale)]
    if features > 3:
        blocks.append(Identity(features - 3))
    last = PlaceStandardize(features, places) if ordered else Standardize(features)
    return Compose([Columns(blocks), last])


def summary_bijection(summary: Tensor, *, knots: int) -> Bijection:
    """Each column of a filled summary ``(N, 5)`` made Gaussian; what hardly varies is only centred and scaled."""
    blocks: list[Bijection] = []
    for k in range(len(SUMMARY)):
        column = summary[:, k].double()
        spread = float(column.std())
        if k == MULTIPLICITY or not _smooth(column, knots):
            blocks.append(Affine(1, float(column.mean()), spread if spread > 1e-6 else 1.0))
        else:
            blocks.append(Gaussianize(1, knots=knots).fit(column[:, None]))
    return Columns(blocks)


def _smooth(column: Tensor, knots: int) -> bool:
    """Whether quantiles can tell a distribution: enough rows, and hardly any value twice."""
    return len(column) >= 10 * knots and len(column.unique()) > 0.5 * len(column)


def context_bijection(context: Tensor) -> Bijection:
    """Context columns ``(N, C)`` standardised; those that do not vary are only centred."""
    values = context.double()
    scale = values.std(0)
    scale = torch.where(scale > 1e-6, scale, torch.ones_like(scale))
    return Affine(context.shape[1], shift=values.mean(0).tolist(), scale=scale.tolist())
