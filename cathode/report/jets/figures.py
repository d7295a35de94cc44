"""The figures of an evaluation of jets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cathode.jets.evaluation.results import Images, JetsEvaluation, PairedHistogram, Ranks, Score
from cathode.page.drawing import corner, headroom, nothing
from cathode.page.overlay import GENERATED, REFERENCE, overlay, ratio_grid, ratio_panel
from cathode.page.style import BLUE, GREY, ORANGE, new_figure, panels, styled
from cathode.page.text import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["all_figures", "histograms_figure", "images_figure", "ranks_figure", "scores_figure"]

_DECADES = 1.7
# Pixels of an image that the ratio takes together, in each direction.
_BLOCK = 4


def all_figures(result: JetsEvaluation) -> dict[str, Figure]:
    """Every figure by file name (without suffix), in the order of the report."""
    return {
        "scores": scores_figure(result.scores),
        "substructure": histograms_figure([h for h in result.histograms if h.kind == "jet"]),
        "constituents": histograms_figure([h for h in result.histograms if h.kind == "constituent"]),
        "ranks": ranks_figure(result.ranks),
        "images": images_figure(result.images),
    }


@styled
def scores_figure(scores: Sequence[Score]) -> Figure:
    """Every distance with a floor as a multiple of it."""
    from matplotlib.ticker import NullLocator

    shown = [
        s
        for s in scores
        if s.better == "low" and s.floor is not None and s.floor > 0 and np.isfinite(s.value) and s.value > 0
    ]
    figure = new_figure(8.0, 1.2 + 0.32 * max(len(shown), 2))
    axes = figure.subplots()
    if not shown:
        nothing(axes, "no distance has a floor to compare with")
        return figure
    places = np.arange(len(shown))[::-1]
    floors = np.array([s.floor for s in shown], dtype=float)
    values = np.array([s.value for s in shown]) / floors
    errors = np.nan_to_num(np.array([s.error for s in shown])) / floors
    own = np.nan_to_num(np.array([s.floor_error or 0.0 for s in shown])) / floors
    axes.barh(places, 2 * own, left=1.0 - own, height=0.6, color=ORANGE, alpha=0.3, linewidth=0)
    axes.axvline(1.0, color=ORANGE, linewidth=1.2, label="truth against truth")
    # Errors of distances near zero reach below it, which a logarithmic axis cannot show.
    low = np.minimum(errors, 0.9 * values)
    axes.errorbar(values, places, xerr=[low, errors], fmt="o", color=BLUE, markersize=5, label="generated")
    axes.set_xscale("log")
    reach = max(float((values + errors).max()), float(1.0 / (values - low).min()), 2.0) * 1.15
    axes.set_xlim(1.0 / reach, reach)
    ticks = [t for t in (0.01, 0.03, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 100, 300, 1000) if 1.0 / reach < t < reach]
    axes.set_xticks(ticks, labels=[f"{t:g}" for t in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(places, labels=[s.label for s in shown], fontsize=9)
    axes.tick_params(axis="y", which="both", length=0)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlabel("distance / distance of truth from truth")
    figure.legend(loc="outside upper right", ncols=2)
    return figure


@styled
def histograms_figure(shown: Sequence[PairedHistogram]) -> Figure:
    """One panel per histogram, with the ratio below it."""
    return ratio_grid(shown, _draw, empty="no histograms")


@styled
def ranks_figure(ranks: Ranks) -> Figure:
    """Mean momentum by rank, and how many jets have so many constituents."""
    figure = new_figure(10.0, 4.3)
    pairs = panels(figure, 2)
    edges = np.arange(len(ranks.reference) + 1, dtype=np.float64) + 0.5
    zero = np.zeros(len(ranks.reference))
    for (main, lower), values, label in (
        (
            pairs[0],
            (ranks.reference, ranks.reference_error, ranks.generated, ranks.generated_error),
            "mean pT / jet pT",
        ),
        (pairs[1], (ranks.reference_filled, zero, ranks.generated_filled, zero), "share of jets with so many"),
    ):
        overlay(main, edges, *values)
        ratio_panel(lower, edges, *values, label="ratio")
        main.set_ylabel(label)
        lower.set_xlabel("constituent by falling pT")
        lower.set_xlim(edges[0], edges[-1])
    if (ranks.reference > 0).any():
        pairs[0][0].set_yscale("log")
    pairs[0][0].legend(loc="upper right")
    return figure


@styled
def images_figure(images: Images) -> Figure:
    """Mean pictures of reference and generated jets, and their ratio."""
    from matplotlib.colors import LogNorm

    figure = new_figure(12.0, 3.9)
    axes = figure.subplots(1, 3)
    filled = np.concatenate([images.reference[images.reference > 0], images.generated[images.generated > 0]])
    if not len(filled):
        for one in axes:
            nothing(one, "no constituents within reach")
        return figure
    norm = LogNorm(float(np.quantile(filled, 0.02)), float(filled.max()))
    edges = images.edges
    for one, values, title in ((axes[0], images.reference, "reference"), (axes[1], images.generated, "generated")):
        drawn = np.where(values > 0, values, np.nan).T
        shown = one.pcolormesh(edges, edges, drawn, norm=norm, cmap="viridis", rasterized=True)
        one.set_title(title)
        figure.colorbar(shown, ax=one, shrink=0.8).set_label("mean share of the jet pT", loc="center", fontsize=9.5)
    # Coarser: single pixels far from the axis hold few constituents.
    coarse = [_blocks(values) for values in (images.reference, images.generated)]
    ratio = np.divide(coarse[1], coarse[0], out=np.full(coarse[0].shape, np.nan), where=coarse[0] > 0)
    edges = edges[::_BLOCK]
    shown = axes[2].pcolormesh(edges, edges, ratio.T, vmin=0.5, vmax=1.5, cmap="RdBu_r", rasterized=True)
    axes[2].set_title("generated / reference")
    figure.colorbar(shown, ax=axes[2], shrink=0.8).set_label("ratio", loc="center", fontsize=9.5)
    for one in axes:
        one.set_aspect("equal")
        one.set_xlabel("η − jet η")
        one.set_ylabel("φ − jet φ")
        one.tick_params(color=GREY)
    return figure


def _blocks(values: np.ndarray) -> np.ndarray:
    """Sums over squares of pixels."""
    size = len(values) // _BLOCK
    return np.asarray(values.reshape(size, _BLOCK, size, _BLOCK).sum(axis=(1, 3)))


def _draw(main: Axes, lower: Axes, one: PairedHistogram) -> None:
    from matplotlib.ticker import NullLocator

    totals = [
        max(float(counts.sum()) + sum(outside), 1.0)
        for counts, outside in zip((one.reference, one.generated), one.outside, strict=True)
    ]
    widths = np.diff(np.log10(one.edges)) if one.logarithmic else np.diff(one.edges)
    first, second = (c / (t * widths) for c, t in zip((one.reference, one.generated), totals, strict=True))
    errors = [e / (t * widths) for e, t in zip((one.reference_error, one.generated_error), totals, strict=True)]
    overlay(main, one.edges, first, errors[0], second, errors[1])
    ratio_panel(lower, one.edges, first, errors[0], second, errors[1], label="ratio")
    if one.logarithmic:
        main.set_xscale("log")
    largest = max(float(first.max(initial=0.0)), float(second.max(initial=0.0)))
    filled = first[first > 0]
    if len(filled) and largest > 10**_DECADES * float(np.median(filled)):
        main.set_yscale("log")
        main.set_ylabel("log scale", loc="center", fontsize=8)
    elif largest > 0:
        main.set_ylim(0, 1.05 * largest)
    headroom(main, 0.2)
    # Minor ticks are most of the time that so many panels take.
    for axis in (main.yaxis, lower.yaxis, *(() if one.logarithmic else (main.xaxis,))):
        axis.set_minor_locator(NullLocator())
    main.yaxis.set_ticklabels([])
    lower.set_xlim(one.edges[0], one.edges[-1])
    lower.set_xlabel(f"{one.label} [{one.unit}]" if one.unit else one.label, loc="center", fontsize=9.5)
    text = f"W1 = {number(one.w1.value, digits=2)} σ"
    if one.floor is not None:
        text += f" (truth {number(one.floor, digits=2)})"
    # What chance gives is known for jets only: constituents of one jet are correlated.
    far = one.kind == "constituent" or one.w1.pull > 3
    far = far and (one.floor is None or one.w1.value > 2 * one.floor)
    corner(main, text, x=0.97, ha="right", fontsize=8.5, color=GENERATED if far else REFERENCE)
