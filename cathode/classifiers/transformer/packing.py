"""Sets of different size without padding: the points of a batch as the rows of one matrix.

A batch of masked sets ``(S, P, F)`` becomes one matrix of tokens ``(T, F)``.  Sets of nearly the same size (rounded up
to a multiple of four points) lie beside each other and form a :class:`Bucket`, a block of rows that attention can view
as ``(sets, tokens, features)`` without copying.  The first token of each set is its class token.  All layers but the
attention see rows only; of what they compute, about three per cent is padding for the multiplicities of QCD jets,
whatever the size of the padded arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Bucket", "Packing", "pack", "single_bucket"]

_STEP = 4


@dataclass(frozen=True)
class Bucket:
    """Sets of similar size.

    Attributes:
        start: First row of its tokens.
        sets: Number of sets b.
        tokens: Tokens of each set L, the class token and padding included.
        key_bias: ``(b, 1, L)``, 0 at tokens and minus infinity at padding; None: there is no padding.
    """

    start: int
    sets: int
    tokens: int
    key_bias: Tensor | None = None

    @property
    def stop(self) -> int:
        """One after the last row."""
        return self.start + self.sets * self.tokens


@dataclass(frozen=True)
class Packing:
    """Where the points of a batch of S sets are among T rows of tokens.

    Attributes:
        buckets: Contiguous blocks of rows, which together are all rows.
        order: Set of the batch that lies at each place of the buckets ``(S,)``.
        place: Its inverse ``(S,)``.
        source: For each row the point, as an index into the points of all events in a row ``(T,)``.
        real: Rows that are points, not class tokens or padding, ``(T, 1)``.
        class_rows: Row of the class token at each place ``(S,)``.
    """

    buckets: list[Bucket]
    order: Tensor
    place: Tensor
    source: Tensor
    real: Tensor
    class_rows: Tensor

    def rows(self, values: Tensor) -> Tensor:
        """Columns of the points, ``(events, P, F)``, as rows ``(T, F)``, 0 where there is no point."""
        if not values.shape[1]:
            return values.new_zeros(len(self.source), values.shape[2])
        gathered = values.flatten(0, 1).index_select(0, self.source)
        return torch.where(self.real, gathered, torch.zeros((), dtype=values.dtype, device=values.device))

    def per_row(self, values: Tensor) -> Tensor:
        """What belongs to the sets, ``(S, F)``, repeated for each row of theirs, ``(T, F)``."""
        repeats = torch.cat([torch.full((b.sets,), b.tokens) for b in self.buckets]).to(values.device)
        return values.index_select(0, self.order).repeat_interleave(repeats, dim=0)


def pack(mask: Tensor, *, sets_per_event: int = 1) -> Packing:
    """The packing of sets ``(S, P)``; ``sets_per_event`` of them in turn share the points of one event."""
    sets, size = mask.shape
    device = mask.device
    lengths = mask.sum(dim=1)
    ordered, order = torch.sort(lengths, descending=True, stable=True)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(sets, device=device))
    slots = -(-size // _STEP) * _STEP
    if bool((mask[:, 1:] <= mask[:, :-1]).all()):
        points = torch.arange(size, device=device).expand(sets, size)
    else:
        points = torch.argsort(mask.to(torch.uint8), dim=1, descending=True, stable=True)
    points = torch.nn.functional.pad(
        points + (torch.arange(sets, device=device) // sets_per_event * size)[:, None], (0, slots - size)
    )
    rounded = (torch.div(ordered + _STEP - 1, _STEP, rounding_mode="floor") * _STEP).cpu()
    sizes, counts = torch.unique_consecutive(rounded, return_counts=True)
    buckets, sources, reals, class_rows = [], [], [], []
    row = first = 0
    for length, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        chosen = order[first : first + count]
        real = torch.arange(length, device=device) < ordered[first : first + count, None]
        # The class token is always there to be attended to, so no softmax is over nothing.
        there = torch.nn.functional.pad(real, (1, 0), value=True)
        bias = None if bool(there.all()) else torch.zeros(there.shape, device=device).masked_fill_(~there, -torch.inf)
        buckets.append(Bucket(row, count, length + 1, None if bias is None else bias.unsqueeze(1)))
        sources.append(torch.nn.functional.pad(points[chosen, :length], (1, 0)).flatten())
        reals.append(torch.nn.functional.pad(real, (1, 0)).flatten())
        class_rows.append(row + torch.arange(count, device=device) * (length + 1))
        row, first = buckets[-1].stop, first + count
    return Packing(buckets, order, place, torch.cat(sources), torch.cat(reals).unsqueeze(1), torch.cat(class_rows))


def single_bucket(sets: int, tokens: int) -> list[Bucket]:
    """Buckets of ``sets`` sets that all have ``tokens`` tokens."""
    return [Bucket(0, sets, tokens)]
