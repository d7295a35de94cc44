"""Files of jets in one layout to the package's own, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from cathode.data.writers import write_truth
from cathode.jets.readers import JetFile, iterate_constituent_events, read_constituent_truth
from cathode.jets.readers.file import Paths
from cathode.jets.readers.sniff import Layout
from cathode.jets.samples import resolve_sample
from cathode.jets.writers import write_constituent_events, write_jets
from cathode.support.errors import UserError
from cathode.support.progress import progress

__all__ = ["JetConversion", "convert_jets"]

Piece = TypeVar("Piece")


@dataclass(frozen=True)
class JetConversion:
    """What a conversion wrote.

    Attributes:
        output: The file.
        rows: Jets or events in it.
        kind: ``jets`` or ``events``.
        particles: Slots of a jet.
        truth: File of truth labels, if one was written.
    """

    output: Path
    rows: int
    kind: str
    particles: int
    truth: Path | None = None

    def __str__(self) -> str:
        text = f"{self.output}: {self.rows} {self.kind} of up to {self.particles} constituents"
        return text if self.truth is None else f"{text}; truth in {self.truth}"


def convert_jets(
    path: Paths,
    output: str | Path,
    *,
    kind: Literal["auto", "jets", "events"] = "auto",
    particles: int | None = None,
    format: str = "auto",
    layout: Layout | None = None,
    radius: float = 1.0,
    truth: str | Path | None = None,
    rows_per_piece: int = 10_000,
) -> JetConversion:
    """Write jets or events of any known layout to the package's own HDF5, which can be read in any order and fast.

    Raw LHC Olympics files are clustered on the way.  Events lose their labels, which may be written apart.

    Args:
        path: A file, ``sample:NAME``, or several.
        output: HDF5 file to write.
        kind: ``events`` keeps the jets of an event together (with ids, and the mass of what is kept), ``jets`` does
            not, but keeps types, axes and further columns; ``auto`` is events where the input has events.
        particles: Slots of a jet: its constituents of largest pT; needed where the input does not say how many.
        format: See :func:`~cathode.jets.readers.read_jets`.
        layout: See there.
        radius: See there.
        truth: Write the labels of events there, for :func:`cathode.data.readers.read_truth`.
        rows_per_piece: Rows in memory.

    Raises:
        UserError: Input that cannot be read, an unknown number of slots, or an output that is also an input.
    """
    paths: Sequence[str | Path] = [path] if isinstance(path, str | Path) else list(path)
    output = Path(output)
    if output.exists() and any(resolve_sample(one).exists() and output.samefile(resolve_sample(one)) for one in paths):
        raise UserError(f"{output} is also the input: write to another file")
    file = JetFile(paths, format=format, layout=layout, particles=particles, radius=radius)
    if file.particles is None:
        raise UserError(f"{paths[0]}: jets have no fixed number of constituents: say how many particles to keep")
    as_events = file.jets_per_row > 1 if kind == "auto" else kind == "events"
    if truth is not None and not as_events:
        raise UserError("truth is written beside events; jets keep their types")
    labels = None if truth is None else read_constituent_truth(paths, format=format, layout=layout)
    with progress(description=f"writing {output.name}", total=len(file), unit="row") as bar:

        def counted(pieces: Iterator[Piece]) -> Iterator[Piece]:
            done = 0
            for piece in pieces:
                yield piece
                step = min(rows_per_piece, len(file) - done)
                done += step
                bar.update(step)

        if as_events:
            events = iterate_constituent_events(
                paths, rows=rows_per_piece, format=format, particles=particles, layout=layout, radius=radius
            )
            rows = write_constituent_events(counted(events), output)
        else:
            rows = write_jets(counted(file.chunks(rows_per_piece)), output)
    if labels is not None and truth is not None:
        write_truth(labels, truth)
    return JetConversion(
        output, rows, "events" if as_events else "jets", file.particles, None if truth is None else Path(truth)
    )
