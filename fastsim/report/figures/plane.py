"""Quality against time: this generator among the published ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cathode.page.drawing import nothing
from cathode.page.style import BLUE, GREY, RED, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Point", "plane_figure"]


@dataclass(frozen=True)
class Point:
    """One generator in the plane.

    Attributes:
        name: Of the generator.
        milliseconds: Per shower.
        auc: Area under the ROC curve.
        own: Whether it is the one that was evaluated.
    """

    name: str
    milliseconds: float
    auc: float
    own: bool = False


@styled
def plane_figure(points: Sequence[Point], *, auc_label: str, time_label: str) -> Figure:
    """Area under the ROC curve against milliseconds per shower; lower left is better.

    Args:
        points: Generators; those without a time or an area are left out.
        auc_label: Which area.
        time_label: Which time.
    """
    figure = new_figure(7.6, 5.2)
    axes = figure.subplots()
    axes.set_xlabel(time_label)
    axes.set_ylabel(auc_label)
    known = [p for p in points if np.isfinite(p.milliseconds) and p.milliseconds > 0 and np.isfinite(p.auc)]
    if not known:
        nothing(axes, "neither time nor area known")
        return figure
    front = _front(known)
    axes.set_xscale("log")
    times = np.array([p.milliseconds for p in known])
    axes.set_xlim(times.min() / 2.5, times.max() * 6)
    axes.set_ylim(min(0.49, min(p.auc for p in known) - 0.01), 1.04)
    axes.axhline(0.5, color=GREY, linewidth=0.9, linestyle="--")
    axes.step(*front, where="post", color=GREY, linewidth=1.0, linestyle=":", label="best published so far")
    drawn: list[Point] = []
    for point in sorted(known, key=lambda p: p.milliseconds):
        # Below and to the left where the label of a neighbour already is.
        crowded = any(
            abs(np.log10(point.milliseconds / other.milliseconds)) < 0.35 and abs(point.auc - other.auc) < 0.022
            for other in drawn
        )
        drawn.append(point)
        offset = (-5, -12) if crowded else (8 if point.own else 5, 4)
        marker, colour, size = ("*", RED, 17) if point.own else ("o", BLUE, 6)
        axes.plot(point.milliseconds, point.auc, marker, color=colour, markersize=size, zorder=5 if point.own else 3)
        axes.annotate(
            point.name, (point.milliseconds, point.auc), xytext=offset, textcoords="offset points",
            fontsize=10.5 if point.own else 8.5,
            fontweight="bold" if point.own else "normal", color=colour if point.own else "black", zorder=6,
        )  # fmt: skip
    if len(front[0]) > 1:
        axes.legend(loc="upper right")
    return figure


def _front(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Lowest area among the published generators that are at most so slow."""
    times: list[float] = []
    areas: list[float] = []
    for point in sorted((p for p in points if not p.own), key=lambda p: p.milliseconds):
        if not areas or point.auc < areas[-1]:
            times.append(point.milliseconds)
            areas.append(point.auc)
    return times, areas
