"""Exponential moving average of weights, with a half-life in training events."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["MovingAverage"]

# Updating every few steps with the decay of all of them is the same average on a coarser grid; 1/64 of a half-life
# changes no weight by more than 1 % of its movement and makes the cost vanish.
_UPDATES_PER_HALFLIFE = 64
_LONGEST_STRIDE = 16


class MovingAverage:
    r"""Moves ``target``'s parameters towards ``source``'s.

    After n events: ``target += (source - target) (1 - 2^(-n / h))``, where the half-life ``h`` is the
    smaller of ``halflife_events`` and ``rampup`` times the events seen so far (Karras et al. 2022, arXiv 2206.00364,
    training loop of the authors).

    Args:
        source: The module that is trained.
        target: Its copy, which is only read between epochs.
        halflife_events: h, in events.
        batch_size: Events of a typical step; decides how often the average is moved.
        rampup: Largest half-life as a fraction of the events seen.
    """

    def __init__(
        self, source: nn.Module, target: nn.Module, *, halflife_events: float, batch_size: int, rampup: float = 0.05
    ) -> None:
        self._source: list[Tensor] = [p.detach() for p in source.parameters()]
        self._target: list[Tensor] = [p.detach() for p in target.parameters()]
        self._halflife = halflife_events
        self._rampup = rampup
        self._stride = max(1, min(_LONGEST_STRIDE, int(halflife_events / batch_size / _UPDATES_PER_HALFLIFE)))
        self._pending_steps = 0
        self._pending_events = 0
        self.events = 0

    def step(self, events: int) -> None:
        """Account for a step over ``events`` events."""
        self.events += events
        self._pending_events += events
        self._pending_steps += 1
        if self._pending_steps >= self._stride:
            self.flush()

    @torch.no_grad()
    def flush(self) -> None:
        """Apply what is pending."""
        if self._pending_events:
            halflife = min(self._halflife, self.events * self._rampup)
            torch._foreach_lerp_(self._target, self._source, 1.0 - 0.5 ** (self._pending_events / halflife))
        self._pending_steps = self._pending_events = 0
