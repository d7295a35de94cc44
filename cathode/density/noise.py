"""Noise of numbered events: the same for an event whatever is asked for before it or beside it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity, noise_shape
from cathode.support.seeding import derive_seed, torch_generator

__all__ = ["NoiseRows"]

# Noise is drawn for this many events at a time, or for fewer that need so many numbers, from a seed of their own.
_BLOCK, _BLOCK_NUMBERS = 512, 1 << 24


class NoiseRows:
    """Noise of any rows of a sample, by blocks with a seed each; the block that was used last is kept.

    Args:
        density: Whose noise it is.
        seed: Of the sample.
        name: Separates streams of one seed.
    """

    def __init__(self, density: ConditionalDensity, seed: int, name: str) -> None:
        self._density, self._seed, self._name = density, seed, name
        self._size = max(1, min(_BLOCK, _BLOCK_NUMBERS // max(1, math.prod(noise_shape(density)))))
        self._last: tuple[int, Tensor] | None = None

    def _block(self, number: int) -> Tensor:
        if self._last is None or self._last[0] != number:
            stream = torch_generator(derive_seed(self._seed, self._name, number))
            self._last = number, self._density.noise(self._size, generator=stream)
        return self._last[1]

    def rows(self, start: int, stop: int) -> Tensor:
        """Noise of the events ``start`` to ``stop``, on the CPU."""
        pieces = []
        for number in range(start // self._size, (stop - 1) // self._size + 1):
            first = number * self._size
            pieces.append(self._block(number)[max(start - first, 0) : stop - first])
        return torch.cat(pieces)
