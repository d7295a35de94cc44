"""What a fit leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from cathode.density.base import ConditionalDensity
from cathode.training.selection import BestEpoch

__all__ = ["FitResult"]


@dataclass(frozen=True)
class FitResult:
    """Outcome of :func:`cathode.training.fit`.

    Attributes:
        density: The trained density in eval mode, on the device of the fit, made of the best epochs.
        history: One row per epoch; row 0 is the untrained density.  Columns: ``epoch``, ``train_loss`` (mean over the
            epoch while the weights moved; for epoch 0 over a random part of the data as large as the validation data),
            ``validation_loss``, ``learning_rate`` (at the end), ``gradient_norm`` (mean before clipping), ``events``,
            ``non_finite_batches``, ``events_per_second`` and ``events_per_cpu_second`` (training alone, the latter of
            one process), ``seconds`` and ``cpu_seconds`` (since the start, earlier runs of a resumed fit included),
            and one for each further loss of a custom step.
        best_states: The best epochs, best first: ``(epoch, validation_loss, state)``; ``epoch`` is the row of
            ``history`` with that loss.
        validation_loss: Validation loss of ``density`` (for a mixture: mean over its members).
        selection: How ``density`` was made of the best epochs, in words.
        seconds: Wall time.
        cpu_seconds: CPU time of this process.
        stopped_reason: ``epochs``, ``patience`` or ``time``.
        non_finite_batches: Batches skipped because their loss or gradient was not finite.
    """

    density: ConditionalDensity
    history: pd.DataFrame
    best_states: list[BestEpoch]
    validation_loss: float
    selection: str
    seconds: float
    cpu_seconds: float
    stopped_reason: str
    non_finite_batches: int

    def summary(self) -> dict[str, Any]:
        """What there is to say of the fit in plain numbers and words, for a file of results."""
        return {
            "epochs": int(self.history["epoch"].max()),
            "validation_loss": self.validation_loss,
            "selection": self.selection,
            "stopped": self.stopped_reason,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
        }
