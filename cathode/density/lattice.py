r"""Sets of which some points sit on a lattice.

Detectors report neutral particles at the centres of cells and tracks anywhere.  A column of the points flags those on
the lattice, 1 or 0.  For a continuous density their positions are spread uniformly over their cell, fresh in every step
of the training (dequantisation; Theis et al., arXiv 1511.01844, eq. 5), and the flag becomes an *analog bit*, +-1 read
back by its sign (Chen et al., arXiv 2208.04202, Sec. 2.1).  Where the lattice lies relative to a set is not known here:
decoded positions are left within their cells, for the caller to move to the centres.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity
from cathode.density.registry import buildable
from cathode.support.errors import UserError

__all__ = ["LatticePoints", "spread_points"]


def spread_points(
    x: Tensor,
    pitch: float,
    columns: Sequence[int],
    flag: int,
    *,
    mask: Tensor | None = None,
    generator: torch.Generator | None,
) -> Tensor:
    """Points ``(B, P, F)`` with positions anywhere in their cells where the flag is set, and the flag as +-1.

    Args:
        x: Points, with flags 0 and 1.
        pitch: Size of a cell.
        columns: Of the positions.
        flag: Column of the flag.
        mask: ``(B, P)``; padding is 0.
        generator: Of the positions.
    """
    device = x.device if generator is None else generator.device
    u = torch.rand((*x.shape[:2], len(columns)), generator=generator, device=device, dtype=x.dtype).to(x.device) - 0.5
    on = x[..., flag] > 0.5
    filled = x.clone()
    filled[..., list(columns)] += torch.where(on.unsqueeze(-1), pitch * u, 0.0)
    filled[..., flag] = torch.where(on, 1.0, -1.0)
    return filled if mask is None else filled.masked_fill(~mask.unsqueeze(-1), 0.0)


@buildable("lattice-points")
class LatticePoints(ConditionalDensity):
    """``density`` of points with spread positions and an analog bit, seen as a density of points with a flag.

    The loss is that of ``density`` at the spread points, which bounds the negative log-probability of cells where it is
    a negative log-density (the flag's bit, a continuous number there, is not accounted for).

    Args:
        density: Of sets ``(B, P, F)``.
        pitch: Size of a cell.
        columns: Of the positions.
        flag: Column of the flag.

    Raises:
        UserError: A pitch that is not positive, or columns that are not there.
    """

    def __init__(self, density: ConditionalDensity, pitch: float, columns: list[int], flag: int) -> None:
        super().__init__()
        if not (math.isfinite(pitch) and pitch > 0):
            raise UserError(f"the pitch of the lattice is {pitch}: give a positive number in the unit of the positions")
        if len(density.event_shape) != 2 or not {*columns, flag} <= set(range(density.event_shape[1])):
            raise UserError(f"columns {columns} and {flag} are not in points of shape {density.event_shape}")
        if flag in columns:
            raise UserError(f"column {flag} cannot be a position and the flag")
        self.density, self.pitch, self.columns, self.flag = density, pitch, list(columns), flag
        self.event_shape, self.context_features = density.event_shape, density.context_features

    def fill(self, x: Tensor, *, mask: Tensor | None = None, generator: torch.Generator | None) -> Tensor:
        """Points as ``density`` sees them, ``(B, P, F)``; padding stays 0."""
        return spread_points(x, self.pitch, self.columns, self.flag, mask=mask, generator=generator)

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
        filled = self.fill(x, mask=mask, generator=generator)
        return self.density.loss(filled, context, mask=mask, generator=generator)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Points ``(B, P, F)`` with flags 0 and 1; those on the lattice are anywhere in their cells."""
        x = self.density.decode(noise, context, mask=mask)
        before, bit, after = x[..., : self.flag], x[..., self.flag : self.flag + 1], x[..., self.flag + 1 :]
        # NaN stays NaN: it must show, not become a flag.
        flag = torch.where(bit > 0, 1.0, torch.where(bit.isnan(), bit, 0.0))
        return torch.cat([before, flag, after], -1)
