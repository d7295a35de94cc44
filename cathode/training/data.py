"""What a fit learns from: tensors in memory, or a source of batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from cathode.support.errors import UserError

__all__ = ["BatchSource", "TrainingData", "fingerprint"]


@dataclass(frozen=True)
class TrainingData:
    """Events with their condition, mask and weight.

    Args:
        x: ``(N, D)`` vectors, or ``(N, P, F)`` sets; floating point and finite (padding too).
        context: ``(N, C)``, finite; None for an unconditional density.
        mask: ``(N, P)`` boolean, True = real; only for sets.
        weight: ``(N,)``, finite, with a positive sum; None = all one.  Negative weights are allowed.

    Raises:
        UserError: Shapes, dtypes or values that do not fit.
    """

    x: Tensor
    context: Tensor | None = None
    mask: Tensor | None = None
    weight: Tensor | None = None

    def __post_init__(self) -> None:
        x, context, mask, weight = self.x, self.context, self.mask, self.weight
        if x.ndim not in (2, 3) or not x.is_floating_point():
            raise UserError(f"training events must be floats (N, D) or (N, P, F), got {x.dtype} {tuple(x.shape)}")
        if context is not None and (context.ndim != 2 or not context.is_floating_point()):
            raise UserError(f"context must be floats (N, C), got {context.dtype} {tuple(context.shape)}")
        if mask is not None and (x.ndim != 3 or mask.dtype != torch.bool or mask.shape != x.shape[:2]):
            raise UserError(
                f"mask must be boolean (N, P) beside sets (N, P, F), got {mask.dtype} {tuple(mask.shape)} "
                f"beside {tuple(x.shape)}"
            )
        if weight is not None and (weight.ndim != 1 or not weight.is_floating_point()):
            raise UserError(f"weight must be floats (N,), got {weight.dtype} {tuple(weight.shape)}")
        for name, tensor in (("x", x), ("context", context), ("weight", weight)):
            if tensor is None:
                continue
            if len(tensor) != len(x):
                raise UserError(f"{name} has {len(tensor)} rows, x has {len(x)}")
            broken = int((~torch.isfinite(tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None]).all(1)).sum())
            if broken:
                raise UserError(f"{broken} of {len(x)} rows of {name} are NaN or infinite; clean or drop them first")
        if weight is not None and len(weight) and float(weight.sum(dtype=torch.float64)) <= 0:
            raise UserError("the sum of the weights is not positive")

    @classmethod
    def unchecked(
        cls, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None, weight: Tensor | None = None
    ) -> TrainingData:
        """The same without the checks, for batches of data that were checked as a whole."""
        self = object.__new__(cls)
        self.__dict__.update(x=x, context=context, mask=mask, weight=weight)
        return self

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: Tensor | slice) -> TrainingData:
        """The given rows, in their order."""

        def pick(tensor: Tensor | None) -> Tensor | None:
            if tensor is None:
                return None
            return tensor[rows] if isinstance(rows, slice) else tensor.index_select(0, rows)

        return TrainingData.unchecked(pick(self.x), pick(self.context), pick(self.mask), pick(self.weight))  # type: ignore[arg-type]

    def to(self, device: torch.device | str, dtype: torch.dtype) -> TrainingData:
        """On ``device``, floats as ``dtype``."""

        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)

        return TrainingData.unchecked(move(self.x), move(self.context), move(self.mask), move(self.weight))  # type: ignore[arg-type]

    def split(self, fraction: float, generator: torch.Generator) -> tuple[TrainingData, TrainingData]:
        """Random split into ``round(fraction * N)`` rows and the rest; both keep their weights.

        Raises:
            UserError: One of the two would be empty.
        """
        count = round(fraction * len(self))
        if not 0 < count < len(self):
            raise UserError(f"cannot split {len(self)} events at fraction {fraction}: one part would be empty")
        order = torch.randperm(len(self), generator=generator, device=generator.device).to(self.x.device)
        return self.take(order[:count]), self.take(order[count:])

    @property
    def mean_weight(self) -> float:
        """Mean weight of an event, 1 without weights."""
        return 1.0 if self.weight is None else float(self.weight.mean(dtype=torch.float64))


@runtime_checkable
class BatchSource(Protocol):
    """Data that is read while training: a factory of batches for each epoch.

    Attributes:
        events: Events of one epoch, over all ranks.
        mean_weight: Mean weight of an event; the losses of a batch are divided by it.
    """

    @property
    def events(self) -> int: ...

    @property
    def mean_weight(self) -> float: ...

    def batches(
        self, epoch: int, *, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> Iterator[TrainingData]:
        """Batches of rank ``rank``, at most ``batch_size`` events each.

        The same arguments must give the same batches, and every rank the same number of them.
        """
        ...

    def steps(self, *, batch_size: int, world: int = 1) -> int:
        """Number of batches that :meth:`batches` gives."""
        ...


def fingerprint(data: TrainingData | BatchSource) -> str:
    """Short hash of the data, by which a checkpoint knows its own; a source may bring a method ``fingerprint``."""
    if not isinstance(data, TrainingData):
        described = getattr(data, "fingerprint", None)
        return described() if described else f"{type(data).__name__} {data.events} {data.mean_weight!r}"
    digest = hashlib.sha256()
    for tensor in (data.x, data.context, data.mask, data.weight):
        digest.update(b"none" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor is not None:
            digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]
