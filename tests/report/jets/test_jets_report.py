"""Figures, page and folder of an evaluation of jets."""

from __future__ import annotations

import dataclasses
import json
from html.parser import HTMLParser

import numpy as np
import pytest

from cathode.comparison.c2st import C2ST
from cathode.jets.commands.evaluate import EvaluateJets
from cathode.jets.evaluation import JetsEvaluationSettings, evaluate_jets
from cathode.jets.evaluation.results import TwoSampleTest
from cathode.jets.schema import Jets
from cathode.page.style import figure_bytes
from cathode.report.jets.command import run_evaluate
from cathode.report.jets.figures import all_figures, histograms_figure, images_figure, scores_figure
from cathode.report.jets.html import write_report
from cathode.report.jets.verdict import summary_lines, verdict
from cathode.report.jets.write import check_folder, write_evaluation
from cathode.support.errors import UserError


def toy_jets(seed: int, count: int = 300, width: int = 8) -> Jets:
    generator = np.random.default_rng(seed)
    points = np.zeros((count, width, 3))
    points[..., 0] = generator.exponential(20.0, (count, width)) + 1.0
    points[..., 1:] = 0.15 * generator.standard_normal((count, width, 2))
    points[np.arange(width) >= generator.integers(3, width + 1, count)[:, None]] = 0
    return Jets.from_points(points)


def two_sample(name: str, auc: float, floor: float | None = 0.5) -> TwoSampleTest:
    def c2st(value):
        return C2ST(value, 0.01, 0.2, (value,), (0.01,), (300, 300))

    return TwoSampleTest(name, f"classifier of {name}", c2st(auc), None if floor is None else c2st(floor), 1.0)


@pytest.fixture(scope="module")
def result():
    settings = JetsEvaluationSettings(
        quick=True, coverage=False, transformer=False, classifiers=False, num_eval_samples=500, num_batches=2,
        observables=("mass", "multiplicity", "tau21"),
    )  # fmt: skip
    found = evaluate_jets(toy_jets(0), toy_jets(1), settings, name="a <b> generator", sources=("true.h5", "made.h5"))
    return dataclasses.replace(found, tests=(two_sample("observables", 0.62), two_sample("constituents", 0.71)))


class Text(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.sections: list[str] = []
        self.images = 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "section":
            self.sections.append(given["id"])
        if tag == "img":
            self.images += 1
            assert given["src"].startswith("data:image/")
            assert given["alt"]

    def handle_data(self, data):
        self.words.append(data)


def test_every_figure_is_drawn(result):
    figures = all_figures(result)
    assert list(figures) == ["scores", "substructure", "constituents", "ranks", "images"]
    for name, figure in figures.items():
        content = figure_bytes(figure, "png")
        assert content.startswith(b"\x89PNG"), name
        assert len(content) > 8000, name
    # Main and ratio panel of each observable.
    assert len(figures["substructure"].axes) == 2 * 3
    assert len(figures["constituents"].axes) == 2 * 4


def test_figures_of_nothing_say_so(result):
    for figure in (scores_figure(()), histograms_figure(())):
        assert "no" in figure.axes[0].texts[0].get_text()
    empty = dataclasses.replace(result.images, reference=np.zeros((48, 48)), generated=np.zeros((48, 48)))
    assert "no constituents" in images_figure(empty).axes[0].texts[0].get_text()


def test_the_folder_is_whole_and_the_page_the_same_every_time(result, tmp_path):
    thorough = dataclasses.replace(result, settings=dataclasses.replace(result.settings, quick=False))
    folder = write_evaluation(thorough, tmp_path / "one")
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    drawn = ("constituents", "images", "ranks", "scores", "substructure")
    figures = [f"figures/{name}.{kind}" for name in drawn for kind in ("pdf", "png")]
    assert names == sorted([*figures, "provenance.json", "report.html", "results.json"])
    assert json.loads((folder / "results.json").read_text())["kind"] == "cathode jets evaluation"
    again = write_report(thorough, tmp_path / "again.html")
    assert again.read_bytes() == (folder / "report.html").read_bytes()
    page = Text((folder / "report.html").read_text())
    text = " ".join(page.words)
    assert page.sections == ["scores", "tests", "substructure", "constituents", "run"]
    assert page.images == 5
    assert "a <b> generator" in text
    assert "http://" not in text
    assert "two halves of the reference, 150 jets each" in text
    assert "classifier of constituents" in text


def test_the_strongest_test_decides(result):
    assert verdict(result).kind == "close"
    assert "area of 0.710" in verdict(result).headline
    far = dataclasses.replace(result, tests=(two_sample("observables", 0.5), two_sample("constituents", 0.93, None)))
    assert verdict(far).kind == "different"
    near = dataclasses.replace(result, tests=(two_sample("observables", 0.51),))
    assert verdict(near).kind == "same"
    none = dataclasses.replace(result, tests=())
    assert verdict(none).kind == "unknown"
    lines = summary_lines(result)
    assert lines[1].startswith("W1M ")
    assert "truth against truth" in lines[1]
    assert "AUC 0.620 ± 0.010" in lines[2]


def test_folders_with_something_else_are_left_alone(result, tmp_path):
    folder = write_evaluation(result, tmp_path / "run")
    with pytest.raises(UserError, match="already holds an evaluation"):
        check_folder(folder, overwrite=False)
    check_folder(folder, overwrite=True)
    (folder / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="is no evaluation of jets"):
        write_evaluation(result, folder, overwrite=True)
    assert (folder / "thesis.tex").read_text() == "precious"
    with pytest.raises(UserError, match="is not a folder"):
        check_folder(folder / "thesis.tex", overwrite=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "results.json").write_text('{"kind": "search"}')
    with pytest.raises(UserError, match="is no evaluation of jets"):
        check_folder(other, overwrite=True)


def test_the_command_from_files_to_page(tmp_path):
    command = EvaluateJets(
        "sample:lhco_constituents", "sample:lhco_constituents", output=tmp_path / "run", particles=8, quick=True,
        reference_rows=(0, 120), generated_rows=(120, 240), coverage=False, transformer=False, classifiers=False,
    )  # fmt: skip
    lines = run_evaluate(command)
    assert lines[0] == "lhco_constituents: distances only, no two-sample test was made"
    assert lines[-1] == f"report: {tmp_path / 'run' / 'report.html'}"
    assert (tmp_path / "run" / "report.html").exists()
    with pytest.raises(UserError, match="already holds an evaluation"):
        run_evaluate(command)
    missing = dataclasses.replace(command, generated=str(tmp_path / "none.h5"), output=tmp_path / "nothing")
    with pytest.raises(UserError, match=r"none\.h5"):
        run_evaluate(missing)
    assert not (tmp_path / "nothing").exists()
