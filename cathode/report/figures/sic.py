"""Significance improvement eps_S / sqrt(eps_B), against the signal efficiency and against the background rejection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cathode.page.drawing import nothing, ratio
from cathode.page.style import GREY, new_figure, styled
from cathode.report.figures.truth import reach, series_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cathode.search.results import TruthResult

__all__ = ["sic_figure"]


@styled
def sic_figure(truth: TruthResult) -> Figure:
    """SIC of the search and of its references with bands over folds.

    Where fewer than 25 test events of background are left (error above 20 %), the right-hand panel is shaded and curves
    are not to be trusted.
    """
    figure = new_figure(9.8, 4.3)
    left, right = figure.subplots(1, 2, sharey=True)
    top = 0.0
    grid = np.geomspace(1e-6, 1.0, 400)
    limit = reach(truth)
    for series, label, colour, dashes in series_of(truth):
        look: dict[str, Any] = {"color": colour, "linestyle": dashes, "label": label}
        curve = series.sic_curve
        if len(curve.x):
            # eps_B = (eps_S / SIC)²: beyond the reach of the test events the curve is drawn faintly.
            counted = ~(ratio(curve.x, curve.y) ** 2 < limit)
            left.plot(curve.x, np.where(counted, curve.y, np.nan), **look)
            left.plot(curve.x, np.where(counted, np.nan, curve.y), **{**look, "label": None, "alpha": 0.3})
            left.fill_between(curve.x, curve.low, curve.high, where=counted, color=colour, alpha=0.16, linewidth=0)
        roc = series.roc
        usable = np.isfinite(roc.x) & (roc.x > 0) & np.isfinite(roc.y)
        if usable.any():
            eps_b = roc.x[usable]
            scale = 1.0 / np.sqrt(eps_b)
            right.plot(1.0 / eps_b, roc.y[usable] * scale, **look)
            right.fill_between(
                1.0 / eps_b, roc.low[usable] * scale, roc.high[usable] * scale, color=colour, alpha=0.16, linewidth=0
            )
            counted = eps_b >= limit if np.isfinite(limit) else np.ones_like(eps_b, dtype=bool)
            shown = np.fmax(np.nan_to_num(roc.high[usable]), roc.y[usable]) * scale
            top = max(top, float(np.max(shown[counted], initial=0.0)))
        top = max(top, series.max_sic if np.isfinite(series.max_sic) else 0.0)
    if top <= 0:
        nothing(left, "no curve")
        nothing(right, "no curve")
        return figure
    left.plot(grid, np.sqrt(grid), color=GREY, linestyle=":", label="random")
    right.plot(1.0 / grid, np.sqrt(grid), color=GREY, linestyle=":", label="random")
    left.set_xlim(0.0, 1.0)
    left.set_ylim(0.0, 1.12 * max(top, 1.0))
    left.set_xlabel(r"signal efficiency $\varepsilon_S$")
    left.set_ylabel(r"SIC  $\varepsilon_S\,/\,\sqrt{\varepsilon_B}$")
    _rejection_axis(right, truth, limit)
    left.legend(loc="upper right")
    return figure


def _rejection_axis(axes: Axes, truth: TruthResult, limit: float) -> None:
    axes.set_xscale("log")
    axes.set_xlabel(r"background rejection $1/\varepsilon_B$")
    end = 1e5
    if np.isfinite(limit) and limit < 1:
        end = 6.0 / limit
        axes.axvspan(1.0 / limit, end, color=GREY, alpha=0.15, linewidth=0)
        axes.axvline(1.0 / limit, color=GREY, linewidth=0.9)
        axes.text(
            1.08 / limit,
            0.05,
            "background\nerror > 20 %",
            transform=axes.get_xaxis_transform(),
            va="bottom",
            fontsize=8.5,
            color=GREY,
        )
    axes.set_xlim(1.0, end)
