"""The outcome of a search in words.  The gate comes first: a template that failed it supports no claim."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cathode.page.text import efficiency, measured, number, probability, sigma

if TYPE_CHECKING:
    from cathode.search.results import SearchResult, WorkingPoint

__all__ = ["EXCESS_SIGMA", "Verdict", "best_point", "verdict"]

EXCESS_SIGMA = 3.0
"""Local significance from which the headline says "excess": the convention for evidence."""


@dataclass(frozen=True)
class Verdict:
    """What the report says first.

    Attributes:
        kind: ``"excess"``, ``"none"``, ``"invalid"`` (gate failed) or ``"unknown"`` (nothing could be evaluated).
        headline: One line.
        sentences: What a reader must know with it.
    """

    kind: str
    headline: str
    sentences: tuple[str, ...]


def best_point(points: Sequence[WorkingPoint]) -> WorkingPoint | None:
    """The working point with the largest significance; None if there is none with a number."""
    usable = [p for p in points if not math.isnan(p.significance)]
    return max(usable, key=lambda p: p.significance, default=None)


def verdict(result: SearchResult) -> Verdict:
    """Headline and sentences of a search."""
    low, high = result.signal_region
    where = f"{low:g}–{high:g} TeV"
    best = best_point(result.working_points)
    if best is None:
        headline = f"No working point of {where} could be evaluated"
        sentences: tuple[str, ...] = ("There is no significance to quote; the notes say what is missing.",)
    else:
        at = f"at ε_B = {efficiency(best.background_efficiency)}"
        if best.significance >= EXCESS_SIGMA:
            headline = f"Excess of {sigma(best.significance)} (local) {at} in {where}"
        else:
            headline = f"No significant excess in {where}: at most {sigma(best.significance)} (local), {at}"
        sentences = (_counts(best), _cross_check(best), _before(result), _trials(result))
    sentences = tuple(s for s in sentences if s)
    if result.gate.status == "fail":
        failed = [c.name for c in result.gate.checks if c.status == "fail"]
        return Verdict(
            "invalid",
            f"Nothing may be claimed in {where}: the background template failed its quality gate",
            (
                "Failed: " + ("; ".join(failed) if failed else "the gate as a whole") + ".",
                "The numbers below are shown to find out why, and must not be quoted as a result.",
                *sentences,
            ),
        )
    if result.gate.status == "warn":
        warned = [c.name for c in result.gate.checks if c.status == "warn"]
        note = "The template gate warns" + (f" ({'; '.join(warned)})" if warned else "")
        sentences = (*sentences, note + ": read the result with this in mind.")
    if best is None:
        return Verdict("unknown", headline, sentences)
    return Verdict("excess" if best.significance >= EXCESS_SIGMA else "none", headline, sentences)


def _counts(point: WorkingPoint) -> str:
    expected = measured(point.expected, point.expected_error)
    return (
        f"{number(point.observed)} events observed where {expected} are expected without signal "
        f"(p = {probability(point.p_value)})."
    )


def _cross_check(point: WorkingPoint) -> str:
    if point.fit is None:
        reason = point.fit_problem or "not attempted"
        return f"The sideband fit of the mass spectrum after this cut was not possible: {reason}."
    return f"The sideband fit of the mass spectrum after the same cut gives {sigma(point.fit.significance)}."


def _before(result: SearchResult) -> str:
    uncut = next((s.fit for s in result.mass_spectra if s.background_efficiency >= 1 and s.fit is not None), None)
    return "" if uncut is None else f"Without any cut, the same fit gives {sigma(uncut.significance)}."


def _trials(result: SearchResult) -> str:
    count = len(result.working_points)
    chosen = f"the largest of {count} working points" if count > 1 else "one working point"
    return f"Local significance, {chosen}; no trials factor is applied."
