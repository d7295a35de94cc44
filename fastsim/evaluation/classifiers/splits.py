"""Which showers train, choose and test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cathode.support.seeding import numpy_generator

__all__ = ["PUBLISHED", "Split", "cross_fit_splits", "published_split"]

#: Showers per class in the published training, model selection ("test") and final ("val") parts.
PUBLISHED = {
    "ds1-photons": (80_000, 20_000, 21_000),
    "ds1-pions": (80_000, 20_000, 20_800),
    "ds2": (60_000, 20_000, 20_000),
    "ds3": (60_000, 20_000, 20_000),
}


@dataclass(frozen=True)
class Split:
    """Rows to train on, rows that choose the epoch and calibrate, rows to score; each holds both classes."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def cross_fit_splits(label: np.ndarray, *, folds: int, validation: float, seed: int) -> list[Split]:
    """One split per fold: every row is tested in exactly one.

    Args:
        label: Class of each row ``(N,)``.
        folds: Number of folds.
        validation: Fraction of the rows outside of a fold that validate.
        seed: Of the assignment.
    """
    generator = numpy_generator(seed, "classifier tests", "folds")
    fold, place = np.empty(len(label), dtype=np.int64), np.empty(len(label))
    for value in (1, 0):
        rows = np.flatnonzero(label == value)
        order = generator.permutation(len(rows))
        fold[rows], place[rows] = order % folds, order / len(rows)
    splits = []
    for k in range(folds):
        held = (fold != k) & (place >= 1.0 - validation)
        masks = ((fold != k) & ~held, held, fold == k)
        train, chosen, test = (np.flatnonzero(mask) for mask in masks)
        splits.append(Split(train, chosen, test))
    return splits


def published_split(label: np.ndarray, dataset: str | None, *, seed: int, run: int = 0) -> Split:
    """A random split of each class in the published shares of the dataset, 60:20:20 for any other.

    Args:
        label: Class of each row ``(N,)``.
        dataset: Key of :data:`PUBLISHED` or None.
        seed: Of the shuffling.
        run: Each run has its own split.
    """
    generator = numpy_generator(seed, "classifier tests", "run", run)
    shares = np.cumsum(PUBLISHED.get(dataset or "", (60, 20, 20)))
    pieces: list[list[np.ndarray]] = [[], [], []]
    for value in (1, 0):
        rows = generator.permutation(np.flatnonzero(label == value))
        stops = np.rint(shares[:2] / shares[2] * len(rows)).astype(int)
        for part, piece in zip(pieces, np.split(rows, stops), strict=True):
            part.append(piece)
    train, chosen, test = (np.concatenate(part) for part in pieces)
    return Split(train, chosen, test)
