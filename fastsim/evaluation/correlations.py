"""Do the layers' energies vary together as they should?  Correlation matrices of both samples and their distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from cathode.comparison.estimate import Estimate, jackknife, random_groups
from cathode.comparison.marginals import correlation_pulls
from cathode.support.seeding import numpy_generator

if TYPE_CHECKING:
    from fastsim.data import Showers

__all__ = ["LayerCorrelations", "layer_correlations"]

Array = NDArray[np.float64]
Method = Literal["pearson", "spearman"]


@dataclass(frozen=True, eq=False)
class LayerCorrelations:
    """Correlations of the layer energies over the incident energy.

    Attributes:
        method: ``pearson`` or ``spearman``.
        layers: Ids of the layers ``(L,)``.
        reference, generated: Correlation matrices ``(L, L)``; 0 for layers that never vary.
        error: Standard error of their difference ``(L, L)``, 0 on the diagonal.
        distance: Root mean square of the differences off the diagonal; NaN with a single layer.
    """

    method: Method
    layers: tuple[int, ...]
    reference: Array
    generated: Array
    error: Array
    distance: Estimate


def layer_correlations(
    reference: Showers, generated: Showers, method: Method = "pearson", *, groups: int = 20, seed: int = 0
) -> LayerCorrelations:
    """Compare the correlation matrices of ``E_layer / E_inc``.

    Dividing by the incident energy takes out the trivial correlation of everything with it.  Ranks (``spearman``) are
    those within both samples together.

    Args:
        reference: Showers of the full simulation.
        generated: Showers to compare with them.
        method: ``pearson`` or ``spearman``.
        groups: Of the jackknife that gives the error of the distance.
        seed: Of the groups.

    Raises:
        UserError: An unknown method, or fewer than two showers.
    """
    first, second = (
        s.layer_energies().astype(np.float64) / np.asarray(s.incident_energy, dtype=np.float64).reshape(-1, 1)
        for s in (reference, generated)
    )
    pulls = correlation_pulls(first, second, method=method)
    layers = reference.geometry.layer_ids
    off = ~np.eye(len(layers), dtype=bool)
    if not off.any():
        nothing = Estimate(float("nan"), float("nan"), float("nan"))
        return LayerCorrelations(method, layers, pulls.x, pulls.y, pulls.error, nothing)
    if method == "spearman":
        ranks = rankdata(np.concatenate([first, second]), axis=0)
        first, second = ranks[: len(first)], ranks[len(first) :]
    groups = min(groups, len(first) // 2, len(second) // 2)
    sums = [
        _group_sums((x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-300), random_groups(len(x), groups, generator))
        for x, generator in ((x, numpy_generator(seed, "correlations", k)) for k, x in enumerate((first, second)))
    ]

    def distance(left_out: int | None) -> float:
        matrices = [_matrix(*part, left_out) for part in sums]
        return float(np.sqrt(np.mean((matrices[0] - matrices[1])[off] ** 2)))

    value, error = float(np.sqrt(np.mean((pulls.x - pulls.y)[off] ** 2))), float("nan")
    if groups > 1:
        error = jackknife(distance(None), np.array([distance(g) for g in range(groups)]))[1]
    expected = float(np.sqrt(np.mean(pulls.error[off] ** 2)))
    return LayerCorrelations(method, layers, pulls.x, pulls.y, pulls.error, Estimate(value, error, expected))


def _group_sums(x: Array, groups: list[NDArray[np.int64]]) -> tuple[Array, Array, Array]:
    parts = [x[rows] for rows in groups]
    return (
        np.array([len(part) for part in parts], dtype=np.float64),
        np.array([part.sum(axis=0) for part in parts]),
        np.array([part.T @ part for part in parts]),
    )


def _matrix(count: Array, total: Array, outer: Array, left_out: int | None) -> Array:
    kept = np.arange(len(count)) != (-1 if left_out is None else left_out)
    n = count[kept].sum()
    mean = total[kept].sum(axis=0) / n
    covariance = outer[kept].sum(axis=0) / n - np.outer(mean, mean)
    spread = np.sqrt(np.clip(np.diag(covariance), 0.0, None))
    scale = np.outer(spread, spread)
    return np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 1e-12)
