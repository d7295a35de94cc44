"""Profiles with ratio panels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cathode.page.drawing import headroom, nothing
from cathode.page.overlay import overlay, ratio_panel
from cathode.page.style import new_figure, panels, styled
from fastsim.evaluation.profiles import Profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["profiles_figure"]


@styled
def profiles_figure(profiles: Sequence[Profile]) -> Figure:
    """Profiles side by side, each with the ratio of generated to reference below it."""
    figure = new_figure(4.3 * max(len(profiles), 1), 4.4)
    if not profiles:
        nothing(figure.subplots(), "no profiles")
        return figure
    for number, (profile, (main, lower)) in enumerate(zip(profiles, panels(figure, len(profiles)), strict=True)):
        _draw(main, lower, profile)
        if number == 0:
            main.legend(loc="upper right")
    return figure


def _draw(main: Axes, lower: Axes, profile: Profile) -> None:
    edges = profile.edges.copy()
    values = [profile.reference, profile.reference_error, profile.generated, profile.generated_error]
    filled = np.concatenate([v[v > 0] for v in (profile.reference, profile.generated)])
    if not len(filled):
        nothing(main, "empty")
        nothing(lower, "")
        return
    widths = np.diff(edges)
    if widths.max() > 4 * widths.min() and edges[0] == 0:
        edges[0] = edges[1] / 2
        main.set_xscale("log")
    overlay(main, edges, *values)
    ratio_panel(lower, edges, *values)
    if filled.max() > 30 * filled.min():
        main.set_yscale("log")
        main.set_ylim(max(0.5 * filled.min(), 1e-9 * filled.max()), 2 * filled.max())
    else:
        main.set_ylim(0, 1.05 * filled.max())
    headroom(main, 0.16)
    lower.set_xlim(edges[0], edges[-1])
    lower.set_xlabel(profile.axis)
    main.set_ylabel(profile.label)
    if profile.ticks:
        lower.set_xticks(range(len(profile.ticks)), labels=list(profile.ticks))
        lower.tick_params(axis="x", which="minor", bottom=False, top=False)
        main.tick_params(axis="x", which="minor", bottom=False, top=False)
