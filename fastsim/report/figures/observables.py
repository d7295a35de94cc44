"""Every observable of both samples, with the ratio below; and all separation powers in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cathode.comparison.estimate import Estimate
from cathode.page.drawing import corner, headroom, nothing
from cathode.page.overlay import overlay, ratio_grid, ratio_panel
from cathode.page.style import BLUE, GREY, ORANGE, RED, new_figure, styled
from cathode.page.text import number
from fastsim.evaluation.separation import PairedHistogram, SeparationPower

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["KINDS", "groups", "observables_figure", "separations_figure"]

#: Kinds of observables in words, in the order of the report.
KINDS = {
    "energy-total": "total energy",
    "energy-voxel": "voxel energies",
    "energy-layer": "layer energies",
    "centre-x": "centre of energy, first axis",
    "centre-y": "centre of energy, second axis",
    "centre-r": "mean radius",
    "width-x": "width, first axis",
    "width-y": "width, second axis",
    "width-r": "width in radius",
    "sparsity": "sparsity",
    "asymmetry": "asymmetry",
    "hottest": "hottest voxel",
    "centre-z": "longitudinal centre",
    "width-z": "longitudinal width",
}
# Panels per figure; layers beyond are thinned evenly.
_MOST_PANELS = 8


def groups(separations: Sequence[SeparationPower]) -> dict[str, list[SeparationPower]]:
    """Observables by figure: the whole shower, the total energy per incident energy, and each kind per layer."""
    found: dict[str, list[SeparationPower]] = {"shower": [], "response": []}
    for one in separations:
        if one.energy is not None:
            found["response"].append(one)
        elif one.layer is None:
            found["shower"].append(one)
        else:
            found.setdefault(one.kind, []).append(one)
    return {name: members for name, members in found.items() if members}


@styled
def observables_figure(members: Sequence[SeparationPower]) -> Figure:
    """Histograms of both samples, normalised to one, with ratio panels; what lies outside is said in each panel."""
    shown = _thinned(members)
    return ratio_grid(shown, _draw, empty="no observables")


@styled
def separations_figure(separations: Sequence[SeparationPower], floor: Mapping[str, Estimate] | None) -> Figure:
    """Separation power of every observable with its error, what chance gives, and what halves of the reference gave."""
    usable = [s for s in separations if s.energy is None and np.isfinite(s.power.value)]
    kinds = [k for k in KINDS if any(s.kind == k for s in usable)]
    figure = new_figure(9.6, 1.6 + 0.34 * max(len(kinds), 4))
    axes = figure.subplots()
    if not usable:
        nothing(axes, "no observables")
        return figure
    for place, kind in enumerate(reversed(kinds)):
        members = [s for s in usable if s.kind == kind]
        offsets = np.linspace(-0.28, 0.28, len(members)) if len(members) > 1 else np.zeros(1)
        values = np.array([s.power.value for s in members])
        errors = np.array([s.power.error for s in members])
        expected = np.array([s.power.expected for s in members])
        high = values > expected + 3 * errors
        for chosen, colour in ((~high, BLUE), (high, RED)):
            axes.errorbar(
                values[chosen],
                place + offsets[chosen],
                xerr=errors[chosen],
                fmt="o",
                ms=4,
                color=colour,
                elinewidth=0.9,
            )
        axes.plot(expected, place + offsets, "|", color=GREY, markersize=7)
        if floor:
            known = [(floor[s.name].value, o) for s, o in zip(members, offsets, strict=True) if s.name in floor]
            axes.plot([v for v, _ in known], [place + o for _, o in known], "x", color=ORANGE, markersize=4)
    positive = [s.power.value for s in usable if s.power.value > 0] + [
        s.power.expected for s in usable if s.power.expected > 0
    ]
    axes.set_xscale("log")
    if positive:
        axes.set_xlim(min(positive) / 3, max(max(positive) * 3, 1e-2))
    axes.set_yticks(range(len(kinds)), labels=[KINDS[k] for k in reversed(kinds)])
    axes.tick_params(axis="y", which="both", length=0)
    axes.set_ylim(-0.6, len(kinds) - 0.4)
    for place in range(len(kinds) - 1):
        axes.axhline(place + 0.5, color=GREY, linewidth=0.4, alpha=0.5)
    axes.set_xlabel("separation power")
    handles = [
        axes.plot([], [], "o", color=BLUE, ms=4, label="generated, as for the same distribution")[0],
        axes.plot([], [], "o", color=RED, ms=4, label="generated, more than 3 errors above chance")[0],
        axes.plot([], [], "|", color=GREY, ms=7, label="expected by chance")[0],
    ]
    if floor:
        handles.append(axes.plot([], [], "x", color=ORANGE, ms=4, label="halves of the reference")[0])
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), fontsize=8.5, columnspacing=1.0)
    return figure


def _draw(main: Axes, lower: Axes, one: SeparationPower) -> None:
    from matplotlib.ticker import NullLocator

    histogram = one.histogram
    totals = [_total(histogram.reference, histogram.reference_outside)]
    totals.append(_total(histogram.generated, histogram.generated_outside))
    widths = np.diff(np.log10(histogram.edges)) if histogram.logarithmic else np.diff(histogram.edges)
    scale = [1.0 / (t * widths) for t in totals]
    first, second = histogram.reference * scale[0], histogram.generated * scale[1]
    errors = [np.sqrt(c) * s for c, s in zip((histogram.reference, histogram.generated), scale, strict=True)]
    values = (first, errors[0], second, errors[1])
    edges = histogram.edges
    overlay(main, edges, *values)
    ratio_panel(lower, edges, *values, label="ratio")
    if histogram.logarithmic:
        main.set_xscale("log")
    filled = np.concatenate([first[first > 0], second[second > 0]])
    if len(filled) and (one.kind == "energy-voxel" or filled.max() > 3e3 * np.median(filled)):
        main.set_yscale("log")
    elif len(filled):
        main.set_ylim(0, 1.05 * filled.max())
    lower.set_xlim(*_window(edges, first, second))
    headroom(main, 0.24)
    # Minor ticks are most of the time that so many panels take.
    for axis in (main.yaxis, lower.yaxis, *(() if histogram.logarithmic else (main.xaxis,))):
        axis.set_minor_locator(NullLocator())
    main.yaxis.set_ticklabels([])
    label = f"{one.label} [{one.unit}]" if one.unit else one.label
    lower.set_xlabel(label, loc="center", fontsize=9.5)
    lower.set_ylabel("ratio", loc="center", fontsize=8)
    corner(main, f"S = {number(1000 * one.power.value, digits=2)} × 10⁻³", x=0.97, ha="right", fontsize=8.5)
    _say_outside(main, histogram, totals)


def _say_outside(axes: Axes, histogram: PairedHistogram, totals: Sequence[float]) -> None:
    lines = []
    for name, k in (("zero", 2), ("below", 0), ("above", 1)):
        shares = [
            o[k] / t for o, t in zip((histogram.reference_outside, histogram.generated_outside), totals, strict=True)
        ]
        if max(shares) >= 5e-4:
            lines.append(f"{name}: {100 * shares[0]:.2g} | {100 * shares[1]:.2g} %")
    if lines:
        corner(axes, "\n".join(lines), x=0.97, y=0.86, ha="right", fontsize=7.5, color=GREY)


def _window(edges: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Where the bins are filled, with a bin to spare."""
    filled = np.flatnonzero((first > 0) | (second > 0))
    if not len(filled):
        return float(edges[0]), float(edges[-1])
    return float(edges[max(filled[0] - 1, 0)]), float(edges[min(filled[-1] + 2, len(edges) - 1)])


def _total(inside: np.ndarray, outside: np.ndarray) -> float:
    return max(float(inside.sum() + outside.sum()), 1.0)


def _thinned(members: Sequence[SeparationPower]) -> list[SeparationPower]:
    if len(members) <= _MOST_PANELS:
        return list(members)
    if members[0].layer is None:
        # Not layers of one kind: all are different, all are shown.
        return list(members)
    energy = np.linspace(0, len(members) - 1, _MOST_PANELS)
    return [members[round(float(k))] for k in energy]
