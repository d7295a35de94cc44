"""Per-event losses of data that is not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity
from cathode.training.data import BatchSource, TrainingData
from cathode.training.distributed import Ranks

__all__ = ["LossFunction", "evaluate", "sequential_batches", "statistics_rows"]

LossFunction = Callable[..., Tensor]

# What before_evaluation() sees of data that is not in memory: so many rows, and not many more numbers.
_STATISTICS_ROWS, _STATISTICS_NUMBERS = 262_144, 1 << 25


def sequential_batches(
    data: TrainingData | BatchSource, batch_size: int, *, seed: int, ranks: Ranks
) -> Iterator[TrainingData]:
    """All events of this rank, always in the same order."""
    if isinstance(data, TrainingData):
        rows = range(ranks.rank * len(data) // ranks.world, (ranks.rank + 1) * len(data) // ranks.world)
        for start in range(rows.start, rows.stop, batch_size):
            yield data.take(slice(start, min(start + batch_size, rows.stop)))
    else:
        yield from data.batches(0, batch_size=batch_size, seed=seed, rank=ranks.rank, world=ranks.world)


@torch.no_grad()
def evaluate(
    density: ConditionalDensity,
    data: TrainingData | BatchSource,
    *,
    batch_size: int,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    ranks: Ranks | None = None,
    loss: LossFunction | None = None,
) -> float:
    """Weighted mean loss ``sum(w l) / sum(w)`` over all events, accumulated in float64.

    A stochastic loss draws from a generator that starts anew from ``seed``, so epochs are compared on the same noise.

    Args:
        density: In the mode (train or eval) it is to be evaluated in.
        data: Events in memory or a source.
        batch_size: Events per step; a bound on memory.
        seed: Of the noise, and of the order of a source.
        device: Where the density is.
        dtype: Floating-point type of the density.
        ranks: Share the events among these processes.
        loss: ``loss(density, batch, generator=...) -> (B,)`` in place of ``density.loss``.
    """
    ranks = ranks or Ranks()
    generator = torch.Generator(device=device).manual_seed(seed + ranks.rank)
    total = torch.zeros((), dtype=torch.float64, device=device)
    weight = torch.zeros((), dtype=torch.float64, device=device)
    for raw in sequential_batches(data, batch_size, seed=seed, ranks=ranks):
        batch = raw.to(device, dtype)
        if loss is None:
            losses = density.loss(batch.x, batch.context, mask=batch.mask, generator=generator)
        else:
            losses = loss(density, batch, generator=generator)
        if batch.weight is None:
            total += losses.sum(dtype=torch.float64)
            weight += len(losses)
        else:
            total += torch.dot(batch.weight.double(), losses.double())
            weight += batch.weight.sum(dtype=torch.float64)
    summed, weights = ranks.sum(float(total), float(weight), device=device)
    return summed / weights if weights else math.nan


def statistics_rows(data: TrainingData | BatchSource, batch_size: int, *, seed: int) -> TrainingData:
    """Training events for ``before_evaluation``: all when they are in memory, else the first of an epoch.

    Of a source these are 262,144 events, or as many as hold 2^25 numbers (128 MB), whatever is less.
    """
    if isinstance(data, TrainingData):
        return data
    pieces: list[TrainingData] = []
    count = numbers = 0
    for batch in data.batches(0, batch_size=batch_size, seed=seed):
        pieces.append(batch)
        count += len(batch)
        numbers += batch.x.numel()
        if count >= _STATISTICS_ROWS or numbers >= _STATISTICS_NUMBERS:
            break

    def joined(name: str) -> Tensor | None:
        parts = [getattr(piece, name) for piece in pieces]
        return None if parts[0] is None else torch.cat(parts)

    return TrainingData.unchecked(joined("x"), joined("context"), joined("mask"), joined("weight"))  # type: ignore[arg-type]
