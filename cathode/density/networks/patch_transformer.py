r"""Patch transformer: attention between the patches of a regular grid, conditioned on time and context.

The event ``(B, D)`` is a grid of ``shape = (n_1, n_2, …)``, the last axis fastest, cut into patches that become the
tokens of a transformer with adaptive layer normalisation whose gates start at 0 (DiT: Peebles & Xie, arXiv 2212.09748;
for calorimeter grids CaloDREAM: Favaro et al., arXiv 2405.09629).  Where a token sits is told by sines and cosines of
the coordinates of its centre, in turns for a periodic axis, so that the two ends of an angle are neighbours.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cathode.density.networks.embeddings import ConditionEmbedding, activation_module, zero_initialised
from cathode.density.networks.set_transformer import ModulatedBlock
from cathode.density.registry import buildable

__all__ = ["PatchTransformer"]


@buildable("patch-transformer")
class PatchTransformer(nn.Module):
    """Transformer over the patches of a grid; ``(B, D)`` to ``(B, D)``, starting at zero output.

    Arguments:
        shape: Cells along each axis; D is their product.
        patch: Cells of a patch along each axis; divides ``shape``.
        context_features: C.
        coordinates: For each axis the coordinate of every cell, in any unit: radians for a periodic axis of period 2
            pi.  Without it cells are numbered, and a periodic axis is divided evenly.
        periodic: Whether each axis is periodic; without it none is.
        local_context: First of ``n_1`` neighbouring context columns that belong to the positions along the first axis
            (amounts of the layers, say): each patch is given its own beside its cells.  All columns also enter the
            common condition.
        width: Size of the residual stream; a multiple of ``heads``.
        heads: Attention heads.
        blocks: Number of blocks.
        expansion: Hidden size of the feed-forward part over ``width``.
        activation: Name of the activation.
        time_frequencies: Fourier frequencies of the time.
        context_frequencies: Fourier frequencies of each context column.
        position_frequencies: Sines and cosines of each axis' coordinate.

    Raises:
        ValueError: Arguments that do not fit each other.
    """

    positions: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        patch: Sequence[int],
        context_features: int = 0,
        *,
        coordinates: Sequence[Sequence[float]] | None = None,
        periodic: Sequence[bool] | None = None,
        local_context: int | None = None,
        width: int = 96,
        heads: int = 4,
        blocks: int = 4,
        expansion: int = 2,
        activation: str = "gelu_tanh",
        time_frequencies: int = 4,
        context_frequencies: int = 0,
        position_frequencies: int = 6,
    ) -> None:
        super().__init__()
        self.shape, self.patch = tuple(shape), tuple(patch)
        if len(self.shape) != len(self.patch) or any(n % p for n, p in zip(self.shape, self.patch, strict=True)):
            raise ValueError(f"patches of {self.patch} do not divide a grid of {self.shape}")
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        if local_context is not None and not 0 <= local_context <= context_features - self.shape[0]:
            raise ValueError(
                f"local_context {local_context} needs {self.shape[0]} columns from there on, "
                f"the context has {context_features}"
            )
        self.features = math.prod(self.shape)
        self.context_features, self.local_context = context_features, local_context
        self.tokens = tuple(n // p for n, p in zip(self.shape, self.patch, strict=True))
        self.register_buffer(
            "positions",
            _positions(self.shape, self.patch, coordinates, periodic, position_frequencies),
            persistent=False,
        )
        axes = len(self.shape)
        # (B, t1, p1, t2, p2, …) -> (B, t1, t2, …, p1, p2, …) and back.
        self.split = tuple(itertools.chain.from_iterable(zip(self.tokens, self.patch, strict=True)))
        self.gather = (0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2))
        self.scatter = (0, *itertools.chain.from_iterable((1 + i, 1 + axes + i) for i in range(axes)))
        self.condition = ConditionEmbedding(
            context_features, time_frequencies=time_frequencies, context_frequencies=context_frequencies
        )
        self.embed_condition = nn.Sequential(
            nn.Linear(self.condition.output_features, width),
            activation_module(activation),
            nn.Linear(width, width),
            activation_module(activation),
        )
        cells = math.prod(self.patch)
        local = 0 if local_context is None else self.patch[0]
        self.entrance = nn.Linear(cells + local, width)
        self.embed_position = nn.Linear(self.positions.shape[1], width)
        # What a place has of its own, beyond a smooth function of where it is.
        self.place = nn.Parameter(torch.zeros(math.prod(self.tokens), width))
        self.blocks = nn.ModuleList(ModulatedBlock(width, heads, expansion, activation) for _ in range(blocks))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = zero_initialised(nn.Linear(width, 2 * width))
        self.exit = zero_initialised(nn.Linear(width, cells))

    def patches(self, x: Tensor) -> Tensor:
        """``(B, D)`` to ``(B, T, cells)``, tokens and cells in the order of the grid."""
        return (
            x.reshape(-1, *self.split).permute(self.gather).reshape(-1, math.prod(self.tokens), math.prod(self.patch))
        )

    def grid(self, patches: Tensor) -> Tensor:
        """``(B, T, cells)`` to ``(B, D)``: the inverse of :meth:`patches`."""
        return patches.reshape(-1, *self.tokens, *self.patch).permute(self.scatter).reshape(-1, self.features)

    def _local(self, context: Tensor) -> Tensor:
        """The local columns of each token, ``(B, T, p_1)``."""
        assert self.local_context is not None
        columns = context[:, self.local_context : self.local_context + self.shape[0]]
        rest = math.prod(self.tokens[1:])
        return columns.reshape(-1, self.tokens[0], 1, self.patch[0]).expand(-1, -1, rest, -1).flatten(1, 2)

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """``(B, D)`` to ``(B, D)``; ``t (B,)``, ``context (B, C)``."""
        if mask is not None:
            raise ValueError("this network takes grids (B, D) without a mask; use SetTransformer for masked sets")
        condition = self.embed_condition(self.condition(t, context))
        cells = self.patches(x)
        if self.local_context is not None and context is not None:
            cells = torch.cat([cells, self._local(context)], dim=-1)
        h = self.entrance(cells) + self.embed_position(self.positions.to(x.dtype)) + self.place
        for block in self.blocks:
            h = block(h, condition, None)
        shift, scale = self.modulation(condition).unsqueeze(1).chunk(2, dim=-1)
        return self.grid(self.exit(self.norm(h) * (1 + scale) + shift))


def _positions(
    shape: tuple[int, ...],
    patch: tuple[int, ...],
    coordinates: Sequence[Sequence[float]] | None,
    periodic: Sequence[bool] | None,
    frequencies: int,
) -> Tensor:
    """Sines and cosines of the centres of the tokens, ``(T, axes * 2 * frequencies)``."""
    turns = [False] * len(shape) if periodic is None else list(periodic)
    if len(turns) != len(shape) or (coordinates is not None and len(coordinates) != len(shape)):
        raise ValueError(f"give coordinates and periodic for each of the {len(shape)} axes, or not at all")
    features = []
    for axis, (cells, size, around) in enumerate(zip(shape, patch, turns, strict=True)):
        if coordinates is not None:
            values = torch.tensor([float(v) for v in coordinates[axis]], dtype=torch.float64)
            if len(values) != cells:
                raise ValueError(f"axis {axis} has {cells} cells and {len(values)} coordinates")
        else:
            values = torch.arange(cells, dtype=torch.float64) * (2 * math.pi / cells if around else 1.0)
        grouped = values.reshape(-1, size)
        if around:
            # The mean direction: the middle of a patch that crosses the end of the period lies in the patch.
            centre = torch.atan2(grouped.sin().sum(1), grouped.cos().sum(1))
            angles = centre.unsqueeze(1) * torch.arange(1, frequencies + 1, dtype=torch.float64)
        else:
            centre = grouped.mean(1)
            span = (values.max() - values.min()).clamp(min=1e-12)
            # From a quarter turn over the axis upwards, in octaves.
            scales = 0.5 * math.pi * 2.0 ** torch.arange(frequencies, dtype=torch.float64)
            angles = ((centre - values.min()) / span).unsqueeze(1) * scales
        features.append(torch.cat([angles.sin(), angles.cos()], dim=1))
    counts = [len(f) for f in features]
    placed = [
        f.reshape(*[n if i == axis else 1 for i, n in enumerate(counts)], -1).expand(*counts, -1)
        for axis, f in enumerate(features)
    ]
    return torch.cat(placed, dim=-1).flatten(0, -2).float()
