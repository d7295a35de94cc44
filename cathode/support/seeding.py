"""Random streams: one integer seed per run, independent named streams derived from it.

A stream is named by where it is used (``"window", 3, "fold", 1``), not by the order of calls, so tasks can run in any
order or be resumed and still draw the same numbers.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

__all__ = ["derive_seed", "numpy_generator", "torch_generator"]


def derive_seed(seed: int, *names: str | int) -> int:
    """A seed in [0, 2^31) for the stream called ``names`` under ``seed`` (SHA-256, stable across machines)."""
    digest = hashlib.sha256("/".join([str(seed), *(f"{type(n).__name__}:{n}" for n in names)]).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """NumPy generator of the stream called ``names`` under ``seed``."""
    return np.random.default_rng(derive_seed(seed, *names))


def torch_generator(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Torch generator of the stream called ``names`` under ``seed``, on ``device``."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *names))
