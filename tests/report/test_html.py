from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from cathode.page.html import (
    figure,
    page,
    write_page,
)
from cathode.report.figures import all_figures, gate_figure
from cathode.report.html import write_report
from cathode.report.verdict import best_point, verdict
from cathode.support.errors import UserError

ALWAYS = ("mass_overview", "gate", "significance", "score", "training")
VOID = {"meta", "img", "br", "link", "hr", "input"}


class Reader(HTMLParser):
    """Checks that elements nest and collects text, resources and identifiers."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.resources: list[str] = []
        self.identifiers: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, name, attributes):
        given = dict(attributes)
        self.tags.add(name)
        if name not in VOID:
            self.open.append(name)
        self.resources += [given[k] for k in ("src", "data", "srcset") if k in given]
        if "href" in given:
            self.links.append(given["href"])
        if "id" in given:
            self.identifiers.append(given["id"])

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data + "\n"


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def report(result, drawn, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    return write_report(result, path, title="A <search> & more", figures=drawn)


def test_complete_in_one_file(report):
    reader = read(report)
    content = report.read_text(encoding="utf-8")
    assert len(reader.resources) == 15
    assert all(r.startswith(("data:image/svg+xml;base64,", "data:image/png;base64,")) for r in reader.resources)
    assert all(link.startswith("#") and link[1:] in reader.identifiers for link in reader.links)
    assert len(set(reader.identifiers)) == len(reader.identifiers)
    assert not re.search(r"@import|url\(", content)
    assert {"script", "link", "iframe"}.isdisjoint(reader.tags)
    assert report.stat().st_size < 5e6
    for resource in reader.resources:
        drawing = base64.b64decode(resource.split(",")[1])
        assert not re.search(rb'href="(?!#)', drawing), "a figure must not load anything either"


def test_numbers_and_words(report, result):
    text = read(report).text
    for words in (
        "31,427",
        "246,113",
        "125,708",
        "421",
        "310 ± 11",
        "1.2 × 10⁻⁷",
        "5.2 σ",
        "0.5031 ± 0.0023",
        "97.3 ± 4.9",
        "27.3 / 25",
        "−4.1837 ± 0.0041",
        "2 min 35 s",
        "autoregressive x 2",
        "2.13.0",
        "Labels were used only here",
        "0.012 ± 0.011",
        result.notes[0],
    ):
        assert words in text, words
    for check in result.gate.checks:
        assert check.name in text
        assert check.explanation in text


def test_sections_in_reading_order(report):
    assert [i for i in read(report).identifiers if i != "top"] == [
        "gate",
        "working-points",
        "mass",
        "features",
        "score",
        "truth",
        "training",
        "timing",
        "config",
        "versions",
        "notes",
    ]


def test_text_is_escaped(report):
    content = report.read_text(encoding="utf-8")
    assert "<script" not in content
    assert "&lt;script&gt;" in content
    assert "<title>A &lt;search&gt; &amp; more</title>" in content


def test_the_configuration_can_be_read_back(report, result):
    written = re.search(r"<pre>(.*?)</pre>", report.read_text(encoding="utf-8"), flags=re.DOTALL).group(1)
    reader = Reader()
    reader.feed(written)
    assert yaml.safe_load(reader.text) == result.config


def test_paths_and_odd_values_in_the_configuration(make_result, drawn, tmp_path):
    result = make_result(truth=False, slim=True, config={"file": Path("a/b.h5"), "weight": float("nan")})
    few = dict.fromkeys(ALWAYS, drawn["gate"])
    text = read(write_report(result, tmp_path / "r.html", figures=few)).text
    assert "file: a/b.h5" in text
    assert "weight: null" in text


def test_same_bytes_every_time_whether_figures_are_drawn_before_or_not(make_result, tmp_path):
    options = {"truth": False, "slim": True, "mass_spectra": []}
    first = write_report(make_result(**options), tmp_path / "a.html")
    result = make_result(**options)
    second = write_report(result, tmp_path / "b.html", figures=all_figures(result))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {"gate": "fail", "fits": False, "truth": False, "empty_sideband": True, "members": 1, "model": False},
        {"gate": "warn", "nan": True, "significance": 1.0, "classifiers": 30},
        {
            "truth": False,
            "working_points": [],
            "mass_spectra": [],
            "feature_histograms": [],
            "score_histogram": {},
            "classifier_histories": [],
            "notes": [],
            "timing": {},
            "counts": {},
            "versions": {},
            "config": {},
        },
    ],
    ids=["failed", "not-a-number", "empty"],
)
def test_whatever_is_missing_the_page_is_whole(make_result, tmp_path, options):
    result = make_result(slim=True, **options)
    reader = read(write_report(result, tmp_path / "r.html"))
    text = reader.text
    assert ("Labels were used" in text) is (result.truth is not None)
    assert "nan" not in text.lower().split()
    assert "No " in text or "Nothing" in text
    if options.get("fits") is False:
        assert "too few events after the cut: 9 < 10" in text


def test_nothing_half_written(make_result, tmp_path):
    result = make_result(truth=False, slim=True)
    with pytest.raises(KeyError):
        write_report(result, tmp_path / "r.html", figures={})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_page(tmp_path / "file" / "r.html", page("t", []))


def test_verdicts(make_result):
    said = verdict(make_result())
    assert said.kind == "excess"
    assert said.headline == "Excess of 5.2 σ (local) at ε_B = 10⁻² in 3.3–3.7 TeV"
    assert any("no trials factor" in s for s in said.sentences)
    assert any("421" in s and "310 ± 11" in s for s in said.sentences)
    assert verdict(make_result(significance=2.96)).headline.startswith("No significant excess in 3.3–3.7 TeV")
    assert verdict(make_result(significance=3.0)).kind == "excess"
    assert verdict(make_result(nan=True)).kind == "unknown"
    assert verdict(make_result(significance=float("inf"))).headline.startswith("Excess of ∞ σ")


@pytest.mark.parametrize("significance", [0.5, 9.0])
def test_a_failed_gate_forbids_every_claim(make_result, drawn, tmp_path, significance):
    result = make_result(gate="fail", significance=significance, truth=False, slim=True)
    said = verdict(result)
    assert said.kind == "invalid"
    assert said.headline.startswith("Nothing may be claimed")
    assert "C2ST AUC, template" in said.sentences[0]
    assert "excess" not in said.headline.lower()
    few = dict.fromkeys(ALWAYS, drawn["gate"])
    content = write_report(result, tmp_path / "r.html", figures=few).read_text(encoding="utf-8")
    assert '<div class="banner bad"' in content
    assert "not a result" in content


def test_a_warning_stands_beside_the_excess(make_result):
    said = verdict(make_result(gate="warn"))
    assert said.kind == "excess"
    assert "gate warns (C2ST AUC, template)" in said.sentences[-1]


def test_best_point_ignores_what_is_not_a_number(result):
    values = (float("nan"), -0.3, -1.0)
    points = [replace(p, significance=z) for p, z in zip(result.working_points, values, strict=True)]
    assert best_point(points) is points[1]
    assert best_point(points[:1]) is None


def test_figures_have_a_description(result):
    made = figure(gate_figure(result.gate), description='checks "all"', caption="a < b")
    assert 'alt="checks &quot;all&quot;"' in made
    assert "<figcaption>a &lt; b</figcaption>" in made
