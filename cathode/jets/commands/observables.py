"""The command ``cathode jets observables``: events of constituents as a table for the search on features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

__all__ = ["Observables", "run_observables"]


@dataclass(frozen=True)
class Observables:
    """Observables of events of constituents as a table, for a search on features of exactly the same events.

    Events and their order are those of a search with inputs: constituents and the same acceptance; with the same seed
    and injection, ``cathode search`` then composes the same data from the tables.
    """

    input: Annotated[str, tyro.conf.Positional]
    """File of events with constituents, or sample:NAME."""
    output: Annotated[Path, tyro.conf.Positional]
    """Table to write: .h5, .parquet, .csv, .npz or .root; the mass column is called mass."""
    features: tuple[str, ...] = ("mj1", "dmj", "tau21_j1", "tau21_j2")
    """Observables, as in data.features of the search."""
    leading_pt: float = 1.2
    """The leading jet above this transverse momentum, TeV."""
    max_eta: float = 2.5
    """Both jets within this pseudorapidity."""
    particles: int | None = None
    """Constituents that are kept of each jet, those of largest pT; default: all that are stored."""


def run_observables(command: Observables) -> str:
    """Write the table; returns how many events it has.

    Raises:
        UserError: Files that cannot be read or written, or unknown observables.
    """
    import numpy as np

    from cathode.data.events import Events
    from cathode.data.writers import write_events
    from cathode.jets.dijets import DijetKinematics, in_acceptance
    from cathode.jets.observables import dijet_observables
    from cathode.jets.readers import read_constituent_events

    kinematics = DijetKinematics(leading_pt=1e3 * command.leading_pt, max_eta=command.max_eta)
    events = read_constituent_events(command.input)
    kept, outside = in_acceptance(events, kinematics, particles=command.particles)
    table = dijet_observables(kept, command.features)
    # Rows are numbered as the search does, not as the file may.
    numbered = Events(table.features, table.names, table.mass, np.arange(len(table)), table.weight)
    write_events(numbered, command.output)
    return f"{len(kept)} events, {outside} outside the acceptance left out: {command.output}"
