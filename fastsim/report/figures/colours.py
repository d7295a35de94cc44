"""What the reference and the generator look like in every figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cathode.page.drawing import step_band, step_line
from cathode.page.style import BLUE, DATA, GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["GENERATED", "REFERENCE", "SHADE", "overlay", "ratio_panel", "ratio_reach"]

REFERENCE, GENERATED, SHADE = DATA, BLUE, "#D9DCE1"
Array = NDArray[np.float64]


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
