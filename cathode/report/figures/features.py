"""Data against template, one figure per feature: signal region and sidebands side by side, ratio below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cathode.page.drawing import corner, data_points, headroom, nothing, ratio, ratio_limits, step_band, step_line
from cathode.page.style import BLUE, ORANGE, SKY, new_figure, panels, styled
from cathode.report.labels import feature_label, width_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cathode.search.results import FeatureHistogram

__all__ = ["feature_figure"]


@styled
def feature_figure(histograms: Sequence[FeatureHistogram]) -> Figure:
    """One feature in each of its regions.

    Args:
        histograms: The histograms of one feature, one per region, drawn from left to right.
    """
    figure = new_figure(4.9 * max(len(histograms), 1), 4.4)
    pairs = panels(figure, max(len(histograms), 1))
    for histogram, (main, lower) in zip(histograms, pairs, strict=False):
        _draw(histogram, main, lower)
    if not histograms:
        nothing(pairs[0][0], "no histogram")
    return figure


def _draw(histogram: FeatureHistogram, main: Axes, lower: Axes) -> None:
    edges = histogram.edges
    lower.set_xlabel(feature_label(histogram.feature, histogram.unit))
    if len(histogram.data) == 0 or not np.nansum(histogram.data) > 0:
        nothing(main, f"no events in the {histogram.region}")
        nothing(lower, "")
        return
    label, widths = width_label(edges, histogram.unit)
    main.set_ylabel(label)
    centres = 0.5 * (edges[1:] + edges[:-1])
    data, template = histogram.data / widths, histogram.template / widths
    statistical = histogram.template_error / widths
    total = np.hypot(statistical, histogram.template_model_error / widths)
    model = bool(np.any(histogram.template_model_error > 0))

    if model:
        step_band(main, edges, template - total, template + total, color=ORANGE, alpha=0.45, label="⊕ model spread")
    step_band(main, edges, template - statistical, template + statistical, color=SKY, alpha=0.6, label="template stat.")
    step_line(main, edges, template, color=BLUE, label="template")
    errors = histogram.data_error / widths
    data_points(main, centres, data, data - errors, data + errors, label="data")
    if _wants_log(template):
        main.set_yscale("log")
        positive = np.concatenate([data[data > 0], template[template > 0]])
        main.set_ylim(max(positive.min(), 1e-4 * positive.max()) / 2, positive.max() * 1.6)
    else:
        main.set_ylim(0, np.nanmax(np.concatenate([data + errors, template + total])) * 1.04)
    headroom(main, 0.27)
    corner(main, histogram.region.capitalize(), fontweight="bold", fontsize=10.5)
    order = ["data", "template", "template stat.", "⊕ model spread"]
    handles = dict(zip(*reversed(main.get_legend_handles_labels()), strict=True))
    names = [n for n in order if n in handles]
    main.legend([handles[n] for n in names], names, loc="upper right", ncols=2, columnspacing=1.2)

    values, value_errors = ratio(data, template), ratio(errors, template)
    limits = ratio_limits(values, value_errors)
    for band, colour, alpha in ((total, ORANGE, 0.45), (statistical, SKY, 0.6)):
        width = np.nan_to_num(ratio(band, template))
        if band is statistical or model:
            step_band(lower, edges, 1 - width, 1 + width, color=colour, alpha=alpha)
    lower.axhline(1.0, color=BLUE, linewidth=1.2)
    data_points(lower, centres, values, values - value_errors, values + value_errors, limits=limits)
    lower.set_ylim(*limits)
    lower.set_ylabel("data / template", loc="center", fontsize=9)
    lower.set_xlim(edges[0], edges[-1])


def _wants_log(template: np.ndarray) -> bool:
    """A falling spectrum whose bins mostly vanish on a linear axis."""
    top = np.nanmax(template)
    return bool(top > 0 and np.mean(template < 0.01 * top) > 0.5)
