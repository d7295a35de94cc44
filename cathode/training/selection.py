"""The best epochs of a fit, and what is made of them."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cathode.density.base import ConditionalDensity
from cathode.density.ensemble import Ensemble

__all__ = ["BestEpoch", "BestEpochs", "State", "average_states", "combine", "snapshot"]

logger = logging.getLogger(__name__)

State = dict[str, Tensor]


class BestEpoch(NamedTuple):
    """Weights after ``epoch`` epochs of training (1 = after the first) and their validation loss."""

    epoch: int
    validation_loss: float
    state: State


def snapshot(module: nn.Module) -> State:
    """A copy of the module's state on the CPU."""
    return {key: value.detach().to("cpu", copy=True) for key, value in module.state_dict().items()}


class BestEpochs:
    """Keeps the ``size`` epochs with the lowest validation loss, best first; of equal ones the earlier is better."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.entries: list[BestEpoch] = []

    def offer(self, epoch: int, validation_loss: float, module: nn.Module) -> bool:
        """Keep the module's state if it belongs to the best.  A non-finite loss never does."""
        if not math.isfinite(validation_loss):
            return False
        if len(self.entries) == self._size and validation_loss >= self.entries[-1].validation_loss:
            return False
        self.entries.append(BestEpoch(epoch, validation_loss, snapshot(module)))
        self.entries.sort(key=lambda entry: (entry.validation_loss, entry.epoch))
        del self.entries[self._size :]
        return True


def average_states(states: Sequence[Mapping[str, Tensor]]) -> State:
    """Mean of floating-point entries (in float64, stored in their own type); other entries as in the first state."""
    first = states[0]
    averaged: State = {}
    for key, value in first.items():
        if value.is_floating_point() and len(states) > 1:
            averaged[key] = torch.stack([state[key].double() for state in states]).mean(0).to(value.dtype)
        else:
            averaged[key] = value.clone()
    return averaged


def combine(
    best: Sequence[BestEpoch],
    template: ConditionalDensity,
    *,
    average: str,
    validate: Callable[[ConditionalDensity], float],
) -> tuple[ConditionalDensity, float, str]:
    """One density of the best epochs.

    Args:
        best: Epochs, best first, at least one.
        template: Module that the states fit into; copied.
        average: ``weights`` or ``mixture``, see :class:`~cathode.training.config.FitConfig`.
        validate: Validation loss of a density.

    Returns:
        The density, its validation loss (for a mixture: mean of its members'), and in words how it was made.
    """

    def member(state: Mapping[str, Tensor]) -> ConditionalDensity:
        density = copy.deepcopy(template)
        density.load_state_dict(state)
        return density

    epochs = ", ".join(str(entry.epoch) for entry in best)
    first = best[0]
    if average == "mixture" and len(best) > 1:
        loss = sum(entry.validation_loss for entry in best) / len(best)
        return Ensemble([member(entry.state) for entry in best]), loss, f"mixture of epochs {epochs}"
    if len(best) > 1:
        averaged = member(average_states([entry.state for entry in best]))
        loss = validate(averaged)
        if loss <= first.validation_loss:
            return averaged, loss, f"mean weights of epochs {epochs}"
        # Weights of epochs that lie far apart, as before the rate has come down, do not average.
        logger.info("mean weights of epochs %s are worse than epoch %d: %.6g", epochs, first.epoch, loss)
    return member(first.state), first.validation_loss, f"epoch {first.epoch}"
