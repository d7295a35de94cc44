"""The report of a search: one HTML file that opens offline and reads from the verdict to the versions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cathode.page.html import Kind, badge, banner, cards, figure, page, paragraph, tag, write_page
from cathode.report import sections
from cathode.report.constituents import constituents_section
from cathode.report.figures import all_figures
from cathode.report.sections import symbols
from cathode.report.verdict import Verdict, verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cathode.search.results import SearchResult

__all__ = ["write_report"]

_BANNER: dict[str, Kind] = {"excess": "good", "none": "info", "invalid": "bad", "unknown": "warn"}


def write_report(
    result: SearchResult,
    path: str | Path,
    *,
    title: str = "Resonance search",
    figures: Mapping[str, Figure] | None = None,
) -> Path:
    """Write the report of ``result`` to ``path``; the same result gives the same bytes.

    Args:
        result: A finished search.
        path: File to write, whole or not at all.
        title: Title of the document.
        figures: What :func:`cathode.report.figures.all_figures` returned, if it was already called.

    Raises:
        UserError: The folder of ``path`` cannot be written to.
    """
    drawn = all_figures(result) if figures is None else figures
    parts = [
        sections.gate_section(result, drawn),
        sections.working_points_section(result, drawn),
        sections.mass_section(result, drawn),
        sections.features_section(result, drawn),
        sections.score_section(drawn),
        *([sections.truth_section(result.truth, drawn)] if result.truth is not None else []),
        sections.training_section(result, drawn),
        *([constituents_section(result.constituents, drawn)] if result.constituents is not None else []),
        sections.timing_section(result),
        sections.config_section(result),
        sections.versions_section(result),
        *([sections.notes_section(result)] if result.notes else []),
    ]
    low, high = result.signal_region
    version = result.versions.get("cathode-hep", "")
    return write_page(
        path,
        page(
            title,
            parts,
            subtitle=f"Signal region {low:g}–{high:g} TeV · density: {result.density.name}",
            opening=_opening(result, verdict(result), drawn),
            footer=f"cathode-hep {version} · this file is complete and needs no network".replace("  ", " "),
        ),
    )


def _opening(result: SearchResult, said: Verdict, drawn: Mapping[str, Figure]) -> list[object]:
    kind: Kind = "warn" if result.gate.status == "warn" else _BANNER[said.kind]
    status = badge(f"template gate: {result.gate.status}", sections.status_kind(result.gate.status))
    return [
        banner(kind, symbols(said.headline), *(paragraph(symbols(s)) for s in said.sentences), above=status),
        cards(sections.key_numbers(result)),
        tag(
            "section",
            figure(
                drawn["mass_overview"],
                medium=True,
                description="Mass spectra before and after the cuts with sideband fits",
                caption="Mass spectrum before and after each cut. Lines: fit to the sidebands; the signal region"
                " (shaded) is not in the fits. Below: (data − fit) / error of the spectrum named there.",
            ),
        ),
    ]
