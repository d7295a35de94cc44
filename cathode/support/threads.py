"""Threads: one per process by default, because parallelism here comes from processes.

On a machine that is already busy, two OpenMP threads that spin for each other can be 20-100 times slower than one.
The one setting is the environment variable ``CATHODE_THREADS`` (or the argument of :func:`limit_threads`).  Where more
than one thread is asked for, the wait policy must be passive, which OpenMP reads only when a process starts: hence
:func:`worker_environment` for the workers that the executors start.
"""

from __future__ import annotations

import os

import torch
from threadpoolctl import threadpool_limits

__all__ = ["limit_threads", "threads_setting", "worker_environment"]

VARIABLE = "CATHODE_THREADS"


def threads_setting() -> int:
    """Threads per process: ``CATHODE_THREADS``, or 1.

    Raises:
        ValueError: The variable is not a positive integer.
    """
    text = os.environ.get(VARIABLE, "1")
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{VARIABLE}={text!r} is not a positive integer")
    return int(text)


def limit_threads(threads: int | None = None) -> int:
    """Limit torch, BLAS and OpenMP of this process to ``threads`` (default: :func:`threads_setting`); returns it."""
    threads = threads_setting() if threads is None else threads
    torch.set_num_threads(threads)
    threadpool_limits(limits=threads)
    return threads


def worker_environment(threads: int | None = None) -> dict[str, str]:
    """Environment for a new worker process: thread counts and a wait policy that does not spin."""
    count = str(threads_setting() if threads is None else threads)
    return {
        VARIABLE: count,
        "OMP_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
    }
