"""Settings of one fit: plain values, checked when made."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

import torch

from cathode.support.errors import UserError

__all__ = ["FitConfig"]


@dataclass(frozen=True)
class FitConfig:
    """Settings of :func:`cathode.training.fit`.

    Args:
        epochs: Passes over the training data.
        batch_size: Events per optimiser step, over all processes together.  An epoch is cut into batches whose sizes
            differ by at most one, none larger than this, so that no tiny last batch exists.
        learning_rate: Peak learning rate.
        weight_decay: Decoupled for ``adamw``, L2 for ``adam``.
        optimizer: ``adamw`` or ``adam``.
        schedule: ``cosine`` to ``learning_rate_floor``, ``plateau`` or ``constant``.
        warmup_epochs: Linear rise of the learning rate over this many epochs (may be a fraction).
        learning_rate_floor: What the cosine ends at and what the plateau schedule stops at, as a fraction of the peak.
        plateau_patience: Epochs without a better validation loss after which ``plateau`` lowers the rate.
        plateau_factor: By what it is then multiplied.
        gradient_clip: Largest norm of the gradient; None for no clipping.
        ema_halflife_events: Half-life of the exponential moving average of the weights, in training events; None: the
            weights themselves are validated and kept.  Early in training the half-life is limited to 5 % of the
            events seen (Karras et al. 2022, arXiv 2206.00364, ``ema_rampup_ratio``), or the initial weights would
            dominate.
        patience: Stop after this many epochs without a better validation loss; None: never.
        best_epochs: Number k of epochs with the lowest validation loss that are kept.
        average: What the k epochs become: ``weights``, one density with their mean weights (or the best single epoch,
            if its validation loss is lower), or ``mixture``, an equal mixture of k densities, as CATHODE does
            (arXiv 2109.00546).
        validation_batch: Events per validation step.
        max_seconds: Stop after this time.  The cosine schedule then ends with the budget, if that comes before
            the last epoch.  The result depends on the speed of the machine: leave it None where a fit must be
            reproducible.
        budget: Whether ``max_seconds`` counts ``wall`` or ``cpu`` time.
        checkpoint_every: Epochs between checkpoints.
        max_non_finite: Fraction of non-finite batches (and more than ten) above which the fit is given up.
        compile: Run the loss through ``torch.compile``.
        device: ``auto`` (CUDA if there is one), or a torch device.

    Raises:
        UserError: A value outside its range.
    """

    epochs: int = 100
    batch_size: int = 1024
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    optimizer: Literal["adamw", "adam"] = "adamw"
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    warmup_epochs: float = 0.0
    learning_rate_floor: float = 0.0
    plateau_patience: int = 10
    plateau_factor: float = 0.5
    gradient_clip: float | None = 5.0
    ema_halflife_events: float | None = 100_000.0
    patience: int | None = None
    best_epochs: int = 1
    average: Literal["weights", "mixture"] = "weights"
    validation_batch: int = 16384
    max_seconds: float | None = None
    budget: Literal["wall", "cpu"] = "wall"
    checkpoint_every: int = 1
    max_non_finite: float = 0.1
    compile: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "best_epochs", "validation_batch", "checkpoint_every", "plateau_patience"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("ema_halflife_events", "gradient_clip", "max_seconds", "patience"):
            self._require(name, getattr(self, name) is None or getattr(self, name) > 0, "positive, or none")
        self._require("learning_rate", self.learning_rate > 0, "positive")
        for name in ("weight_decay", "warmup_epochs"):
            self._require(name, getattr(self, name) >= 0, "zero or positive")
        for name in ("learning_rate_floor", "plateau_factor", "max_non_finite"):
            self._require(name, 0 <= getattr(self, name) <= 1, "between 0 and 1")
        for name, known in _CHOICES.items():
            self._require(name, getattr(self, name) in known, "one of " + ", ".join(known))
        try:
            torch.device("cpu" if self.device == "auto" else self.device)
        except RuntimeError as error:
            raise UserError(f"fit setting device: {self.device!r} is unknown; use auto, cpu or cuda") from error

    def _require(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise UserError(f"fit setting {name}: must be {expected}, got {getattr(self, name)!r}")

    def identity(self) -> dict[str, Any]:
        """The settings that decide the result: what a resumed fit must share with the checkpoint it continues."""
        free = ("checkpoint_every", "compile", "device", "validation_batch", "max_seconds", "budget", "max_non_finite")
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in free}


_CHOICES = {
    "optimizer": ("adamw", "adam"),
    "schedule": ("cosine", "plateau", "constant"),
    "average": ("weights", "mixture"),
    "budget": ("wall", "cpu"),
}
