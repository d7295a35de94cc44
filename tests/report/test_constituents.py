from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from cathode.report.constituents import constituents_section
from cathode.report.figures.training import points_figure
from cathode.report.html import write_report
from cathode.report.labels import feature_label
from cathode.search.results import ConstituentSummary


@pytest.fixture(scope="module")
def summary():
    history = pd.DataFrame(
        {
            "epoch": [0, 1, 2, 0, 1],
            "train_loss": [3.0, 2.0, 1.5, -10.0, -20.0],
            "validation_loss": [3.1, 2.1, 1.6, -9.0, -19.0],
            "stage": ["kinematics"] * 3 + ["constituents"] * 2,
        }
    )
    return ConstituentSummary(
        models=[], members=2, trained_jets=[1234, 1236], training_seconds=125.0, dropped=17, threshold=0.5, draws=1.04,
        lost=3, lost_sideband=5, milliseconds_per_jet=1.83, histories=[history, history],
    )  # fmt: skip


@pytest.fixture(scope="module")
def figure(summary):
    return points_figure(summary.histories)


def test_the_figure_leaves_out_what_the_search_does_not_use(figure):
    assert max(line.get_ydata().max() for line in figure.axes[0].lines) == -9.0


def test_the_section_says_where_constituents_come_from(summary, figure):
    text = str(constituents_section(summary, {"training_constituents": figure}).content)
    for part in ("1.04", "1.8 ms", "sidebands 5", "training, all models"):
        assert part in text, part
    given = replace(summary, models=["runs/one/model"], training_seconds=0.0)
    text = str(constituents_section(given, {"training_constituents": figure}).content)
    assert "runs/one/model" in text
    assert "training, all models" not in text


def test_a_search_on_features_has_no_such_section(make_result, summary, figure, tmp_path):
    class Drawn(dict):
        def __missing__(self, key):
            return figure

    result = make_result()
    page = write_report(result, tmp_path / "features.html", figures=Drawn()).read_text(encoding="utf-8")
    assert 'id="constituents"' not in page
    with_constituents = replace(result, constituents=summary)
    page = write_report(with_constituents, tmp_path / "sets.html", figures=Drawn()).read_text(encoding="utf-8")
    assert 'id="constituents"' in page


def test_names_of_jet_observables_have_symbols():
    assert feature_label("n_j1") == "$n_{J1}$"
    assert feature_label("d2_j2") == "$D_2^{J2}$"
