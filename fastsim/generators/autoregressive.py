"""The default stages: autoregressive densities with exact zeros, thresholds and sums."""

from __future__ import annotations

import torch

from cathode.density.base import ConditionalDensity, Starting
from cathode.density.bijections import Affine, Bijection, Columns, Compose, Identity, Log, Standardize
from cathode.density.bijections.relative import Relative
from cathode.density.censored import CensoredAutoregressive
from cathode.density.parts import SumsThenParts
from cathode.density.preprocessed import Preprocessed
from cathode.density.sequence import AmountSequence, CellContext
from cathode.density.symmetric import Symmetric
from cathode.training.data import TrainingData
from fastsim.generators.order import Rings, earlier_neighbours, generation_order, rings, rotation_blocks
from fastsim.generators.settings import AutoregressiveEnergies, AutoregressiveShape
from fastsim.geometry import Geometry

__all__ = ["autoregressive_energies", "autoregressive_shape"]

# Layers of equal layout from which on sharing one network pays.
_SEQUENCE_LAYERS = 9
# Showers that initial weights are chosen from.
_FIRST_LOOK = 4000


def conditions(context: torch.Tensor, *, totals: int = 0) -> Bijection:
    """Context as the networks see it: logarithm of the incident energy, other conditions standardised, sums in MeV.

    A condition that never varies is seen as 0.

    Args:
        context: Training contexts ``(N, C)``; the last ``totals`` columns are sums.
        totals: Number of sums.
    """
    columns = context.shape[1] - totals
    varies = (context.amax(0) > context.amin(0)).tolist()
    first = context[0].double()
    energy = Standardize(1) if varies[0] else Affine(1, float(first[0].log()))
    parts: list[Bijection] = [Compose([Log(1), energy])]
    parts += [Standardize(1) if varies[c] else Affine(1, float(first[c])) for c in range(1, columns)]
    if totals:
        parts.append(Identity(totals))
    return Columns(parts).fit(context)


def autoregressive_energies(
    settings: AutoregressiveEnergies, layers: torch.Tensor, context: torch.Tensor, *, threshold: float
) -> ConditionalDensity:
    """Density of layer energies given the context, preprocessing fitted, network untrained.

    Args:
        settings: Of the stage.
        layers: Training layer energies ``(N, L)`` [MeV].
        context: Their context ``(N, C)``.
        threshold: [MeV].
    """
    count, columns = layers.shape[1], context.shape[1]
    total = layers.double().sum(1, keepdim=True).clamp_min(0.5 * threshold)
    response = Compose([Relative(1, [0]), Log(1), Standardize(1)]).fit(total, context=context)
    seen = conditions(context)
    network = CensoredAutoregressive(
        1, columns, components=settings.components, hidden=settings.hidden, layers=1, bottleneck=8
    )
    # What comes last takes what is left over, rounding errors of all others included: the largest bears it best.
    rising = layers.double().mean(0).argsort().tolist()
    parts = CensoredAutoregressive(
        count,
        columns + 1,
        threshold=threshold,
        order=rising,
        blocks=[0] * count,
        totals=[columns],
        components=settings.components,
        hidden=settings.hidden,
        layers=settings.layers,
    )
    known = conditions(torch.cat([context, total.to(context)], 1), totals=1)
    # From all over the data: files may be sorted by energy.
    some = torch.linspace(0, len(layers) - 1, min(len(layers), _FIRST_LOOK), dtype=torch.float64).long()
    network.initialise(response.forward_and_log_det(total[some].to(context), context[some])[0])
    parts.initialise(layers[some], known.forward_and_log_det(torch.cat([context, total.to(context)], 1)[some])[0])
    return SumsThenParts(
        Preprocessed(response, network, seen),
        Preprocessed(Identity(count), parts, known),
        [0] * count,
        threshold,
        positive=True,
    )


def autoregressive_shape(
    settings: AutoregressiveShape,
    geometry: Geometry,
    context: torch.Tensor,
    *,
    some: TrainingData,
    threshold: float,
) -> ConditionalDensity:
    """Density of voxel energies given context and layer energies, preprocessing fitted, network untrained.

    Args:
        settings: Of the stage.
        geometry: Layout of the voxels.
        context: Training contexts with the layer energies, ``(N, C + L)``.
        some: Some training showers ``(n, V)`` [MeV] with their contexts ``(n, C + L)``: initial weights are chosen
            from them.
        threshold: [MeV].

    Raises:
        UserError: A symmetry that the geometry does not have.
    """
    layers, columns = geometry.n_layers, context.shape[1] - geometry.n_layers
    known = conditions(context, totals=layers)
    found = rings(geometry)
    density: ConditionalDensity
    if _as_sequence(settings, geometry):
        size, count = geometry.n_voxels // layers, len(found.layer) // layers
        told = CellContext(layers, size, columns + layers, settings.window, settings.memory)
        layer = Rings(found.of_voxel[:size], found.place[:size], found.layer[:count], found.radius[:count])
        cell = _ringed(settings, layer, told.columns, [told.total], threshold, hints=_hints(layer, told))
        density = AmountSequence(
            cell, layers, columns + layers, threshold=threshold, window=settings.window, memory=settings.memory
        )
    else:
        density = _ringed(settings, found, columns + layers, list(range(columns, columns + layers)), threshold)
    if isinstance(density, Starting) and some.context is not None:
        density.initialise(some.x, known.forward_and_log_det(some.context)[0])
    if settings.symmetry != "none":
        turns, blocks = rotation_blocks(geometry)
        density = Symmetric(density, turns, blocks, mirror=settings.symmetry == "rotations and mirror")
    return Preprocessed(Identity(geometry.n_voxels), density, known)


def _ringed(
    settings: AutoregressiveShape,
    found: Rings,
    context: int,
    totals: list[int],
    threshold: float,
    *,
    hints: list[list[int]] | None = None,
) -> ConditionalDensity:
    """Energies of the rings given those of the layers, then voxels given the rings."""
    count, voxels = len(found.layer), len(found.of_voxel)
    order, groups = generation_order(found.of_voxel, found.place, interleave=settings.interleave)
    sums = CensoredAutoregressive(
        count,
        context,
        threshold=threshold,
        # From the outside to the core, which takes what is left over.
        order=sorted(range(count), key=lambda ring: (found.layer[ring], -abs(found.radius[ring]))),
        blocks=found.layer,
        totals=totals,
        components=settings.components,
        hidden=settings.ring_hidden,
        layers=settings.layers,
        bottleneck=settings.bottleneck,
        head=settings.head,
        context_width=settings.context_width,
    )
    parts = CensoredAutoregressive(
        voxels,
        context + count,
        threshold=threshold,
        order=order,
        groups=groups,
        blocks=found.of_voxel,
        totals=list(range(context, context + count)),
        amounts=totals,
        neighbours=earlier_neighbours(found, order, groups),
        hints=hints,
        components=settings.components,
        hidden=settings.hidden,
        layers=settings.layers,
        bottleneck=settings.bottleneck,
        head=settings.head,
        context_width=settings.context_width,
    )
    return SumsThenParts(sums, parts, found.of_voxel, threshold)


def _hints(layer: Rings, told: CellContext) -> list[list[int]]:
    """Columns with what the layers before have at and around the place of each voxel."""
    hints: list[list[int]] = []
    for voxel, (ring, place) in enumerate(zip(layer.of_voxel, layer.place, strict=True)):
        around = [layer.voxel(ring, place + shift) for shift in (-1, 1)]
        around += [layer.voxel(other, place) for other in layer.beside(ring)]
        columns = [told.recent(back, voxel) for back in range(1, told.window + 1)]
        columns.append(told.recent(1, voxel, positive=True))
        columns += [told.recent(1, v) for v in dict.fromkeys(around) if v is not None]
        hints.append(columns)
    return hints


def _as_sequence(settings: AutoregressiveShape, geometry: Geometry) -> bool:
    if settings.structure != "auto":
        return settings.structure == "sequence"
    return geometry.shape is not None and geometry.n_layers >= _SEQUENCE_LAYERS
