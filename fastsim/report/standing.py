"""Points of the quality-against-time plane and the section of the published submissions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cathode.page import html as p
from cathode.page.text import number
from fastsim.evaluation.leaderboard import leaderboard
from fastsim.evaluation.procedure import dataset_of
from fastsim.evaluation.results import EvaluationResult
from fastsim.report.figures import all_figures
from fastsim.report.figures.plane import Point, plane_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plane", "report_figures", "standing_section"]

# The time that most generators are compared by, then what else may be known.
_TIMES = ("cpu_batch100", "cpu_batch10000", "cpu_batch1", "gpu_batch100", "gpu_batch10000", "gpu_batch1")
_DEVICES = {"cpu": "CPU", "gpu": "GPU"}


def plane(result: EvaluationResult) -> Figure | None:
    """Low-level area against time with the published submissions; None where none were published with this binning."""
    dataset = dataset_of(result.geometry)
    if dataset is None:
        return None
    known = {} if result.timing is None else result.timing.milliseconds
    time = next((t for t in _TIMES if t in known), _TIMES[0])
    points = [
        Point(s.model, s.values[f"ms_{time}"], s.values["auc_low"])
        for s in leaderboard(dataset).submissions
        if f"ms_{time}" in s.values and "auc_low" in s.values
    ]
    if time in known and result.classifiers is not None and "low_dnn" in result.classifiers.auc:
        points.append(Point(result.name, known[time], result.classifiers.auc["low_dnn"].value, own=True))
    device, _, batch = time.partition("_batch")
    label = f"milliseconds per shower, {_DEVICES[device]}, {int(batch):,} at a time"
    return plane_figure(points, auc_label="AUC of a network on the voxels", time_label=label)


def report_figures(result: EvaluationResult) -> dict[str, Figure]:
    """Every figure of the report by file name (without suffix)."""
    drawn = all_figures(result)
    published = plane(result)
    return drawn if published is None else {**drawn, "plane": published}


def standing_section(result: EvaluationResult, drawn: Mapping[str, Figure]) -> p.Section | None:
    """The published submissions with this generator among them; None where none were published with this binning."""
    if "plane" not in drawn:
        return None
    dataset = dataset_of(result.geometry)
    picture = p.figure(
        drawn["plane"],
        medium=True,
        description="Area under the ROC curve against time per shower of all published submissions",
        caption=f"Circles: submissions to the CaloChallenge, {dataset}, on the challenge's machines (arXiv:2410.21611)."
        " Dotted: the best of them at each time. Star: this generator, if its time is known.",
    )
    if result.ranking is None:
        refusal = p.callout(
            "info",
            p.paragraph(
                f"No rank: the showers have the binning of {dataset}, but nothing says that they are from that dataset"
                " (--dataset). Areas on other showers are not comparable, and the picture is for orientation only."
            ),
        )
        return p.section("standing", "Published generators", refusal, picture)
    rows: list[list[Any]] = []
    for one in result.ranking.ranks.values():
        ahead = "" if one.ahead is None else f"{one.ahead[0]} ({number(one.ahead[1], digits=3)})"
        behind = "" if one.behind is None else f"{one.behind[0]} ({number(one.behind[1], digits=3)})"
        values = [number(one.value, digits=3), number(one.geant4, digits=3)]
        rows.append([one.metric.replace("_", " "), *values, f"{one.rank} of {one.of}", ahead, behind])
    header = ["measure", "value", "GEANT4 itself", "rank", "just ahead", "just behind"]
    caveats = [p.callout("warn", p.bullets(result.ranking.caveats))] if result.ranking.caveats else []
    return p.section(
        "standing",
        "Published generators",
        *caveats,
        p.paragraph(result.ranking.text),
        picture,
        p.table(header, rows, numeric=(1, 2, 3)),
        lead=f"Where it would rank on {result.ranking.dataset} ({result.ranking.source}).",
    )
