"""Batches for training from files of showers that do not fit in memory (dataset 3: 40,500 voxels).

The same scheme as :class:`cathode.training.streaming.HDF5Source`, for several files, every format, thresholds and the
quantities that the stages of a generator learn, within a bound on memory.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cathode.support.errors import UserError
from cathode.support.seeding import numpy_generator
from cathode.training.data import TrainingData
from fastsim.data.files import ShowerFile
from fastsim.data.showers import Showers

__all__ = ["STAGES", "ShowerSource", "training_data"]

Floats = NDArray[np.float32]

#: What a stage of a generator learns.
STAGES = ("energy", "shape", "shower")

# A pool is held about this many times: as read, as validated, joined, and shuffled.
_COPIES = 4


def training_data(showers: Showers, stage: str, *, threshold: float = 0.0) -> TrainingData:
    """Events and context of a stage, in MeV.

    Args:
        showers: ``N`` showers.
        stage: ``energy``: layer energies ``(N, L)`` given incident energy and conditions ``(N, 1 + K)``; ``shape``:
            voxel energies ``(N, V)`` given these and the layer energies ``(N, 1 + K + L)``; ``shower``: voxel energies
            given incident energy and conditions.
        threshold: Energies below [MeV] are set to 0 first.

    Raises:
        UserError: Unknown stage.
    """
    if stage not in STAGES:
        raise UserError(f"unknown stage {stage!r}; expected one of {', '.join(STAGES)}")
    if threshold > 0:
        showers = showers.cut(threshold)
    context = showers.context()
    if stage == "energy":
        return TrainingData.unchecked(_tensor(showers.layer_energies()), _tensor(context))
    if stage == "shape":
        context = np.concatenate([context, showers.layer_energies()], 1)
    return TrainingData.unchecked(_tensor(showers.energies), _tensor(context))


class ShowerSource:
    """A :class:`~cathode.training.data.BatchSource` over a :class:`~fastsim.data.files.ShowerFile`.

    Each epoch blocks of neighbouring rows come in random order; as many as fit in ``memory_mb`` are read and their
    rows shuffled together.  Every row appears once per epoch, except that with several ranks up to ``world - 1`` rows
    of each pool are left out, so that shares are equal.

    Args:
        file: The showers.
        stage: See :func:`training_data`.
        rows: First row and row after the last, or the rows themselves, an array of rising numbers; all by default.
            Splits training from validation data.
        threshold: Energies below [MeV] are set to 0.
        memory_mb: Bound on what a pool takes while it is read and shuffled [MB].
        blocks_in_memory: Blocks that are mixed in a pool.

    Raises:
        UserError: Unknown stage, rows that are not there, or not even one shower per block fits in memory.
    """

    def __init__(
        self,
        file: ShowerFile,
        stage: str,
        *,
        rows: tuple[int, int] | NDArray[np.integer] | None = None,
        threshold: float = 0.0,
        memory_mb: float = 2048.0,
        blocks_in_memory: int = 8,
    ) -> None:
        if stage not in STAGES:
            raise UserError(f"unknown stage {stage!r}; expected one of {', '.join(STAGES)}")
        self._index = _rows(rows, file)
        self._file, self._stage, self._threshold = file, stage, threshold
        self._blocks = blocks_in_memory
        row_bytes = 4 * (file.geometry.n_voxels + 2 * file.geometry.n_layers + len(file.condition_names) + 1)
        self._block_rows = int(memory_mb * 1e6 / _COPIES / row_bytes / blocks_in_memory)
        if self._block_rows < 1:
            raise UserError(
                f"{memory_mb:g} MB hold less than {blocks_in_memory} blocks of one shower with "
                f"{file.geometry.n_voxels} voxels: give more memory"
            )

    @property
    def events(self) -> int:
        """Showers of one epoch."""
        return len(self._index)

    @property
    def mean_weight(self) -> float:
        """1: showers have no weights."""
        return 1.0

    @property
    def block_rows(self) -> int:
        """Rows read at once."""
        return self._block_rows

    def fingerprint(self) -> str:
        """Files, rows and stage: what a checkpoint compares."""
        files = ", ".join(f"{path.name} {path.stat().st_size} bytes" for path in self._file.paths)
        first, last = int(self._index[0]), int(self._index[-1])
        rows = f"{first}-{last + 1}"
        if len(self._index) <= last - first:
            rows += f" without some {hashlib.sha256(self._index.astype('<i8').tobytes()).hexdigest()[:16]}"
        return f"{files}; rows {rows}; {self._stage}; threshold {self._threshold!r} MeV"

    def batches(
        self, epoch: int, *, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> Iterator[TrainingData]:
        """Batches of this epoch and rank."""
        rng = numpy_generator(seed, "showers", epoch)
        # Rows of a block lie within `block_rows` of the file, so that reading from the first to the last is bounded.
        of_row = (self._index - self._index[0]) // self._block_rows
        blocks = np.split(self._index, np.flatnonzero(np.diff(of_row)) + 1)
        starts = rng.permutation(len(blocks))
        left: TrainingData | None = None
        for group in np.split(starts, range(self._blocks, len(starts), self._blocks)):
            pool = self._pool([blocks[block] for block in np.sort(group)])
            order = rng.permutation(len(pool))
            # A batch at a time is copied out of the pool; shuffling it as a whole would double it.
            share = torch.from_numpy(order[rank::world][: len(pool) // world])
            used = 0
            if left is not None:
                used = min(batch_size - len(left), len(share))
                batch = _joined(left, pool.take(share[:used]))
                left = None if len(batch) == batch_size else batch
                if left is None:
                    yield batch
            full = used + (len(share) - used) // batch_size * batch_size
            for first in range(used, full, batch_size):
                yield pool.take(share[first : first + batch_size])
            if full < len(share):
                left = pool.take(share[full:])
        if left is not None and len(left):
            yield left

    def steps(self, *, batch_size: int, world: int = 1) -> int:
        """Number of batches of an epoch."""
        # Exact for one rank; for several but for the few rows that are left out of each pool.
        return math.ceil(self.events / world / batch_size)

    def _pool(self, blocks: list[NDArray[np.int64]]) -> TrainingData:
        parts = [training_data(self._read(rows), self._stage, threshold=self._threshold) for rows in blocks]
        context = torch.cat([part.context for part in parts if part.context is not None])
        return TrainingData.unchecked(torch.cat([part.x for part in parts]), context)

    def _read(self, rows: NDArray[np.int64]) -> Showers:
        first, stop = int(rows[0]), int(rows[-1]) + 1
        showers = self._file.read(first, stop)
        return showers if len(rows) == stop - first else showers[rows - first]


def _rows(rows: tuple[int, int] | NDArray[np.integer] | None, file: ShowerFile) -> NDArray[np.int64]:
    if rows is None or isinstance(rows, tuple):
        start, stop = rows or (0, len(file))
        if not 0 <= start < stop <= len(file):
            raise UserError(f"rows {start} to {stop} are not within the {len(file)} showers of {file!r}")
        return np.arange(start, stop)
    index = np.asarray(rows, dtype=np.int64)
    if index.ndim != 1 or not len(index) or bool((np.diff(index) <= 0).any()):
        raise UserError("rows must be a list of rising row numbers, at least one")
    if index[0] < 0 or index[-1] >= len(file):
        raise UserError(f"rows {index[0]} to {index[-1] + 1} are not within the {len(file)} showers of {file!r}")
    return index


def _joined(first: TrainingData, second: TrainingData) -> TrainingData:
    context = torch.cat([part.context for part in (first, second) if part.context is not None])
    return TrainingData.unchecked(torch.cat([first.x, second.x]), context)


def _tensor(array: Floats) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
