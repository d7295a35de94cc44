"""Settings of an evaluation: what is compared, how, and how thoroughly."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cathode.support.errors import UserError
from fastsim.evaluation.procedure import DATASETS, Dataset, Mode, checked_mode

__all__ = ["EvaluationSettings"]


@dataclass(frozen=True)
class EvaluationSettings:
    """How a generator is judged.

    Args:
        mode: ``strict`` counts what lies outside of histograms, cross-fits seeded classifiers and gives intervals;
            ``calochallenge`` follows the published code's definitions, its known faults included.
        quick: Fewer epochs, draws and showers: below three minutes for 10,000 against 10,000 showers of 368 voxels.
        threshold: Voxels below this energy (MeV) count as zero in both samples; None takes that of the
            public dataset with this binning, and cuts nothing in any other.
        dataset: Public dataset the reference is from; only then is the generator ranked among the published ones.
        leave_out_energy: Judge only showers of this incident energy (MeV), which the generator was not trained on.
        match_energies: Thin both samples to one spectrum of incident energies instead of refusing different ones.
        reference_rows: First row of the reference that is used and the one after the last; None for all.
        max_showers: Use at most so many showers of each sample.
        classifiers: Train classifiers; everything else costs little beside them.
        cnn: Train the three-dimensional network too; None where the voxels are a regular grid and ``quick`` is off.
        floor: Compare halves of the reference with each other, for the values that a perfect generator would get.
        seed: Of splits, networks, trees and draws.
    """

    mode: Mode = "strict"
    quick: bool = False
    threshold: float | None = None
    dataset: Dataset | None = None
    leave_out_energy: float | None = None
    match_energies: bool = False
    reference_rows: tuple[int, int] | None = None
    max_showers: int | None = None
    classifiers: bool = True
    cnn: bool | None = None
    floor: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        checked_mode(self.mode)
        if self.dataset is not None and self.dataset not in DATASETS:
            raise UserError(
                f"unknown dataset {self.dataset!r}: published results exist for {', '.join(DATASETS)}; "
                "leave it out for any other"
            )
        if self.threshold is not None and not (math.isfinite(self.threshold) and self.threshold >= 0):
            raise UserError(f"threshold must be zero or a positive energy in MeV, got {self.threshold!r}")
        if self.leave_out_energy is not None and not (
            math.isfinite(self.leave_out_energy) and self.leave_out_energy > 0
        ):
            raise UserError(f"leave-out-energy must be a positive energy in MeV, got {self.leave_out_energy!r}")
        if self.leave_out_energy is not None and self.dataset is not None:
            raise UserError("showers of a single energy cannot be ranked: use either leave-out-energy or dataset")
        if self.reference_rows is not None and not 0 <= self.reference_rows[0] < self.reference_rows[1]:
            raise UserError(f"reference-rows must be FIRST STOP with 0 <= FIRST < STOP, got {self.reference_rows}")
        if self.max_showers is not None and self.max_showers < 100:
            raise UserError(f"max-showers must be at least 100, got {self.max_showers}")
