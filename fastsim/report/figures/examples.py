"""Single showers in three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cathode.page.drawing import nothing
from cathode.page.style import new_figure, styled
from fastsim.evaluation.response import ExampleShower
from fastsim.geometry import Geometry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["examples_figure"]

Array = NDArray[np.float64]

# Points drawn at most per shower, the most energetic ones.
_MOST_POINTS = 1500


@styled
def examples_figure(pairs: Sequence[tuple[ExampleShower, ExampleShower]], geometry: Geometry) -> Figure:
    """Pairs of showers of nearly the same incident energy: reference above, generated below.

    A voxel is a point, its colour and size are its energy; a voxel that is a whole ring is drawn as a ring.  In
    polar geometries the radius is drawn as its square root, since the core would be a dot otherwise.
    """
    from matplotlib.colors import LogNorm

    figure = new_figure(4.0 * max(len(pairs), 1), 7.2)
    if not pairs:
        nothing(figure.subplots(), "no showers")
        return figure
    radius, angle = _positions(geometry)
    reach = _reach(pairs, radius)
    for column, pair in enumerate(pairs):
        energies = np.concatenate([p.energies for p in pair])
        low, high = (energies.min(), energies.max()) if len(energies) else (1.0, 10.0)
        norm = LogNorm(low, max(high, 1.001 * low))
        for row, shower in enumerate(pair):
            axes: Any = figure.add_subplot(2, len(pairs), row * len(pairs) + column + 1, projection="3d")
            _draw(axes, shower, geometry, radius, angle, norm, reach)
            title = f"{shower.sample}, {shower.incident_energy / 1000:.3g} GeV"
            axes.set_title(title, loc="center", fontsize=10.5, pad=0)
    return figure


def _draw(
    axes: Any, shower: ExampleShower, geometry: Geometry, radius: Array, angle: Array, norm: Any, reach: float
) -> None:
    from matplotlib import colormaps

    colours = colormaps["plasma"]
    order = np.argsort(shower.energies)[-_MOST_POINTS:]
    voxels, energies = shower.voxels[order], shower.energies[order]
    whole = (geometry.kind == "polar") & (np.array(geometry.n_alpha)[geometry.layer[voxels]] == 1)
    points = ~whole
    strength = norm(energies)
    x, y = radius[voxels] * np.cos(angle[voxels]), radius[voxels] * np.sin(angle[voxels])
    inside = points & (radius[voxels] <= reach)
    depth = geometry.layer[voxels].astype(float)
    axes.scatter(
        depth[inside], x[inside], y[inside], c=strength[inside], cmap=colours, vmin=0, vmax=1,
        s=4 + 60 * strength[inside] ** 2, depthshade=False, linewidths=0, alpha=0.85,
    )  # fmt: skip
    turn = np.linspace(-np.pi, np.pi, 49)
    for voxel, value, place in zip(voxels[whole], strength[whole], depth[whole], strict=True):
        size = radius[voxel]
        if size <= reach:
            axes.plot(
                np.full(49, place), size * np.cos(turn), size * np.sin(turn), color=colours(float(value)),
                linewidth=0.8 + 2.2 * float(value), alpha=0.8,
            )  # fmt: skip
    axes.set_xlim(-0.5, geometry.n_layers - 0.5)
    axes.set_ylim(-reach, reach)
    axes.set_zlim(-reach, reach)
    axes.set_box_aspect((1.5, 1.0, 1.0), zoom=1.05)
    axes.view_init(elev=18, azim=-62)
    axes.set_xlabel("layer", labelpad=-4)
    if geometry.n_layers <= 10:
        axes.set_xticks(range(geometry.n_layers), labels=[str(i) for i in geometry.layer_ids])
    axes.set_yticks([])
    axes.set_zticks([])
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((0.96, 0.965, 0.975, 1.0))
    axes.grid(False)
    axes.tick_params(axis="x", pad=-3, labelsize=8.5)


def _positions(geometry: Geometry) -> tuple[Array, Array]:
    if geometry.kind != "polar":
        return np.asarray(geometry.r, dtype=float), np.asarray(geometry.alpha, dtype=float)
    return np.sqrt(np.asarray(geometry.r, dtype=float)), np.asarray(geometry.alpha, dtype=float)


def _reach(pairs: Sequence[tuple[ExampleShower, ExampleShower]], radius: Array) -> float:
    voxels = np.concatenate([shower.voxels for pair in pairs for shower in pair])
    energies = np.concatenate([shower.energies for pair in pairs for shower in pair])
    if not len(voxels):
        return float(radius.max())
    order = np.argsort(radius[voxels])
    cumulative = np.cumsum(energies[order])
    last = int(np.searchsorted(cumulative, 0.995 * cumulative[-1]))
    return float(radius[voxels][order][min(last, len(order) - 1)]) * 1.15
