"""What the reference and the generator look like in every figure, showers or jets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cathode.page.drawing import nothing, step_band, step_line
from cathode.page.style import BLUE, DATA, GREY, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["GENERATED", "REFERENCE", "SHADE", "overlay", "ratio_grid", "ratio_panel", "ratio_reach"]

REFERENCE, GENERATED, SHADE = DATA, BLUE, "#D9DCE1"
Array = NDArray[np.float64]
T = TypeVar("T")
_COLUMNS = 4
# Width and height of one panel with its margins, and of the legend above all, in inches.
_PANEL = (3.3, 3.35)
_TOP = 0.3


def ratio_grid(shown: Sequence[T], draw: Callable[[Axes, Axes, T], None], *, empty: str) -> Figure:
    """A figure of many histograms, each with a panel for the ratio below it.

    Args:
        shown: What is drawn, one for each pair of panels.
        draw: Draws one into a main and a lower panel.
        empty: What is said where there is nothing to show.
    """
    columns = min(_COLUMNS, max(len(shown), 1))
    rows = -(-len(shown) // columns) or 1
    width, height = _PANEL[0] * columns, _PANEL[1] * rows + _TOP
    figure = new_figure(width, height)
    # Placed by hand: solving the layout of so many panels takes longer than drawing them.
    figure.set_layout_engine("none")
    if not shown:
        nothing(figure.subplots(), empty)
        return figure
    for place, one in enumerate(shown):
        left = (place % columns) * _PANEL[0] + 0.6
        bottom = (rows - 1 - place // columns) * _PANEL[1] + 0.55
        box = (left / width, (bottom + 0.82) / height, (_PANEL[0] - 0.72) / width, (_PANEL[1] - 1.5) / height)
        main = figure.add_axes(box)
        lower = figure.add_axes((box[0], bottom / height, box[2], 0.82 / height), sharex=main)
        main.tick_params(labelbottom=False)
        draw(main, lower, one)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper left", ncols=2, bbox_to_anchor=(0.4 / width, 1.0), fontsize=9.5)
    return figure


def overlay(
    axes: Axes,
    edges: Array,
    reference: ArrayLike,
    reference_error: ArrayLike,
    generated: ArrayLike,
    generated_error: ArrayLike,
    *,
    labels: bool = True,
) -> None:
    """Reference as a filled histogram, generated as a line with a band of one standard error."""
    first, second = np.asarray(reference, dtype=float), np.asarray(generated, dtype=float)
    error, other = np.asarray(reference_error, dtype=float), np.asarray(generated_error, dtype=float)
    axes.stairs(first, edges, fill=True, color=SHADE, label="reference" if labels else None, zorder=1)
    step_band(axes, edges, first - error, first + error, color=GREY, alpha=0.55, zorder=2)
    step_band(axes, edges, second - other, second + other, color=GENERATED, alpha=0.3, zorder=3)
    step_line(axes, edges, second, color=GENERATED, label="generated" if labels else None, zorder=4)


def ratio_panel(
    axes: Axes,
    edges: Array,
    reference: ArrayLike,
    reference_error: ArrayLike,
    generated: ArrayLike,
    generated_error: ArrayLike,
    *,
    widest: float = 1.0,
    label: str = "generated / reference",
) -> None:
    """Generated over reference; the grey band is the reference's own relative error.

    Args:
        axes: Lower panel.
        edges: Bin edges ``(n + 1,)``.
        reference, reference_error, generated, generated_error: Per bin ``(n,)``.
        widest: Largest half-width of the panel about 1.
        label: Of the vertical axis.
    """
    first, second = np.asarray(reference, dtype=float), np.asarray(generated, dtype=float)
    error, other = np.asarray(reference_error, dtype=float), np.asarray(generated_error, dtype=float)
    known = np.isfinite(first) & (first > 0)
    safe = np.where(known, first, 1.0)
    ratio, own = np.where(known, second / safe, np.nan), np.where(known, error / safe, np.nan)
    spread = np.where(known, other / safe, np.nan)
    own_band = np.nan_to_num(own)
    step_band(axes, edges, 1.0 - own_band, 1.0 + own_band, color=GREY, alpha=0.35)
    axes.axhline(1.0, color=REFERENCE, linewidth=0.9)
    half = ratio_reach(ratio, np.hypot(own, spread), widest=widest)
    centres = 0.5 * (edges[1:] + edges[:-1])
    inside = np.isfinite(ratio) & (np.abs(ratio - 1.0) <= half)
    axes.errorbar(
        centres[inside],
        ratio[inside],
        yerr=np.nan_to_num(spread[inside]),
        xerr=0.5 * np.diff(edges)[inside],
        fmt="none",
        color=GENERATED,
        elinewidth=1.2,
    )
    outside = np.isfinite(ratio) & ~inside
    for high, marker in ((True, "^"), (False, "v")):
        shown = outside & ((ratio > 1.0) == high)
        place = np.full(int(shown.sum()), 0.93 if high else 0.07)
        axes.plot(centres[shown], place, marker, color=GENERATED, markersize=3.5, transform=axes.get_xaxis_transform())
    axes.set_ylim(1.0 - half, 1.0 + half)
    axes.set_ylabel(label, loc="center", fontsize=8.5)


def ratio_reach(ratio: Array, error: Array, *, widest: float, least: float = 0.05) -> float:
    """Half-width of a ratio panel that shows what is well measured."""
    good = np.isfinite(ratio) & np.isfinite(error) & (error < 0.4)
    if not good.any():
        return min(0.5, widest)
    reach = float(np.quantile(np.abs(ratio[good] - 1.0) + error[good], 0.95))
    return min(max(1.3 * reach, least), widest)
