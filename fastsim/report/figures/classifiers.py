"""Classifier tests: ROC curves, and the features that separate the samples by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cathode.page.drawing import nothing
from cathode.page.style import BLUE, GREY, RED, SERIES, new_figure, styled
from fastsim.evaluation.classifiers.results import ClassifierResults, SeparatingFeature

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CLASSIFIERS", "roc_figure", "separating_figure"]

#: How a classifier is called in text.
CLASSIFIERS = {
    "low_dnn": "network, voxels",
    "low_normed_dnn": "network, voxels per layer",
    "high_dnn": "network, observables",
    "low_trees": "trees, voxels",
    "high_trees": "trees, observables",
    "low_stacked": "network and trees, voxels",
    "high_stacked": "network and trees, observables",
    "cnn": "3D convolutional network",
}
_MOST_FEATURES = 15


@styled
def roc_figure(results: ClassifierResults | None) -> Figure:
    """True- against false-positive rate of every classifier; the diagonal is a perfect generator."""
    figure = new_figure(5.4, 4.9)
    axes = figure.subplots()
    axes.set_xlabel("generated showers taken for reference")
    axes.set_ylabel("reference showers recognised")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    if results is None or not results.scores:
        nothing(axes, "no classifier was trained")
        return figure
    for place, (name, score) in enumerate(results.scores.items()):
        colour, line = SERIES[place % len(SERIES)], "--" if name.endswith("stacked") else "-"
        label = f"{CLASSIFIERS.get(name, name)}: {score.auc.value:.3f}"
        axes.plot(score.roc.false_positive, score.roc.true_positive, color=colour, linestyle=line, label=label)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    axes.legend(loc="lower right", title="area under the curve")
    return figure


@styled
def separating_figure(results: ClassifierResults | None) -> Figure:
    """Voxels and observables that separate best by themselves, with errors and the level of chance."""
    figure = new_figure(11.0, 4.9)
    axes = figure.subplots(1, 2)
    if results is None:
        for one in axes:
            nothing(one, "no classifier was trained")
        return figure
    for one, features, title in zip(
        axes, (results.voxels, results.observables), ("voxels", "observables"), strict=True
    ):
        _bars(one, features[:_MOST_FEATURES], results.feature_threshold)
        one.set_title(title)
    return figure


def _bars(axes: Axes, features: Sequence[SeparatingFeature], threshold: float) -> None:
    from matplotlib.ticker import NullLocator

    if not features:
        nothing(axes, "none")
        return
    places = np.arange(len(features))[::-1]
    values = np.array([f.auc - 0.5 for f in features])
    errors = np.array([f.error for f in features])
    colours = [RED if v < 0 else BLUE for v in values]
    axes.barh(places, values, color=colours, alpha=0.8, height=0.7)
    axes.errorbar(values, places, xerr=errors, fmt="none", color="black", elinewidth=1)
    if threshold > 0:
        for side in (-1, 1):
            axes.plot(side * threshold * errors, places, "|", color=GREY, markersize=9)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(places, labels=[f.name for f in features], fontsize=8.5)
    axes.tick_params(axis="y", which="both", length=0)
    axes.yaxis.set_minor_locator(NullLocator())
    reach = 1.15 * max(float((np.abs(values) + errors).max()), float((threshold * errors).max()))
    axes.set_xlim(-reach, reach)
    axes.set_xlabel("generator gives too much  ←  AUC − 0.5  →  too little", loc="center", fontsize=9.5)
