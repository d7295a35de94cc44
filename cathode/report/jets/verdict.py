"""What an evaluation of jets says in a few words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cathode.jets.evaluation.results import JetsEvaluation, Score, TwoSampleTest
from cathode.page.text import measured, number

__all__ = ["Verdict", "area", "summary_lines", "thousandths", "verdict"]

# An area under the ROC curve from which on jets count as different.
_DIFFERENT = 0.8
_HEADLINES = ("w1m", "w1p", "w1efp")


@dataclass(frozen=True)
class Verdict:
    """Headline with its colour and what supports it."""

    kind: Literal["same", "close", "different", "unknown"]
    headline: str
    sentences: tuple[str, ...]


def area(test: TwoSampleTest, *, floor: bool = False) -> str:
    """An AUC with its error."""
    found = test.floor if floor else test.found
    return number(None) if found is None else measured(found.auc, found.error)


def thousandths(score: Score, *, floor: bool = False) -> str:
    """A distance in units of 10^-3, as published tables quote it; coverage as it is."""
    value, error = (score.floor, score.floor_error) if floor else (score.value, score.error)
    if value is None:
        return number(None)
    scale = 1.0 if score.better == "high" else 1000.0
    return measured(scale * value, None if error is None else scale * error)


def verdict(result: JetsEvaluation) -> Verdict:
    """The strongest two-sample test decides; without one, nothing is claimed."""
    scores = {s.name: s for s in result.scores}
    quoted = [f"{n.upper()} {thousandths(scores[n])}" for n in _HEADLINES if n in scores]
    floors = [thousandths(scores[n], floor=True) for n in _HEADLINES if n in scores]
    sentences = [f"{', '.join(quoted)} (× 10⁻³)"]
    if any(scores[n].floor is not None for n in _HEADLINES if n in scores):
        sentences[0] += f"; truth against truth: {', '.join(floors)}"
    sentences[0] += "."
    if not result.tests:
        return Verdict("unknown", f"{result.name}: distances only, no two-sample test was made", tuple(sentences))
    strongest = max(result.tests, key=lambda test: test.found.auc)
    tested = "; ".join(f"{t.label}: AUC {area(t)}" for t in result.tests)
    sentences.append(f"{tested}. A perfect generator has 0.5.")
    found = strongest.found
    if found.auc - 2 * found.error <= 0.5:
        return Verdict("same", f"{result.name}: no classifier tells generated from true jets", tuple(sentences))
    if found.auc < _DIFFERENT:
        told = f"{result.name}: a classifier tells generated from true jets with an area of {found.auc:.3f}"
        return Verdict("close", told, tuple(sentences))
    told = f"{result.name}: generated jets are recognised, with an area of {found.auc:.3f} under the ROC curve"
    return Verdict("different", told, tuple(sentences))


def summary_lines(result: JetsEvaluation) -> list[str]:
    """The outcome for the terminal."""
    said = verdict(result)
    return [said.headline, *said.sentences]
