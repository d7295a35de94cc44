"""Where a generator would rank among the published submissions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cathode.support.errors import UserError
from fastsim.data import Showers
from fastsim.evaluation.classifiers.splits import PUBLISHED
from fastsim.evaluation.leaderboard.public import check_public
from fastsim.evaluation.leaderboard.tables import SOURCE, Leaderboard, leaderboard

__all__ = ["METRICS", "MetricRank", "ParetoPosition", "Ranking", "rank"]

Better = Literal["smaller", "nearer"]

_SEPARATIONS = (
    "layer_energy", "total_energy", "voxel", "centre_eta", "centre_phi", "centre_r",
    "width_eta", "width_phi", "width_r", "sparsity",
)  # fmt: skip

#: Columns that are ranked.  ``smaller``: the smaller the better; ``nearer``: the nearer to the full simulation's own
#: value the better (a precision above it is bought with recall, a density above it with diversity).
METRICS: dict[str, Better] = {
    "auc_low": "smaller",
    "auc_high": "smaller",
    "auc_cnn": "smaller",
    "fpd_e3": "smaller",
    "kpd_e3": "smaller",
    "precision": "nearer",
    "recall": "nearer",
    "density": "nearer",
    "coverage": "nearer",
    **{f"ms_{device}_batch{size}": "smaller" for device in ("cpu", "gpu") for size in (1, 100, 10000)},
    **{f"separation_{name}_e3": "smaller" for name in _SEPARATIONS},
}

_QUALITY = ("auc_low", "auc_high", "auc_cnn", "fpd_e3", "kpd_e3")


@dataclass(frozen=True)
class MetricRank:
    """Rank in one metric.

    Attributes:
        metric: Column of the table.
        value: Of this generator.
        rank: 1 is best; equal values share the better rank.
        of: Submissions with a value, this generator included.
        ahead: The published model just ahead and its value; None for rank 1.
        behind: The published model just behind and its value; None for the last.
        geant4: Value of the full simulation against itself.
    """

    metric: str
    value: float
    rank: int
    of: int
    ahead: tuple[str, float] | None
    behind: tuple[str, float] | None
    geant4: float | None


@dataclass(frozen=True)
class ParetoPosition:
    """Position in a plane of quality and time.

    Attributes:
        quality: Column of the quality metric.
        time: Column of the time per shower.
        front: Whether no submission is at least as good in both and better in one.
        dominated_by: Submissions that are.
        dominates: Submissions that this generator is at least as good as in both and better in one.
        others: Submissions on the front of the published ones.
    """

    quality: str
    time: str
    front: bool
    dominated_by: tuple[str, ...]
    dominates: tuple[str, ...]
    others: tuple[str, ...]


@dataclass(frozen=True)
class Ranking:
    """Ranks of one generator.

    Attributes:
        dataset: Public dataset.
        source: Of the table.
        ranks: Metric -> rank.
        pareto: Positions for each pair of a quality metric and a time that were given.
        text: One paragraph that says it in words.
        caveats: Why ranks may be off.
    """

    dataset: str
    source: str
    ranks: dict[str, MetricRank]
    pareto: tuple[ParetoPosition, ...]
    text: str
    caveats: tuple[str, ...]


def rank(
    dataset: str,
    metrics: Mapping[str, float],
    *,
    reference: Showers,
    mode: str = "strict",
    name: str = "this generator",
) -> Ranking:
    """Rank a generator on a public dataset.

    Args:
        dataset: ``ds1-photons``, ``ds1-pions``, ``ds2`` or ``ds3``: the user's word that the reference is that dataset.
        metrics: Columns of :data:`METRICS` -> value, FPD, KPD and separation powers times 1000, times in milliseconds
            per shower.
        reference: The full simulation that was compared with.
        mode: Evaluation mode that the metrics come from.
        name: Of the generator.

    Raises:
        UserError: The reference is not that public dataset, or a metric is unknown or not finite.
    """
    check_public(reference, dataset)
    table = leaderboard(dataset)
    unknown = sorted(set(metrics) - set(METRICS))
    if unknown:
        raise UserError(f"cannot rank {', '.join(unknown)}: use {', '.join(METRICS)}")
    bad = [f"{key}={value}" for key, value in metrics.items() if not np.isfinite(value)]
    if bad:
        raise UserError(f"cannot rank {', '.join(bad)}: only finite numbers")
    ranks = {}
    for key, value in metrics.items():
        found = _rank(table, key, float(value)) if key in table.columns else None
        if found is not None:
            ranks[key] = found
    pareto = tuple(
        _pareto(table, quality, time, float(metrics[quality]), float(metrics[time]))
        for quality in _QUALITY
        for time in metrics
        if time.startswith("ms_") and quality in metrics and quality in table.columns
    )
    caveats = _caveats(table, metrics, mode, len(reference))
    return Ranking(dataset, SOURCE, ranks, pareto, _text(name, table, ranks, pareto), caveats)


def _rank(table: Leaderboard, metric: str, value: float) -> MetricRank | None:
    column = table.column(metric)
    geant4 = table.geant4.values.get(metric)
    if not column or (METRICS[metric] == "nearer" and geant4 is None):
        return None

    def badness(number: float) -> float:
        return abs(number - geant4) if METRICS[metric] == "nearer" and geant4 is not None else number

    ordered = sorted(column.items(), key=lambda item: badness(item[1]))
    better = [item for item in ordered if badness(item[1]) < badness(value)]
    worse = [item for item in ordered if badness(item[1]) > badness(value)]
    return MetricRank(
        metric=metric,
        value=value,
        rank=len(better) + 1,
        of=len(column) + 1,
        ahead=better[-1] if better else None,
        behind=worse[0] if worse else None,
        geant4=geant4,
    )


def _pareto(table: Leaderboard, quality: str, time: str, q: float, t: float) -> ParetoPosition:
    both = {
        s.model: (s.values[quality], s.values[time])
        for s in table.submissions
        if quality in s.values and time in s.values
    }
    dominated_by = tuple(m for m, point in both.items() if _dominates(point, (q, t)))
    return ParetoPosition(
        quality=quality,
        time=time,
        front=not dominated_by,
        dominated_by=dominated_by,
        dominates=tuple(m for m, point in both.items() if _dominates((q, t), point)),
        others=tuple(m for m, point in both.items() if not any(_dominates(p, point) for p in both.values())),
    )


def _dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[0] and one[1] <= other[1] and one != other


def _caveats(table: Leaderboard, metrics: Mapping[str, float], mode: str, showers: int) -> tuple[str, ...]:
    found = []
    published = sum(PUBLISHED[table.dataset])
    if showers < 0.9 * published:
        found.append(
            f"published classifiers were trained on {PUBLISHED[table.dataset][0]} showers of each sample out of "
            f"{published}, here there are {showers}: with fewer showers the same classifier gives a smaller AUC, so "
            "ranks are too good"
        )
    if mode != "calochallenge" and any(key.startswith("auc") for key in metrics):
        found.append(
            "AUCs of mode strict come from stronger classifiers than the published ones, so their ranks are too bad: "
            "use --mode calochallenge to compare like with like"
        )
    if any(key.startswith("ms_") for key in metrics):
        found.append("published times were taken on the challenge's machines, these on another")
    return tuple(found)


def _text(name: str, table: Leaderboard, ranks: Mapping[str, MetricRank], pareto: tuple[ParetoPosition, ...]) -> str:
    parts = []
    for metric in (*_QUALITY, *(m for m in ranks if m.startswith("ms_"))):
        if metric in ranks:
            r = ranks[metric]
            around = [
                f"{word} {model} ({value:g})"
                for word, neighbour in (("behind", r.ahead), ("ahead of", r.behind))
                if neighbour is not None
                for model, value in (neighbour,)
            ]
            parts.append(f"{metric} {r.value:.4g}: rank {r.rank} of {r.of}, " + " and ".join(around))
    text = f"On {table.dataset} ({table.source}) {name} would rank: " + "; ".join(parts) + "."
    for position in pareto:
        if position.quality == _QUALITY[0]:
            text += f" In the plane of {position.quality} and {position.time} " + (
                "no submission is better in one without being worse in the other."
                if position.front
                else f"it is beaten in both by {', '.join(position.dominated_by)}."
            )
    return text
