"""Classifier score in the signal region: data against template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cathode.page.drawing import (
    data_points,
    headroom,
    nothing,
    poisson_interval,
    ratio,
    ratio_limits,
    step_band,
    step_line,
)
from cathode.page.style import BLUE, SKY, new_figure, panels, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["score_figure"]


@styled
def score_figure(histogram: Mapping[str, NDArray[np.float64]]) -> Figure:
    """Score histogram with the ratio of data to template.

    Args:
        histogram: ``edges`` ``(n + 1,)``, ``data``, ``template``, ``template_error`` ``(n,)``, the template scaled to
            the data; an empty mapping gives an empty figure.
    """
    figure = new_figure(6.4, 4.8)
    ((main, lower),) = panels(figure)
    lower.set_xlabel("classifier score")
    if not histogram or len(histogram["data"]) == 0 or not np.nansum(histogram["data"]) > 0:
        nothing(main, "no scored events")
        nothing(lower, "")
        return figure
    edges = np.asarray(histogram["edges"], dtype=float)
    data, template, error = (np.asarray(histogram[k], dtype=float) for k in ("data", "template", "template_error"))
    centres = 0.5 * (edges[1:] + edges[:-1])
    low, high = poisson_interval(data)
    smallest = 0.4
    step_band(
        main,
        edges,
        np.maximum(template - error, smallest / 10),
        template + error,
        color=SKY,
        alpha=0.6,
        label="template uncertainty",
    )
    step_line(main, edges, template, color=BLUE, label="template")
    data_points(main, centres, np.where(data > 0, data, np.nan), low, high, label="data, signal region")
    main.set_yscale("log")
    main.set_ylim(smallest, max(float(np.nanmax(data)), float(np.nanmax(template)), 2.0) * 2)
    headroom(main, 0.2)
    main.set_ylabel("Events")
    main.legend(loc="upper right", ncols=3, columnspacing=1.2)

    values = ratio(data, template)
    below, above = ratio(low, template), ratio(high, template)
    limits = ratio_limits(values, 0.5 * (above - below), least=0.2)
    # An excess at high score is what the figure is for: the panel is opened upwards to show it.
    tall = values[np.isfinite(values) & (data >= 5)]
    highest = float(np.max(tall, initial=1.0))
    if highest > 4.0:
        lower.set_yscale("log")
        limits = (0.4, 1.8 * highest)
    else:
        limits = (max(limits[0], 0.0), max(limits[1], 1.15 * highest))
    width = np.nan_to_num(ratio(error, template))
    step_band(lower, edges, np.maximum(1 - width, 1e-3), 1 + width, color=SKY, alpha=0.6)
    lower.axhline(1.0, color=BLUE, linewidth=1.2)
    data_points(lower, centres, np.where(data > 0, values, np.nan), below, above, limits=limits)
    lower.set_ylim(*limits)
    if lower.get_yscale() == "log":
        lower.yaxis.set_major_formatter("{x:g}")
    lower.set_xlim(edges[0], edges[-1])
    lower.set_ylabel("data / template", loc="center", fontsize=9)
    return figure
