"""All figures of a search, one module each; functions return a matplotlib ``Figure`` and touch no global state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cathode.page.figures import write_figures
from cathode.report.figures.features import feature_figure
from cathode.report.figures.gate import gate_figure
from cathode.report.figures.mass_spectrum import MASS_LABEL, mass_figure, mass_overview_figure
from cathode.report.figures.roc import roc_figure
from cathode.report.figures.score import score_figure
from cathode.report.figures.sic import sic_figure
from cathode.report.figures.significance import significance_figure
from cathode.report.figures.training import points_figure, training_figure
from cathode.report.verdict import best_point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cathode.search.results import FeatureHistogram, SearchResult

__all__ = [
    "all_figures",
    "feature_figure",
    "gate_figure",
    "mass_figure",
    "mass_overview_figure",
    "points_figure",
    "roc_figure",
    "save_figures",
    "score_figure",
    "sic_figure",
    "significance_figure",
    "training_figure",
]


def all_figures(result: SearchResult, *, mass_label: str = MASS_LABEL) -> dict[str, Figure]:
    """Every figure of a search by file name (without suffix), in the order in which a report shows them."""
    region, best = result.signal_region, best_point(result.working_points)
    figures = {
        "mass_overview": mass_overview_figure(
            result.mass_spectra,
            signal_region=region,
            mass_label=mass_label,
            pulls_at=None if best is None else best.background_efficiency,
        ),
        "gate": gate_figure(result.gate),
        "significance": significance_figure(result.working_points),
    }
    for spectrum in sorted(result.mass_spectra, key=lambda s: -s.background_efficiency):
        figures[_unique(f"mass_{_efficiency_name(spectrum.background_efficiency)}", figures)] = mass_figure(
            spectrum, signal_region=region, mass_label=mass_label
        )
    features: dict[str, list[FeatureHistogram]] = {}
    for histogram in result.feature_histograms:
        features.setdefault(histogram.feature, []).append(histogram)
    for feature, histograms in features.items():
        histograms.sort(key=lambda h: h.region != "signal region")
        figures[_unique(f"feature_{_file_name(feature)}", figures)] = feature_figure(histograms)
    figures["score"] = score_figure(result.score_histogram)
    if result.truth is not None:
        figures["sic"] = sic_figure(result.truth)
        figures["roc"] = roc_figure(result.truth)
    figures["training"] = training_figure(result.density.histories, result.classifier_histories)
    if result.constituents is not None:
        figures["training_constituents"] = points_figure(result.constituents.histories)
    return figures


def save_figures(
    result: SearchResult, folder: str | Path, *, figures: Mapping[str, Figure] | None = None
) -> list[Path]:
    """Write every figure as PNG and PDF into ``folder``; returns the paths.

    Args:
        result: What to draw.
        folder: Created if it does not exist.
        figures: What :func:`all_figures` returned, if it was already called.

    Raises:
        UserError: The folder cannot be written to.
    """
    return write_figures(all_figures(result) if figures is None else figures, folder)


def _efficiency_name(background_efficiency: float) -> str:
    return "before_cut" if background_efficiency >= 1 else f"eps_{background_efficiency:.3g}"


def _file_name(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in text)


def _unique(name: str, taken: Mapping[str, object]) -> str:
    """Two columns may differ only in characters that a file name cannot hold."""
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    return candidate
