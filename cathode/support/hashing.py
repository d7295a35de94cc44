"""Hashes of integers that are the same everywhere and for ever."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["mixed_bits"]


def mixed_bits(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection of 64-bit integers that leaves no visible pattern: the finaliser of SplitMix64.

    Steele, Lea and Flood, OOPSLA 2014, Fig. 16 (function ``mix64``, with Stafford's constants).
    """
    z = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
