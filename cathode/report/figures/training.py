"""Training curves: the density's members and the classifiers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cathode.page.drawing import nothing
from cathode.page.style import BLUE, GREY, RED, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["points_figure", "training_figure"]

# More curves than this are unreadable: median and band are drawn instead.
_MOST_CURVES = 12


@styled
def points_figure(histories: Sequence[pd.DataFrame]) -> Figure:
    """Loss against epoch of the models of the constituents, one line per model.

    Args:
        histories: Tables with ``epoch``, ``train_loss``, ``validation_loss`` and, with other stages, ``stage``.
    """
    figure = new_figure(4.9, 3.9)
    kept = [t[t["stage"] == "constituents"] if "stage" in t else t for t in histories]
    _draw(figure.subplots(), kept, "Constituents", "loss per jet")
    return figure


@styled
def training_figure(density: Sequence[pd.DataFrame], classifier: Sequence[pd.DataFrame]) -> Figure:
    """Loss against epoch, one thin line per member, or median and 68 % band when there are many.

    Args:
        density, classifier: Tables with ``epoch`` (or ``iteration``), ``train_loss`` and ``validation_loss``.
    """
    figure = new_figure(9.8, 3.9)
    left, right = figure.subplots(1, 2)
    _draw(left, density, "Density", "loss [nats per event]")
    _draw(right, classifier, "Classifier", "cross entropy", reference=math.log(2.0))
    return figure


def _draw(
    axes: Axes, tables: Sequence[pd.DataFrame], title: str, label: str, *, reference: float | None = None
) -> None:
    axes.set_title(f"{title} ({len(tables)} {'member' if len(tables) == 1 else 'members'})" if tables else title)
    everything, longest = [], 0.0
    for column, colour, name in (("train_loss", BLUE, "training"), ("validation_loss", RED, "validation")):
        curves = [
            (_steps(t), t[column].to_numpy(dtype=float))
            for t in tables
            if column in t and np.isfinite(t[column].to_numpy(dtype=float)).any()
        ]
        if not curves:
            continue
        everything += [values for _, values in curves]
        longest = max(longest, *(float(np.max(steps)) for steps, _ in curves))
        if len(curves) <= _MOST_CURVES:
            for i, (steps, values) in enumerate(curves):
                axes.plot(steps, values, color=colour, linewidth=1.2, alpha=0.8, label=name if i == 0 else None)
        else:
            _draw_band(axes, curves, colour, name)
    if not everything:
        nothing(axes, "no training history")
        return
    flat = np.concatenate(everything)
    flat = flat[np.isfinite(flat)]
    low, high = float(flat.min()), float(np.quantile(flat, 0.93))
    pad = 0.08 * max(high - low, 1e-6 * max(abs(high), 1.0))
    if reference is not None and low - 6 * pad < reference < high + 6 * pad:
        axes.axhline(reference, color=GREY, linestyle=":", linewidth=1.2, label="no separation (ln 2)")
        low, high = min(low, reference), max(high, reference)
    axes.set_ylim(low - pad, high + 4 * pad)
    axes.set_xlim(0, max(longest, 1.0) * 1.02)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_xlabel("epoch" if any("epoch" in t for t in tables) else "iteration")
    axes.set_ylabel(label)
    axes.legend(loc="upper right", ncols=3, columnspacing=1.2)


def _steps(table: pd.DataFrame) -> np.ndarray:
    for name in ("epoch", "iteration"):
        if name in table:
            return table[name].to_numpy(dtype=float)
    return np.arange(1, len(table) + 1, dtype=float)


def _draw_band(axes: Axes, curves: list[tuple[np.ndarray, np.ndarray]], colour: str, name: str) -> None:
    grid = np.unique(np.concatenate([steps for steps, _ in curves]))
    # Members stop early at different epochs: each counts only where it ran.
    values = np.vstack([np.interp(grid, s, v, left=np.nan, right=np.nan) for s, v in curves])
    running = np.isfinite(values).sum(axis=0) >= max(3, len(curves) // 4)
    grid, values = grid[running], values[:, running]
    if not len(grid):
        return
    low, middle, high = np.nanquantile(values, [0.16, 0.5, 0.84], axis=0)
    axes.plot(grid, middle, color=colour, label=f"{name} (median, 68 %)")
    axes.fill_between(grid, low, high, color=colour, alpha=0.2, linewidth=0)
