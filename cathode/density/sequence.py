r"""A long vector of amounts as a sequence of equal blocks, with one network for all of them.

.. math:: p(x \mid c) = \prod_{l=1}^{S} p\bigl(x_l \mid x_{l-1} \dots x_{l-w}, T, l, c\bigr)

Each block (a layer of a calorimeter) has D amounts with a known sum :math:`T_l`; the *cell* is a
density of one block (:class:`~cathode.density.censored.CensoredAutoregressive`, say), shared by all S blocks, which
learn from each other: S times the training events for 1/S of the weights.  A block sees the w blocks before it amount
by amount, its own number, the sums of the blocks around it and a running mean of everything before (layer-by-layer
generation as in L2LFlows, arXiv 2302.11594, with one network instead of one flow per layer).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cathode.density.base import ConditionalDensity, Starting, noise_shape
from cathode.density.registry import buildable

__all__ = ["AmountSequence", "CellContext"]

_POSITION = 16
# Sums of so many blocks on either side are shown one by one.
_REACH = 4


@dataclass(frozen=True)
class CellContext:
    """Columns that the cell of an :class:`AmountSequence` is given.

    Attributes:
        blocks: S.
        features: D.
        context_features: C of the sequence.
        window: w.
        memory: Width of the memory.
    """

    blocks: int
    features: int
    context_features: int
    window: int
    memory: int

    @property
    def outside(self) -> int:
        """Columns known beforehand: the context without sums, the block's number and the sums around it."""
        return self.context_features - self.blocks + _POSITION + 2 * (2 * _REACH + 1)

    @property
    def total(self) -> int:
        """The column with the sum of the block: the last one."""
        return self.outside + self.memory + 2 * self.window * self.features

    def recent(self, back: int, feature: int, *, positive: bool = False) -> int:
        """The column with (the logarithm of) an amount of the block ``back`` blocks before, 1 to w; or whether it is
        positive."""
        if not 1 <= back <= self.window:
            raise ValueError(f"the cell sees {self.window} blocks back, not {back}")
        start = self.outside + self.memory + 2 * self.features * (self.window - back)
        return start + feature + (self.features if positive else 0)

    @property
    def columns(self) -> int:
        """Number of columns."""
        return self.total + 1


@buildable("amount-sequence")
class AmountSequence(ConditionalDensity):
    """Conditional density of amounts ``(B, S D)``, each 0 or at least ``threshold``.

    Args:
        cell: Density of the D amounts of a block given :class:`CellContext`.
        blocks: S.
        context_features: C; the last S columns are the sums of the blocks in the units of the amounts, the others
            should have about unit scale.
        threshold: Smallest positive amount.
        window: w, blocks before that are seen amount by amount.
        memory: Width of what the cell is told about the blocks before.

    Raises:
        ValueError: A context without room for the sums, or a cell for another context.
    """

    def __init__(
        self,
        cell: ConditionalDensity,
        blocks: int,
        context_features: int,
        *,
        threshold: float,
        window: int = 2,
        memory: int = 128,
    ) -> None:
        super().__init__()
        if context_features < blocks or window < 1:
            raise ValueError(f"the context needs at least {blocks} columns for the sums, and the window one block")
        if threshold <= 0:
            raise ValueError(f"threshold is {threshold}; give a positive amount")
        features = cell.event_shape[0]
        told = CellContext(blocks, features, context_features, window, memory)
        if cell.context_features != told.columns:
            raise ValueError(f"the cell must be given {told.columns} columns, not {cell.context_features}")
        self.event_shape = (blocks * features,)
        self.context_features = context_features
        self.blocks, self.features, self.window, self.threshold = blocks, features, window, threshold
        self.position = nn.Parameter(0.5 * torch.randn(blocks, _POSITION))
        seen = 2 * (window + 1) * features
        outside = told.outside
        self.remember = nn.Sequential(
            nn.Linear(seen + outside, 2 * memory), nn.SiLU(), nn.Linear(2 * memory, memory), nn.SiLU()
        )
        self.cell = cell
        self._noise = noise_shape(cell)

    @property
    def loss_is_nll(self) -> bool:
        """Whether :meth:`loss` is ``-log p(x | c)``."""
        return bool(getattr(self.cell, "loss_is_nll", False))

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        """``(count, M)``: the noise of the cell, block after block."""
        return self.cell.noise(count * self.blocks, generator=generator, dtype=dtype).reshape(count, -1)

    # -- what a block is told --------------------------------------------------------------------------------

    def _surroundings(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, S, outside)`` numbers known beforehand, and the sums ``(B, S)``."""
        rest, totals = context[:, : -self.blocks], context[:, -self.blocks :].clamp_min(0.0)
        log = 0.25 * torch.log(totals / self.threshold + 0.5) - 0.5
        seen = functional.pad(torch.stack([log, (totals >= 0.5 * self.threshold).to(log)], 1), (_REACH, _REACH))
        around = torch.cat([seen[:, :, i : i + self.blocks] for i in range(2 * _REACH + 1)], 1).transpose(1, 2)
        position = self.position.expand(context.shape[0], -1, -1)
        return torch.cat([rest.unsqueeze(1).expand(-1, self.blocks, -1), position, around], 2), totals

    def _pictures(self, x: Tensor) -> Tensor:
        """Amounts ``(…, D)`` as ``(…, 2 D)`` numbers of about unit scale."""
        relative = x / self.threshold
        positive = (relative > 0).to(x)
        return torch.cat([positive * torch.log(relative.clamp_min(1.0)) / 3.0, positive], -1)

    def _past(self, pictures: Tensor) -> Tensor:
        """What each block sees of the blocks before it: ``(B, S, 2 D)`` -> ``(B, S, (w + 1) 2 D)``."""
        padded = functional.pad(pictures, (0, 0, self.window, 0))
        recent = [padded[:, i : i + self.blocks] for i in range(self.window)]
        return torch.cat([*recent, self._mean(pictures)], 2)

    def _mean(self, pictures: Tensor) -> Tensor:
        count = torch.arange(pictures.shape[1]).to(pictures).clamp_min(1.0)[:, None]
        # Shifted, not "all minus own": its rounding would tell a block about itself.
        return functional.pad(pictures.cumsum(1)[:, :-1], (0, 0, 1, 0)) / count

    # -- density ---------------------------------------------------------------------------------------------

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Sum of the cell's losses over the blocks ``(B,)``."""
        rows, told = self._rows(x, context)
        return self.cell.loss(rows, told, generator=generator).unflatten(0, (len(x), self.blocks)).sum(1)

    @torch.no_grad()
    def initialise(self, x: Tensor, context: Tensor | None = None) -> None:
        """Let the cell start from the blocks of training events ``(N, S D)``, ``(N, C)``."""
        if isinstance(self.cell, Starting):
            self.cell.initialise(*self._rows(x, context))

    def _rows(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Blocks ``(B S, D)`` and what the cell is told about each."""
        if context is None:
            raise ValueError("the sums of the blocks are part of the context")
        rows = x.unflatten(1, (self.blocks, self.features))
        outside, totals = self._surroundings(context)
        past = self._past(self._pictures(rows))
        memory = self.remember(torch.cat([past, outside], 2))
        recent = past[:, :, : 2 * self.window * self.features]
        told = torch.cat([outside, memory, recent, totals.unsqueeze(2)], 2)
        return rows.flatten(0, 1), told.flatten(0, 1)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Amounts ``(B, S D)``, block after block."""
        if context is None:
            raise ValueError("the sums of the blocks are part of the context")
        outside, totals = self._surroundings(context)
        draws = noise.unflatten(1, (self.blocks, *self._noise))
        summed = torch.zeros_like(totals[:, :1]).expand(-1, 2 * self.features)
        recent = [summed] * self.window
        rows: list[Tensor] = []
        for block in range(self.blocks):
            past = torch.cat([*recent, summed / max(block, 1), outside[:, block]], 1)
            told = torch.cat([outside[:, block], self.remember(past), *recent, totals[:, block : block + 1]], 1)
            row = self.cell.decode(draws[:, block], told)
            picture = self._pictures(row)
            recent, summed = [*recent[1:], picture], summed + picture
            rows.append(row)
        return torch.cat(rows, 1)
