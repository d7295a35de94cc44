r"""Are the showers of an exported file those of the generator?

Given the same noise, both do the same arithmetic in another order, so that numbers differ in their last digits.  Where
a number decides something (a voxel at the threshold, the component of a mixture), the last digit may turn the decision,
and what follows is another, equally likely shower.  These showers are told apart and counted; all others must agree
voxel by voxel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Agreement", "agreement"]


@dataclass(frozen=True)
class Agreement:
    """What a comparison found.

    Attributes:
        showers: Number compared.
        turned: Showers in which a decision fell differently: other voxels are zero, or a voxel differs by more than a
            percent.
        deviation: Relative deviation that 99.9 % of the lit voxels of the others stay below.
        largest: Largest of all their lit voxels: a chain of hundreds of conditionals makes a few of them sensitive.
        mean_deviation: Largest deviation of a shower's total energy from the reference's in the others, relative.
    """

    showers: int
    turned: int
    deviation: float
    largest: float
    mean_deviation: float

    def within(self, tolerance: float = 1e-4, *, turned: float = 0.01) -> bool:
        """Whether all but a fraction ``turned`` of the showers (and one in any case) agree to ``tolerance``."""
        return self.deviation <= tolerance and self.turned <= max(1.0, turned * self.showers)


def agreement(reference: NDArray[np.float32], found: NDArray[np.float32]) -> Agreement:
    """Compare showers ``(N, V)`` of the same noise, row by row.

    Raises:
        ValueError: Different shapes.
    """
    if reference.shape != found.shape:
        raise ValueError(f"showers of shape {found.shape} cannot be compared with {reference.shape}")
    a, b = reference.reshape(len(reference), -1).astype(float), found.reshape(len(found), -1).astype(float)
    scale = np.maximum(np.abs(a), np.finfo(np.float32).tiny)
    relative = np.where(a == b, 0.0, np.abs(a - b) / scale)
    finite = np.isfinite(b).all(axis=1)
    turned = ((a == 0) != (b == 0)).any(axis=1) | (relative > 0.01).any(axis=1) | ~finite
    same = ~turned
    total = a[same].sum(axis=1)
    off = np.abs(b[same].sum(axis=1) - total) / np.maximum(total, np.finfo(np.float32).tiny)
    lit = relative[same][a[same] != 0]
    return Agreement(
        showers=len(a),
        turned=int(turned.sum()),
        deviation=float(np.quantile(lit, 0.999)) if lit.size else 0.0,
        largest=float(lit.max(initial=0.0)),
        mean_deviation=float(off.max(initial=0.0)),
    )
