"""Changes of variables with exact log-determinants: see :mod:`cathode.density.bijections.base` for the contract."""

from __future__ import annotations

from cathode.density.bijections.base import Bijection
from cathode.density.bijections.chains import cathode_chain
from cathode.density.bijections.combine import Columns, Compose, bounded_members
from cathode.density.bijections.elementwise import Affine, Identity, Log, Logit, MinMax, Power, Standardize
from cathode.density.bijections.linear import Permute, Rotate
from cathode.density.bijections.quantile import Gaussianize

__all__ = [
    "Affine",
    "Bijection",
    "Columns",
    "Compose",
    "Gaussianize",
    "Identity",
    "Log",
    "Logit",
    "MinMax",
    "Permute",
    "Power",
    "Rotate",
    "Standardize",
    "bounded_members",
    "cathode_chain",
]
