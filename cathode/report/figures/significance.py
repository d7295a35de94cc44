"""Observed against expected, and the significance, for each working point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cathode.page.drawing import nothing, poisson_interval, ratio
from cathode.page.style import BLUE, DATA, GREY, ORANGE, RED, SKY, new_figure, styled
from cathode.report.labels import efficiency_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cathode.search.results import WorkingPoint

__all__ = ["significance_figure"]


@styled
def significance_figure(points: Sequence[WorkingPoint]) -> Figure:
    """One row per working point: observed over expected with the uncertainties of both, and Z by both methods."""
    figure = new_figure(9.8, 1.7 + 0.72 * max(len(points), 1))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.15, 1.0))
    points = sorted(points, key=lambda p: -p.background_efficiency)
    if not points:
        nothing(left, "no working point")
        nothing(right, "no working point")
        return figure
    rows = np.arange(len(points), dtype=float)
    _draw_ratio(left, points, rows)
    _draw_significance(right, points, rows)
    left.set_yticks(rows, [efficiency_label(p.background_efficiency) for p in points])
    left.set_ylim(len(points) - 0.45, -0.55)
    for axes in (left, right):
        for row in rows[1:]:
            axes.axhline(row - 0.5, color="#d1d5db", linewidth=0.8)
        axes.tick_params(axis="y", which="both", length=0)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, columnspacing=1.2, handletextpad=0.5)
    return figure


def _draw_ratio(axes: Axes, points: Sequence[WorkingPoint], rows: np.ndarray) -> None:
    expected = np.array([p.expected for p in points], dtype=float)
    observed = np.array([p.observed for p in points], dtype=float)
    total = np.nan_to_num(ratio([p.expected_error for p in points], expected))
    statistical = np.nan_to_num(ratio([p.statistical_error for p in points], expected))
    low, high = poisson_interval(observed)
    axes.barh(rows, 2 * total, left=1 - total, height=0.5, color=ORANGE, alpha=0.45, label="expected, total")
    axes.barh(rows, 2 * statistical, left=1 - statistical, height=0.5, color=SKY, alpha=0.8, label="stat.")
    axes.axvline(1.0, color=BLUE, linewidth=1.2)
    values = ratio(observed, expected)
    shown = np.isfinite(values)
    errors = np.nan_to_num(np.maximum([ratio(observed - low, expected), ratio(high - observed, expected)], 0.0))
    axes.errorbar(
        values[shown],
        rows[shown],
        xerr=errors[:, shown],
        fmt="o",
        color=DATA,
        markersize=5,
        elinewidth=1.2,
        label="observed",
    )
    ends = np.concatenate([[0.8, 1.2], 1 - total, 1 + total, (values - errors[0])[shown], (values + errors[1])[shown]])
    span = float(ends.max() - ends.min())
    axes.set_xlim(float(ends.min()) - 0.06 * span, float(ends.max()) + 0.06 * span)
    for row, point in zip(rows, points, strict=True):
        text = f"{point.observed:,.0f} observed, {point.expected:,.1f} ± {point.expected_error:,.1f} expected"
        axes.annotate(
            text,
            (0.985, row + 0.36),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="center",
            fontsize=8.5,
            color="#374151",
        )
    axes.set_xlabel("observed / expected")


def _draw_significance(axes: Axes, points: Sequence[WorkingPoint], rows: np.ndarray) -> None:
    direct = np.array([p.significance for p in points], dtype=float)
    fitted = np.array([p.fit.significance if p.fit is not None else np.nan for p in points], dtype=float)
    finite = np.concatenate([direct, fitted])
    finite = finite[np.isfinite(finite)]
    top = max(5.8, 1.12 * float(np.max(finite, initial=0.0)))
    bottom = min(-0.6, 1.15 * float(np.min(finite, initial=0.0)))
    axes.set_xlim(bottom, top)
    for level in (3, 5):
        axes.axvline(level, color=GREY, linewidth=0.9, linestyle="--")
        axes.annotate(
            f"{level} σ",
            (level, 0.02),
            xycoords=("data", "axes fraction"),
            xytext=(3, 0),
            textcoords="offset points",
            fontsize=8.5,
            color=GREY,
        )
    axes.axvline(0.0, color=DATA, linewidth=0.8)
    for values, offset, colour, marker, name in (
        (direct, -0.1, RED, "o", "cut and count"),
        (fitted, 0.12, BLUE, "s", "sideband fit"),
    ):
        shown = np.isfinite(values)
        axes.hlines(rows[shown] + offset, 0.0, values[shown], color=colour, linewidth=2.2, alpha=0.5)
        axes.plot(values[shown], rows[shown] + offset, marker, color=colour, markersize=6, label=name)
        for row, value in zip(rows, values, strict=True):
            if value == np.inf:
                axes.plot([top], [row + offset], ">", color=colour, markersize=7, clip_on=False)
    axes.set_xlabel("local significance Z [σ]")
