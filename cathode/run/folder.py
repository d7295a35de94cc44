"""The run folder: where a command leaves its results, and how a killed run finds its way back."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cathode.run.config import settings_yaml
from cathode.support.errors import UserError
from cathode.support.files import TEMPORARY, atomic_write

__all__ = ["RunFolder"]

_CONFIG, _RESULTS, _TASKS, _LOG = "config.yaml", "results.json", "tasks", "log.txt"


class RunFolder:
    """Folder of one run: ``config.yaml`` (resolved), ``log.txt``, ``tasks/`` while it runs, and the results.

    Args:
        path: The folder; it is made by :meth:`open`, not before.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def tasks(self) -> Path:
        """Where intermediate results are kept until the run is finished."""
        return self.path / _TASKS

    def check(self, settings: Any, *, resume: bool) -> None:
        """Refuse a folder that belongs to something else, before anything is computed or written.

        Raises:
            UserError: The folder holds a run and ``resume`` is false, or a run with another configuration, or it is not
                a run folder at all, or nothing can be written there.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"output {self.path} exists and is not a folder")
        if not self.path.exists():
            parent = next((p for p in self.path.absolute().parents if p.exists()), Path("/"))
            if not parent.is_dir():
                raise UserError(f"output {self.path}: {parent} is not a folder")
            _probe(parent)
            return
        _probe(self.path)
        # A kill before the configuration was whole leaves its temporary file alone.
        if all(p.name.startswith(TEMPORARY) for p in self.path.iterdir()):
            return
        config = self.path / _CONFIG
        if not config.exists():
            raise UserError(f"output folder {self.path} is not empty and holds no run: choose another --output")
        if not resume:
            raise UserError(f"output folder {self.path} already holds a run: add --resume or choose another --output")
        if config.read_text(encoding="utf-8") != settings_yaml(settings):
            raise UserError(
                f"output folder {self.path} holds a run with another configuration ({config}): choose another --output"
            )

    @contextmanager
    def open(self, settings: Any, *, loggers: tuple[str, ...] = ("cathode",)) -> Iterator[RunFolder]:
        """Make the folder, write the configuration, and log into it for the duration of the block.

        Args:
            settings: The resolved configuration, a dataclass.
            loggers: Packages whose messages, from INFO on, go into the log.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path / _CONFIG) as temporary:
            temporary.write_text(settings_yaml(settings), encoding="utf-8")
        handler = logging.FileHandler(self.path / _LOG, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        packages = [logging.getLogger(name) for name in loggers]
        levels = [package.level for package in packages]
        for package in packages:
            package.addHandler(handler)
            package.setLevel(logging.INFO)
        try:
            yield self
        finally:
            for package, level in zip(packages, levels, strict=True):
                package.removeHandler(handler)
                package.setLevel(level)
            handler.close()

    def finish(self) -> None:
        """Drop the intermediate results: everything worth keeping has been written."""
        shutil.rmtree(self.tasks, ignore_errors=True)
        # A kill in the middle of an atomic write leaves its temporary file; all own writes are done by now.
        for left in list(self.path.rglob(f"{TEMPORARY}*")):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    @property
    def finished(self) -> bool:
        """Whether the results are there: they are written last."""
        return (self.path / _RESULTS).exists()


def _probe(folder: Path) -> None:
    probe = folder / ".cathode-write-test"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror or error}") from error
