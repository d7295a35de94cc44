"""Where tasks run: in this process, in a pool of processes, or on a Dask cluster; all like ``concurrent.futures``."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from cathode.support.errors import UserError, require
from cathode.support.progress import VARIABLE as PROGRESS
from cathode.support.threads import limit_threads, worker_environment

__all__ = ["SerialExecutor", "open_executor"]

T = TypeVar("T")


class SerialExecutor(Executor):
    """Runs each call at once in this process: for debugging, small jobs and machines with one core."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call ``fn`` now; the future is finished when this returns."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def open_executor(kind: Literal["local", "serial", "dask"], *, workers: int | None = None) -> Iterator[Executor]:
    """An executor for the duration of the block.

    Args:
        kind: ``local``: spawned processes with one thread each; ``serial``: this process; ``dask``: the cluster at
            ``DASK_SCHEDULER_ADDRESS`` (LocalCluster without it), which must share the file system.
        workers: Processes of ``local``; default: one per available core.

    Raises:
        UserError: Unknown kind, or no Dask scheduler at the address.
    """
    if kind == "serial":
        yield SerialExecutor()
    elif kind == "local":
        count = workers or len(os.sched_getaffinity(0))
        with _environment(worker_environment() | {PROGRESS: "off"}), _hidden_main():
            pool = ProcessPoolExecutor(
                count, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
            )
            try:
                yield pool
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
    elif kind == "dask":
        distributed = require("distributed", "dask")
        address = os.environ.get("DASK_SCHEDULER_ADDRESS")
        try:
            client = (
                distributed.Client(address, timeout="10s")
                if address
                else distributed.Client(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None)
            )
        except OSError as error:
            raise UserError(f"no Dask scheduler answers at {address}: {error}") from error
        try:
            client.run(_start_worker)
            yield client.get_executor(pure=False)
        finally:
            client.close()
    else:
        raise UserError(f"unknown executor {kind!r}: use local, serial or dask")


def _start_worker() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A worker of a killed parent would wait for its next task for ever.
        threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    os.environ.update(worker_environment() | {PROGRESS: "off"})
    limit_threads()
    # Tasks leave their counts in their results; lines from several processes would only interleave.
    logging.getLogger("cathode").addHandler(logging.NullHandler())


def _leave_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    # OpenMP reads its settings when a process starts, so children must inherit them.
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _hidden_main() -> Iterator[None]:
    # A spawned child runs the parent's script again unless it is guarded.  Tasks are functions of this package, so the
    # children need no script, and a user's ten-line script needs no guard.
    main = sys.modules["__main__"]
    file, spec = main.__dict__.get("__file__"), main.__spec__
    main.__dict__.pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file
