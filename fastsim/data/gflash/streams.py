"""Random numbers that belong to a shower, not to the order in which showers are made."""

from __future__ import annotations

import numpy as np

from cathode.support.seeding import derive_seed

__all__ = ["ShowerStreams"]


class ShowerStreams:
    """Independent streams for every (shower, stage) under one seed.

    Philox is a counter-based generator: its key is (seed, shower), and the stage is the highest word of its counter.
    So a shower is the same in whatever chunk or process it is made.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.Philox(key=np.array([derive_seed(seed, "gflash"), 0], dtype=np.uint64))
        self._generator = np.random.Generator(self._bits)
        self._state = self._bits.state

    def at(self, shower: int, stage: int) -> np.random.Generator:
        """The generator, set to the start of a stream.  It is one object: use it before asking for the next stream."""
        self._state["state"]["key"][1] = shower
        self._state["state"]["counter"][:] = (0, 0, 0, stage)
        # The state was read before any draw, so it also empties the buffers.
        self._bits.state = self._state
        return self._generator
