"""Units of work of a search, and who runs them.

A :class:`Task` is a pure function of plain arguments and arrays that leaves its result in a folder.  The search only
says *what* is to be computed; a :class:`Runner` decides where (this process, a pool of processes, a farm) and whether
it has been computed before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Runner", "Task"]


@dataclass(frozen=True)
class Task:
    """One call of ``function(folder, **arguments)``.

    Args:
        name: Readable part of the result folder's name.
        function: Module-level function; it writes its result into ``folder`` and may find there what an earlier, killed
            call of the same task left behind.
        arguments: Plain values, NumPy arrays, and dataclasses of these.  Together with the function they identify the
            result, so the function must depend on nothing else.
    """

    name: str
    function: Callable[..., None]
    arguments: dict[str, Any] = field(default_factory=dict)


class Runner(Protocol):
    """Runs tasks and returns the folders with their results, in the order of the tasks."""

    def run(self, tasks: Sequence[Task], *, description: str) -> list[Path]:
        """Folders of the finished ``tasks``."""
