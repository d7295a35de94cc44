"""The one training loop: batches, schedules, moving average, checkpoints, history."""

from cathode.training.config import FitConfig
from cathode.training.data import BatchSource, TrainingData
from cathode.training.loop import fit
from cathode.training.result import FitResult
from cathode.training.steps import Descent, TrainingStep, descend, make_optimizer
from cathode.training.streaming import HDF5Source

__all__ = [
    "BatchSource",
    "Descent",
    "FitConfig",
    "FitResult",
    "HDF5Source",
    "TrainingData",
    "TrainingStep",
    "descend",
    "fit",
    "make_optimizer",
]
