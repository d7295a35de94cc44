"""What an evaluation says in a few sentences, for the top of the page and for the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cathode.page.text import measured, number
from fastsim.evaluation.classifiers.results import Interval
from fastsim.evaluation.results import EvaluationResult

__all__ = ["Verdict", "interval", "strongest", "summary_lines", "verdict"]


@dataclass(frozen=True)
class Verdict:
    """The outcome in words.

    Attributes:
        kind: ``same`` if no classifier tells the samples apart, ``close``, ``different``, or ``unknown`` without
            classifiers.
        headline: One line.
        sentences: What stands below it.
    """

    kind: Literal["same", "close", "different", "unknown"]
    headline: str
    sentences: tuple[str, ...]


def interval(value: Interval | None, *, digits: int = 3) -> str:
    """``0.631 (0.622–0.640)``."""
    if value is None or not np.isfinite(value.value):
        return number(None)
    return f"{value.value:.{digits}f} ({value.low:.{digits}f}–{value.high:.{digits}f})"


def strongest(result: EvaluationResult, level: Literal["low", "high"]) -> tuple[str, Interval] | None:
    """The classifier that separates best from voxels (``low``) or observables (``high``)."""
    if result.classifiers is None:
        return None
    known = {k: v for k, v in result.classifiers.auc.items() if k.startswith(level) or (level == "low" and k == "cnn")}
    if not known:
        return None
    name = max(known, key=lambda k: known[k].value)
    return name, known[name]


def verdict(result: EvaluationResult) -> Verdict:
    """The outcome of an evaluation in words."""
    low, high = strongest(result, "low"), strongest(result, "high")
    sentences = []
    if low is None:
        kind: Literal["same", "close", "different", "unknown"] = "unknown"
        headline = f"{result.name}: compared without classifiers"
    else:
        area = low[1]
        kind = "same" if area.low <= 0.5 else "close" if area.value < 0.8 else "different"
        told = {
            "same": "no classifier tells generated from reference showers",
            "close": f"a classifier tells generated from reference showers with an area of {area.value:.3f}",
            "different": f"generated showers are recognised, with an area of {area.value:.3f} under the ROC curve",
        }
        headline = f"{result.name}: {told[kind]}"
        text = f"Strongest classifier on voxels: AUC {interval(area)}"
        if high is not None:
            text += f"; on observables: {interval(high[1])}"
        sentences.append(text + ". A perfect generator has 0.5.")
    sentences += [s for s in (_closure(result), _time(result)) if s]
    return Verdict(kind, headline, tuple(sentences))


def summary_lines(result: EvaluationResult) -> list[str]:
    """The outcome for the terminal."""
    said = verdict(result)
    lines = [said.headline, *said.sentences]
    if result.classifiers is not None:
        areas = ", ".join(f"{name} {interval(area)}" for name, area in result.classifiers.auc.items())
        lines.append(f"AUC: {areas}")
    lines.append(
        f"FPD {measured(1000 * result.fpd.value, 1000 * result.fpd.error)} × 10⁻³, "
        f"KPD {measured(1000 * result.kpd.value, 1000 * result.kpd.error)} × 10⁻³"
    )
    if result.ranking is not None:
        lines.append(result.ranking.text)
    return lines


def _closure(result: EvaluationResult) -> str:
    if not result.response:
        return ""
    means = [abs(r.mean_ratio[0] - 1) for r in result.response if np.isfinite(r.mean_ratio[0])]
    widths = [abs(r.width_ratio[0] - 1) for r in result.response if np.isfinite(r.width_ratio[0])]
    if not means or not widths:
        return ""
    return (
        f"Total energy over incident energy: the mean is within {100 * max(means):.2g} % and the width within "
        f"{100 * max(widths):.2g} % of the reference at every one of {len(result.response)} energies."
    )


def _time(result: EvaluationResult) -> str:
    if result.timing is None or not result.timing.milliseconds:
        return ""
    parts = [
        f"{number(v, digits=3)} ms ({k.replace('_batch', ', batch ')})" for k, v in result.timing.milliseconds.items()
    ]
    return f"One shower takes {', '.join(parts)}."
