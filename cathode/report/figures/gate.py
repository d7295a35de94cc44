"""The checks of the template gate on one scale: how far each value is from its warning and its failure limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cathode.page.drawing import nothing
from cathode.page.style import AMBER, GREEN, GREY, RED, new_figure, styled
from cathode.page.text import measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cathode.search.results import GateResult

__all__ = ["gate_figure"]

_COLOURS = {"pass": GREEN, "warn": AMBER, "fail": RED}
_LOW, _HIGH = -2.0, 2.0


@styled
def gate_figure(gate: GateResult) -> Figure:
    """Each check as ``(value - warn) / (fail - warn)``: below 0 passes, 0 to 1 warns, above 1 fails."""
    figure = new_figure(9.8, 1.2 + 0.36 * max(len(gate.checks), 1))
    axes = figure.subplots()
    if not gate.checks:
        nothing(axes, "no checks")
        return figure
    for start, end, colour in ((_LOW, 0.0, GREEN), (0.0, 1.0, AMBER), (1.0, _HIGH, RED)):
        axes.axvspan(start, end, color=colour, alpha=0.13, linewidth=0)
    for row, check in enumerate(gate.checks):
        colour = _COLOURS.get(check.status, GREY)
        span = check.fail - check.warn
        text = measured(check.value, check.error) if np.isfinite(check.value) else "not available"
        axes.text(1.012, row, text, va="center", fontsize=9, transform=axes.get_yaxis_transform())
        if not (np.isfinite(check.value) and np.isfinite(span) and span != 0):
            why = "for information" if np.isfinite(check.value) else "not available"
            axes.text(-1.0, row, why, color=GREY, ha="center", va="center", fontsize=9, style="italic")
            continue
        place = (check.value - check.warn) / span
        error = check.error / abs(span) if np.isfinite(check.error) else 0.0
        if _LOW < place < _HIGH:
            axes.errorbar([place], [row], xerr=[abs(error)], fmt="o", color=colour, markersize=6.5, elinewidth=1.4)
        else:
            edge, marker = (_HIGH - 0.05, ">") if place > 0 else (_LOW + 0.05, "<")
            axes.plot([edge], [row], marker, color=colour, markersize=8)
    axes.set_xlim(_LOW, _HIGH)
    axes.set_ylim(len(gate.checks) - 0.5, -0.5)
    axes.set_yticks(range(len(gate.checks)), [c.name.replace("$", r"\$") for c in gate.checks], fontsize=9.5)
    axes.set_xticks([-1.0, 0.0, 0.5, 1.0, 1.5], ["pass", "warning\nlimit", "warn", "failure\nlimit", "fail"])
    axes.tick_params(axis="both", which="both", length=0)
    axes.minorticks_off()
    for row in range(1, len(gate.checks)):
        axes.axhline(row - 0.5, color="white", linewidth=1.5)
    for limit, colour in ((0.0, AMBER), (1.0, RED)):
        axes.axvline(limit, color=colour, linewidth=1.1)
    return figure
