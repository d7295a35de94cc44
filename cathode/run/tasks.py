"""Content-addressed tasks: a result is found again by what it was computed from.

The folder of a task is named by a hash of its function, its arguments (arrays by content) and the package version.  A
finished folder is never computed again; a folder that a kill left unfinished is handed to the same function, which may
continue from the checkpoints in it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Sequence
from concurrent.futures import Executor, Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from cathode.search.tasks import Task
from cathode.support.errors import UserError
from cathode.support.files import atomic_write
from cathode.support.progress import progress

__all__ = ["TaskStore", "digest"]

_DONE = "done.json"


class TaskStore:
    """Runs tasks through an executor and keeps their results under ``folder``.

    Args:
        folder: Where result folders are kept; created when the first task runs.
        executor: Anything shaped like ``concurrent.futures.Executor``.
    """

    def __init__(self, folder: str | Path, executor: Executor) -> None:
        self.folder = Path(folder)
        self.executor = executor

    def run(self, tasks: Sequence[Task], *, description: str) -> list[Path]:
        """Folders of the finished ``tasks``, in order; only those not found are computed.

        Raises:
            UserError: A task refused its input, or a worker process died.
        """
        folders = [self.folder / f"{task.name}-{digest(task)}" for task in tasks]
        todo = {f: t for f, t in zip(folders, tasks, strict=True) if not (f / _DONE).exists()}
        futures: dict[Future[None], str] = {}
        bar = progress(description=description, total=len(folders), unit="task")
        with bar:
            bar.update(len(folders) - len(todo))
            try:
                for folder, task in todo.items():
                    futures[self.executor.submit(_run, folder, task)] = task.name
                for future in as_completed(futures):
                    future.result()
                    bar.update()
            except BrokenProcessPool as error:
                raise UserError(
                    f"a worker process died during {description!r}, most likely out of memory: "
                    "run again with --resume and fewer workers"
                ) from error
            except BaseException:
                for future in futures:
                    future.cancel()
                raise
        return folders

    def clear(self) -> None:
        """Remove all stored results."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _run(folder: Path, task: Task) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    task.function(folder, **task.arguments)
    with atomic_write(folder / _DONE) as temporary:
        temporary.write_text(json.dumps({"task": task.name, "function": _function_name(task)}) + "\n")


def _function_name(task: Task) -> str:
    return f"{task.function.__module__}.{task.function.__qualname__}"


def digest(task: Task) -> str:
    """Sixteen hexadecimal digits that identify what ``task`` computes."""
    sha = hashlib.sha256()
    try:
        version = metadata.version("cathode-hep")
    except metadata.PackageNotFoundError:
        version = "unknown"
    _feed(sha, [version, _function_name(task), task.arguments])
    return sha.hexdigest()[:16]


def _feed(sha: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        sha.update(f"array:{value.dtype.str}:{value.shape}".encode())
        sha.update(np.ascontiguousarray(value).data)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        sha.update(f"dataclass:{type(value).__qualname__}".encode())
        for item in dataclasses.fields(value):
            _feed(sha, [item.name, getattr(value, item.name)])
    elif isinstance(value, dict):
        sha.update(f"dict:{len(value)}".encode())
        for key in sorted(value):
            _feed(sha, [key, value[key]])
    elif isinstance(value, (list, tuple)):
        sha.update(f"list:{len(value)}".encode())
        for item in value:
            _feed(sha, item)
    elif value is None or isinstance(value, (bool, int, float, str, np.integer, np.floating)):
        sha.update(f"{type(value).__name__}:{value!r};".encode())
    else:
        raise TypeError(f"a task argument of type {type(value).__name__} cannot be hashed by content")
