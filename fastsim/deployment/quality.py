"""What a change of the arithmetic costs: showers of the same noise and conditions, before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cathode.support.errors import UserError
from fastsim.data import Showers
from fastsim.evaluation.separation import separation_powers

__all__ = ["QualityLoss", "quality_loss"]


@dataclass(frozen=True)
class QualityLoss:
    """Differences of two samples.

    Attributes:
        showers: Number of showers in each.
        mean_total: Ratio of the mean total energies, changed / original.
        mean_layers: The same for each layer; 1 where the layer is empty in both.
        lit_voxels: Ratio of the mean numbers of voxels that are not zero.
        separation: Largest separation power of an observable.
        observable: Its name.
        separation_error: Its statistical error for independent samples, an upper bound for samples of the same noise.
        separation_expected: What equal distributions give for this number of showers.
        auc: Of the classifier that was given; None without one.
    """

    showers: int
    mean_total: float
    mean_layers: tuple[float, ...]
    lit_voxels: float
    separation: float
    observable: str
    separation_error: float
    separation_expected: float
    auc: float | None


def quality_loss(
    original: Showers,
    changed: Showers,
    *,
    threshold: float | None = None,
    auc: Callable[[Showers, Showers], float] | None = None,
) -> QualityLoss:
    """Compare showers of the full-precision generator with those of a changed one.

    Args:
        original: Showers of the generator.
        changed: Showers of the quantised (or otherwise changed) model, for the same incident energies.
        threshold: Voxels below it [MeV] count as empty; default: that of the public dataset.
        auc: Classifier of the two samples, for example a quick one of :mod:`fastsim.evaluation.classifiers`.

    Raises:
        UserError: Samples of different geometry.
    """
    if original.geometry != changed.geometry:
        raise UserError("samples in different geometries cannot be compared")
    powers = [p for p in separation_powers(original, changed, threshold=threshold) if np.isfinite(p.power.value)]
    worst = max(powers, key=lambda p: p.power.value - p.power.expected)
    a, b = original.layer_energies().astype(float), changed.layer_energies().astype(float)
    lit = [float((s.energies > 0).sum(1).mean()) for s in (original, changed)]
    return QualityLoss(
        showers=len(changed),
        mean_total=_ratio(float(b.sum(1).mean()), float(a.sum(1).mean())),
        mean_layers=tuple(_ratio(float(y), float(x)) for x, y in zip(a.mean(0), b.mean(0), strict=True)),
        lit_voxels=_ratio(lit[1], lit[0]),
        separation=worst.power.value,
        observable=worst.name,
        separation_error=worst.power.error,
        separation_expected=worst.power.expected,
        auc=None if auc is None else auc(original, changed),
    )


def _ratio(changed: float, original: float) -> float:
    if original == 0.0:
        return 1.0 if changed == 0.0 else float("inf")
    return changed / original
