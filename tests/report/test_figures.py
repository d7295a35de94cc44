from __future__ import annotations

import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.stats import chi2

from cathode.page.drawing import poisson_interval, ratio, ratio_limits
from cathode.page.style import figure_bytes, style
from cathode.report.figures import (
    all_figures,
    feature_figure,
    gate_figure,
    mass_figure,
    mass_overview_figure,
    save_figures,
    score_figure,
    significance_figure,
    training_figure,
)
from cathode.report.labels import efficiency_label, feature_label, width_label
from cathode.search.results import GateResult
from cathode.support.errors import UserError


def text_of(figure: Figure) -> str:
    return "\n".join(artist.get_text() for artist in figure.findobj(matplotlib.text.Text))


def test_every_figure_of_a_search_is_there_once(drawn):
    assert list(drawn) == [
        "mass_overview",
        "gate",
        "significance",
        "mass_before_cut",
        "mass_eps_0.01",
        "mass_eps_0.001",
        "mass_eps_0.0005",
        "feature_m_j1",
        "feature_delta_m",
        "feature_tau21_j1",
        "feature_tau21_j2",
        "score",
        "sic",
        "roc",
        "training",
    ]


def test_figures_that_need_labels_are_absent_without_them(make_result):
    assert {"sic", "roc"}.isdisjoint(all_figures(make_result(truth=False, slim=True)))


def test_saved_in_both_formats_and_the_same_every_time(make_result, tmp_path):
    result = make_result(truth=False, feature_histograms=[], mass_spectra=[], classifier_histories=[])
    first = save_figures(result, tmp_path / "one")
    drawn = all_figures(result)
    second = save_figures(result, tmp_path / "two", figures=drawn)
    assert len(first) == 2 * len(drawn)
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.name
        assert a.read_bytes()[:4] == (b"\x89PNG" if a.suffix == ".png" else b"%PDF")
    assert {p.name for p in (tmp_path / "one").iterdir()} == {p.name for p in first}


def test_unwritable_folder_is_a_user_error(make_result, tmp_path):
    (tmp_path / "file").write_text("")
    result = make_result()
    with pytest.raises(UserError, match="cannot write"):
        save_figures(result, tmp_path / "file" / "figures", figures={"gate": gate_figure(result.gate)})


def test_settings_of_the_user_neither_matter_nor_change(result):
    plain = figure_bytes(gate_figure(result.gate), "png")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert figure_bytes(gate_figure(result.gate), "png") == plain
        assert matplotlib.rcParams["font.size"] == 30
    before = dict(matplotlib.rcParams)
    with pytest.raises(RuntimeError), style():
        raise RuntimeError
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_never_imported():
    code = (
        "import sys; from cathode.report.figures import training_figure; training_figure([], []);"
        "assert 'matplotlib' in sys.modules; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


def test_feature_figure_shows_data_at_its_place(make_result):
    histogram = next(h for h in make_result().feature_histograms if h.region == "signal region")
    figure = feature_figure([histogram])
    main, lower = figure.axes
    points = main.containers[0].lines[0].get_xydata()
    centres = 0.5 * (histogram.edges[1:] + histogram.edges[:-1])
    np.testing.assert_allclose(points, np.column_stack([centres, histogram.data]))
    low, high = lower.get_ylim()
    assert 0 <= low < 1 < high <= 2
    assert "[TeV]" in lower.get_xlabel()


def test_feature_axes_hold_all_data_and_the_signal_region_comes_first(result, drawn):
    left = drawn["feature_m_j1"].axes[0]
    assert "Signal region" in [t.get_text() for t in left.texts]
    shown = [h for h in result.feature_histograms if (h.feature, h.region) == ("m_j1", "signal region")]
    tallest = shown[0].data.max()
    assert left.get_ylim()[1] > tallest


def test_model_band_only_where_there_is_a_model_spread(make_result):
    for model in (True, False):
        histogram = make_result(model=model).feature_histograms[1]
        assert ("model spread" in text_of(feature_figure([histogram]))) is model


def test_mass_figure_states_fit_and_window(result):
    spectrum = result.mass_spectra[1]
    text = text_of(mass_figure(spectrum, signal_region=result.signal_region))
    assert f"{spectrum.fit.window_observed:.0f} observed" in text
    assert "27.3/25" in text
    assert "[TeV]" in text


def test_mass_figure_without_fit_says_why(make_result):
    result = make_result(fits=False)
    text = text_of(mass_figure(result.mass_spectra[1], signal_region=result.signal_region))
    assert "only 7 events outside <the window>" in text.replace("\n", " ")


def test_overview_shows_the_pulls_that_were_asked_for(result):
    figure = mass_overview_figure(result.mass_spectra, signal_region=result.signal_region, pulls_at=1e-3)
    heights = [bar.get_height() for bar in figure.axes[1].patches if bar.get_width() < 0.1]
    np.testing.assert_allclose(sorted(heights), np.sort(result.mass_spectra[2].fit.pulls))


def test_gate_axis_runs_from_the_warning_to_the_failure_limit(result):
    check = result.gate.checks[1]
    figure = gate_figure(GateResult("pass", [check], 0.5, 0.0, 0.5, 0.0))
    (place,) = figure.axes[0].containers[0].lines[0].get_xdata()
    assert place == pytest.approx((check.value - check.warn) / (check.fail - check.warn))


def test_histories_of_many_members_become_a_band(make_result):
    few = training_figure([], make_result(classifiers=5).classifier_histories)
    many = training_figure([], make_result(classifiers=40).classifier_histories)
    assert len(few.axes[1].lines) >= 10
    assert len(many.axes[1].lines) <= 3
    assert "68 %" in text_of(many)


def test_histories_without_validation_or_with_iterations():
    table = pd.DataFrame({"iteration": [1, 2, 3], "train_loss": [0.7, 0.6, np.nan]})
    figure = training_figure([table], [])
    assert figure.axes[0].get_xlabel() == "iteration"
    assert "no training history" in text_of(figure)


def test_empty_inputs_give_figures_that_say_so():
    for figure, words in (
        (significance_figure([]), "no working point"),
        (score_figure({}), "no scored events"),
        (feature_figure([]), "no histogram"),
        (mass_overview_figure([], signal_region=(3.3, 3.7)), "no mass spectrum"),
        (gate_figure(GateResult("pass", [], 0.5, 0.0, 0.5, 0.0)), "no checks"),
    ):
        assert words in text_of(figure)
        assert figure_bytes(figure, "png")


def test_poisson_interval_against_the_chi_square_form():
    counts = np.array([0, 1, 3, 40, 2500])
    low, high = poisson_interval(counts)
    tail = 0.158655
    np.testing.assert_allclose(low[1:], chi2.ppf(tail, 2 * counts[1:]) / 2, rtol=1e-9)
    np.testing.assert_allclose(high, chi2.ppf(1 - tail, 2 * counts + 2) / 2, rtol=1e-9)
    assert low[0] == 0


def test_ratio_is_nan_where_nothing_is_expected():
    np.testing.assert_array_equal(ratio([1.0, 2.0, 3.0], [2.0, 0.0, np.nan]), [0.5, np.nan, np.nan])


def test_one_badly_measured_bin_does_not_blow_up_the_ratio_panel():
    low, high = ratio_limits([1.02, 0.97, 9.0], [0.02, 0.03, 4.0])
    assert 0.9 < low < 0.97
    assert 1.03 < high < 1.1
    assert ratio_limits([np.nan], [np.nan]) == (0.5, 1.5)


@pytest.mark.parametrize(
    ("name", "unit", "label"),
    [
        ("m_jj", "TeV", "$m_{JJ}$ [TeV]"),
        ("mj1", "TeV", "$m_{J1}$ [TeV]"),
        ("delta_m", "TeV", r"$\Delta m_J$ [TeV]"),
        ("tau21_j2", "", r"$\tau_{21}^{J2}$"),
        ("delta_r_jj", "", r"$\Delta R_{JJ}$"),
        ("my $col_1", "", r"my \$col_1"),
    ],
)
def test_feature_labels(name, unit, label):
    assert feature_label(name, unit) == label


def test_efficiency_and_width_labels():
    assert efficiency_label(1e-2) == r"$\varepsilon_B = 10^{-2}$"
    assert efficiency_label(5e-4) == r"$\varepsilon_B = 5 \times 10^{-4}$"
    assert efficiency_label(1.0) == "no cut"
    assert width_label(np.array([0.0, 0.1, 0.2]), "TeV")[0] == "Events / 0.1 TeV"
    label, widths = width_label(np.array([0.0, 0.1, 0.3]), "TeV")
    assert label == "Events / TeV"
    np.testing.assert_allclose(widths, [0.1, 0.2])
