"""Energy closure: mean and width of the total energy, and the mean of every layer, against the incident energy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cathode.page.drawing import nothing
from cathode.page.overlay import GENERATED, REFERENCE, ratio_reach
from cathode.page.style import GREY, ORANGE, new_figure, styled
from fastsim.evaluation.response import Response

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["layer_closure_figure", "response_figure"]


@styled
def response_figure(responses: Sequence[Response], *, left_out: float | None = None) -> Figure:
    """Mean and width of E_tot / E_inc per incident energy with their ratios.

    Args:
        responses: One per energy or interval.
        left_out: Incident energy in MeV that the generator was not trained on, marked by a band.
    """
    from matplotlib.ticker import NullFormatter

    figure = new_figure(10.6, 4.6)
    axes = figure.subplots(2, 2, sharex=True, height_ratios=(1.0, 0.55))
    figure.set_layout_engine("constrained", hspace=0.0, h_pad=0.03)
    if not responses:
        for one in axes.flat:
            nothing(one, "no energies in common")
        return figure
    energy = np.array([r.energy for r in responses]) / 1000.0
    for column, (name, label) in enumerate((("mean", "mean"), ("width", "standard deviation"))):
        main, lower = axes[0, column], axes[1, column]
        for sample, colour, marker in (("reference", REFERENCE, "o"), ("generated", GENERATED, "s")):
            values = np.array([getattr(getattr(r, sample), name) for r in responses])
            errors = np.array([getattr(getattr(r, sample), f"{name}_error") for r in responses])
            filled = "none" if sample == "generated" else colour
            main.errorbar(energy, values, yerr=errors, fmt=marker, color=colour, mfc=filled, ms=5, label=sample)
        ratios = np.array([getattr(r, f"{name}_ratio") for r in responses])
        goal = 0.01 if name == "mean" else 0.05
        lower.axhspan(1 - goal, 1 + goal, color=GREY, alpha=0.2, linewidth=0)
        lower.axhline(1.0, color=REFERENCE, linewidth=0.9)
        half = ratio_reach(ratios[:, 0], ratios[:, 1], widest=1.0, least=1.6 * goal)
        shown = np.clip(ratios[:, 0], 1 - 0.92 * half, 1 + 0.92 * half)
        lower.errorbar(energy, shown, yerr=np.nan_to_num(ratios[:, 1]), fmt="s", color=GENERATED, mfc="none", ms=4.5)
        lower.set_ylim(1 - half, 1 + half)
        main.set_xscale("log")
        main.set_ylabel(f"{label} of $E_{{tot}}/E_{{inc}}$")
        lower.set_ylabel("generated / reference", loc="center", fontsize=8.5)
        lower.set_xlabel("incident energy [GeV]")
        lower.xaxis.set_major_formatter("{x:g}")
        lower.xaxis.set_minor_formatter(NullFormatter())
        if left_out is not None:
            for one in (main, lower):
                one.axvspan(left_out / 1000 * 0.9, left_out / 1000 * 1.1, color=ORANGE, alpha=0.2, linewidth=0)
            main.text(
                left_out / 1000, 0.03, "left out", color=ORANGE, ha="center", fontsize=9,
                transform=main.get_xaxis_transform(),
            )  # fmt: skip
    axes[0, 0].legend()
    return figure


@styled
def layer_closure_figure(responses: Sequence[Response]) -> Figure:
    """Generated over reference mean energy of each layer at each incident energy, with how significant it is."""
    layers = [part.layer for part in responses[0].layers] if responses else []
    figure = new_figure(max(7.0, 2.4 + 0.26 * len(layers)), 1.6 + 0.36 * max(len(responses), 3))
    axes = figure.subplots()
    if not responses:
        nothing(axes, "no energies in common")
        return figure
    ratio = np.full((len(responses), len(layers)), np.nan)
    pull = np.full(ratio.shape, np.nan)
    for row, one in enumerate(responses):
        for column, part in enumerate(one.layers):
            first, second = part.reference, part.generated
            error = float(np.hypot(first.mean_error, second.mean_error))
            if first.mean > 0:
                ratio[row, column] = second.mean / first.mean
            if error > 0:
                pull[row, column] = (second.mean - first.mean) / error
    largest = float(np.nanmax(np.abs(pull))) if np.isfinite(pull).any() else 1.0
    reach = min(max(largest, 3.0), 10.0)
    drawn = axes.imshow(pull, cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="auto")
    figure.colorbar(drawn, ax=axes, pad=0.01, label="(generated − reference) / error")
    axes.set_xticks(range(len(layers)), labels=[str(i) for i in layers], fontsize=10 if len(layers) < 20 else 7)
    labels = [f"{r.energy / 1000:.3g}" for r in responses]
    axes.set_yticks(range(len(responses)), labels=labels)
    axes.tick_params(which="both", length=0)
    axes.minorticks_off()
    axes.set_xlabel("layer")
    axes.set_ylabel("incident energy [GeV]")
    if len(layers) <= 12:
        for row in range(len(responses)):
            for column in range(len(layers)):
                if np.isfinite(ratio[row, column]):
                    dark = abs(pull[row, column]) > 0.6 * reach
                    axes.text(
                        column, row, f"{ratio[row, column]:.3f}", ha="center", va="center", fontsize=8.5,
                        color="white" if dark else "black",
                    )  # fmt: skip
    return figure
