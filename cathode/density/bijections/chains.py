"""Chains of bijections with a name."""

from __future__ import annotations

from cathode.density.bijections.combine import Compose
from cathode.density.bijections.elementwise import Logit, MinMax, Standardize

__all__ = ["cathode_chain"]


def cathode_chain(features: int, *, policy: str = "mask", margin: float = 0.0, epsilon: float = 1e-6) -> Compose:
    """CATHODE's preprocessing: min-max to (0, 1), logit, standardise.

    Fit it on the sideband *training* rows only.  With the policy ``mask`` (as published) rows at or outside the edges
    of the fitted range, the extreme training rows among them, are flagged by ``rejects`` and left out of the
    standardisation; leave them out of data and samples alike.  With ``clip`` and a small ``margin`` no row is lost.

    Source: Hallin et al., arXiv:2109.00546, section III and the accompanying code.  Deviation: "at the edge" is closer
    than ``epsilon`` of the range, not exactly 0 or 1, so that no value is infinite.

    Args:
        features: F.
        policy: ``mask``, ``clip`` or ``raise``, of the logit.
        margin: Fraction of the fitted width added on both sides.
        epsilon: Edge of the logit.
    """
    return Compose(
        [MinMax(features, margin=margin), Logit(features, epsilon=epsilon, policy=policy), Standardize(features)]
    )
