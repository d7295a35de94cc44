"""What reference and generated jets look like in every figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cathode.page.drawing import data_points, ratio, ratio_limits, step_band, step_line
from cathode.page.style import BLUE, DATA, GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["GENERATED", "REFERENCE", "overlay", "ratio_panel"]

REFERENCE, GENERATED = DATA, BLUE
_SHADE = "#D9DCE1"
Array = NDArray[np.float64]


def overlay(axes: Axes, edges: Array, reference: Array, reference_error: Array, generated: Array, error: Array) -> None:
    """Reference as a filled histogram, generated as a line, both with bands of one standard error."""
    axes.stairs(reference, edges, fill=True, color=_SHADE, label="reference", zorder=1)
    step_band(axes, edges, reference - reference_error, reference + reference_error, color=GREY, alpha=0.55, zorder=2)
    step_band(axes, edges, generated - error, generated + error, color=GENERATED, alpha=0.3, zorder=3)
    step_line(axes, edges, generated, color=GENERATED, label="generated", zorder=4)


def ratio_panel(
    axes: Axes, edges: Array, reference: Array, reference_error: Array, generated: Array, error: Array
) -> None:
    """Generated over reference; the grey band is the reference's own relative error."""
    values, own, spread = ratio(generated, reference), ratio(reference_error, reference), ratio(error, reference)
    band = np.nan_to_num(own)
    step_band(axes, edges, 1.0 - band, 1.0 + band, color=GREY, alpha=0.35)
    axes.axhline(1.0, color=REFERENCE, linewidth=0.9)
    limits = ratio_limits(values, np.hypot(own, spread))
    centres = 0.5 * (edges[1:] + edges[:-1])
    data_points(axes, centres, values, values - spread, values + spread, limits=limits, color=GENERATED, markersize=2.5)
    axes.set_ylim(*limits)
    axes.set_ylabel("ratio", loc="center", fontsize=8.5)
