"""Jets as batches of training, from files that do not fit in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from cathode.jets.readers.file import JetFile
from cathode.jets.schema import Jets
from cathode.support.errors import UserError
from cathode.training.data import TrainingData
from cathode.training.streaming import shuffled_batches

__all__ = ["JetBatches", "relative_sets"]

_LEAST_RATIO = 1e-4


def relative_sets(jets: Jets) -> TrainingData:
    """Jets as sets: ``x (N, P, 3)`` pT / pT of the jet and eta, phi from the axis, float32; with mask and context.

    The context is ``(N, 4)``: log of pT [GeV], eta and log of mass / pT of the axis (at least 1e-4: a jet of one
    constituent has no mass), and the number of constituents.

    Raises:
        UserError: Jets without constituents, whose logarithms do not exist.
    """
    pt, eta, _, mass = jets.axis.T
    count = jets.multiplicity()
    empty = count == 0
    if empty.any():
        raise UserError(f"{int(empty.sum())} of {len(empty)} jets have no constituents: leave them out")
    ratio = np.maximum(mass / pt, _LEAST_RATIO)
    context = np.stack([np.log(pt), eta, np.log(ratio), count], axis=1).astype(np.float32)
    return TrainingData(
        torch.from_numpy(jets.relative(np.float32)), torch.from_numpy(context), torch.from_numpy(jets.mask.copy())
    )


class JetBatches:
    """A :class:`~cathode.training.data.BatchSource` over files of jets, shuffled by blocks of rows.

    Each epoch the blocks of ``block_rows`` consecutive rows come in random order; ``blocks_in_memory`` of them at a
    time are read and their jets shuffled together, so memory is bounded by that many rows.  Every jet appears once per
    epoch, but for the few that several ranks cannot share equally.

    Args:
        file: The files; jets must have a fixed number of slots (``particles``).
        encode: What the density sees of jets; one event for each jet, or for each row of files of events, always the
            same columns, without weights.
        rows: First and past-the-last row; all by default.  Splits training from validation data.
        block_rows: Rows read at once.
        blocks_in_memory: Blocks whose rows are mixed.
        events_per_row: Events that ``encode`` makes of a row; all jets of the row by default.

    Raises:
        UserError: Rows beyond the end, or jets without a fixed number of slots.
    """

    def __init__(
        self,
        file: JetFile,
        encode: Callable[[Jets], TrainingData] = relative_sets,
        *,
        rows: tuple[int, int] | None = None,
        block_rows: int = 2000,
        blocks_in_memory: int = 16,
        events_per_row: int | None = None,
    ) -> None:
        if block_rows < 1 or blocks_in_memory < 1:
            raise UserError("block_rows and blocks_in_memory must be at least 1")
        if file.particles is None:
            raise UserError("batches need jets of one size: open the file with a number of particles to keep")
        start, stop = rows or (0, len(file))
        if not 0 <= start < stop <= len(file):
            raise UserError(f"rows {start} to {stop} are not within the {len(file)} rows of the files of jets")
        self._file = file
        self._encode = encode
        self._rows = (start, stop)
        self._block_rows = block_rows
        self._blocks = blocks_in_memory
        self._per_row = file.jets_per_row if events_per_row is None else events_per_row

    @property
    def events(self) -> int:
        """Events of one epoch."""
        return (self._rows[1] - self._rows[0]) * self._per_row

    @property
    def mean_weight(self) -> float:
        """Mean weight of an event: jets have no weights."""
        return 1.0

    def fingerprint(self) -> str:
        """File names, sizes and selection: what a checkpoint compares."""
        files = ", ".join(f"{one.path.name} {one.path.stat().st_size} bytes" for one in self._file.sources)
        encode = getattr(self._encode, "__qualname__", type(self._encode).__name__)
        return f"{files}, rows {self._rows[0]}-{self._rows[1]}, {self._file.particles} particles, {encode}"

    def batches(
        self, epoch: int, *, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> Iterator[TrainingData]:
        """Batches of this epoch and rank.

        Raises:
            UserError: Jets that are not usable, met while reading.
        """
        return shuffled_batches(
            self._read,
            self._rows,
            block_rows=self._block_rows,
            blocks_in_memory=self._blocks,
            epoch=epoch,
            batch_size=batch_size,
            seed=seed,
            rank=rank,
            world=world,
        )

    def steps(self, *, batch_size: int, world: int = 1) -> int:
        """Number of batches of an epoch; with several ranks up to the few jets that they cannot share."""
        return math.ceil(self.events / world / batch_size)

    def _read(self, blocks: Sequence[slice]) -> TrainingData:
        jets = Jets.concatenate([self._file.read(block.start, block.stop) for block in blocks])
        data = self._encode(jets)
        expected = sum(block.stop - block.start for block in blocks) * self._per_row
        if len(data) != expected:
            raise UserError(f"{len(data)} events were made of {expected}: encode must keep all, or say events_per_row")
        return data
