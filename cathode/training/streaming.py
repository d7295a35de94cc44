"""Batches from an HDF5 file that does not fit in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from cathode.support.errors import UserError
from cathode.support.seeding import numpy_generator
from cathode.training.data import TrainingData

__all__ = ["HDF5Source", "shuffled_batches"]

Columns = str | Sequence[str]


def shuffled_batches(
    read: Callable[[Sequence[slice]], TrainingData],
    rows: tuple[int, int],
    *,
    block_rows: int,
    blocks_in_memory: int,
    epoch: int,
    batch_size: int,
    seed: int,
    rank: int = 0,
    world: int = 1,
) -> Iterator[TrainingData]:
    """Batches of one epoch and rank of anything that is read by blocks of rows, shuffled by blocks and within them.

    Args:
        read: Gives the events of some blocks, in the order of the file.
        rows: First and past-the-last row.
        block_rows: Rows of a block.
        blocks_in_memory: Blocks whose rows are mixed.
        epoch: Number of the epoch.
        batch_size: Events of a batch; the last one may be smaller.
        seed: Of the shuffling.
        rank: Which share of every pool.
        world: Number of shares.
    """
    start, stop = rows
    rng = numpy_generator(seed, "stream", epoch)
    starts = rng.permutation(np.arange(start, stop, block_rows))
    left: TrainingData | None = None
    for group in np.split(starts, range(blocks_in_memory, len(starts), blocks_in_memory)):
        # Read in the order of the file, then mixed.
        pool = read([slice(int(s), min(int(s) + block_rows, stop)) for s in np.sort(group)])
        order = torch.from_numpy(rng.permutation(len(pool)))
        share = order[rank::world][: len(pool) // world]
        mine = pool.take(share) if left is None else _joined(left, pool.take(share))
        full = len(mine) // batch_size * batch_size
        for first in range(0, full, batch_size):
            yield mine.take(slice(first, first + batch_size))
        left = mine.take(slice(full, None))
    if left is not None and len(left):
        yield left


class HDF5Source:
    """A :class:`~cathode.training.data.BatchSource` over datasets of one file, shuffled by chunks.

    Each epoch the blocks of ``block_rows`` consecutive rows come in random order; ``blocks_in_memory`` of them
    at a time are read and their rows shuffled together.  The file is thus read in long pieces, memory is bounded by
    ``block_rows * blocks_in_memory`` rows, and a batch mixes that many blocks.  Every row appears once per epoch,
    except that with several ranks up to ``world - 1`` rows of each pool are left out, so that shares are equal.

    Args:
        path: The file.
        x: Name of a dataset ``(N, D)`` or ``(N, P, F)``, or names of datasets ``(N,)`` that become the columns.
        context: The same for the condition.
        mask: Name of a boolean or integer dataset ``(N, P)``.
        weight: Name of a dataset ``(N,)``.
        rows: First and past-the-last row to use; all by default.  Splits training from validation data.
        block_rows: Rows read at once; a multiple of the file's chunk size reads each chunk once.
        blocks_in_memory: Blocks whose rows are mixed.

    Raises:
        UserError: The file or a dataset is missing, or shapes do not fit.  Non-finite values are found while reading.
    """

    def __init__(
        self,
        path: str | Path,
        x: Columns,
        *,
        context: Columns | None = None,
        mask: str | None = None,
        weight: str | None = None,
        rows: tuple[int, int] | None = None,
        block_rows: int = 65536,
        blocks_in_memory: int = 8,
    ) -> None:
        if block_rows < 1 or blocks_in_memory < 1:
            raise UserError("block_rows and blocks_in_memory must be at least 1")
        self._path = Path(path)
        self._names: dict[str, Columns | None] = {"x": x, "context": context, "mask": mask, "weight": weight}
        self._block_rows = block_rows
        self._blocks = blocks_in_memory
        try:
            with h5py.File(self._path, "r") as stream:
                lengths = {name: len(_dataset(stream, name)) for name in self._dataset_names()}
                self._start, self._stop = rows or (0, next(iter(lengths.values())))
                if len(set(lengths.values())) > 1:
                    raise UserError(f"{self._path}: datasets of different length: {lengths}")
                if not 0 <= self._start < self._stop <= next(iter(lengths.values())):
                    raise UserError(f"{self._path}: rows {rows} are not within its {next(iter(lengths.values()))} rows")
                self._mean_weight = 1.0 if weight is None else self._read_mean_weight(stream[weight])
        except OSError as error:
            raise UserError(f"{self._path}: not readable as HDF5: {error}") from error
        except KeyError as error:
            raise UserError(f"{self._path}: {error.args[0]}") from error

    @property
    def events(self) -> int:
        """Events of one epoch."""
        return self._stop - self._start

    @property
    def mean_weight(self) -> float:
        """Mean weight of an event."""
        return self._mean_weight

    def fingerprint(self) -> str:
        """File name, size and selection: what a checkpoint compares."""
        return f"{self._path.name} {self._path.stat().st_size} bytes, rows {self._start}-{self._stop}, {self._names}"

    def batches(
        self, epoch: int, *, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> Iterator[TrainingData]:
        """Batches of this epoch and rank."""
        with h5py.File(self._path, "r") as stream:
            yield from shuffled_batches(
                lambda blocks: self._read(stream, blocks),
                (self._start, self._stop),
                block_rows=self._block_rows,
                blocks_in_memory=self._blocks,
                epoch=epoch,
                batch_size=batch_size,
                seed=seed,
                rank=rank,
                world=world,
            )

    def steps(self, *, batch_size: int, world: int = 1) -> int:
        """Number of batches of an epoch."""
        if world == 1:
            return math.ceil(self.events / batch_size)
        # Exact but for the few rows that are left out of each pool: near enough for a schedule.
        return math.ceil(self.events / world / batch_size)

    def _dataset_names(self) -> list[str]:
        names: list[str] = []
        for value in self._names.values():
            names += [value] if isinstance(value, str) else list(value or ())
        return names

    def _read(self, stream: h5py.File, blocks: Sequence[slice]) -> TrainingData:
        fields: dict[str, Tensor | None] = {}
        for field, value in self._names.items():
            fields[field] = (
                None if value is None else torch.from_numpy(_columns(stream, value, blocks, field == "mask"))
            )
        try:
            return TrainingData(**fields)  # type: ignore[arg-type]
        except UserError as error:
            raise UserError(f"{self._path}: {error}") from error

    def _read_mean_weight(self, dataset: Any) -> float:
        total = 0.0
        for first in range(self._start, self._stop, self._block_rows):
            part = dataset[first : min(first + self._block_rows, self._stop)]
            total += float(np.sum(part, dtype=np.float64))
        if not math.isfinite(total) or total <= 0:
            raise UserError(f"{self._path}: the sum of the weights is {total}; it must be positive")
        return total / self.events


def _dataset(stream: h5py.File, name: str) -> Any:
    if name not in stream:
        raise KeyError(f"no dataset {name!r}; there are: {', '.join(sorted(stream))}")
    return stream[name]


def _columns(stream: h5py.File, names: Columns, blocks: Sequence[slice], boolean: bool) -> np.ndarray:
    if isinstance(names, str):
        values = np.concatenate([stream[names][block] for block in blocks])
    else:
        values = np.stack([np.concatenate([stream[name][block] for block in blocks]) for name in names], 1)
    if boolean:
        return values.astype(bool)
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)


def _joined(first: TrainingData, second: TrainingData) -> TrainingData:
    def cat(name: str) -> Tensor | None:
        a, b = getattr(first, name), getattr(second, name)
        return None if a is None or b is None else torch.cat([a, b])

    return TrainingData.unchecked(cat("x"), cat("context"), cat("mask"), cat("weight"))  # type: ignore[arg-type]
