"""Correlations of the layer energies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cathode.page.style import new_figure, styled
from fastsim.evaluation.correlations import LayerCorrelations

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["correlations_figure"]

# Matrices up to this size carry their numbers.
_MOST_NUMBERS = 10


@styled
def correlations_figure(found: LayerCorrelations) -> Figure:
    """Correlation matrices of both samples, and their difference in standard errors."""
    figure = new_figure(11.6, 3.9)
    axes = figure.subplots(1, 3)
    difference = found.generated - found.reference
    pull = np.full(difference.shape, np.nan)
    np.divide(difference, found.error, out=pull, where=found.error > 0)
    reach = min(max(float(np.nanmax(np.abs(pull), initial=0.0)), 3.0), 10.0)
    drawings = (
        ("reference", found.reference, 1.0),
        ("generated", found.generated, 1.0),
        ("difference / error", pull, reach),
    )
    size = len(found.layers)
    for one, (title, matrix, limit) in zip(axes, drawings, strict=True):
        drawn = one.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit)
        one.set_title(title, loc="center")
        one.minorticks_off()
        one.tick_params(which="both", length=0)
        step = max(1, size // 9)
        ticks = range(0, size, step)
        one.set_xticks(ticks, labels=[str(found.layers[k]) for k in ticks])
        one.set_yticks(ticks, labels=[str(found.layers[k]) for k in ticks])
        one.set_xlabel("layer")
        figure.colorbar(drawn, ax=one, shrink=0.8)
        if size <= _MOST_NUMBERS:
            for row in range(size):
                for column in range(size):
                    value = matrix[row, column]
                    if np.isfinite(value) and not (title.startswith("diff") and row == column):
                        colour = "white" if abs(value) > 0.6 * limit else "black"
                        text = f"{value:.1f}" if title.startswith("diff") else f"{value:.2f}"
                        one.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    axes[0].set_ylabel("layer")
    return figure
