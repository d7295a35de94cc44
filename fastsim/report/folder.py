"""The folder of an evaluation: it appears whole or not at all, and never in place of something else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cathode.support.errors import UserError
from cathode.support.files import TEMPORARY, atomic_directory
from fastsim.evaluation.results import KIND

__all__ = ["check_folder", "evaluation_folder"]

# What an evaluation leaves behind; a folder with anything else in it is not replaced.
_NAMES = {"config.yaml", "results.json", "report.html", "figures", "histograms.h5", "provenance.json"}


def check_folder(path: str | Path, *, overwrite: bool) -> None:
    """Refuse an output folder that holds anything else, before anything is computed.

    Raises:
        UserError: A file, a folder with other content, an earlier evaluation without ``overwrite``, or no permission.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"output {path} exists and is not a folder: choose another --output")
    if path.is_dir() and any(not p.name.startswith(TEMPORARY) for p in path.iterdir()):
        if not _is_evaluation(path):
            raise UserError(f"output folder {path} is not empty and holds no evaluation: choose another --output")
        foreign = sorted(p.name for p in path.iterdir() if p.name not in _NAMES and not p.name.startswith(TEMPORARY))
        if overwrite and foreign:
            raise UserError(
                f"output folder {path} also holds {foreign[0]}, which is not part of an evaluation: move it"
            )
        if not overwrite:
            raise UserError(
                f"output folder {path} already holds an evaluation: add --overwrite or choose another --output"
            )
    parent = next((p for p in [path, *path.absolute().parents] if p.exists()), Path("/"))
    if not parent.is_dir():
        raise UserError(f"output {path}: {parent} is not a folder")
    probe = parent / f"{TEMPORARY}test"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write into {parent}: {error.strerror or error}") from error


@contextmanager
def evaluation_folder(path: str | Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``path`` when the block ends without an error.

    Raises:
        UserError: As :func:`check_folder`, which is asked again: evaluations take a while.
    """
    check_folder(path, overwrite=overwrite)
    with atomic_directory(path) as temporary:
        yield temporary


def _is_evaluation(path: Path) -> bool:
    try:
        content = json.loads((path / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("kind") == KIND
