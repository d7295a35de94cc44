"""Several processes under ``torchrun``: who am I, and sums over all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

__all__ = ["Ranks", "process_group"]

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Ranks:
    """This process among ``world`` processes."""

    rank: int = 0
    world: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def sum(self, *values: float, device: torch.device) -> list[float]:
        """The values summed over all processes."""
        return self._reduce(values, device, dist.ReduceOp.SUM) if self.world > 1 else list(values)

    def largest(self, *values: float, device: torch.device) -> list[float]:
        """The largest of each value over all processes."""
        return self._reduce(values, device, dist.ReduceOp.MAX) if self.world > 1 else list(values)

    def _reduce(self, values: tuple[float, ...], device: torch.device, how: dist.ReduceOp.RedOpType) -> list[float]:
        tensor = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(tensor, op=how)
        return tensor.tolist()

    def wait(self) -> None:
        """Wait for all processes."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def process_group(*, cuda: bool) -> Iterator[Ranks]:
    """The process group that exists, or the one of ``torchrun``'s environment variables, or just this process."""
    if not dist.is_available():
        yield Ranks()
        return
    if dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size())
        return
    if not all(name in os.environ for name in _VARIABLES) or os.environ["WORLD_SIZE"] == "1":
        yield Ranks()
        return
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
