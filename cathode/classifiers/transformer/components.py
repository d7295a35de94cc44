"""Principal components of what an encoder sees of jets, as columns for boosted trees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cathode.support.errors import UserError

__all__ = ["JetComponents", "split_jets"]

Array = NDArray[np.float64]


def split_jets(embedding: Array, width: int, *, jets: int | None = None) -> tuple[Array, Array]:
    """Summaries ``(N, J, W)`` and masses ``(N, J)`` from the columns ``(N, J (W + 1))`` of ``embed_jets``.

    Args:
        embedding: Of N events.
        width: W.
        jets: J, if it must be so many.

    Raises:
        UserError: Columns that are not those of whole jets.
    """
    columns, block = embedding.shape[1], width + 1
    if columns == 0 or columns % block or (jets and columns != jets * block):
        raise UserError(
            f"events have {columns} columns, but this encoder makes {block} of a jet: give sets, or what embed_jets "
            "made with the same encoder"
        )
    parts = embedding.reshape(len(embedding), -1, block)
    return parts[..., :-1], parts[..., -1]


@dataclass(frozen=True)
class JetComponents:
    """Leading principal components of the summaries of jets.

    Attributes:
        mean: Of the summaries ``(W,)``.
        directions: Of the components ``(K, W)``, that of the largest variance first.
    """

    mean: Array
    directions: Array

    @staticmethod
    def fitted(summaries: Array, variance: float) -> JetComponents:
        """As few components of ``summaries (..., W)`` as have the fraction ``variance`` of their variance."""
        pooled = summaries.reshape(-1, summaries.shape[-1])
        mean = pooled.mean(axis=0)
        _, spread, directions = np.linalg.svd(pooled - mean, full_matrices=False)
        share = np.cumsum(spread**2) / max(float(np.sum(spread**2)), np.finfo(np.float64).tiny)
        kept = min(int(np.searchsorted(share, variance)) + 1, len(directions))
        # The sign of a component is arbitrary: fixed, so that the same input gives the same columns everywhere.
        signs = np.sign(directions[np.arange(kept), np.abs(directions[:kept]).argmax(axis=1)])
        return JetComponents(mean, directions[:kept] * signs[:, None])

    def columns(self, summaries: Array, masses: Array) -> Array:
        """Components and logarithm of the mass [GeV] of each jet, the lightest jet first: ``(N, J (K + 1))``.

        Args:
            summaries: ``(N, J, W)``.
            masses: ``(N, J)`` GeV.
        """
        parts = (summaries - self.mean) @ self.directions.T
        parts = np.concatenate([parts, np.log(masses + 1.0)[..., None]], axis=-1)
        order = np.argsort(masses, axis=1, kind="stable")
        return np.take_along_axis(parts, order[..., None], axis=1).reshape(len(parts), -1)
