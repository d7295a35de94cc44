"""The page of an evaluation of jets: one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cathode.jets.evaluation.results import JetsEvaluation
from cathode.page import html as p
from cathode.page.text import duration, measured, number, probability
from cathode.report.jets.figures import all_figures
from cathode.report.jets.verdict import area, thousandths, verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_report"]

Figures = Mapping[str, "Figure"]

_BANNER: dict[str, p.Kind] = {"same": "good", "close": "info", "different": "bad", "unknown": "warn"}


def write_report(result: JetsEvaluation, path: str | Path, *, figures: Figures | None = None) -> Path:
    """Write the page of ``result`` to ``path``; the same result gives the same bytes.

    Args:
        result: A finished evaluation.
        path: File to write, whole or not at all.
        figures: What :func:`cathode.report.jets.figures.all_figures` returned, if it was already called.

    Raises:
        UserError: The folder of ``path`` cannot be written to.
    """
    drawn = all_figures(result) if figures is None else figures
    said = verdict(result)
    what = "all" if result.settings.particles is None else f"the leading {result.settings.particles}"
    opening = [
        p.banner(
            _BANNER[said.kind],
            said.headline,
            *(p.paragraph(s) for s in said.sentences),
            above=p.badge("quick profile" if result.settings.quick else "full profile", "info"),
        ),
        p.cards(_key_numbers(result)),
    ]
    sections = [
        _scores(result, drawn),
        *([_tests(result)] if result.tests else []),
        _substructure(result, drawn),
        _constituents(result, drawn),
        _run(result),
        *([p.section("notes", "Notes", p.bullets(result.notes))] if result.notes else []),
    ]
    version = result.versions.get("cathode-hep", "")
    return p.write_page(
        path,
        p.page(
            f"Evaluation of {result.name}",
            sections,
            subtitle=f"{result.counts['generated']:,} generated against {result.counts['reference']:,} true jets,"
            f" {what} constituents",
            opening=opening,
            footer=f"cathode-hep {version} · this file is complete and needs no network".replace("  ", " "),
        ),
    )


def _key_numbers(result: JetsEvaluation) -> list[p.Card]:
    scores = {s.name: s for s in result.scores}
    cards = [
        p.Card(
            f"{name.upper()} × 10³",
            thousandths(scores[name]),
            "" if scores[name].floor is None else f"truth against truth: {thousandths(scores[name], floor=True)}",
        )
        for name in ("w1m", "w1p", "w1efp", "fpd")
        if name in scores
    ]
    for test in result.tests:
        note = "" if test.floor is None else f"truth against truth: {area(test, floor=True)}"
        cards.append(p.Card(f"AUC, {test.name}", area(test), note))
    return cards


def _scores(result: JetsEvaluation, drawn: Figures) -> p.Section:
    rows = [
        [
            s.label,
            thousandths(s) + ("" if s.better == "low" else " (not × 10⁻³)"),
            thousandths(s, floor=True),
            number(s.value / s.floor, digits=2) if s.floor is not None and s.floor > 0 else number(None),
        ]
        for s in result.scores
    ]
    return p.section(
        "scores",
        "Distances",
        p.table(
            ["distance", "generated, × 10⁻³", "truth against truth, × 10⁻³", "ratio"],
            rows,
            numeric=(1, 2, 3),
            caption="W1M, W1P and W1EFP as the JetNet library defines them: mean and standard deviation over"
            f" {result.settings.num_batches} batches of {result.settings.num_eval_samples:,} jets drawn with"
            f" replacement. Truth against truth: {result.floor_note}; for these three, mean and standard deviation over"
            " random divisions of the true jets, which is how far a perfect generator scatters.",
        ),
        p.figure(
            drawn["scores"],
            description="Every distance over that of truth from truth",
            caption="A perfect generator lies on the line.",
            medium=True,
        ),
        lead="How far the generated jets are from the true ones, beside how far true jets are from true jets.",
    )


def _tests(result: JetsEvaluation) -> p.Section:
    rows = [
        [
            test.label,
            area(test),
            probability(test.found.p_value),
            area(test, floor=True),
            f"{test.found.events[0]:,} / {test.found.events[1]:,}",
            duration(test.seconds),
        ]
        for test in result.tests
    ]
    return p.section(
        "tests",
        "Two-sample tests",
        p.table(
            ["classifier", "AUC", "p-value", "AUC, truth against truth", "jets (generated / true)", "time"],
            rows,
            numeric=(1, 2, 3, 4, 5),
            caption="AUC: probability that the classifier ranks a jet of one sample above one of the other; 0.5 is"
            " perfect. Judged on jets that it never saw.",
        ),
        lead="Trained to tell generated from true jets.",
    )


def _substructure(result: JetsEvaluation, drawn: Figures) -> p.Section:
    shown = [h for h in result.histograms if h.kind == "jet"]
    rows = [
        [
            h.label,
            measured(h.w1.value, h.w1.error),
            measured(h.w1.expected),
            number(h.floor, digits=2),
        ]
        for h in sorted(shown, key=lambda h: -h.w1.value)
    ]
    return p.section(
        "substructure",
        "Substructure",
        p.figure(drawn["substructure"], description="Substructure of reference and generated jets with ratios"),
        p.table(
            ["observable", "W1 [σ]", "by chance", "truth against truth"],
            rows,
            numeric=(1, 2, 3),
            caption="1-Wasserstein distance in standard deviations of the reference; ‘by chance’ is its expectation for"
            " two samples of one distribution.",
        ),
        lead="One entry per jet, from the constituents that are compared.",
    )


def _constituents(result: JetsEvaluation, drawn: Figures) -> p.Section:
    return p.section(
        "constituents",
        "Constituents",
        p.figure(drawn["constituents"], description="Spectra of constituents with ratios"),
        p.heading("By rank"),
        p.figure(drawn["ranks"], description="Mean pT of constituents by rank, and the share of jets that have them"),
        p.heading("Mean images"),
        p.figure(drawn["images"], description="Mean images of reference and generated jets and their ratio"),
        lead="Coordinates relative to the axis of the jet.",
    )


def _run(result: JetsEvaluation) -> p.Section:
    rows = [["reference", result.sources[0] or number(None)], ["generated", result.sources[1] or number(None)]]
    rows += [[name.replace("_", " "), f"{count:,}"] for name, count in result.counts.items()]
    rows += [[f"time: {step}", duration(seconds)] for step, seconds in result.seconds.items()]
    rows += [["seed", str(result.settings.seed)]]
    rows += [[name, version] for name, version in result.versions.items()]
    return p.section("run", "This evaluation", p.table(["", ""], rows))
