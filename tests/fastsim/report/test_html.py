from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fastsim.evaluation.classifiers.results import Interval
from fastsim.evaluation.leaderboard import MetricRank, Ranking
from fastsim.report.html import write_report
from fastsim.report.verdict import interval, strongest, summary_lines, verdict

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.sources: list[str] = []
        self.identifiers: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, name, attributes):
        given = dict(attributes)
        self.tags.add(name)
        if name not in VOID:
            self.open.append(name)
        self.sources += [given[k] for k in ("src", "data") if k in given]
        self.links += [given["href"]] if "href" in given else []
        self.identifiers += [given["id"]] if "id" in given else []

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
def page(result, drawn, tmp_path_factory):
    return write_report(result, tmp_path_factory.mktemp("page") / "report.html", figures=drawn)


@pytest.fixture(scope="module")
def reader(page):
    return read(page)


def test_complete_in_one_file(page, reader, drawn):
    assert len(reader.sources) == len(drawn)
    assert all(s.startswith(("data:image/svg+xml;base64,", "data:image/png;base64,")) for s in reader.sources)
    assert all(link.startswith("#") and link[1:] in reader.identifiers for link in reader.links)
    assert {"script", "link", "iframe"}.isdisjoint(reader.tags)
    assert page.stat().st_size < 12e6
    for source in reader.sources:
        assert not re.search(rb'href="(?!#|data:)', base64.b64decode(source.split(",")[1]))


def test_sections_in_reading_order(reader):
    assert [i for i in reader.identifiers if i != "top"] == [
        "classifiers", "showers", "profiles", "closure", "observables", "separation", "correlations", "distances",
        "diversity", "examples", "standing", "run", "notes",
    ]  # fmt: skip


def test_numbers_and_words(reader, result):
    for words in (
        "0.631 (0.621–0.641)",
        "AUC 0.631",
        "A <generator> & more",
        "1.25 ms (cpu, batch 100)",
        "full.hdf5",
        "voxel 12 (layer 1)",
        "No rank",
        "Amplification",
        "Number of different showers",
        "368 voxels",
        *result.notes,
    ):
        assert words in reader.text, words
    assert "nan" not in reader.text.lower().split()


def test_text_is_escaped(page):
    content = page.read_text(encoding="utf-8")
    assert "<generator>" not in content
    assert "A &lt;generator&gt; &amp; more" in content


def test_a_rank_is_shown_with_its_caveats(result, drawn, tmp_path):
    first = MetricRank("auc_low", 0.62, 1, 16, None, ("CaloINN", 0.626), 0.499)
    ranking = Ranking("ds1-photons", "arXiv", {"auc_low": first}, (), "It would rank first.", ("fewer showers",))
    few = dict.fromkeys(drawn, drawn["plane"])
    text = read(write_report(replace(result, ranking=ranking), tmp_path / "r.html", figures=few)).text
    for words in ("It would rank first.", "fewer showers", "1 of 16", "CaloINN (0.626)"):
        assert words in text
    assert "No rank" not in text


def test_whatever_is_missing_the_page_is_whole(result, drawn, tmp_path):
    bare = replace(
        result, classifiers=None, floor=None, support=None, amplification={}, timing=None, similarity=(), multi_peak=(),
        response=(), regression=(), notes=(), examples=(),
    )  # fmt: skip
    text = read(write_report(bare, tmp_path / "r.html", figures=dict.fromkeys(drawn, drawn["plane"]))).text
    assert "No classifier was trained." in text
    assert "compared without classifiers" in text


def with_area(result, value):
    classifiers = result.classifiers
    area = Interval(value, value - 0.01, value + 0.01, 0.005)
    scores = {"low_dnn": replace(classifiers.scores["low_dnn"], auc=area)}
    return replace(result, classifiers=replace(classifiers, scores=scores))


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [(0.505, "same", "no classifier tells"), (0.65, "close", "an area of 0.650"), (0.93, "different", "recognised")],
)
def test_verdicts(result, value, kind, words):
    said = verdict(with_area(result, value))
    assert said.kind == kind
    assert words in said.headline
    assert any("1.25 ms" in s for s in said.sentences)


def test_the_strongest_classifier_speaks(result):
    assert strongest(result, "low")[0] == "low_trees"
    assert strongest(result, "high")[0] == "high_trees"
    assert any("low_dnn 0.620 (0.610–0.630)" in line for line in summary_lines(result))
    assert interval(None) == interval(Interval(np.nan, np.nan, np.nan, np.nan)) == "–"


def test_worst_energy_is_quoted(result):
    one = result.response[0]
    off = replace(one, generated=replace(one.generated, mean=one.reference.mean * 1.2))
    said = verdict(replace(result, response=(off, *result.response[1:])))
    assert any("the mean is within 20 %" in s for s in said.sentences)
