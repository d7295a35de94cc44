"""Learning rate as a function of the position in the fit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cathode.training.config import FitConfig

__all__ = ["Plateau", "learning_rate_factor"]


def learning_rate_factor(config: FitConfig, position: float, *, scale: float = 1.0, spent: float = 0.0) -> float:
    """Learning rate over its peak.

    Args:
        config: Settings of the fit.
        position: Epochs done, fractional, at the end of the step that uses the rate.
        scale: Present scale of the plateau schedule.
        spent: Fraction of the time budget that is used up.
    """
    if config.warmup_epochs and position < config.warmup_epochs:
        return position / config.warmup_epochs
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "plateau":
        return scale
    length = config.epochs - config.warmup_epochs
    done = 1.0 if length <= 0 else (position - config.warmup_epochs) / length
    done = min(1.0, max(done, spent))
    return config.learning_rate_floor + (1 - config.learning_rate_floor) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass
class Plateau:
    """State of the plateau schedule: lowers the scale when the validation loss stops falling."""

    scale: float = 1.0
    best: float = math.inf
    waited: int = 0

    def update(self, config: FitConfig, validation_loss: float) -> None:
        """Account for one epoch; NaN counts as not better."""
        if validation_loss < self.best:
            self.best, self.waited = validation_loss, 0
            return
        self.waited += 1
        if self.waited >= config.plateau_patience:
            self.scale, self.waited = max(self.scale * config.plateau_factor, config.learning_rate_floor), 0
