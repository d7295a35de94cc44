"""The section on pictures, rare topologies, the number of different showers and amplification."""

from __future__ import annotations

from typing import Any

from cathode.page import html as p
from cathode.page.text import measured, number
from fastsim.evaluation.results import EvaluationResult

__all__ = ["diversity_section"]


def diversity_section(result: EvaluationResult) -> p.Section:
    """Pictures, rare topologies, size of the support, amplification."""
    content: list[Any] = []
    if result.similarity:
        rows = [
            [
                s.layer,
                measured(s.mean_image.value, s.mean_image.error),
                measured(s.pairs.value, s.pairs.error),
                measured(s.within_reference.value, s.within_reference.error),
                measured(s.within_generated.value, s.within_generated.error),
            ]
            for s in result.similarity
        ]
        content += [
            p.heading("Structural similarity of pictures"),
            p.table(
                ["layer", "mean pictures", "generated with reference", "within reference", "within generated"],
                rows,
                numeric=range(5),
                caption="1: equal pictures. Generated showers that resemble each other more than reference showers do"
                " are too few different ones.",
            ),
        ]
    if result.multi_peak:
        rows = [
            [
                m.name.replace("_", " "),
                measured(100 * m.reference.value, 100 * m.reference.error),
                measured(100 * m.generated.value, 100 * m.generated.error),
                number(m.pull, digits=2),
            ]
            for m in result.multi_peak
        ]
        content += [
            p.heading("Showers with two maxima"),
            p.table(["where", "reference [%]", "generated [%]", "difference / error"], rows, numeric=range(1, 4)),
        ]
    if result.support is not None:
        found = result.support
        content += [
            p.heading("Number of different showers"),
            p.paragraph(
                f"At the resolution where {found.alike[0]} of the reference's pairs are alike, the reference behaves"
                f" like {measured(found.reference.value, found.reference.error)} different showers, the generator like"
                f" {measured(found.sample.value, found.sample.error)}: a ratio of"
                f" {measured(found.ratio.value, found.ratio.error)}."
            ),
        ]
    if result.amplification:
        rows = []
        for name, one in result.amplification.items():
            last = one.generated[-1]
            rows.append(
                [
                    name.replace("_", " "),
                    number(one.training.events),
                    number(one.training.equivalent, digits=3),
                    number(one.fit.equivalent, digits=3),
                    number(last.events),
                    number(last.equivalent, digits=3),
                    number(one.factor, digits=3),
                ]
            )
        content += [
            p.heading("Amplification"),
            p.table(
                ["observable", "trained on", "worth", "a fit is worth", "generated", "worth", "factor"],
                rows,
                numeric=range(1, 7),
                caption="Worth: number of true showers with the same quantile error (arXiv:2008.06545).",
            ),
        ]
    if not content:
        content.append(p.paragraph("Nothing was measured.", soft=True))
    lead = "Does the generator make all kinds of showers, at the right rate, or repeat a few?"
    return p.section("diversity", "Pictures and diversity", *content, lead=lead)
