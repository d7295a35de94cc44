"""The section of the report on the model of constituents, where a search had one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cathode.page import html as p
from cathode.page.text import duration, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cathode.search.results import ConstituentSummary

__all__ = ["constituents_section"]


def constituents_section(summary: ConstituentSummary, drawn: Mapping[str, Figure]) -> p.Section:
    """Where the generated constituents come from and what it cost to get them into the acceptance."""
    trained = ", ".join(number(jets) for jets in summary.trained_jets)
    rows = [
        ["models of the constituents of a jet", number(summary.members)],
        ["jets that each was trained on", trained],
        ["events of the files outside the acceptance", number(summary.dropped)],
        ["smallest transverse momentum of a constituent", f"{number(summary.threshold, digits=3)} GeV"],
        ["draws per template event in the acceptance", number(summary.draws, digits=3)],
        ["template events without such a draw", f"{number(summary.lost)}; sidebands {number(summary.lost_sideband)}"],
        ["time to generate a jet", f"{number(summary.milliseconds_per_jet, digits=2)} ms"],
    ]
    weights = summary.reweighting
    if weights is not None:
        rows += [
            ["reweighted to sideband data, learned from", f"{number(weights.data)} events"],
            ["and generated events at their masses", number(weights.generated)],
            ["kept of the generated template", f"{number(100 * weights.kept['template'], digits=3)} %"],
            ["of it with weights beyond the largest", f"{number(100 * weights.cut['template'], digits=2)} %"],
        ]
    if summary.training_seconds > 0:
        rows.insert(2, ["training, all models", duration(summary.training_seconds)])
    return p.section(
        "constituents",
        "Constituents",
        p.table(["", ""], rows, numeric=[1]),
        p.figure(drawn["training_constituents"], description="Loss against epoch of the models of the constituents"),
        *([p.paragraph("Models that were given: " + ", ".join(summary.models), soft=True)] if summary.models else []),
        lead="Background events carry all constituents of both jets: kinematics from one density, constituents of a jet"
        " from another. No jet of the signal region was in a training, and no event is compared with a model that has"
        " seen it; both were checked jet by jet.",
    )
