"""Long jobs in parts: each part is one file that is either whole or absent, so a killed job goes on where it was.

The parts of an output live in ``<output>.parts/`` together with ``job.json``, the description of the job; a folder that
belongs to another job is refused.  A part must depend on its task alone, never on its neighbours or on the number of
processes: then an interrupted job gives the same result as one that ran through.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from cathode.support.errors import UserError
from cathode.support.files import write_json
from cathode.support.progress import progress

__all__ = ["PartTask", "load_part", "parts_folder", "run_parts"]

log = logging.getLogger(__name__)


class PartTask(Protocol):
    """What a worker needs to know to write one part; must be picklable."""

    @property
    def path(self) -> Path:
        """The file of the part."""

    @property
    def events(self) -> int:
        """Events in the part, for the progress bar."""


Task = TypeVar("Task", bound=PartTask)


def parts_folder(output: str | Path, job: Mapping[str, Any]) -> Path:
    """The folder of parts of ``output``, made if needed.

    Args:
        output: The file that the parts will become.
        job: JSON-like description of everything that the parts depend on.

    Raises:
        UserError: The folder holds parts of another job, or cannot be written to.
    """
    output = Path(output)
    folder = output.with_name(output.name + ".parts")
    description = folder / "job.json"
    wanted = json.loads(json.dumps(job))
    if description.exists() and any(folder.glob("*.npz")):
        try:
            found = json.loads(description.read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            found = None
        if found != wanted:
            changed = sorted(k for k in wanted if not isinstance(found, dict) or found.get(k) != wanted[k])
            raise UserError(
                f"{folder} holds parts of another job (different: {', '.join(changed) or 'its description'}): remove"
                f" that folder or choose another output"
            )
    else:
        write_json(description, wanted)
    return folder


@contextmanager
def load_part(path: Path) -> Iterator[Any]:
    """The arrays of a part written with ``numpy.savez``, by name.

    Raises:
        UserError: The file is damaged, or lacks what is asked of it.
    """
    try:
        with path.open("rb") as stream, np.load(stream) as part:
            yield part
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged: delete it and start the same command again") from error


def run_parts(
    work: Callable[[Task], None], tasks: Sequence[Task], *, processes: int, description: str, unit: str = "event"
) -> int:
    """Do the tasks whose part does not exist yet; returns how many were done.

    The parts are ``.npz`` files.

    Args:
        work: A module-level function that writes ``task.path`` atomically.
        tasks: All parts of the job.
        processes: 1 works in this process; more start a spawn pool (a script needs ``if __name__ == "__main__"``).
        description: Shown before the progress bar.
        unit: What the bar counts.

    Raises:
        What ``work`` raises; the parts that are finished stay.
    """
    missing = [task for task in tasks if not task.path.exists()]
    if len(missing) < len(tasks):
        log.info("%s: %d of %d parts are already there", description, len(tasks) - len(missing), len(tasks))
    with progress(description=description, total=sum(task.events for task in tasks), unit=unit) as bar:
        bar.update(sum(task.events for task in tasks) - sum(task.events for task in missing))
        if processes == 1 or len(missing) <= 1:
            for task in missing:
                work(task)
                bar.update(task.events)
            return len(missing)
        context = multiprocessing.get_context("spawn")
        workers = min(processes, len(missing))
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
            futures = {pool.submit(work, task): task for task in missing}
            try:
                for future in as_completed(futures):
                    future.result()
                    bar.update(futures[future].events)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return len(missing)


def _end_with_parent() -> None:
    """End this worker when its parent is gone: a killed parent cannot stop its pool, which would wait forever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch(sentinel: int) -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True, name="end-with-parent").start()
