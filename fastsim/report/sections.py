"""The sections of the report of an evaluation, one function each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cathode.comparison.estimate import Estimate
from cathode.page import html as p
from cathode.page.text import duration, measured, number
from fastsim.evaluation.results import EvaluationResult, plain
from fastsim.report.closures import identification_table, regression_table
from fastsim.report.figures.classifiers import CLASSIFIERS
from fastsim.report.figures.observables import KINDS, groups
from fastsim.report.verdict import interval, strongest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastsim.evaluation.classifiers.results import SeparatingFeature

__all__ = [
    "classifiers_section",
    "closure_section",
    "correlations_section",
    "distances_section",
    "examples_section",
    "key_numbers",
    "layers_section",
    "notes_section",
    "observables_section",
    "profiles_section",
    "run_section",
    "separations_section",
]

Figures = Mapping[str, "Figure"]

_GROUPS = {"shower": "The whole shower", "response": "Total energy at each incident energy"}


def thousandth(found: Estimate | None) -> str:
    """An estimate in units of 10^-3, as published tables quote it."""
    return number(None) if found is None else measured(1000 * found.value, 1000 * found.error)


def key_numbers(result: EvaluationResult) -> list[p.Card]:
    """The cards under the verdict."""
    cards = []
    for level, label in (("low", "AUC, voxels"), ("high", "AUC, observables")):
        found = strongest(result, "low" if level == "low" else "high")
        if found is not None:
            name, area = found
            note = f"95 %: {area.low:.3f}–{area.high:.3f}; {CLASSIFIERS.get(name, name).split(',')[0]}"
            cards.append(p.Card(label, f"{area.value:.3f}", note))
    cards += [
        p.Card("FPD × 10³", thousandth(result.fpd), _floor_note(result, "fpd")),
        p.Card("KPD × 10³", thousandth(result.kpd), _floor_note(result, "kpd")),
    ]
    if result.timing is not None and result.timing.milliseconds:
        name, value = min(result.timing.milliseconds.items(), key=lambda item: item[1])
        cards.append(p.Card("ms per shower", number(value, digits=3), name.replace("_batch", ", batch ")))
    cards.append(
        p.Card("showers", number(result.counts["generated"]), f"{number(result.counts['reference'])} reference")
    )
    return cards


def classifiers_section(result: EvaluationResult, drawn: Figures) -> p.Section:
    """Areas, divergences, ROC curves, and what the classifiers see."""
    results = result.classifiers
    if results is None:
        return p.section("classifiers", "Classifiers", p.paragraph("No classifier was trained.", soft=True))
    floor = None if result.floor is None or result.floor.classifiers is None else result.floor.classifiers.auc
    rows = []
    for name, score in results.scores.items():
        row = [
            CLASSIFIERS.get(name, name),
            interval(score.auc),
            measured(score.jsd.value, score.jsd.error),
            duration(score.seconds),
        ]
        rows.append(row + ([interval(floor.get(name))] if floor else []))
    header = [
        "classifier",
        "AUC (95 %)",
        "JSD / ln 2",
        "CPU time",
        *(["AUC, halves of the reference"] if floor else []),
    ]
    return p.section(
        "classifiers",
        "Classifiers",
        p.grid(
            p.table(
                header,
                rows,
                numeric=range(1, len(header)),
                caption="AUC: probability that a reference shower scores above a generated one; 0.5 is perfect. JSD:"
                " 1 − cross-entropy / ln 2 of the calibrated scores; 0 is perfect.",
            ),
            p.figure(drawn["roc"], description="ROC curves of all classifiers", medium=True),
        ),
        p.heading("What a classifier sees"),
        p.figure(
            drawn["separating"],
            description="Voxels and observables that separate the samples best by themselves",
            caption="AUC of one feature alone. Blue: the generator gives too little; red: too much. Grey ticks: what"
            " one of all features reaches by chance in 5 % of comparisons.",
        ),
        _features("voxel", results.voxels[:10]),
        _features("observable", results.observables[:10]),
        lead="Trained to tell generated from reference showers, judged on showers they never saw.",
    )


def layers_section(result: EvaluationResult, drawn: Figures) -> p.Section:
    """Mean showers as pictures."""
    content = [
        p.figure(
            drawn["layers"],
            description="Mean energy per area of each layer for reference and generated showers, and the ratio",
            caption="Mean energy over incident energy per mm². Uneven rings are drawn equally wide. Grey: fewer than 20"
            " hits.",
        )
    ]
    if "depth" in drawn:
        content.append(
            p.figure(
                drawn["depth"], description="Mean energy against depth and radius", caption="Depth against radius."
            )
        )
    return p.section("showers", "Mean showers", *content, lead="Averaged over all showers of either sample.")


def profiles_section(result: EvaluationResult, drawn: Figures) -> p.Section:
    """Profiles with ratios."""
    content = [p.figure(drawn["profiles"], description="Longitudinal, radial and azimuthal profiles with ratios")]
    layered = [drawn[name] for name in drawn if name.startswith("radial")]
    content += [p.figure(f, description="Radial profiles of layers with ratios") for f in layered]
    lead = "Grey band: standard error of the reference; bars: of the generated showers."
    return p.section("profiles", "Profiles", *content, lead=lead)


def closure_section(result: EvaluationResult, drawn: Figures) -> p.Section:
    """Total and layer energies per incident energy."""
    rows = []
    for one in result.response:
        mean, width = one.mean_ratio, one.width_ratio
        energy = f"{one.energy / 1000:.4g}"
        if one.low != one.high:
            energy = f"{one.low / 1000:.3g}–{one.high / 1000:.3g}"
        rows.append(
            [
                energy,
                number(one.showers[0]),
                number(one.showers[1]),
                measured(one.reference.mean, one.reference.mean_error),
                measured(mean[0], mean[1]),
                measured(one.reference.width, one.reference.width_error),
                measured(width[0], width[1]),
            ]
        )
    header = ["E [GeV]", "reference", "generated", "mean", "mean, gen / ref", "width", "width, gen / ref"]
    applied = [*regression_table(result), *identification_table(result)]
    return p.section(
        "closure",
        "Energy closure",
        p.figure(
            drawn["response"],
            description="Mean and width of total over incident energy",
            caption="Grey bands in the ratios: 1 % for the mean, 5 % for the width.",
        ),
        p.table(header, rows, numeric=range(7), caption="Mean and width: of E_tot / E_inc."),
        p.figure(
            drawn["layer_closure"],
            medium=len(result.geometry.layer_ids) <= 12,
            description="Mean energy of each layer at each incident energy",
            caption="Mean energy of each layer. Colour: how significant the difference is; numbers, if there is room:"
            " generated over reference.",
        ),
        *applied,
        lead="Does the generator give the right energy, and the right fluctuation, at every incident energy?",
    )


def correlations_section(result: EvaluationResult, drawn: Figures) -> p.Section:
    """Correlation matrices."""
    found = result.correlations.distance
    text = f"Root mean square of the differences: {measured(found.value, found.error)}"
    if math.isfinite(found.expected):
        text += f"; {number(found.expected, digits=2)} is expected by chance"
    return p.section(
        "correlations",
        "Correlations of layers",
        p.figure(drawn["correlations"], description="Correlation matrices of the layer energies"),
        p.paragraph(text + "."),
        lead="Pearson correlation of the layers' energies over the incident energy.",
    )


def observables_section(result: EvaluationResult, drawn: Figures) -> p.Section:
    """Every observable, with ratios."""
    content: list[Any] = []
    for name in groups(result.separations):
        content.append(p.heading(_GROUPS.get(name, KINDS.get(name, name).capitalize() + " by layer")))
        content.append(p.figure(drawn[f"observables_{name.replace('-', '_')}"], description=f"Histograms: {name}"))
    return p.section(
        "observables",
        "Observables",
        *content,
        lead="Normalised to one. S: separation power. Percentages: showers (voxels) outside of the bins or exactly"
        " zero, reference | generated. Where there are many layers, eight of them.",
    )


def separations_section(result: EvaluationResult, drawn: Figures) -> p.Section:
    """Separation powers, all in one figure, with the means that published tables quote."""
    distance: dict[str, list[Estimate]] = {}
    for one in result.separations:
        if one.energy is None and one.name in result.wasserstein:
            distance.setdefault(one.kind, []).append(result.wasserstein[one.name])
    rows = []
    for kind, found in result.mean_separations.items():
        largest = max(distance.get(kind, []), key=lambda e: e.value, default=None)
        rows.append(
            [
                KINDS.get(kind, kind),
                thousandth(found),
                number(1000 * found.expected, digits=2),
                "" if largest is None else measured(largest.value, largest.error),
                "" if largest is None else number(largest.expected, digits=2),
            ]
        )
    header = ["observable", "separation × 10³", "by chance", "largest Wasserstein distance", "by chance"]
    return p.section(
        "separation",
        "Separation powers",
        p.figure(drawn["separations"], description="Separation power of every observable"),
        p.table(
            header,
            rows,
            numeric=range(1, 5),
            caption="Separation: mean over layers. Wasserstein: in standard deviations of the reference, the layer with"
            " the largest. By chance: what two samples of one distribution and these sizes give on average.",
        ),
        lead="0: the same histogram; 1: histograms without overlap. Fluctuations alone give more than 0.",
    )


def distances_section(result: EvaluationResult) -> p.Section:
    """FPD, KPD and the neighbourhood measures with their floor."""
    floor = result.floor
    names = ("precision", "recall", "density", "coverage")
    rows = [
        ["FPD × 10³", thousandth(result.fpd), "0", thousandth(None if floor is None else floor.fpd)],
        ["KPD × 10³", thousandth(result.kpd), "0", thousandth(None if floor is None else floor.kpd)],
    ]
    for name in names:
        found: Estimate = getattr(result.prdc, name)
        below = "" if floor is None else measured(getattr(floor.prdc, name).value, getattr(floor.prdc, name).error)
        rows.append([name, measured(found.value, found.error), number(found.expected, digits=3), below])
    caption = (
        f"Precision to coverage: {result.prdc.neighbours} neighbours, {number(result.prdc.events[0])} showers each."
    )
    if floor is not None:
        caption += f" Floor: two disjoint parts of the reference, {number(floor.showers)} showers each."
    return p.section(
        "distances",
        "Distances",
        p.table(["measure", "value", "perfect", "floor"], rows, numeric=range(1, 4), caption=caption),
        lead="FPD and KPD compare the observables' distributions, the others neighbourhoods in the voxels' logarithms.",
    )


def examples_section(result: EvaluationResult, drawn: Figures) -> p.Section:
    """Single showers."""
    drawing = p.figure(
        drawn["examples"],
        description="Single reference and generated showers in three dimensions",
        caption="Drawn at random. Colour and size: energy of the voxel, same scale above and below.",
    )
    return p.section("examples", "Single showers", drawing, lead="Pairs of nearly the same incident energy.")


def run_section(result: EvaluationResult) -> p.Section:
    """What was compared, how, and how long it took."""
    counts = [[k.replace("_", " "), number(v)] for k, v in result.counts.items()]
    parts = {k: v for k, v in result.seconds.items() if k != "total"}
    longest = max(parts.values(), default=0.0)
    times = [[k, duration(v), p.bar(v / longest if longest > 0 else 0.0)] for k, v in parts.items()]
    if "total" in result.seconds:
        times.append(["total", duration(result.seconds["total"]), ""])
    settings = "\n".join(f"{k}: {v}" for k, v in plain(result.settings).items())
    return p.section(
        "run",
        "This evaluation",
        p.paragraph(
            f"Reference: {result.sources[0] or 'in memory'}. Generated: {result.sources[1] or 'in memory'}. Geometry:"
            f" {result.geometry.name}, {number(result.geometry.n_voxels)} voxels. Threshold: {result.threshold:g} MeV."
        ),
        p.grid(
            p.table(["counts", ""], counts, numeric=[1]),
            p.table(["step", "time", ""], times, numeric=[1], wide=[2], strong=[len(parts)]),
        ),
        p.heading("Settings"),
        p.preformatted(settings),
        p.heading("Versions"),
        p.table(["package", "version"], list(result.versions.items())),
    )


def notes_section(result: EvaluationResult) -> p.Section:
    """What a reader must know."""
    return p.section("notes", "Notes", p.bullets(result.notes))


def _features(kind: str, features: tuple[SeparatingFeature, ...]) -> p.Html:
    rows = [
        [
            f.name,
            measured(f.auc, f.error),
            number(f.reference_mean, digits=3),
            number(f.generated_mean, digits=3),
            f"{100 * f.reference_nonzero:.1f} | {100 * f.generated_nonzero:.1f}",
        ]
        for f in features
    ]
    header = [kind, "AUC", "mean, reference", "mean, generated", "not zero [%]"]
    return p.table(header, rows, numeric=range(1, 5))


def _floor_note(result: EvaluationResult, name: str) -> str:
    if result.floor is None:
        return "0 is perfect"
    return f"halves of the reference: {thousandth(getattr(result.floor, name))}"
