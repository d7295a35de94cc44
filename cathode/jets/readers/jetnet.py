"""JetNet: jets of gluons, light quarks, top quarks, W and Z bosons, 30 or 150 constituents.

The files ``g.hdf5`` ... ``z.hdf5`` (https://zenodo.org/records/6975118, 30 constituents) and ``g150.hdf5`` ...
(https://zenodo.org/records/6975117, 150) hold ``particle_features (N, 30, 4)``: eta_rel, phi_rel, pT_rel, mask, and
``jet_features (N, 4)``: pT [GeV], eta, mass [GeV], number of constituents, as the records describe them.  A file has
one type of jet, so the type is in the file's name.  Data set: R. Kansal et al., https://arxiv.org/abs/2106.11535.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cathode.jets.readers.layouts import PaddedLayout
from cathode.support.errors import UserError

__all__ = ["JETNET_LAYOUT", "JETNET_TYPES", "jetnet_split", "jetnet_type"]

#: Names of the types in the order of their numbers.
JETNET_TYPES = ("g", "q", "t", "w", "z")

JETNET_LAYOUT = PaddedLayout(
    points="particle_features",
    columns=("etarel", "phirel", "ptrel", "mask"),
    axis="jet_features",
    axis_columns=("pt", "eta", "mass", ""),
)

_NAME = re.compile(r"([gqtwz])(?:30|150)?")
_PARTS = ("train", "valid", "test")


def jetnet_type(path: Path) -> int | None:
    """The type in a name like ``g.hdf5`` or ``t150.hdf5``; None if the name says nothing."""
    match = _NAME.fullmatch(path.stem)
    return None if match is None else JETNET_TYPES.index(match[1])


def jetnet_split(
    length: int,
    part: Literal["train", "valid", "test"],
    *,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 42,
    legacy: bool = False,
) -> NDArray[np.int64]:
    """Rows of one part of the published 70/15/15 split, in its order.

    As in the JetNet library (``JetNet.getData`` of jetnet 0.2.5): the chosen types are put together in the order g, q,
    t, w, z; ``numpy.random.default_rng(42).permutation(length)`` shuffles them; cuts are at
    ``int(cumulative fraction * length)``.  Earlier versions of the library, with which many published models were
    trained, shuffled with NumPy's legacy generator of the same seed.

    Args:
        length: Number of jets, of all chosen types together.
        part: ``train``, ``valid`` or ``test``.
        fractions: Shares of the three parts.
        seed: Of the permutation.
        legacy: The split of the earlier versions.

    Raises:
        UserError: No such part, or fractions that are negative or add up to more than one.
    """
    if part not in _PARTS:
        raise UserError(f"no part {part!r}: choose {', '.join(_PARTS)}")
    if len(fractions) != 3 or min(fractions) < 0 or sum(fractions) > 1 + 1e-9:
        raise UserError(f"fractions are {tuple(fractions)}: they must be three shares that add up to at most 1")
    # An instance of the legacy generator leaves the global one alone.
    generator = np.random.RandomState(seed) if legacy else np.random.default_rng(seed)
    order = generator.permutation(length)
    cuts = (np.cumsum([0.0, *fractions]) * length).astype(np.int64)
    index = _PARTS.index(part)
    return order[cuts[index] : cuts[index + 1]]
