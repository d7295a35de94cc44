"""What every reader of jets returns: an open file, of which any rows can be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cathode.jets.schema import ConstituentEvents, Jets

__all__ = ["JetSource", "Read"]

Read = Callable[[int, int], Jets]


@dataclass(frozen=True)
class JetSource:
    """Jets of one file.  Nothing is read before :attr:`read` is called.

    Attributes:
        path: The file.
        format: What it is.
        rows: Rows of the file: jets, or events in files of events.
        read: ``read(start, stop)`` gives the jets of these rows, those of an event side by side.
        jets_per_row: Jets of a row; more than one in files of events.
        slots: Constituents that a jet can have, None if that is not known before reading.
        event_numbers: ``event_numbers(start, stop)`` gives the ids of these rows and their weights, if the file has
            them.
        labels: ``labels(start, stop)`` gives the truth labels ``(n,)`` of these rows, if the file has them.
    """

    path: Path
    format: str
    rows: int
    read: Read
    jets_per_row: int = 1
    slots: int | None = None
    event_numbers: Callable[[int, int], tuple[NDArray[np.int64] | None, NDArray[np.float64] | None]] | None = None
    labels: Callable[[int, int], NDArray[np.int64]] | None = None

    def events(self, start: int, stop: int, particles: int | None, before: int = 0) -> ConstituentEvents:
        """Rows of a file of events as events; ids are those of the file, or row numbers counted from ``before``."""
        jets = self.read(start, stop)
        if particles is not None:
            jets = jets.leading(particles)
        ids, weights = (None, None) if self.event_numbers is None else self.event_numbers(start, stop)
        ids = np.arange(start, stop) + before if ids is None else ids
        return ConstituentEvents.from_jets(jets, self.jets_per_row, event_id=ids, weight=weights)
