"""Histograms of a search for its report: features in both regions, and the classifier score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cathode.data.events import Events
from cathode.data.features import DIJET_FEATURES
from cathode.search.classify import Scores
from cathode.search.results import FeatureHistogram
from cathode.search.template import Template
from cathode.statistics.histograms import histogram

__all__ = ["feature_histograms", "score_histogram"]

Array = NDArray[np.float64]
_BINS = 40


def feature_histograms(
    signal_region: Events, template: Template, sideband: Events, sideband_template: Template
) -> list[FeatureHistogram]:
    """Data against template for every feature, in the signal region and in the held-out sidebands."""
    return [
        _histogram(name, k, region, data, sample)
        for region, data, sample in (
            ("signal region", signal_region, template),
            ("sideband", sideband, sideband_template),
        )
        for k, name in enumerate(data.names)
    ]


def _histogram(name: str, column: int, region: str, data: Events, template: Template) -> FeatureHistogram:
    x, y = data.features[:, column], template.features[:, column]
    edges = _edges(np.concatenate([x, y]))
    of_data = histogram(x, edges, weight=data.weight)
    weight = len(x) if data.weight is None else data.weight.sum()
    of_template = histogram(y, edges, member=template.member).scaled(weight / len(y))
    # The template is the mean of its members: its error is smaller than their spread.
    members = len(np.unique(template.member))
    feature = DIJET_FEATURES.get(name)
    unit = feature.unit if feature is not None else ""
    return FeatureHistogram(
        feature=name,
        unit=unit if unit not in ("1", None) else "",
        region=region,
        edges=edges,
        data=of_data.counts,
        data_error=of_data.statistical_error,
        template=of_template.counts,
        template_error=of_template.statistical_error,
        template_model_error=of_template.model_error / np.sqrt(members),
    )


def _edges(values: Array) -> Array:
    """Equal bins over nearly all values; of counts, equally many whole numbers in each."""
    low, high = np.quantile(values, [0.0005, 0.9995])
    if np.array_equal(values, np.rint(values)):
        width = max(int(np.ceil((high - low + 1) / _BINS)), 1)
        low = np.floor(low) - 0.5
        return low + width * np.arange(int(np.ceil((high + 0.5 - low) / width)) + 1)
    edges: Array = np.linspace(low, high, _BINS + 1)
    return edges


def score_histogram(scores: Scores, events: float) -> dict[str, Array]:
    """Distribution of the fraction of template below an event's score: flat for template, rising for a signal.

    Ranks instead of scores put all folds on one scale.
    """
    edges = np.linspace(0.0, 1.0, 51)
    ranks = {}
    for sample in ("data", "template"):
        rank = np.empty(len(scores.score[sample]))
        for k in range(scores.folds):
            reference = np.sort(scores.score["template"][scores.fold["template"] == k])
            rows = scores.fold[sample] == k
            rank[rows] = np.searchsorted(reference, scores.score[sample][rows]) / max(len(reference), 1)
        ranks[sample] = np.histogram(rank, edges)[0].astype(float)
    scale = events / max(ranks["template"].sum(), 1)
    return {
        "edges": edges,
        "data": ranks["data"],
        "template": ranks["template"] * scale,
        "template_error": np.sqrt(ranks["template"]) * scale,
    }
