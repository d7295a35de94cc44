"""Mass bins whose edges meet the borders of the signal region."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cathode.support.errors import UserError

__all__ = ["good_binning"]


def good_binning(
    mass: ArrayLike,
    *,
    blind: tuple[float, float] = (3.3, 3.7),
    window_bins: int = 4,
    low: float | None = None,
    high: float | None = None,
    minimum: float = 5.0,
) -> NDArray[np.float64]:
    """Bin edges (B + 1,) in TeV: the window in equal bins, the sidebands in bins of the same width.

    Sideband bins with few events are merged with their outer neighbours.  No bin is empty only in part: the
    outermost edges lie inside the range of the masses unless ``low`` and ``high`` say where the spectrum is
    complete.

    Args:
        mass: Masses (N,), TeV.
        blind: Window whose borders become edges, TeV.
        window_bins: Bins inside the window.
        low: Lowest edge; default: the lowest multiple of the width that the masses reach, after a turn-on: no
            bin may be followed by one, below the window, that is fuller by more than two standard deviations.
        high: Highest edge; default likewise.
        minimum: Sideband bins hold at least this many events.

    Raises:
        UserError: The window is empty, or a sideband holds no full bin.
    """
    mass = np.asarray(mass, dtype=np.float64).ravel()
    start, end = blind
    if not start < end or window_bins < 1:
        raise UserError(f"binning: the window {blind} TeV is empty or has no bins ({window_bins})")
    if not np.isfinite(mass).all():
        raise UserError("binning: masses must be finite")
    if mass.size == 0 or mass.min() >= start or mass.max() <= end:
        raise UserError(f"binning: no events on a side of the window {start:g}-{end:g} TeV; widen the range of masses")
    width = (end - start) / window_bins
    distance = start - mass[mass < start]
    reach = _falling_reach(distance, width) if low is None else start - low
    below = _side(distance, width, reach, minimum, "below")
    above = _side(mass[mass > end] - end, width, None if high is None else high - end, minimum, "above")
    window = np.linspace(start, end, window_bins + 1)
    return np.concatenate([start - below[::-1], window, end + above])


def _falling_reach(distance: NDArray[np.float64], width: float) -> float:
    """Distance from the window down to which the counts in bins of ``width`` keep rising, within their
    errors.
    """
    steps = int(np.floor(distance.max() / width + 1e-6))
    counts = np.histogram(distance, width * np.arange(steps + 1))[0] if steps > 0 else np.empty(0)
    for index in range(1, steps):
        inner = counts[:index]
        if np.any(inner - counts[index] > 2 * np.sqrt(inner + counts[index])):
            return index * width
    return steps * width


def _side(distance: NDArray[np.float64], width: float, reach: float | None, minimum: float, name: str) -> np.ndarray:
    """Distances of the edges of one sideband from its border of the window, nearest first, the border left
    out.
    """
    if reach is None:
        steps = int(np.floor(distance.max() / width + 1e-6))
        edges = width * np.arange(1, steps + 1)
    else:
        steps = int(np.floor(reach / width + 1e-6))
        edges = width * np.arange(1, steps + 1)
        if reach - steps * width > 1e-6 * width:
            edges = np.append(edges, reach)
    if len(edges) == 0 or (reach is not None and reach <= 0):
        raise UserError(f"binning: the sideband {name} the window is narrower than one bin of {width:g} TeV")
    counts = np.histogram(distance, np.concatenate([[0.0], edges]))[0]
    kept: list[float] = []
    pending = 0.0
    for edge, count in zip(edges, counts, strict=True):
        pending += count
        if pending >= minimum:
            kept.append(float(edge))
            pending = 0.0
    # The remainder joins the last full bin, so that the range is not cut.
    if not kept:
        kept.append(float(edges[-1]))
    kept[-1] = float(edges[-1])
    return np.array(kept)
