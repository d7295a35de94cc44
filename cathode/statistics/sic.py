"""How well a score separates signal from background, when the truth is known: ROC, AUC, SIC, ARGOS.

The significance improvement characteristic is SIC = eps_S / sqrt(eps_B): the factor by which a cut raises
S/sqrt(B). Events with equal scores pass or fail together, so every point of a curve is a cut that can be
made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cathode.statistics.plain import Plain
from cathode.support.errors import UserError

__all__ = ["Argos", "Band", "RocCurve", "SicPoint", "argos", "band", "roc_curve"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SicPoint(Plain):
    """One working point.

    Attributes:
        background_efficiency: eps_B of the cut.
        signal_efficiency: eps_S of the cut.
        signal_efficiency_error: Its binomial standard error.
        sic: eps_S / sqrt(eps_B).
        sic_error: Its standard error: binomial in eps_S and in eps_B.
        background_relative_error: 1 / sqrt(eps_B N_B), with the (effective) number of background events
            tested.
        threshold: The cut; events at or above it pass.
    """

    background_efficiency: float
    signal_efficiency: float
    signal_efficiency_error: float
    sic: float
    sic_error: float
    background_relative_error: float
    threshold: float


@dataclass(frozen=True)
class RocCurve(Plain):
    """All cuts on one score, from the tightest (nothing passes) to none.

    Attributes:
        background_efficiency: eps_B (P,), increasing from 0 to 1.
        signal_efficiency: eps_S (P,), increasing from 0 to 1.
        thresholds: Lowest passing score (P,); inf for the first point.
        n_background: (Effective) number of background events.
        n_signal: (Effective) number of signal events.
        auc: Area under eps_S against eps_B, with ties counted half (exact Mann-Whitney).
        auc_error: Standard error of ``auc`` (DeLong et al. 1988).
    """

    background_efficiency: Array
    signal_efficiency: Array
    thresholds: Array
    n_background: float
    n_signal: float
    auc: float
    auc_error: float

    @property
    def sic(self) -> Array:
        """SIC (P,) of each cut; 0 where no signal passes, inf where only signal passes."""
        b, s = self.background_efficiency, self.signal_efficiency
        passing = np.where(s > 0, np.inf, 0.0)
        return np.divide(s, np.sqrt(b), out=passing, where=b > 0)

    @property
    def background_relative_error(self) -> Array:
        """Relative error (P,) of the passing background, 1 / sqrt(eps_B N_B)."""
        expected = self.background_efficiency * self.n_background
        return np.divide(1.0, np.sqrt(expected), out=np.full_like(expected, np.inf), where=expected > 0)

    def sic_at(self, background_efficiency: float) -> SicPoint:
        """SIC at a background efficiency, interpolated linearly between the two neighbouring cuts.

        Raises:
            UserError: The efficiency is not in (0, 1], or less than one background event would pass.
        """
        if not 0 < background_efficiency <= 1:
            raise UserError(f"sic: background_efficiency={background_efficiency} must be in (0, 1]")
        if background_efficiency * self.n_background < 1:
            raise UserError(
                f"sic: {self.n_background:.0f} background events cannot test an efficiency of "
                f"{background_efficiency:g}; use more test events or a looser cut"
            )
        # The last of equal eps_B is the cut that passes most signal.
        b, last = np.unique(self.background_efficiency[::-1], return_index=True)
        signals = self.signal_efficiency[len(self.background_efficiency) - 1 - last]
        signal = float(np.interp(background_efficiency, b, signals))
        # The cut comes from the background sample itself: a fluctuation of eps_B moves eps_S along the curve.
        reach = 1 + max(1 / math.sqrt(background_efficiency * self.n_background), 0.05)
        around = np.clip(background_efficiency * np.array([1 / reach, reach]), 0, 1)
        low, high = np.interp(around, b, signals)
        slope = math.log(high / low) / math.log(around[1] / around[0]) if low > 0 else 1.0
        above = int(np.searchsorted(self.background_efficiency, background_efficiency))
        cut = self.thresholds[min(above, len(self.thresholds) - 1)]
        return self._point(background_efficiency, signal, float(cut), slope=slope)

    def max_sic(self, *, relative_error: float = 0.2) -> SicPoint:
        """Largest SIC over the cuts whose background is known to better than ``relative_error``.

        That is 1 / sqrt(eps_B N_B) < relative_error for the number of background events actually tested.

        Raises:
            UserError: No cut is that well known.
        """
        allowed = self.background_relative_error < relative_error
        if not allowed.any():
            raise UserError(
                f"sic: {self.n_background:.0f} background events know no cut to better than {relative_error:g}; "
                "use more test events"
            )
        best = int(np.where(allowed, self.sic, -np.inf).argmax())
        # The cut is given; its true SIC is uncertain through eps_B^(-1/2).
        return self._point(
            float(self.background_efficiency[best]),
            float(self.signal_efficiency[best]),
            float(self.thresholds[best]),
            slope=0.5,
        )

    def _point(self, background: float, signal: float, threshold: float, *, slope: float) -> SicPoint:
        """``slope``: power of eps_B with which the SIC of this kind of working point fluctuates."""
        signal_error = math.sqrt(signal * (1 - signal) / self.n_signal)
        relative_signal = signal_error / signal if signal > 0 else 0.0
        relative_background = math.sqrt((1 - background) / (background * self.n_background))
        sic = signal / math.sqrt(background)
        return SicPoint(
            background_efficiency=background,
            signal_efficiency=signal,
            signal_efficiency_error=signal_error,
            sic=sic,
            sic_error=sic * math.hypot(relative_signal, slope * relative_background),
            background_relative_error=1 / math.sqrt(background * self.n_background),
            threshold=threshold,
        )


def roc_curve(scores: ArrayLike, is_signal: ArrayLike, *, weight: ArrayLike | None = None) -> RocCurve:
    """ROC curve of a score, with exact treatment of ties.

    Args:
        scores: Scores (N,); large is signal-like.
        is_signal: Truth (N,).
        weight: Weights (N,), >= 0; the numbers of events become effective ones.

    Raises:
        UserError: Shapes that do not fit, scores that are not finite, or a class without events.
    """
    s, truth = np.asarray(scores, dtype=np.float64), np.asarray(is_signal, dtype=bool)
    w = np.ones(s.shape) if weight is None else np.asarray(weight, dtype=np.float64)
    if s.ndim != 1 or truth.shape != s.shape or w.shape != s.shape:
        raise UserError(f"sic: {s.shape} scores, {truth.shape} labels and {w.shape} weights do not fit together")
    if not np.isfinite(s).all():
        raise UserError("sic: scores must be finite")
    if not (np.isfinite(w).all() and (w >= 0).all()):
        raise UserError("sic: weights must be finite and >= 0")
    if w[truth].sum() == 0 or w[~truth].sum() == 0:
        raise UserError(f"sic: {truth.sum()} signal and {(~truth).sum()} background events; both are needed")
    values, inverse = np.unique(s, return_inverse=True)
    # From the highest score down.
    signal = np.bincount(inverse, w * truth, len(values))[::-1]
    background = np.bincount(inverse, w * ~truth, len(values))[::-1]
    total_s, total_b = signal.sum(), background.sum()
    eps_s = np.minimum(np.append(0.0, np.cumsum(signal) / total_s), 1.0)
    eps_b = np.minimum(np.append(0.0, np.cumsum(background) / total_b), 1.0)
    # DeLong: the share of the other class that each event beats, ties half.
    beats_of_signal = 1 - 0.5 * (eps_b[1:] + eps_b[:-1])
    beaten_background = 0.5 * (eps_s[1:] + eps_s[:-1])
    auc = float((signal * beats_of_signal).sum() / total_s)
    n_s = float(total_s**2 / (w[truth] ** 2).sum())
    n_b = float(total_b**2 / (w[~truth] ** 2).sum())
    variance_s = float((signal * (beats_of_signal - auc) ** 2).sum() / total_s)
    variance_b = float((background * (beaten_background - auc) ** 2).sum() / total_b)
    return RocCurve(
        background_efficiency=eps_b,
        signal_efficiency=eps_s,
        thresholds=np.append(np.inf, values[::-1]),
        n_background=n_b,
        n_signal=n_s,
        auc=auc,
        auc_error=math.sqrt(variance_s / max(n_s - 1, 1) + variance_b / max(n_b - 1, 1)),
    )


@dataclass(frozen=True)
class Band(Plain):
    """Median and central 68 % of several curves on a common grid.

    Attributes:
        x: The grid (G,).
        median: Median (G,) of the curves.
        low: 16th percentile (G,).
        high: 84th percentile (G,).
        curves: Number of curves.
    """

    x: Array
    median: Array
    low: Array
    high: Array
    curves: int


def band(
    curves: Sequence[RocCurve],
    *,
    x: str = "signal_efficiency",
    y: str = "sic",
    grid: ArrayLike | None = None,
    relative_error: float = 0.2,
) -> Band:
    """Band of ``y`` against ``x`` over retrainings or folds.

    Args:
        curves: One per retraining.
        x: ``"signal_efficiency"`` or ``"background_efficiency"``.
        y: ``"sic"`` or the other efficiency.
        grid: Values (G,) of ``x``; default: 200 from 0.005 to 1, or logarithmic from the smallest meaningful
            eps_B.
        relative_error: Cuts whose background is known less well become NaN, and points of the grid where a
            curve has none are NaN in the band.

    Raises:
        UserError: No curves, or unknown axes.
    """
    axes = ("signal_efficiency", "background_efficiency")
    if not curves:
        raise UserError("sic: a band needs at least one curve")
    if x not in axes or y not in (*axes, "sic") or x == y:
        raise UserError(f"sic: cannot draw {y!r} against {x!r}; x is one of {axes}, y another one or 'sic'")
    if grid is not None:
        points = np.asarray(grid, dtype=np.float64)
    elif x == "signal_efficiency":
        points = np.linspace(0.005, 1, 200)
    else:
        smallest = max(1 / (relative_error**2 * curve.n_background) for curve in curves)
        points = np.geomspace(min(smallest, 0.5), 1, 200)
    rows = np.array([_on_grid(curve, x, y, points, relative_error) for curve in curves])
    low, median, high = np.quantile(rows, [0.16, 0.5, 0.84], axis=0)
    return Band(x=points, median=median, low=low, high=high, curves=len(curves))


def _on_grid(curve: RocCurve, x: str, y: str, grid: Array, relative_error: float) -> Array:
    b, s = curve.background_efficiency, curve.signal_efficiency
    along = s if x == "signal_efficiency" else b
    # One point per value of x: at equal eps_S the cut with least background, at equal eps_B the one with
    # most signal.
    if x == "signal_efficiency":
        _, index = np.unique(along, return_index=True)
    else:
        _, reverse = np.unique(along[::-1], return_index=True)
        index = len(along) - 1 - reverse
    eps_b = np.interp(grid, along[index], b[index])
    eps_s = np.interp(grid, along[index], s[index])
    known = eps_b * curve.n_background * relative_error**2 >= 1 - 1e-9
    if y == "sic":
        result = eps_s / np.sqrt(np.where(known, eps_b, 1.0))
    else:
        result = eps_s if y == "signal_efficiency" else eps_b
    return np.where(known, result, np.nan)


@dataclass(frozen=True)
class Argos(Plain):
    """Largest value of the label-free ARGOS metric.

    Attributes:
        value: Its maximum over cuts.
        template_efficiency: eps_BT of that cut.
        data_efficiency: eps_SR of that cut.
        threshold: The cut; events at or above it pass.
    """

    value: float
    template_efficiency: float
    data_efficiency: float
    threshold: float


def argos(
    data_scores: ArrayLike,
    template_scores: ArrayLike,
    *,
    template_weight: ArrayLike | None = None,
    relative_error: float = 0.2,
) -> Argos:
    """ARGOS = eps_SR / sqrt(eps_BT) - sqrt(eps_BT): how much of the data's excess over the template a cut
    isolates.

    Needs no labels: it grows with the SIC of the cut times the signal fraction, and is zero on average where
    data and template agree.

    Args:
        data_scores: Scores (N,) of the signal region's data.
        template_scores: Scores (M,) of the background template.
        template_weight: Weights (M,) of the template.
        relative_error: Cuts whose template efficiency is known less well are left out.

    Raises:
        UserError: See :func:`roc_curve`; or no cut is known well enough.
    """
    data, template = np.asarray(data_scores, dtype=np.float64), np.asarray(template_scores, dtype=np.float64)
    weight = np.ones(len(template)) if template_weight is None else np.asarray(template_weight, dtype=np.float64)
    curve = roc_curve(
        np.concatenate([data, template]),
        np.arange(len(data) + len(template)) < len(data),
        weight=np.concatenate([np.ones(len(data)), weight]),
    )
    allowed = curve.background_relative_error < relative_error
    if not allowed.any():
        raise UserError(f"argos: {curve.n_background:.0f} template events are too few; generate more")
    root = np.sqrt(np.where(allowed, curve.background_efficiency, 1.0))
    metric = np.where(allowed, curve.signal_efficiency / root - root, -np.inf)
    best = int(metric.argmax())
    return Argos(
        value=float(metric[best]),
        template_efficiency=float(curve.background_efficiency[best]),
        data_efficiency=float(curve.signal_efficiency[best]),
        threshold=float(curve.thresholds[best]),
    )
