"""What a finished search says on the terminal."""

from __future__ import annotations

from cathode.report.verdict import verdict
from cathode.search.results import SearchResult

__all__ = ["summary_lines"]


def summary_lines(result: SearchResult) -> list[str]:
    """Headline, gate, one line per working point, truth if there is any, and the time it took."""
    lines = [verdict(result).headline, f"gate: {result.gate.status}"]
    for point in result.working_points:
        line = (
            f"eps_B = {point.background_efficiency:g}: observed {point.observed:g}, expected "
            f"{point.expected:.1f} +- {point.expected_error:.1f}, p = {point.p_value:.2g}, Z = {point.significance:.1f}"
        )
        if point.fit is not None:
            line += f"; sideband fit Z = {point.fit.significance:.1f}"
        lines.append(line)
    if result.truth is not None:
        series = {"search": result.truth.search, **result.truth.references}
        lines.append("max SIC: " + ", ".join(f"{name} {s.max_sic:.1f}" for name, s in series.items()))
    seconds = result.timing
    lines.append(f"search {seconds['search']:.0f} s, with evaluation {seconds['total']:.0f} s")
    return lines
