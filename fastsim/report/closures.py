"""Tables of what experiments do with showers: reconstructed energy and particle identification."""

from __future__ import annotations

from cathode.page import html as p
from cathode.page.text import measured, number
from fastsim.evaluation.results import EvaluationResult
from fastsim.report.verdict import interval

__all__ = ["identification_table", "regression_table"]


def regression_table(result: EvaluationResult) -> list[p.Html]:
    """Energy reconstructed from the showers, trained on either sample; nothing if it was not done."""
    rows = [
        [
            one.trained_on,
            f"{point.energy / 1000:.4g}",
            measured(point.reference.mean, point.reference.mean_error),
            measured(point.generated.mean, point.generated.mean_error),
            number(point.scale.pull, digits=2),
            measured(point.reference.width, point.reference.width_error),
            measured(point.generated.width, point.generated.width_error),
            number(point.resolution.pull, digits=2),
        ]
        for one in result.regression
        for point in one.points
    ]
    if not rows:
        return []
    header = ["trained on", "E [GeV]", "mean, reference", "mean, generated", "pull"]
    header += ["width, reference", "width, generated", "pull"]
    caption = "Reconstructed over incident energy. Pull: generated minus reference, over its error."
    return [p.heading("Reconstructed energy"), p.table(header, rows, numeric=range(1, 8), caption=caption)]


def identification_table(result: EvaluationResult) -> list[p.Html]:
    """Particle identification, trained on either sample; nothing if it was not done."""
    if not result.identification:
        return []
    rows = [
        [
            one.trained_on,
            interval(one.reference),
            interval(one.generated),
            number(one.difference.pull, digits=2),
            *(f"{100 * w.reference.value:.3g} | {100 * w.generated.value:.3g}" for w in one.working_points),
        ]
        for one in result.identification
    ]
    cuts = [f"background at {100 * w.efficiency:g} % [%]" for w in result.identification[0].working_points]
    header = ["trained on", "AUC, reference", "AUC, generated", "pull", *cuts]
    caption = "This particle against the other, by the observables. Background that passes: reference | generated."
    return [
        p.heading("Particle identification"),
        p.table(header, rows, numeric=range(1, len(header)), caption=caption),
    ]
