"""Events of constituents, and their truth, apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cathode.data.injection import Truth
from cathode.jets.readers.columns import check_unit
from cathode.jets.readers.file import CHUNK_ROWS, JetFile, Paths
from cathode.jets.readers.sniff import Layout
from cathode.jets.schema import ConstituentEvents
from cathode.support.errors import UserError

__all__ = ["iterate_constituent_events", "read_constituent_events", "read_constituent_truth"]


def read_constituent_events(
    path: Paths,
    *,
    format: str = "auto",
    start: int = 0,
    stop: int | None = None,
    particles: int | None = None,
    layout: Layout | None = None,
    radius: float = 1.0,
) -> ConstituentEvents:
    """Events of one file or several: all jets of each, without any label.

    The mass is that of the constituents that are kept.  Ids are those of the file, else row numbers, continued from
    file to file.

    Args:
        path: A file of events (``constituents``, ``lhco-raw``, or padded ``(N, J, P, F)`` with a layout),
            ``sample:NAME``, or several of these.
        format: One of :data:`~cathode.jets.readers.FORMATS`, or ``auto``.
        start: First event.
        stop: Event after the last one.
        particles: Keep the constituents of largest pT of each jet.
        layout: What is what in files of no known data set.
        radius: Jet radius, for raw files, whose two leading jets are clustered.

    Raises:
        UserError: A file of jets and not of events, or events that are not usable.
    """
    pieces = iterate_constituent_events(
        path, format=format, start=start, stop=stop, particles=particles, layout=layout, radius=radius
    )
    parts = list(pieces)
    if not parts:
        raise UserError(f"{path}: no events in rows {start} to {'the end' if stop is None else stop}")
    return parts[0] if len(parts) == 1 else ConstituentEvents.concatenate(parts)


def iterate_constituent_events(
    path: Paths,
    *,
    rows: int = CHUNK_ROWS,
    format: str = "auto",
    start: int = 0,
    stop: int | None = None,
    particles: int | None = None,
    layout: Layout | None = None,
    radius: float = 1.0,
) -> Iterator[ConstituentEvents]:
    """The events of :func:`read_constituent_events` in pieces of at most ``rows``, one after the other in memory.

    Raises:
        UserError: See there; ids are compared within a piece alone.
    """
    if rows < 1:
        raise UserError(f"a piece must have at least 1 event, got {rows}")
    file = _events_file(path, format, layout, radius, particles)
    return _pieces(file, rows, start, stop, particles)


def _pieces(
    file: JetFile, rows: int, start: int, stop: int | None, particles: int | None
) -> Iterator[ConstituentEvents]:
    for source, first, last, before in file.pieces(start, stop):
        for low in range(first, last, rows):
            high = min(low + rows, last)
            try:
                part = source.events(low, high, particles, before)
                check_unit(part.select(slice(0, 100)).flat())
            except UserError as error:
                text = str(error)
                where = "" if text.startswith(str(source.path)) else f"{source.path}, rows {low} to {high - 1}: "
                raise UserError(where + text) from error
            yield part if file.particles is None else part.padded(file.particles)


def read_constituent_truth(
    path: Paths,
    *,
    format: str = "auto",
    start: int = 0,
    stop: int | None = None,
    layout: Layout | None = None,
) -> Truth:
    """Which events are signal, with the ids that :func:`read_constituent_events` gives to the same files.

    Raises:
        UserError: A file without labels, or one of jets and not of events.
    """
    file = _events_file(path, format, layout, 1.0, None)
    ids, labels = [], []
    for source, first, last, before in file.pieces(start, stop):
        if source.labels is None:
            raise UserError(f"{source.path}: has no truth labels")
        given = None if source.event_numbers is None else source.event_numbers(first, last)[0]
        ids.append(np.arange(first, last) + before if given is None else given)
        labels.append(source.labels(first, last) != 0)
    empty = np.zeros(0, np.int64)
    return Truth(np.concatenate([empty, *ids]), np.concatenate([empty.astype(bool), *labels]))


def _events_file(path: Paths, format: str, layout: Layout | None, radius: float, particles: int | None) -> JetFile:
    file = JetFile(path, format=format, layout=layout, radius=radius, particles=particles)
    for source in file.sources:
        if source.jets_per_row < 2:
            raise UserError(f"{source.path}: holds single jets ({source.format}), not events: read it with read_jets")
    return file
