"""Files of jets, whole or in pieces of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cathode.jets.readers.columns import check_unit
from cathode.jets.readers.sniff import Layout, open_source
from cathode.jets.readers.source import JetSource
from cathode.jets.schema import Jets
from cathode.support.errors import UserError

__all__ = ["JetFile", "Paths", "read_jets"]

Paths = str | Path | Sequence[str | Path]

#: Rows read at once: 100 constituents take about 5 kB a jet while they are put in order.
CHUNK_ROWS = 10_000


class JetFile:
    """Jets of one file or several, of which any rows can be read.

    Rows are jets, or events in files of events (``constituents``, ``lhco-raw``), whose jets come side by side.

    Args:
        path: A file, ``sample:NAME``, or several of these, read one after the other.
        format: One of :data:`~cathode.jets.readers.FORMATS`, or ``auto`` to look inside.
        layout: What is what in files of no known data set.
        particles: Keep the constituents of largest pT of each jet; all if not given.
        own_axis: Take the sum of the constituents that are kept as the axis, also where the file has one.
        radius: Jet radius, for files of particles that are clustered.

    Attributes:
        formats: What each of the files is.
        jets_per_row: Jets of a row.

    Raises:
        UserError: A file is missing or no file of jets; or files of events and of jets together.
    """

    def __init__(
        self,
        path: Paths,
        *,
        format: str = "auto",
        layout: Layout | None = None,
        particles: int | None = None,
        own_axis: bool = False,
        radius: float = 1.0,
    ) -> None:
        paths = [path] if isinstance(path, str | Path) else list(path)
        if not paths:
            raise UserError("no files to read: give at least one path")
        if particles is not None and particles < 1:
            raise UserError(f"the number of constituents to keep must be at least 1, got {particles}")
        self._sources = [open_source(one, format=format, layout=layout, radius=radius) for one in paths]
        self._particles = particles
        self._own_axis = own_axis
        self._checked: set[Path] = set()
        self._ends = np.cumsum([source.rows for source in self._sources])
        self.formats = tuple(source.format for source in self._sources)
        if len({source.jets_per_row for source in self._sources}) > 1:
            raise UserError("files of events and files of jets cannot be read together: read them one by one")
        self.jets_per_row = self._sources[0].jets_per_row

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def sources(self) -> tuple[JetSource, ...]:
        """The opened files."""
        return tuple(self._sources)

    @property
    def particles(self) -> int | None:
        """Slots of the jets that are read; None where that differs from piece to piece."""
        slots = [source.slots for source in self._sources]
        if self._particles is not None and any(one is None or one >= self._particles for one in slots):
            return self._particles
        known = [one for one in slots if one is not None]
        return max(known) if len(known) == len(slots) else None

    def pieces(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[JetSource, int, int, int]]:
        """The files that rows ``start`` to ``stop`` are in: source, first and past-the-last row in it, rows before it.

        Raises:
            UserError: Rows beyond the end.
        """
        start, stop = self._range(start, stop)
        for source, end in zip(self._sources, self._ends, strict=True):
            begin = int(end) - source.rows
            low, high = max(start, begin), min(stop, int(end))
            if low < high:
                yield source, low - begin, high - begin, begin

    def read(self, start: int = 0, stop: int | None = None) -> Jets:
        """The jets of these rows; all rows if not given.

        Raises:
            UserError: Rows beyond the end, or jets that are not usable: NaN, negative pT, columns in another order,
                masks that disagree with pT, momenta that are plainly not in GeV.
        """
        parts = list(self.chunks(start=start, stop=stop))
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return self._read(self._sources[0], 0, 0)
        return Jets.concatenate(parts)

    def chunks(self, rows: int = CHUNK_ROWS, *, start: int = 0, stop: int | None = None) -> Iterator[Jets]:
        """The same jets piece by piece, each of at most ``rows`` rows.

        Pieces have :attr:`particles` slots, where that is known, else as many as their largest jet.

        Raises:
            UserError: See :meth:`read`.
        """
        if rows < 1:
            raise UserError(f"a piece must have at least 1 row, got {rows}")
        for source, first, last, _ in self.pieces(start, stop):
            for low in range(first, last, rows):
                yield self._read(source, low, min(low + rows, last))

    def _read(self, source: JetSource, start: int, stop: int) -> Jets:
        try:
            jets = source.read(start, stop)
            if source.path not in self._checked and len(jets):
                check_unit(jets)
                self._checked.add(source.path)
        except UserError as error:
            text = str(error)
            where = "" if text.startswith(str(source.path)) else f"{source.path}, rows {start} to {stop - 1}: "
            raise UserError(where + text) from error
        if self._particles is not None:
            jets = jets.leading(self._particles)
        if self._own_axis:
            jets = jets.with_own_axis()
        return jets if self.particles is None else jets.padded(self.particles)

    def _range(self, start: int, stop: int | None) -> tuple[int, int]:
        end = len(self) if stop is None else stop
        if not 0 <= start <= end or end > len(self):
            raise UserError(f"rows {start} to {end} are not within the {len(self)} rows of {self._sources[0].path}")
        return start, end


def read_jets(
    path: Paths,
    *,
    format: str = "auto",
    start: int = 0,
    stop: int | None = None,
    particles: int | None = None,
    layout: Layout | None = None,
    own_axis: bool = False,
    radius: float = 1.0,
) -> Jets:
    """Jets of one file or several, in memory.

    Known are the package's own files, events of constituents, LHC Olympics raw files (clustered), JetNet, JetClass,
    JetClass-II, Top Tagging, and with a layout any padded HDF5 and any ROOT tree or Parquet file of lists.

    Args:
        path: A file, ``sample:NAME``, or several of these.
        format: One of :data:`~cathode.jets.readers.FORMATS`, or ``auto``.
        start: First row; rows are jets, or events in files of events (an event gives all of its jets).
        stop: Row after the last one; a number beyond the end is refused.
        particles: Keep the constituents of largest pT of each jet.
        layout: What is what in files of no known data set.
        own_axis: Take the sum of the kept constituents as the axis, also where the file has one.
        radius: Jet radius, for files of particles that are clustered.

    Raises:
        UserError: See :class:`JetFile`.
        MissingExtraError: A package that the format needs is not installed.
    """
    file = JetFile(path, format=format, layout=layout, particles=particles, own_axis=own_axis, radius=radius)
    return file.read(start, stop)
