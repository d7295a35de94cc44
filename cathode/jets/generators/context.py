"""What a jet is as a whole, as columns: what the stage of the constituents is given."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cathode.density.base import ConditionalDensity
from cathode.density.registry import buildable

__all__ = ["MULTIPLICITY", "SUMMARY", "JetPoints", "axis_of", "jet_columns", "summary_of"]

#: Columns of the summary of a jet: natural logarithms of pT [GeV] and of m / pT.
SUMMARY = ("log_pt", "eta", "log_mass_ratio", "multiplicity", "phi")
MULTIPLICITY = SUMMARY.index("multiplicity")
# Jets of one constituent have no mass; below this m / pT nothing in a detector tells masses apart.
_LEAST_RATIO = 1e-4


def summary_of(axis: NDArray[np.float64], multiplicity: NDArray[np.integer]) -> NDArray[np.float32]:
    """Summary ``(N, 5)`` of jets with ``axis (N, 4)``: pT [GeV], eta, phi, mass [GeV]."""
    pt = axis[:, 0]
    ratio = np.maximum(axis[:, 3] / pt, _LEAST_RATIO)
    return np.stack([np.log(pt), axis[:, 1], np.log(ratio), multiplicity, axis[:, 2]], 1).astype(np.float32)


def axis_of(summary: NDArray[np.floating]) -> NDArray[np.float64]:
    """``(N, 4)`` pT [GeV], eta, phi, mass [GeV]: the inverse of :func:`summary_of`."""
    values = np.asarray(summary, dtype=np.float64)
    pt = np.exp(values[:, 0])
    return np.stack([pt, values[:, 1], values[:, 4], pt * np.exp(values[:, 2])], 1)


def jet_columns(context: Tensor, types: int, pitch: float, offset: float) -> Tensor:
    """What matters of types and summary ``(B, K + 5)`` for the constituents, as :class:`JetPoints` says.

    Args:
        context: Types, then the summary.
        types: K.
        pitch: Of the cells; 0 for none.
        offset: Centre of one of the cells.
    """
    kept = context[:, : types + MULTIPLICITY + 1]
    if not pitch > 0:
        return kept
    inside = context[:, [types + SUMMARY.index("eta"), types + SUMMARY.index("phi")]] - offset
    return torch.cat([kept, inside - torch.round(inside / pitch) * pitch], 1)


@buildable("jet-points")
class JetPoints(ConditionalDensity):
    """Density of constituents given types and summary, from one that is given what matters for them.

    The density inside sees the types, ``log_pt``, ``eta``, ``log_mass_ratio`` and ``multiplicity``.  A jet may point
    anywhere in phi, so phi is left out; but where cells matter, it sees in its place how the axis lies in its cell, in
    eta and in phi (+- half a pitch).

    Args:
        density: Of sets ``(B, P, F)`` given those columns.
        types: Number K of columns before the summary.
        pitch: Of the cells; 0 for none.
        offset: Centre of one of the cells.

    Raises:
        ValueError: A density with another number of context columns.
    """

    def __init__(self, density: ConditionalDensity, types: int = 0, pitch: float = 0.0, offset: float = 0.0) -> None:
        super().__init__()
        expected = types + len(SUMMARY) - 1 + (2 if pitch > 0 else 0)
        if density.context_features != expected:
            raise ValueError(f"the density is given {density.context_features} columns, not {expected}")
        self.density, self.types, self.pitch, self.offset = density, types, pitch, offset
        self.event_shape = density.event_shape
        self.context_features = types + len(SUMMARY)

    @property
    def in_order(self) -> bool:
        """Whether the leading constituents can be drawn alone."""
        return bool(getattr(self.density, "in_order", False))

    def columns(self, context: Tensor) -> Tensor:
        """The context as the density inside sees it."""
        return jet_columns(context, self.types, self.pitch, self.offset)

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        return self.density.noise(count, mask=mask, generator=generator, dtype=dtype)

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return self.density.loss(x, self._given(context), mask=mask, generator=generator)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        return self.density.decode(noise, self._given(context), mask=mask)

    def _given(self, context: Tensor | None) -> Tensor:
        if context is None:
            raise ValueError("constituents need the summary of their jet")
        return self.columns(context)
