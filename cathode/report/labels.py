"""What figures of a search have in common: the shaded signal region, labels of features and efficiencies."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cathode.page.drawing import power_of_ten
from cathode.page.style import ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["efficiency_label", "feature_label", "shade", "width_label"]

Array = NDArray[np.float64]


def shade(axes: Axes, region: tuple[float, float], *, label: str | None = None) -> None:
    """Shade the signal region."""
    axes.axvspan(region[0], region[1], color=ORANGE, alpha=0.16, linewidth=0, label=label, zorder=0)
    for edge in region:
        axes.axvline(edge, color=ORANGE, linewidth=0.8, alpha=0.8, zorder=0.5)


def efficiency_label(background_efficiency: float) -> str:
    """Background efficiency as mathtext: a power of ten where it is one."""
    if not (math.isfinite(background_efficiency) and background_efficiency > 0):
        return r"$\varepsilon_B$ = ?"
    if background_efficiency >= 1:
        return "no cut"
    mantissa, exponent = power_of_ten(background_efficiency)
    times = "" if mantissa == 1 else rf"{mantissa:g} \times "
    return rf"$\varepsilon_B = {times}10^{{{exponent}}}$"


_LABELS = (
    (r"m_?jj", r"m_{JJ}"),
    (r"m_?j(\d)", r"m_{J\1}"),
    (r"(?:d|delta)_?m_?(?:j|jj)?", r"\\Delta m_J"),
    (r"tau_?(\d)_?(\d)_?(?:j_?)?(\d)", r"\\tau_{\1\2}^{J\3}"),
    (r"tau_?(\d)_?(\d)", r"\\tau_{\1\2}"),
    (r"(?:d|delta)_?r_?(?:jj)?", r"\\Delta R_{JJ}"),
    (r"p_?t_?(?:j_?)?(\d)", r"p_{T,J\1}"),
    (r"(?:n|multiplicity)_j(\d)", r"n_{J\1}"),
    (r"d2_j(\d)", r"D_2^{J\1}"),
)


def feature_label(name: str, unit: str = "") -> str:
    """Axis label of a column: the usual symbol where the name is a usual one, else the name as it is."""
    text = name.replace("$", r"\$")
    for pattern, symbol in _LABELS:
        match = re.fullmatch(pattern, name, flags=re.IGNORECASE)
        if match:
            text = f"${match.expand(symbol)}$"
            break
    return f"{text} [{unit}]" if unit else text


def width_label(edges: Array, unit: str = "") -> tuple[str, Array]:
    """Label of the count axis and the widths to divide by: counts per bin if all bins are alike, else per unit."""
    widths = np.diff(edges)
    if np.allclose(widths, widths[0], rtol=1e-3):
        size = f"{widths[0]:.3g}"
        return (f"Events / {size} {unit}".rstrip(), np.ones_like(widths))
    return (f"Events / {unit}" if unit else "Events / unit"), widths
