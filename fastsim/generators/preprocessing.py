"""Changes of variables for showers, made of the bijections of the core; energies in MeV on the outside.

The context of the shape stage is ``(B, C + L)``: incident energy, further conditions, then the energy of each layer.
Nothing is fitted here: :func:`cathode.density.fit_preprocessing` and the stages do that on training rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cathode.density.bijections import (
    Affine,
    Bijection,
    Cascade,
    Columns,
    Compose,
    ConditionalGaussianize,
    Identity,
    Log,
    Logit,
    Power,
    Relative,
    Standardize,
)

__all__ = ["context_bijection", "energy_bijection", "fraction_bijection", "layer_columns", "marginal_bijection"]


def layer_columns(slices: Sequence[tuple[int, int]], *, first: int) -> list[int]:
    """Context column with the layer energy of each voxel; ``first`` is the column of the first layer."""
    return [first + layer for layer, (start, stop) in enumerate(slices) for _ in range(stop - start)]


def energy_bijection(layers: int) -> Bijection:
    """Layer energies to the u variables, made unbounded: for energies whose zeros were filled.

    ``u_0 = E_tot / E_inc`` may exceed 1 and is drawn in at its tails by a signed power; the shares of the remainder
    ``u_i = E_i / sum_{j >= i} E_j`` lie in (0, 1) and go through a logit (arXiv:2106.05285; arXiv:2312.09290).
    """
    chain: list[Bijection] = [Cascade(layers, column=0)]
    if layers == 1:
        return Compose([*chain, Standardize(1)])
    scaled: list[Bijection] = [Compose([Standardize(1), Power(1, exponent=0.5)]), Logit(layers - 1, epsilon=1e-9)]
    return Compose([*chain, Columns(scaled), Standardize(layers)])


def fraction_bijection(
    slices: Sequence[tuple[int, int]], *, first: int, threshold: float, transform: str = "logit", epsilon: float = 1e-6
) -> Bijection:
    """Voxels as fractions of their layer, then ``logit`` (CaloDREAM, CaloINN), ``log`` or ``power``, standardised.

    Args:
        slices: First and one past the last voxel of each layer.
        first: Context column of the first layer's energy.
        threshold: Smallest layer energy that is divided by [MeV].
        transform: ``logit``, ``log`` or ``power`` (exponent 0.3 on fractions).
        epsilon: Edge of logit and logarithm.
    """
    columns = layer_columns(slices, first=first)
    features = len(columns)
    # Filled zeros of an empty layer, divided by the threshold, may reach 1: the logit moves them inside.
    members: dict[str, Bijection] = {
        "logit": Compose([Affine(features, shift=-epsilon, scale=1 + 2 * epsilon), Logit(features, epsilon=epsilon)]),
        "log": Log(features, epsilon=epsilon),
        "power": Power(features, exponent=0.3, scale=1e-3),
    }
    return Compose([Relative(features, columns, floor=threshold), members[transform], Standardize(features)])


def marginal_bijection(
    slices: Sequence[tuple[int, int]], *, first: int, threshold: float, nodes: int = 12, knots: int = 27
) -> ConditionalGaussianize:
    """Each voxel to a standard normal given the energy of its layer, zeros included."""
    columns = layer_columns(slices, first=first)
    return ConditionalGaussianize(len(columns), columns, threshold, nodes=nodes, knots=knots, floor=threshold)


def context_bijection(context: Tensor, *, plain: Sequence[int] = (), offset: float = 1.0) -> Bijection:
    """Context as networks like it: ``ln(E + offset)`` of energies, other columns as they are, all standardised.

    Columns that do not vary are only centred.

    Args:
        context: ``(N, C)`` of the training rows.
        plain: Columns that are no energies and may have any sign.
        offset: Added to energies [MeV], so that empty layers have a logarithm.
    """
    features = context.shape[1]
    blocks: list[Bijection] = [Identity(1) if k in plain else Log(1, offset=offset) for k in range(features)]
    values = Columns(blocks).forward_and_log_det(context.double())[0]
    scale = values.std(0)
    scale = torch.where(scale > 1e-6, scale, torch.ones_like(scale))
    return Compose([Columns(blocks), Affine(features, shift=values.mean(0).tolist(), scale=scale.tolist())])
