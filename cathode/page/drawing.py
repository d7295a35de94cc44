"""Small pieces that several figures share: steps, bands, points with Poisson errors, limits, labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cathode.page.style import DATA, GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "corner",
    "data_points",
    "headroom",
    "nothing",
    "poisson_interval",
    "power_of_ten",
    "ratio",
    "ratio_limits",
    "step_band",
    "step_line",
]

Array = NDArray[np.float64]


def poisson_interval(counts: ArrayLike) -> tuple[Array, Array]:
    """Central 68.27 % interval of a Poisson mean for each observed count (Garwood, Biometrika 28 (1936) 437)."""
    from scipy.special import gammaincinv

    n = np.asarray(counts, dtype=float)
    tail = 0.158655
    known = np.where(np.isfinite(n) & (n >= 0), n, 0.0)
    low = np.where(known > 0, gammaincinv(np.maximum(known, 1e-12), tail), 0.0)
    high = gammaincinv(known + 1.0, 1.0 - tail)
    return low, high


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> Array:
    """Element-wise ratio, NaN where the denominator is not positive."""
    top, bottom = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    result = np.full(np.broadcast_shapes(top.shape, bottom.shape), np.nan)
    np.divide(top, bottom, out=result, where=np.isfinite(bottom) & (bottom > 0))
    return result


def step_line(axes: Axes, edges: Array, values: ArrayLike, **options: Any) -> None:
    """Histogram as a line without vertical ends."""
    axes.stairs(np.asarray(values, dtype=float), edges, baseline=None, **options)


def step_band(axes: Axes, edges: Array, low: ArrayLike, high: ArrayLike, **options: Any) -> None:
    """Filled band between two histograms."""
    low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    options = {"linewidth": 0, **options}
    axes.fill_between(edges, np.append(low, low[-1]), np.append(high, high[-1]), step="post", **options)


def data_points(
    axes: Axes,
    x: ArrayLike,
    y: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    *,
    limits: tuple[float, float] | None = None,
    **options: Any,
) -> None:
    """Points with vertical bars from ``low`` to ``high``; with ``limits``, arrows where one lies outside of them."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    shown = np.isfinite(y)
    if limits is not None:
        colour = options.get("color", DATA)
        for outside, marker, height in ((shown & (y > limits[1]), "^", 0.92), (shown & (y < limits[0]), "v", 0.08)):
            heights = np.full(int(outside.sum()), height)
            transform = axes.get_xaxis_transform()
            axes.plot(x[outside], heights, marker, color=colour, markersize=4, transform=transform)
            shown &= ~outside
    errors = np.nan_to_num(np.maximum([y - low, high - y], 0.0))
    settings: dict[str, Any] = {
        "fmt": "o",
        "color": DATA,
        "markersize": 3.8,
        "elinewidth": 1.1,
        "capsize": 0,
        **options,
    }
    axes.errorbar(x[shown], y[shown], yerr=errors[:, shown], **settings)


def ratio_limits(
    values: ArrayLike, errors: ArrayLike, *, centre: float = 1.0, least: float = 0.05
) -> tuple[float, float]:
    """Limits symmetric about ``centre`` that show what is well measured: bins with large errors do not blow them up.

    Args:
        values, errors: Ratio and its error per bin.
        centre: Value in the middle of the panel.
        least: Smallest half-width.
    """
    values, errors = np.asarray(values, dtype=float), np.asarray(errors, dtype=float)
    good = np.isfinite(values) & np.isfinite(errors) & (errors < 0.35)
    if not good.any():
        return centre - 0.5, centre + 0.5
    reach = float(np.quantile(np.abs(values[good] - centre) + errors[good], 0.95))
    half = min(max(1.25 * reach, least), 1.0)
    return centre - half, centre + half


def headroom(axes: Axes, fraction: float = 0.35) -> None:
    """Raise the upper y limit so that the top ``fraction`` of the panel is free for the legend."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        axes.set_ylim(low, low * (high / low) ** (1.0 / (1.0 - fraction)))
    else:
        axes.set_ylim(low, low + (high - low) / (1.0 - fraction))


def corner(axes: Axes, text: str, *, x: float = 0.035, y: float = 0.955, **options: Any) -> None:
    """Text inside the panel, at the upper left unless told otherwise."""
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.5}
    settings: dict[str, Any] = {"ha": "left", "va": "top", "fontsize": 9.5, "bbox": box, **options}
    axes.text(x, y, text, transform=axes.transAxes, **settings)


def nothing(axes: Axes, text: str) -> None:
    """An empty panel that says why it is empty; the x axis stays, since other panels may share it."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY, fontsize=9.5)
    axes.set_yticks([])


def power_of_ten(value: float) -> tuple[float, int]:
    """``(mantissa, exponent)`` of a positive number, the mantissa to two digits and in [1, 10)."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return float(mantissa), int(exponent)
