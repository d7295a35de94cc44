"""Shared by the figures that need labels: which series there are and how each is drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cathode.page.style import BLUE, GREEN, PURPLE, RED, SERIES

if TYPE_CHECKING:
    from cathode.search.results import TruthResult, TruthSeries

__all__ = ["SERIES_LOOK", "reach", "series_of"]

SERIES_LOOK = {
    "search": ("this search", RED, "-"),
    "idealized": ("idealized detector", BLUE, (0, (6, 2))),
    "supervised": ("supervised", GREEN, (0, (4, 1.5, 1, 1.5))),
}


def series_of(truth: TruthResult) -> list[tuple[TruthSeries, str, str, object]]:
    """``(series, label, colour, dashes)`` of the references and, on top of them, the search."""
    found: list[tuple[TruthSeries, str, str, object]] = []
    for i, (name, series) in enumerate(truth.references.items()):
        label, colour, dashes = SERIES_LOOK.get(name, (name, (PURPLE, *SERIES[4:])[i % 3], (0, (2, 1.5))))
        found.append((series, label.replace("$", r"\$"), colour, dashes))
    label, colour, dashes = SERIES_LOOK["search"]
    return [*found, (truth.search, label, colour, dashes)]


def reach(truth: TruthResult) -> float:
    """Smallest background efficiency whose statistical error stays below 20 %: eps_B > 1 / (0.2² N_test)."""
    return 25.0 / truth.n_test_background if truth.n_test_background > 0 else math.nan
