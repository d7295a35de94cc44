"""Changes of variables with exact log-determinants: see :mod:`cathode.density.bijections.base` for the contract."""

from __future__ import annotations

from cathode.density.bijections.base import Bijection
from cathode.density.bijections.cascade import Cascade
from cathode.density.bijections.chains import cathode_chain
from cathode.density.bijections.combine import Columns, Compose, bounded_members
from cathode.density.bijections.conditional_quantile import ConditionalGaussianize
from cathode.density.bijections.conditional_whiten import ConditionalWhiten
from cathode.density.bijections.elementwise import Affine, Arcsinh, Identity, Log, Logit, MinMax, Power, Standardize
from cathode.density.bijections.linear import Permute, Rotate
from cathode.density.bijections.ordered import PlaceStandardize
from cathode.density.bijections.quantile import Gaussianize
from cathode.density.bijections.relative import Relative

__all__ = [
    "Affine",
    "Arcsinh",
    "Bijection",
    "Cascade",
    "Columns",
    "Compose",
    "ConditionalGaussianize",
    "ConditionalWhiten",
    "Gaussianize",
    "Identity",
    "Log",
    "Logit",
    "MinMax",
    "Permute",
    "PlaceStandardize",
    "Power",
    "Relative",
    "Rotate",
    "Standardize",
    "bounded_members",
    "cathode_chain",
]
