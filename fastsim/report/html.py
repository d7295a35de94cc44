"""The report of an evaluation: one HTML file that opens offline and reads from the verdict to the versions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cathode.page.html import Kind, badge, banner, cards, page, paragraph, write_page
from fastsim.evaluation.results import EvaluationResult
from fastsim.report import sections
from fastsim.report.diversity import diversity_section
from fastsim.report.standing import report_figures, standing_section
from fastsim.report.verdict import verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_report"]

_BANNER: dict[str, Kind] = {"same": "good", "close": "info", "different": "bad", "unknown": "warn"}


def write_report(result: EvaluationResult, path: str | Path, *, figures: Mapping[str, Figure] | None = None) -> Path:
    """Write the report of ``result`` to ``path``; the same result gives the same bytes.

    Args:
        result: A finished evaluation.
        path: File to write, whole or not at all.
        figures: What :func:`fastsim.report.standing.report_figures` returned, if it was already called.

    Raises:
        UserError: The folder of ``path`` cannot be written to.
    """
    drawn = report_figures(result) if figures is None else figures
    said = verdict(result)
    parts = [
        sections.classifiers_section(result, drawn),
        sections.layers_section(result, drawn),
        sections.profiles_section(result, drawn),
        sections.closure_section(result, drawn),
        sections.observables_section(result, drawn),
        sections.separations_section(result, drawn),
        sections.correlations_section(result, drawn),
        sections.distances_section(result),
        diversity_section(result),
        sections.examples_section(result, drawn),
        *([standing] if (standing := standing_section(result, drawn)) is not None else []),
        sections.run_section(result),
        *([sections.notes_section(result)] if result.notes else []),
    ]
    mode = "CaloChallenge procedure" if result.settings.mode == "calochallenge" else "strict procedure"
    profile = ", quick profile" if result.settings.quick else ""
    version = result.versions.get("cathode-hep", "")
    opening = [
        banner(
            _BANNER[said.kind],
            said.headline,
            *(paragraph(s) for s in said.sentences),
            above=badge(f"{mode}{profile}", "info"),
        ),
        cards(sections.key_numbers(result)),
    ]
    return write_page(
        path,
        page(
            f"Evaluation of {result.name}",
            parts,
            subtitle=f"{result.geometry.name} · {result.counts['generated']:,} generated against "
            f"{result.counts['reference']:,} reference showers",
            opening=opening,
            footer=f"cathode-hep {version} · this file is complete and needs no network".replace("  ", " "),
        ),
    )
