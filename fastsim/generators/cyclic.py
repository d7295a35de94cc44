"""The shape of showers on regular polar grids with many voxels: a Gaussian copula in the Fourier space of alpha."""

from __future__ import annotations

from torch import Tensor

from cathode.density.bijections import ConditionalGaussianize
from cathode.density.cyclic_copula import CyclicCopula
from cathode.density.cyclic_fit import fit_cyclic_copula
from cathode.support.errors import UserError
from cathode.support.seeding import derive_seed
from fastsim.generators.order import rotation_blocks
from fastsim.geometry import Geometry

__all__ = ["DENSE_LIMIT", "fit_cyclic_shape", "turns_whole"]

#: Up to this many voxels a dense covariance is small enough, and a shower's own frame is the better use of symmetry.
DENSE_LIMIT = 1500


def turns_whole(geometry: Geometry) -> bool:
    """Whether all layers have one and the same number of sectors, so that the whole shower can be turned."""
    return geometry.kind == "polar" and len(set(geometry.n_alpha)) == 1 and geometry.n_alpha[0] > 1


def fit_cyclic_shape(
    x: Tensor,
    context: Tensor,
    *,
    geometry: Geometry,
    threshold: float,
    nodes: int,
    knots: int,
    energy_nodes: int,
    seed: int,
) -> CyclicCopula:
    """Fit voxel energies ``(N, V)`` [MeV] given conditions and layer energies ``(N, C + L)``.

    Args:
        x: Training showers.
        context: Incident energy, further conditions, layer energies.
        geometry: Of the voxels.
        threshold: Voxels below are zeros [MeV].
        nodes: Nodes in the logarithm of a layer's energy.
        knots: Quantiles of each distribution.
        energy_nodes: Nodes in the logarithm of the incident energy.
        seed: Of the rows that distributions are fitted to.

    Raises:
        UserError: Layers with different numbers of sectors.
    """
    if not turns_whole(geometry):
        raise UserError(
            f"shape setting frame: 'cyclic-copula' needs layers with one and the same number of alpha sectors, "
            f"which {geometry.name!r} does not have; use 'copula'"
        )
    turns, blocks = rotation_blocks(geometry)
    first = context.shape[1] - geometry.n_layers
    columns = [first + layer for layer, (_, width) in enumerate(blocks) for _ in range(width)]
    copula = CyclicCopula(
        ConditionalGaussianize(len(columns), columns, threshold, nodes=nodes, knots=knots, floor=threshold),
        turns,
        blocks,
        list(range(first, context.shape[1])),
        context.shape[1],
        nodes=energy_nodes,
        plain=list(range(1, first)),
    )
    return fit_cyclic_copula(copula, x, context, seed=derive_seed(seed, "cyclic copula"))
