"""LHC Olympics raw files: 700 particles per event, read in chunks of bounded memory.

The layout is pandas' fixed HDF5, ``(N, 2101)`` float64: 700 times ``(pT [GeV], eta, phi)``, zero-padded, particles
massless and not ordered, then the label. Black-box files have no label column (2100 columns).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cathode.data.readers.hdf5 import RAW_WIDTHS, open_h5
from cathode.support.errors import UserError

__all__ = ["PARTICLES", "iterate_raw", "raw_shape"]

PARTICLES = 700
_DATASET = "block0_values"


def _dataset_name(path: Path) -> tuple[str, tuple[int, int]]:
    with open_h5(path) as file:
        candidates = [f"{name}/{_DATASET}" for name in file if f"{name}/{_DATASET}" in file]
        for name in candidates:
            shape = file[name].shape
            if len(shape) == 2 and shape[1] in RAW_WIDTHS:
                return name, (int(shape[0]), int(shape[1]))
    raise UserError(
        f"{path}: not an LHC Olympics raw file: a pandas table of 2100 or 2101 columns was expected "
        "(700 particles of pT, eta, phi, and a label)"
    )


def raw_shape(path: str | Path) -> tuple[int, int]:
    """``(events, columns)`` of a raw file; 2101 columns include a label, 2100 do not.

    Raises:
        UserError: Not a raw file.
    """
    return _dataset_name(Path(path))[1]


def iterate_raw(
    path: str | Path, *, chunk: int = 2000, start: int = 0, stop: int | None = None
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64] | None]]:
    """Walk through a raw file.

    Args:
        path: The file.
        chunk: Events at a time; memory is about ``chunk`` times 34 kB.
        start: First event.
        stop: Event after the last one; the end of the file if not given.

    Yields:
        ``(particles, labels)``: particles ``(n, 700, 3)`` float64 with pT [GeV], eta, phi, zero-padded and in the
        file's order, and labels ``(n,)``, kept apart, or ``None`` if the file has none.

    Raises:
        UserError: Not a raw file, damaged, or non-finite values in it.
    """
    path = Path(path)
    if chunk < 1:
        raise UserError(f"a chunk must have at least one event, not {chunk}")
    name, (rows, width) = _dataset_name(path)
    end = rows if stop is None else min(stop, rows)
    return _walk(path, name, width, range(start, end, chunk), end)


def _walk(
    path: Path, name: str, width: int, starts: range, end: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64] | None]]:
    with open_h5(path) as file:
        dataset = file[name]
        for first in starts:
            block = np.asarray(dataset[first : min(first + starts.step, end)], dtype=np.float64)
            bad = int((~np.isfinite(block)).any(axis=1).sum())
            if bad:
                raise UserError(
                    f"{path}: {bad} events with NaN or infinite values in rows {first} to {first + len(block) - 1}: "
                    "download or copy the file again"
                )
            particles = np.ascontiguousarray(block[:, : 3 * PARTICLES]).reshape(-1, PARTICLES, 3)
            labels = block[:, 3 * PARTICLES].astype(np.int64) if width > 3 * PARTICLES else None
            yield particles, labels
