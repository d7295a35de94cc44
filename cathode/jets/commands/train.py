"""The command ``cathode jets train``: what it takes; :mod:`cathode.run.jets` runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

__all__ = ["MODEL", "TrainJets", "find_model"]

#: Folder of the trained generator inside the folder of a training run.
MODEL = "model"


@dataclass(frozen=True)
class TrainJets:
    """Train a jet generator: the jet as a whole, then its constituents."""

    config: Annotated[Path, tyro.conf.Positional]
    """Configuration file (YAML)."""
    output: Path | None = None
    """Folder for the results; default: runs/NAME-OF-CONFIG."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Settings that override the file, for example constituents.training.epochs=10 data.rows=[0,40000]."""
    resume: bool = False
    """Continue a run that was killed, to the same result."""
    print_config: bool = False
    """Print the full resolved configuration and stop."""


def find_model(path: Path) -> Path:
    """The model folder: ``path`` itself, or the one inside a training run."""
    return path / MODEL if (path / MODEL).is_dir() else path
