"""Mean showers as pictures: every layer seen from the front, and depth against radius."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cathode.page.drawing import nothing
from cathode.page.style import new_figure, styled
from fastsim.evaluation.profiles import MeanShower, radius_against_depth
from fastsim.geometry import Geometry
from fastsim.geometry.layers import CartesianLayer, CellLayer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["depth_figure", "layers_figure", "shown_layers"]

Array = NDArray[np.float64]

# More columns than this are too small to see anything in.
_MOST_LAYERS = 6
_RATIO = (0.5, 2.0)
# A ratio of fewer hits than this is mostly noise and is left grey.
_FEWEST_HITS = 20


def shown_layers(mean: Array, geometry: Geometry) -> list[int]:
    """Layers to draw: all if they are few, else some spread over the depth where the energy is."""
    if geometry.n_layers <= _MOST_LAYERS:
        return list(range(geometry.n_layers))
    energy = np.array([mean[part].sum() for part in geometry.slices])
    if energy.sum() <= 0:
        return list(range(_MOST_LAYERS))
    cumulative = np.cumsum(energy) / energy.sum()
    first, last = (int(np.searchsorted(cumulative, q)) for q in (0.005, 0.995))
    chosen = np.linspace(first, min(last, geometry.n_layers - 1), _MOST_LAYERS)
    return sorted({round(float(c)) for c in chosen})


@styled
def layers_figure(mean: MeanShower, geometry: Geometry) -> Figure:
    """Mean energy per mm² of each layer seen from the front: reference, generated, and their ratio.

    Ratios of voxels with fewer than twenty hits are grey.  Rings of very different widths are drawn equally wide, since
    the core of the shower would be a dot otherwise.
    """
    layers = shown_layers(mean.reference, geometry)
    figure = new_figure(1.2 + 2.05 * len(layers), 6.4)
    axes = figure.subplots(3, len(layers), squeeze=False)
    densities = [values / geometry.size for values in (mean.reference, mean.generated)]
    hits = np.minimum(mean.reference_hit * mean.showers[0], mean.generated_hit * mean.showers[1])
    ratios = np.full(geometry.n_voxels, np.nan)
    np.divide(mean.generated, mean.reference, out=ratios, where=hits >= _FEWEST_HITS)
    for column, layer in enumerate(layers):
        part = geometry.slices[layer]
        first, second = (d[part] for d in densities)
        filled = np.concatenate([first[first > 0], second[second > 0]])
        if not len(filled):
            for row in range(3):
                nothing(axes[row, column], "empty")
                axes[row, column].set_xticks([])
            continue
        limits = (max(float(filled.min()), float(filled.max()) * 1e-6), float(filled.max()))
        if limits[0] == limits[1]:
            limits = (limits[0] / 2, limits[1] * 2)
        for row, values in enumerate((first, second)):
            drawn = _draw_layer(axes[row, column], geometry, layer, values, limits, "magma")
        figure.colorbar(drawn, ax=list(axes[:2, column]), location="bottom", shrink=0.8, aspect=14, pad=0.02)
        drawn = _draw_layer(axes[2, column], geometry, layer, ratios[part], _RATIO, "RdBu_r")
        axes[0, column].set_title(f"layer {geometry.layer_ids[layer]}", loc="center")
    bar = figure.colorbar(drawn, ax=list(axes[2]), location="right", shrink=0.85, pad=0.01, extend="both")
    bar.set_ticks([0.5, 0.71, 1.0, 1.41, 2.0], labels=["0.5", "0.71", "1", "1.41", "2"])
    bar.minorticks_off()
    for row, label in enumerate(("reference", "generated", "ratio")):
        axes[row, 0].set_ylabel(label, loc="center", fontsize=11, fontweight="bold")
    return figure


@styled
def depth_figure(mean: MeanShower, geometry: Geometry) -> Figure:
    """Mean energy per mm² against depth and radius: reference, generated, and their ratio."""
    figure = new_figure(11.4, 3.7)
    axes = figure.subplots(1, 3, sharey=True)
    first, edges = radius_against_depth(geometry, mean.reference)
    second, _ = radius_against_depth(geometry, mean.generated)
    filled = np.concatenate([first[first > 0], second[second > 0]])
    if not len(filled):
        for one in axes:
            nothing(one, "empty")
        return figure
    limits = (max(float(filled.min()), float(filled.max()) * 1e-7), float(filled.max()))
    ratio = np.full(first.shape, np.nan)
    np.divide(second, first, out=ratio, where=(first > 0) & (second > 0))
    radius = edges.copy()
    if _uneven(edges):
        radius[0] = radius[1] / 2
        axes[0].set_yscale("log")
    depth = np.arange(geometry.n_layers + 1) - 0.5
    for one, values, title in zip(axes, (first, second, ratio), ("reference", "generated", "ratio"), strict=True):
        colours = "RdBu_r" if title == "ratio" else "magma"
        norm = _norm(*(_RATIO if title == "ratio" else limits))
        drawn = one.pcolormesh(depth, radius, np.where(values > 0, values, np.nan), cmap=colours, norm=norm)
        one.set_facecolor("#EDEEF0")
        one.set_title(title, loc="center")
        one.set_xlabel("layer")
        if geometry.n_layers <= 10:
            one.set_xticks(range(geometry.n_layers), labels=[str(i) for i in geometry.layer_ids])
            one.tick_params(which="minor", bottom=False, top=False)
        if title == "generated":
            figure.colorbar(drawn, ax=list(axes[:2]), pad=0.01, label="energy / incident energy per mm²")
    bar = figure.colorbar(drawn, ax=axes[2], pad=0.02, extend="both")
    bar.set_ticks([0.5, 1.0, 2.0], labels=["0.5", "1", "2"])
    bar.minorticks_off()
    axes[0].set_ylabel("radius [mm]")
    return figure


def _draw_layer(
    axes: Axes, geometry: Geometry, layer: int, values: Array, limits: tuple[float, float], colours: str
) -> Any:
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("#EDEEF0")
    norm, shown = _norm(*limits), np.where(values > 0, values, np.nan)
    described = geometry.layers[layer]
    if isinstance(described, CellLayer):
        x, y = geometry.x[geometry.slices[layer]], geometry.y[geometry.slices[layer]]
        return axes.scatter(x, y, c=shown, s=max(2.0, 3000.0 / len(x)), norm=norm, cmap=colours, linewidths=0)
    grid = shown.reshape(described.n_slow, described.n_fast)
    if isinstance(described, CartesianLayer):
        if described.fast == "y":
            return axes.pcolormesh(described.slow_edges, described.fast_edges, grid.T, norm=norm, cmap=colours)
        return axes.pcolormesh(described.fast_edges, described.slow_edges, grid, norm=norm, cmap=colours)
    edges = described.fast_edges
    radius = np.arange(len(edges), dtype=float) if _uneven(edges) else edges
    # Whole rings and wide sectors are drawn in steps fine enough to look round.
    steps = max(1, round(72 / described.n_slow))
    angle = np.linspace(-np.pi, np.pi, described.n_slow * steps + 1)
    x, y = radius * np.cos(angle)[:, None], radius * np.sin(angle)[:, None]
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_facecolor("none")
    axes.set_xlim(-radius[-1], radius[-1])
    axes.set_ylim(-radius[-1], radius[-1])
    outline = np.linspace(-np.pi, np.pi, 73)
    axes.fill(radius[-1] * np.cos(outline), radius[-1] * np.sin(outline), color="#EDEEF0", linewidth=0)
    return axes.pcolormesh(x, y, np.repeat(grid, steps, axis=0), norm=norm, cmap=colours, rasterized=True)


def _uneven(edges: Array) -> bool:
    widths = np.diff(edges)
    return bool(widths.max() > 4 * widths.min())


def _norm(low: float, high: float) -> Any:
    from matplotlib.colors import LogNorm

    return LogNorm(low, high)
