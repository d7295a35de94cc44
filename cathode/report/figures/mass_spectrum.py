"""Mass spectra before and after the cuts, with the fit to the sidebands; the signal region is not in the fit."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cathode.page.drawing import corner, data_points, headroom, nothing, poisson_interval, step_band, step_line
from cathode.page.style import BLUE, DATA, GREY, RED, SERIES, SKY, new_figure, panels, styled
from cathode.page.text import measured, number, probability, sigma
from cathode.report.labels import efficiency_label, shade, width_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cathode.search.results import MassSpectrum

__all__ = ["MASS_LABEL", "mass_figure", "mass_overview_figure"]

MASS_LABEL = r"$m_{JJ}$ [TeV]"


@styled
def mass_figure(spectrum: MassSpectrum, *, signal_region: tuple[float, float], mass_label: str = MASS_LABEL) -> Figure:
    """One spectrum with its fit, its error band and the pulls.

    Args:
        spectrum: Counts before or after one cut.
        signal_region: Limits of the region that the fit does not see, TeV.
        mass_label: Label of the x axis.
    """
    figure = new_figure(5.9, 5.0)
    ((main, lower),) = panels(figure)
    lower.set_xlabel(mass_label)
    if len(spectrum.counts) == 0:
        nothing(main, "no events")
        return figure
    shade(main, signal_region, label="signal region (not in the fit)")
    main.set_ylabel(width_label(spectrum.edges, "TeV")[0])
    smallest = _draw_spectrum(main, spectrum, colour=DATA, fit_colour=BLUE, label="data", fit_label="sideband fit")
    _count_axis(main, [spectrum], smallest)
    headroom(main, 0.12)
    main.legend(loc="upper right")
    eps = spectrum.background_efficiency
    main.set_title("Before the cut" if eps >= 1 else f"After the cut at {efficiency_label(eps)}")
    fit = spectrum.fit
    if fit is None:
        reason = (spectrum.fit_problem or "not attempted").replace("$", r"\$")
        nothing(lower, "\n".join(textwrap.wrap(f"no fit: {reason}", 60)[:3]))
    else:
        quality = rf"$\chi^2$/ndof = {number(fit.chi2, digits=3)}/{fit.ndof}, p = {probability(fit.fit_p_value)}"
        window = f"{measured(fit.window_expected, fit.window_error)} expected, {number(fit.window_observed)} observed"
        lines = f"{quality}\n{window}, Z = {sigma(fit.significance)}"
        main.set_title(lines, loc="right", fontsize=9, fontweight="normal")
        _draw_pulls(lower, spectrum, signal_region)
    shade(lower, signal_region)
    lower.set_ylabel("pull", loc="center")
    lower.set_xlim(spectrum.edges[0], spectrum.edges[-1])
    return figure


@styled
def mass_overview_figure(
    spectra: Sequence[MassSpectrum],
    *,
    signal_region: tuple[float, float],
    mass_label: str = MASS_LABEL,
    pulls_at: float | None = None,
) -> Figure:
    """All spectra in one panel, from no cut to the tightest one, each with its sideband fit.

    Args:
        spectra: Counts before and after the cuts.
        signal_region: Limits of the region that the fits do not see, TeV.
        mass_label: Label of the x axis.
        pulls_at: Background efficiency whose pulls the lower panel shows; the loosest cut by default.
    """
    figure = new_figure(7.6, 5.2)
    ((main, lower),) = panels(figure, lower=0.34)
    lower.set_xlabel(mass_label)
    spectra = sorted((s for s in spectra if len(s.counts)), key=lambda s: -s.background_efficiency)
    if not spectra:
        nothing(main, "no mass spectrum")
        return figure
    main.set_ylabel(width_label(spectra[0].edges, "TeV")[0])
    smallest = []
    for i, spectrum in enumerate(spectra):
        colour = DATA if i == 0 else SERIES[(i - 1) % len(SERIES)]
        name = efficiency_label(spectrum.background_efficiency)
        smallest.append(_draw_spectrum(main, spectrum, colour=colour, fit_colour=colour, label=name, fit_label=None))
    _count_axis(main, spectra, min(smallest))
    headroom(main, 0.12)
    main.plot([], [], color=GREY, linewidth=1.4, label="fit to the sidebands")
    shade(main, signal_region, label="signal region (not in the fits)")
    handles, labels = main.get_legend_handles_labels()
    # Lines and patches come first by default; here the spectra lead, loosest first.
    order = sorted(range(len(labels)), key=lambda i: labels[i].startswith(("fit to", "signal region")))
    main.legend([handles[i] for i in order], [labels[i] for i in order], loc="upper right", ncols=2)
    fitted = [s for s in spectra if s.fit is not None and s.background_efficiency < 1] or [
        s for s in spectra if s.fit is not None
    ]
    chosen = next((s for s in fitted if s.background_efficiency == pulls_at), fitted[0] if fitted else None)
    shade(lower, signal_region)
    if chosen is None:
        nothing(lower, "no fit")
    else:
        _draw_pulls(lower, chosen, signal_region)
        name = efficiency_label(chosen.background_efficiency)
        corner(lower, f"after the cut at {name}" if chosen.background_efficiency < 1 else name, y=0.92, fontsize=9)
    lower.set_ylabel("pull", loc="center")
    lower.set_xlim(spectra[0].edges[0], spectra[0].edges[-1])
    return figure


def _draw_spectrum(
    axes: Axes, spectrum: MassSpectrum, *, colour: str, fit_colour: str, label: str, fit_label: str | None
) -> float:
    """Points and fit; returns the smallest value that a log axis should still show."""
    edges = spectrum.edges
    _, widths = width_label(edges)
    centres = 0.5 * (edges[1:] + edges[:-1])
    low, high = poisson_interval(spectrum.counts)
    counts = np.where(spectrum.counts > 0, spectrum.counts, np.nan)
    data_points(axes, centres, counts / widths, low / widths, high / widths, color=colour, label=label)
    smallest = 0.5 / float(widths.max())
    if spectrum.fit is not None:
        expectation, error = spectrum.fit.expectation / widths, spectrum.fit.expectation_error / widths
        step_line(axes, edges, expectation, color=fit_colour, linewidth=1.4, label=fit_label)
        step_band(
            axes,
            edges,
            np.maximum(expectation - error, smallest / 10),
            expectation + error,
            color=SKY if fit_label else fit_colour,
            alpha=0.6 if fit_label else 0.3,
            label="fit uncertainty" if fit_label else None,
        )
    return smallest


def _count_axis(axes: Axes, spectra: Sequence[MassSpectrum], smallest: float) -> None:
    axes.set_yscale("log")
    top = max(float(np.max(s.counts / width_label(s.edges)[1])) for s in spectra)
    axes.set_ylim(smallest, max(top, 4 * smallest) * 2.0)


def _draw_pulls(axes: Axes, spectrum: MassSpectrum, signal_region: tuple[float, float]) -> None:
    assert spectrum.fit is not None  # the caller looked
    edges, pulls = spectrum.edges, np.asarray(spectrum.fit.pulls, dtype=float)
    centres, widths = 0.5 * (edges[1:] + edges[:-1]), np.diff(edges)
    inside = (centres > signal_region[0]) & (centres < signal_region[1])
    for where, colour in ((~inside, BLUE), (inside, RED)):
        where = where & np.isfinite(pulls)
        axes.bar(centres[where], pulls[where], width=0.86 * widths[where], color=colour, alpha=0.85)
    finite = np.abs(pulls[np.isfinite(pulls)])
    reach = max(3.4, min(1.1 * float(finite.max(initial=0.0)), 12.0))
    axes.set_ylim(-min(reach, 4.5), reach)
    axes.axhline(0.0, color=DATA, linewidth=0.8)
    for level in (-2, 2):
        axes.axhline(level, color=GREY, linewidth=0.7, linestyle=":")
