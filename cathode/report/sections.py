"""The sections of the report of a search, one function each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cathode.page import html as p
from cathode.page.text import duration, efficiency, measured, number, probability, sigma
from cathode.report.verdict import best_point
from cathode.search.results import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cathode.search.results import MassFitSummary, SearchResult, TruthResult, WorkingPoint

__all__ = [
    "config_section",
    "features_section",
    "gate_section",
    "key_numbers",
    "mass_section",
    "notes_section",
    "score_section",
    "status_kind",
    "symbols",
    "timing_section",
    "training_section",
    "truth_section",
    "versions_section",
    "working_points_section",
]

Figures = Mapping[str, "Figure"]

_EPS_B = p.Html("ε<sub>B</sub>")
_SERIES = {"search": "this search", "idealized": "idealized anomaly detector", "supervised": "supervised classifier"}


def symbols(text: str) -> p.Html:
    """``text`` escaped, with real subscripts."""
    return p.Html(p.escape(text).replace("ε_B", _EPS_B).replace("ε_S", "ε<sub>S</sub>"))


def status_kind(status: str) -> p.Kind:
    """Colour of a gate status."""
    kinds: dict[str, p.Kind] = {"pass": "good", "warn": "warn", "fail": "bad"}
    return kinds.get(status, "info")


def key_numbers(result: SearchResult) -> list[p.Card]:
    """The cards under the verdict."""
    found: list[p.Card] = []
    best = best_point(result.working_points)
    if best is not None:
        at = f"at ε_B = {efficiency(best.background_efficiency)}"
        # A number this large on the page is read as the result, whatever stands above it.
        meaning = "not a result" if result.gate.status == "fail" else "local significance"
        found += [
            p.Card(meaning, sigma(best.significance), symbols(f"{at}, p = {probability(best.p_value)}")),
            p.Card("observed", number(best.observed), f"{measured(best.expected, best.expected_error)} expected"),
        ]
    gate = result.gate
    found += [
        p.Card("template gate", gate.status, "quality of the background template", status_kind(gate.status)),
        p.Card(
            "two-sample AUC",
            measured(gate.c2st_auc_template, gate.c2st_auc_template_error),
            f"signal region; sidebands {measured(gate.c2st_auc_sideband, gate.c2st_auc_sideband_error)}",
        ),
    ]
    names = {"signal_region": "signal-region events", "sideband": "sideband events", "template": "template events"}
    found += [p.Card(label, number(result.counts[key])) for key, label in names.items() if key in result.counts]
    if result.truth is not None:
        series = result.truth.search
        band = f"68 %: {number(series.max_sic_low, digits=3)}–{number(series.max_sic_high, digits=3)}; from labels"
        found.append(p.Card("maximum SIC", number(series.max_sic, digits=3), band))
    if "total" in result.timing:
        found.append(p.Card("wall time", duration(result.timing["total"]), "whole search"))
    return found


def gate_section(result: SearchResult, drawn: Figures) -> p.Section:
    """The checks that the template had to pass."""
    rows = [
        [
            check.name,
            measured(check.value, check.error),
            number(check.warn),
            number(check.fail),
            p.badge(check.status, status_kind(check.status)),
            check.explanation,
        ]
        for check in result.gate.checks
    ]
    density = result.density
    quality = (
        "Density on sideband events it was not trained on:"
        f" {measured(density.validation_nll, density.validation_nll_error)} nats per event (negative log-density; lower"
        f" is better), {number(density.gaussian_nll)} for one Gaussian linear in mass."
    )
    content: list[Any] = [
        p.table(
            ["check", "value", "warns above", "fails above", "status", "what it is"], rows, numeric=[1, 2, 3], wide=[5]
        ),
        p.figure(
            drawn["gate"],
            description="Each check against its limits",
            caption="Each value on the scale of its own limits, with its statistical error.",
        ),
        p.paragraph(quality),
    ]
    if result.gate.status == "fail":
        content.insert(0, p.callout("bad", p.paragraph("The template failed: no claim may be based on it.")))
    lead = "Before anything is claimed: can the background template be told from data where there is no signal?"
    return p.section("gate", "Template gate", *content, lead=lead)


def working_points_section(result: SearchResult, drawn: Figures) -> p.Section:
    """Counts and significances at each cut, by both methods."""
    points = sorted(result.working_points, key=lambda w: -w.background_efficiency)
    best = best_point(points)
    if not points:
        return p.section("working-points", "Working points", p.paragraph("No working point was evaluated.", soft=True))
    uncut = [s for s in result.mass_spectra if s.background_efficiency >= 1]
    bold = [i for i, w in enumerate(points) if w is best]
    direct = p.table(
        [_EPS_B, "observed", "expected", "± stat.", "± syst.", "p-value", "Z (local)", "sideband closure"],
        [_direct_row(w) for w in points],
        numeric=range(8),
        strong=bold,
        caption="Expected: template events that pass, scaled to the data; the parts of its error add in quadrature."
        " Sideband closure: observed / expected − 1 for sideband events.",
    )
    fit_rows = [_fit_row(s.background_efficiency, s.fit, s.fit_problem) for s in uncut]
    fit_rows += [_fit_row(w.background_efficiency, w.fit, w.fit_problem) for w in points]
    fits = p.table(
        [_EPS_B, "observed", "expected", "p-value", "Z (local)", "χ² / ndof", "fit p-value", "parameters"],
        fit_rows,
        numeric=range(8),
        strong=[len(uncut) + i for i in bold],
        caption="Dijet function, fitted to the sidebands of the mass spectrum after the cut and interpolated into the"
        " signal region.",
    )
    return p.section(
        "working-points",
        "Working points",
        p.heading("Cut and count against the template"),
        direct,
        p.heading("Fit to the sidebands"),
        fits,
        p.figure(
            drawn["significance"],
            description="Observed over expected and significance per working point",
            caption="Left: observed over expected with the expectation's uncertainty. Right: local significance.",
        ),
        lead="Events in the signal region after cuts that keep a fixed fraction of the background. The headline quotes"
        " the row in bold.",
    )


def mass_section(result: SearchResult, drawn: Figures) -> p.Section:
    """The spectra with their fits, one figure each."""
    shown = [drawn[name] for name in drawn if name.startswith("mass_") and name != "mass_overview"]
    lead = "Counts before and after each cut; the fits do not see the shaded window. Bars: (data − fit) / error."
    if not shown:
        return p.section("mass", "Mass spectrum", p.paragraph("No mass spectrum was made.", soft=True))
    figures = [p.figure(f, description="Mass spectrum with sideband fit and pulls") for f in shown]
    return p.section("mass", "Mass spectrum", p.grid(*figures), lead=lead)


def features_section(result: SearchResult, drawn: Figures) -> p.Section:
    """Every feature, in the signal region and in the sidebands."""
    shown = [drawn[name] for name in drawn if name.startswith("feature_")]
    lead = (
        "Data against the template, which is scaled to the data. In the sidebands they must agree; in the signal region"
        " the template is interpolated."
    )
    if not shown:
        return p.section("features", "Features", p.paragraph("No feature histogram was made.", soft=True))
    note = (
        "Blue band: statistical error of the template. Orange band: with the spread between the members of the density"
        " ensemble. Arrows: outside of the panel."
    )
    figures = [p.figure(f, description="Data and template in one feature") for f in shown]
    return p.section("features", "Features", *figures, p.paragraph(note, soft=True), lead=lead)


def score_section(drawn: Figures) -> p.Section:
    """The classifier score of data and template."""
    return p.section(
        "score",
        "Classifier score",
        p.figure(
            drawn["score"],
            medium=True,
            description="Classifier score of data and template",
            caption="Every event is scored by classifiers that did not see it. An excess of data at high score is"
            " what the cuts select.",
        ),
        lead="Classifier of data against template in the signal region.",
    )


def truth_section(truth: TruthResult, drawn: Figures) -> p.Section:
    """ROC and SIC, from labels."""
    everything = {"search": truth.search, **truth.references}
    keys = sorted({k for s in everything.values() for k in s.sic}, key=lambda k: -_as_number(k))
    rows = []
    for name, series in everything.items():
        row: list[Any] = [
            _SERIES.get(name, name),
            measured(series.auc, series.auc_error),
            number(series.max_sic, digits=3),
            f"{number(series.max_sic_low, digits=3)}–{number(series.max_sic_high, digits=3)}",
        ]
        for key in keys:
            entry = series.sic.get(key, {})
            row.append(measured(entry.get("value"), entry.get("error")))
        rows.append(row)
    header: list[Any] = ["classifier", "AUC", "max SIC", "68 %"]
    header += [p.Html(f"SIC at {_EPS_B} = {p.escape(efficiency(_as_number(k)))}") for k in keys]
    counts = (
        f"In the signal region: {number(truth.n_signal_in_signal_region)} signal and"
        f" {number(truth.n_background_in_signal_region)} background events. Judged on {number(truth.n_test_signal)}"
        f" signal and {number(truth.n_test_background)} background test events."
    )
    return p.section(
        "truth",
        "With labels",
        p.callout(
            "info",
            p.paragraph(
                "Labels were used only here, and only after all scores were final. No other section knows them."
            ),
        ),
        p.paragraph(counts),
        p.table(
            header,
            rows,
            numeric=range(1, len(header)),
            strong=[0],
            caption=symbols(
                "SIC = ε_S / √ε_B. The maximum is taken where the statistical error of the background is below"
                " 20 %; a dash means too few background events. Idealized: data against true background."
                " Supervised: signal against background. Both use the classifier of the search."
            ),
        ),
        p.figure(
            drawn["sic"],
            description="Significance improvement characteristic",
            caption="Bands: 68 % over folds. Faint lines and the shaded range: background error above 20 %.",
        ),
        p.figure(drawn["roc"], description="ROC curves", medium=True),
        lead="How well the search ranks signal above background, against what the same classifier can reach.",
    )


def training_section(result: SearchResult, drawn: Figures) -> p.Section:
    """Loss curves."""
    density = result.density
    text = f"{density.name}: {duration(density.seconds)} wall time, {duration(density.cpu_seconds)} of CPU."
    return p.section(
        "training",
        "Training",
        p.figure(drawn["training"], description="Loss against epoch"),
        p.paragraph(text, soft=True),
        lead="Losses of the density's members and of the classifiers.",
    )


def timing_section(result: SearchResult) -> p.Section:
    """Where the time went."""
    parts = {k: v for k, v in result.timing.items() if k != "total"}
    longest = max((v for v in parts.values() if math.isfinite(v)), default=0.0)
    rows = [[k.replace("_", " "), duration(v), p.bar(v / longest if longest > 0 else 0.0)] for k, v in parts.items()]
    if "total" in result.timing:
        rows.append(["total", duration(result.timing["total"]), ""])
    content = p.table(["step", "time", ""], rows, numeric=[1], wide=[2], strong=[len(parts)])
    return p.section("timing", "Timing", content, lead="Wall time of each step.")


def config_section(result: SearchResult) -> p.Section:
    """The configuration as it was run."""
    return p.section(
        "config",
        "Configuration",
        p.preformatted(_yaml(result.config)),
        lead="Complete, with all defaults: running it again reproduces this report.",
    )


def versions_section(result: SearchResult) -> p.Section:
    """Software that made the result."""
    return p.section("versions", "Versions", p.table(["package", "version"], list(result.versions.items())))


def notes_section(result: SearchResult) -> p.Section:
    """What the search wants its reader to know."""
    return p.section("notes", "Notes", p.bullets(result.notes))


def _direct_row(point: WorkingPoint) -> list[Any]:
    return [
        efficiency(point.background_efficiency),
        number(point.observed),
        measured(point.expected, point.expected_error),
        number(point.statistical_error, digits=2),
        number(point.systematic_error, digits=2),
        probability(point.p_value),
        sigma(point.significance),
        measured(point.sideband_closure, point.sideband_closure_error),
    ]


def _fit_row(background_efficiency: float, fit: MassFitSummary | None, problem: str) -> list[Any]:
    name = "no cut" if background_efficiency >= 1 else efficiency(background_efficiency)
    if fit is None:
        # The reason takes the place of the numbers.
        return [name, p.tag("em", f"no fit: {problem or 'not attempted'}"), *[""] * 6]
    return [
        name,
        number(fit.window_observed),
        measured(fit.window_expected, fit.window_error),
        probability(fit.p_value),
        sigma(fit.significance),
        f"{number(fit.chi2, digits=3)} / {fit.ndof}",
        probability(fit.fit_p_value),
        fit.parameters,
    ]


def _as_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _yaml(config: Mapping[str, Any]) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Paths and other simple objects are written as their text."""

    Dumper.add_multi_representer(object, lambda dumper, value: dumper.represent_str(str(value)))
    text: str = yaml.dump(plain(dict(config)), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text
