"""The command ``cathode jets convert``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from cathode.support.errors import UserError

if TYPE_CHECKING:
    from cathode.jets.conversion import JetConversion

__all__ = ["ConvertJets", "run_convert"]


@dataclass(frozen=True)
class ConvertJets:
    """Write files of jets (LHC Olympics raw, JetNet, JetClass, Top Tagging ...) in the package's own HDF5."""

    inputs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Files, or sample:NAME, read one after the other."""
    output: Path
    """File to write (HDF5)."""
    kind: Literal["auto", "jets", "events"] = "auto"
    """events keeps the jets of an event together, without labels; auto: where the input has events."""
    particles: int | None = None
    """Constituents of largest pT kept of each jet; needed where the input does not say how many there are."""
    format: str = "auto"
    """What the input is; auto looks inside."""
    radius: float = 1.0
    """Jet radius, for raw files, which are clustered."""
    truth: Path | None = None
    """Write the truth labels of events to this file."""
    overwrite: bool = False
    """Replace a file that is there."""


def run_convert(command: ConvertJets) -> JetConversion:
    """Write the file that ``command`` describes; ``str`` of the result is what there is to say.

    Raises:
        UserError: The input cannot be read or the output cannot be written.
    """
    from cathode.jets.conversion import convert_jets

    if not command.inputs:
        raise UserError("no files to convert: give at least one")
    for path in (command.output, command.truth):
        if path is not None and path.exists() and not command.overwrite:
            raise UserError(f"{path} exists: add --overwrite or choose another file")
    return convert_jets(
        command.inputs,
        command.output,
        kind=command.kind,
        particles=command.particles,
        format=command.format,
        radius=command.radius,
        truth=command.truth,
    )
