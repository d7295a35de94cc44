"""How figures look: one style for all of them, applied inside a context and gone afterwards.

Figures are plain :class:`matplotlib.figure.Figure` objects on the Agg canvas.  ``pyplot`` and its global state are not
used, and a user's ``matplotlibrc`` has no influence, so the same result always gives the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "AMBER",
    "BLUE",
    "DATA",
    "GREEN",
    "GREY",
    "ORANGE",
    "PURPLE",
    "RED",
    "SERIES",
    "SKY",
    "figure_bytes",
    "new_figure",
    "panels",
    "style",
    "styled",
]

# Okabe and Ito's palette, distinguishable with every common form of colour blindness (jfly.uni-koeln.de/color).
DATA = "#111111"
BLUE = "#0072B2"
SKY = "#56B4E9"
ORANGE = "#E69F00"
RED = "#D55E00"
GREEN = "#009E73"
PURPLE = "#B5508C"
AMBER = "#C98A00"
GREY = "#6B7280"
SERIES = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY)

_SETTINGS: dict[str, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "savefig.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "mathtext.fontset": "dejavusans",
    "text.usetex": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 11.5,
    "axes.linewidth": 0.9,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-4, 5),
    "axes.formatter.use_mathtext": True,
    "xaxis.labellocation": "right",
    "yaxis.labellocation": "top",
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.minor.visible": True,
    "ytick.minor.visible": True,
    "xtick.major.size": 6,
    "ytick.major.size": 6,
    "xtick.minor.size": 3,
    "ytick.minor.size": 3,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.handlelength": 1.8,
    "lines.linewidth": 1.6,
    "hatch.linewidth": 0.6,
    # Identifiers inside the SVG come from this salt instead of a random one.
    "svg.hashsalt": "cathode",
    "svg.fonttype": "path",
    # Embedding whole TrueType fonts (42) takes twice as long for every file.
    "pdf.fonttype": 3,
    "path.simplify": True,
}

P = ParamSpec("P")


@contextmanager
def style() -> Iterator[None]:
    """The style inside the ``with`` block; every setting of matplotlib is as before afterwards.

    matplotlib's settings belong to the process, so two threads must not draw at the same time.
    """
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings: Any = _SETTINGS
        matplotlib.rcParams.update(settings)
        yield


def styled(function: Callable[P, Figure]) -> Callable[P, Figure]:
    """Run a drawing function inside :func:`style` and settle its layout."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        with style():
            figure = function(*args, **kwargs)
            if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
                # Solved once here, not again for every file written: that halves the time of a report.
                figure.draw_without_rendering()
                figure.set_layout_engine("none")
            return figure

    return wrapper


def new_figure(width: float, height: float) -> Figure:
    """An empty figure on the Agg canvas, ``width`` by ``height`` inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(figure: Figure, columns: int = 1, *, lower: float = 0.4) -> list[tuple[Axes, Axes]]:
    """Side-by-side pairs of a main panel and a panel below it that shares the x axis.

    Args:
        figure: Figure to divide.
        columns: Number of pairs.
        lower: Height of the lower panel relative to the main one.

    Returns:
        ``[(main, lower), ...]`` from left to right.
    """
    axes = figure.subplots(2, columns, sharex="col", squeeze=False, height_ratios=(1.0, lower))
    figure.set_layout_engine("constrained", hspace=0.0, h_pad=0.03)
    pairs = [(axes[0, i], axes[1, i]) for i in range(columns)]
    for main, _ in pairs:
        main.tick_params(labelbottom=False)
    return pairs


def figure_bytes(figure: Figure, kind: Literal["png", "svg", "pdf"]) -> bytes:
    """The figure as a file's content, the same bytes every time."""
    # Writers stamp the time of writing unless told otherwise.
    metadata: dict[str, Any] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }[kind]
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()
