"""One optimiser step: the default one, and the protocol for models that need their own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from cathode.density.base import ConditionalDensity
from cathode.training.config import FitConfig
from cathode.training.data import TrainingData

__all__ = ["Descent", "LossStep", "TrainingStep", "descend", "make_optimizer"]


class TrainingStep(Protocol):
    """What a model with its own step (GAN, teacher and student) gives to :func:`cathode.training.fit`.

    The loop sets the learning rates (each group's own rate times the schedule), averages the weights, validates and
    writes checkpoints; the step does the rest, with :func:`descend` for each optimiser.  A step may also have a method
    ``validation_loss(density, batch, *, generator) -> (B,)``, used in place of ``density.loss``, and a method
    ``identity() -> dict[str, str]`` of what else decides the fit: a checkpoint with another identity is not continued.
    """

    def setup(self, density: ConditionalDensity, config: FitConfig) -> Sequence[Optimizer]:
        """The optimisers, over parameters of ``density``.  Called once, before the first step."""
        ...

    def step(self, batch: TrainingData, generator: torch.Generator) -> Mapping[str, Tensor | float]:
        """Update the weights.  Returns the batch's mean losses, each becoming a column of the history.

        ``loss`` must be there; it is NaN when the step was skipped (see :func:`descend`).
        """
        ...


def make_optimizer(parameters: Iterable[nn.Parameter], config: FitConfig) -> Optimizer:
    """The optimiser of ``config``, fused: one kernel for all parameters."""
    trainable = [p for p in parameters if p.requires_grad]
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    # The learning rate is a plain number set by the loop, so the fused kernel needs no recompilation.
    return kind(trainable, lr=config.learning_rate, weight_decay=config.weight_decay, fused=_can_fuse(trainable))


def _can_fuse(parameters: Sequence[Tensor]) -> bool:
    return all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)


class Descent(NamedTuple):
    """What one step did: the loss and the norm of its gradient before clipping, both NaN when the step was skipped."""

    loss: float
    gradient_norm: float


def descend(
    loss: Tensor,
    optimizer: Optimizer,
    *,
    clip: float | None = None,
    average_gradients: bool = False,
) -> Descent:
    """Minimise ``loss`` by one step of ``optimizer``, unless the loss or its gradient is not finite.

    Args:
        loss: Scalar.
        optimizer: Its parameters get fresh gradients.
        clip: Largest norm of the gradient.
        average_gradients: Average the gradients over all processes; a module inside DistributedDataParallel has
            done it already.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    distributed = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    if average_gradients and distributed:
        for gradient in gradients:
            dist.all_reduce(gradient)
            gradient /= dist.get_world_size()
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    values = torch.stack([loss.detach(), norm.to(loss.dtype)])
    if distributed:
        # A loss is one process's alone, but all of them must decide alike.
        worst = values.abs().sum()
        dist.all_reduce(worst)
        values = torch.cat([values, worst[None]])
    found = values.tolist()  # the only wait for the device in a step
    if not all(map(math.isfinite, found)):
        optimizer.zero_grad(set_to_none=True)
        return Descent(math.nan, math.nan)
    if clip is not None and found[1] > clip:
        torch._foreach_mul_(gradients, clip / found[1])
    optimizer.step()
    return Descent(found[0], found[1])


class _LossModule(nn.Module):
    """``density.loss`` as a forward pass, which is where DistributedDataParallel and torch.compile hook in."""

    def __init__(self, density: ConditionalDensity) -> None:
        super().__init__()
        self.density = density

    def forward(self, x: Tensor, context: Tensor | None, mask: Tensor | None, generator: torch.Generator) -> Tensor:
        return self.density.loss(x, context, mask=mask, generator=generator)


class LossStep:
    """Minimises the weighted mean of ``density.loss``.

    Args:
        mean_weight: Mean weight of all training events.  The loss of a batch is ``sum(w l) / (B mean(w))`` with
            the mean over *all* events, so its expectation is exactly ``sum(w l) / sum(w)`` of the data; dividing by the
            batch's own ``sum(w)`` is biased, and unstable with negative weights.
    """

    def __init__(self, mean_weight: float = 1.0) -> None:
        self._mean_weight = mean_weight

    def setup(self, density: ConditionalDensity, config: FitConfig) -> Sequence[Optimizer]:
        module: Any = _LossModule(density)
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            device = next(density.parameters()).device
            module = DistributedDataParallel(module, device_ids=[device.index] if device.type == "cuda" else None)
        if config.compile:
            module = torch.compile(module)
        self._loss = module
        self._clip = config.gradient_clip
        self._optimizer = make_optimizer(density.parameters(), config)
        return [self._optimizer]

    def step(self, batch: TrainingData, generator: torch.Generator) -> Mapping[str, Tensor | float]:
        losses = self._loss(batch.x, batch.context, batch.mask, generator)
        if batch.weight is None:
            loss = losses.mean()
        else:
            loss = torch.dot(batch.weight, losses) / (len(losses) * self._mean_weight)
        return descend(loss, self._optimizer, clip=self._clip)._asdict()
