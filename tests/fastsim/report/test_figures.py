from __future__ import annotations

import numpy as np
import pytest

from cathode.page.figures import write_figures
from cathode.page.style import figure_bytes
from fastsim.evaluation.profiles import mean_shower, profiles
from fastsim.evaluation.response import example_showers, response
from fastsim.geometry import Geometry, geometry
from fastsim.report.figures import (
    depth_figure,
    examples_figure,
    layer_closure_figure,
    layers_figure,
    observables_figure,
    profiles_figure,
    response_figure,
    roc_figure,
    separating_figure,
)
from fastsim.report.figures.layers import shown_layers
from fastsim.report.figures.observables import groups
from fastsim.report.figures.plane import Point, plane_figure
from fastsim.report.standing import plane

LAYOUTS = {
    "rings": lambda: geometry("ds1-photons"),
    "grid": lambda: Geometry.from_grid((12, 5, 5), cell=10.0),
    "picture": lambda: Geometry.from_grid((6, 6), cell=10.0, fast="y"),
    "cells": lambda: Geometry.from_cells(
        {"layer": np.repeat([0, 1], 9), "x": np.tile(np.arange(9.0), 2), "y": np.tile(np.arange(9.0) % 3, 2)}
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_pictures_of_every_geometry(name, toy, tmp_path):
    layout = LAYOUTS[name]()
    first, second = toy(layout), toy(layout, seed=1)
    mean = mean_shower(first, second)
    drawn = {
        "layers": layers_figure(mean, layout),
        "depth": depth_figure(mean, layout),
        "profiles": profiles_figure(profiles(first, second)[:3]),
        "response": response_figure(response(first, second), left_out=3000.0),
        "closure": layer_closure_figure(response(first, second)),
        "examples": examples_figure(example_showers(first, second, seed=1), layout),
    }
    # Pictures and points of single showers depend on the geometry; writing the others would test matplotlib.
    for path in write_figures({k: drawn[k] for k in ("layers", "examples")}, tmp_path, kinds=("png",)):
        assert path.stat().st_size > 5000, path


def test_a_report_has_all_figures_and_they_are_reproducible(result, drawn):
    assert {"roc", "layers", "depth", "profiles", "radial_1", "response", "correlations", "examples", "plane"} <= set(
        drawn
    )
    assert {f"observables_{name.replace('-', '_')}" for name in groups(result.separations)} <= set(drawn)
    again = {
        "roc": roc_figure(result.classifiers),
        "observables_sparsity": observables_figure(groups(result.separations)["sparsity"]),
        "plane": plane(result),
    }
    for name, drawing in again.items():
        assert figure_bytes(drawing, "svg") == figure_bytes(drawn[name], "svg")


def test_empty_results_say_so():
    for drawing in (
        roc_figure(None),
        separating_figure(None),
        profiles_figure([]),
        observables_figure([]),
        response_figure([]),
        layer_closure_figure([]),
        plane_figure([], auc_label="a", time_label="t"),
    ):
        assert any(axes.texts for axes in drawing.axes)


def test_pictures_show_all_layers_or_the_ones_with_energy():
    layout = Geometry.from_grid((40, 2, 2))
    mean = np.exp(-0.5 * ((layout.layer - 10) / 2.0) ** 2)
    chosen = shown_layers(mean, layout)
    assert len(chosen) == 6
    assert min(chosen) >= 4
    assert max(chosen) <= 17
    assert shown_layers(np.zeros(layout.n_voxels), layout) == list(range(6))
    assert shown_layers(mean[:20], Geometry.from_grid((5, 2, 2))) == list(range(5))


def test_histograms_are_drawn_as_they_are(result):
    members = groups(result.separations)["energy-layer"]
    drawing = observables_figure(members)
    histogram = members[0].histogram
    steps = drawing.axes[0].patches[0].get_data()
    total = histogram.reference.sum() + histogram.reference_outside.sum()
    drawn = steps.values * np.diff(np.log10(steps.edges))
    assert drawn == pytest.approx(histogram.reference / total)
    said = " ".join(text.get_text() for text in drawing.axes[0].texts)
    assert f"zero: {100 * histogram.reference_outside[2] / total:.2g}" in said


def test_ratios_are_those_of_the_profiles(result):
    profile = result.profiles[0]
    lower = profiles_figure([profile]).axes[1]
    (bars,) = lower.containers
    heights = [segment[:, 1].mean() for segment in bars.lines[2][1].get_segments()]
    ratio = profile.generated / profile.reference
    low, high = lower.get_ylim()
    assert heights == pytest.approx([r for r in ratio if low <= r <= high])


def test_the_plane_holds_this_generator_among_the_published(result):
    axes = plane(result).axes[0]
    points = {text.get_text(): text.xy for text in axes.texts}
    assert points["CaloINN"] == (2.78, 0.626)
    assert points[result.name] == (1.25, result.classifiers.auc["low_dnn"].value)
    assert len(points) == 16


def test_the_front_is_that_of_the_published():
    points = [
        Point("fast", 1, 0.9),
        Point("good", 10, 0.6),
        Point("beaten", 11, 0.7),
        Point("own", 0.1, 0.55, own=True),
    ]
    axes = plane_figure(points, auc_label="a", time_label="t").axes[0]
    front = next(line for line in axes.lines if line.get_label() == "best published so far")
    assert list(front.get_xdata()) == [1, 10]
    assert list(front.get_ydata()) == [0.9, 0.6]


def test_no_plane_without_published_results(result, toy):
    from dataclasses import replace

    assert plane(replace(result, geometry=Geometry.from_grid((3, 3, 3)))) is None
