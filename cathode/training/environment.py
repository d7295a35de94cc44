"""Where a fit runs: device, threads, floating-point type."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits
from torch import nn

from cathode.support.errors import UserError
from cathode.support.threads import threads_setting

__all__ = ["choose_device", "float_type", "own_threads"]


def choose_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` is CUDA where there is one, and ``torchrun`` numbers the devices.

    Raises:
        UserError: There is no such device here.
    """
    available = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if available else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device {name!r} is unknown; use auto, cpu or cuda") from error
    if device.type == "cuda" and not available:
        raise UserError("fit setting device: no CUDA device here; use auto or cpu")
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


@contextmanager
def own_threads() -> Iterator[None]:
    """The configured number of threads (``CATHODE_THREADS``, default one), then what was there before."""
    before = torch.get_num_threads()
    threads = threads_setting()
    try:
        with threadpool_limits(limits=threads):
            torch.set_num_threads(threads)
            yield
    finally:
        torch.set_num_threads(before)


def float_type(module: nn.Module) -> torch.dtype:
    """Type of the first floating-point parameter or buffer."""
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            return tensor.dtype
    return torch.get_default_dtype()
