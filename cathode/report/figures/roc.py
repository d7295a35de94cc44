"""Background rejection against signal efficiency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cathode.page.drawing import nothing
from cathode.page.style import GREY, new_figure, styled
from cathode.report.figures.truth import reach, series_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cathode.search.results import TruthResult

__all__ = ["roc_figure"]


@styled
def roc_figure(truth: TruthResult) -> Figure:
    """ROC curve of the search and of its references with bands over folds (of eps_S at fixed eps_B)."""
    figure = new_figure(5.8, 4.6)
    axes = figure.subplots()
    drawn = False
    for series, label, colour, dashes in series_of(truth):
        roc = series.roc
        usable = np.isfinite(roc.x) & (roc.x > 0) & np.isfinite(roc.y)
        if not usable.any():
            continue
        drawn = True
        rejection = 1.0 / roc.x[usable]
        look: dict[str, Any] = {"color": colour, "linestyle": dashes}
        name = f"{label} (AUC {series.auc:.3f})" if np.isfinite(series.auc) else label
        axes.plot(roc.y[usable], rejection, label=name, **look)
        axes.fill_betweenx(rejection, roc.low[usable], roc.high[usable], color=colour, alpha=0.16, linewidth=0)
    if not drawn:
        nothing(axes, "no curve")
        return figure
    grid = np.geomspace(1e-6, 1.0, 400)
    axes.plot(grid, 1.0 / grid, color=GREY, linestyle=":", label="random")
    limit = reach(truth)
    top = 6.0 / limit if np.isfinite(limit) and limit < 1 else 1e5
    if np.isfinite(limit) and limit < 1:
        axes.axhspan(1.0 / limit, top, color=GREY, alpha=0.15, linewidth=0)
        axes.text(0.97, 0.75 * top, "background error > 20 %", fontsize=8.5, color=GREY, va="top", ha="right")
    axes.set_yscale("log")
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(1.0, top)
    axes.set_xlabel(r"signal efficiency $\varepsilon_S$")
    axes.set_ylabel(r"background rejection $1/\varepsilon_B$")
    axes.legend(loc="lower center", bbox_to_anchor=(0.48, 1.0), ncols=2, columnspacing=1.5)
    return figure
