"""Subjets: constituents of a jet clustered again, by any of FastJet's sequential recombinations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cathode.jets.clustering import recombine
from cathode.jets.observables.padded import Floats
from cathode.jets.schema import Jets
from cathode.support.errors import UserError, require

__all__ = ["Algorithm", "Subjets", "subjets"]

Algorithm = Literal["antikt", "cambridge", "kt"]
_NAMES = {"antikt": "antikt_algorithm", "cambridge": "cambridge_algorithm", "kt": "kt_algorithm"}
_NO_BEAM = 1000.0
_BLOCK = 4096


@dataclass(frozen=True)
class Subjets:
    """Subjets of each jet, by falling pT.

    Attributes:
        momenta: ``(N, S, 4)``: px, py, pz, E [GeV], E-scheme; zero where a jet has fewer.
        assignment: ``(N, P)``: which subjet holds each constituent, -1 for padding and what is beyond ``S``.
    """

    momenta: Floats
    assignment: NDArray[np.int16]


def subjets(
    jets: Jets, *, algorithm: Algorithm = "kt", radius: float | None = None, exclusive: int | None = None
) -> Subjets:
    """Cluster the constituents of every jet again.

    Args:
        jets: Constituents are massless.
        algorithm: ``antikt``, ``cambridge`` (Cambridge/Aachen) or ``kt``.
        radius: Give it for inclusive subjets of that radius.
        exclusive: Give it instead for exactly so many subjets, without a distance to the beam; jets with fewer
            constituents have one subjet for each.

    Raises:
        UserError: An unknown algorithm, or not exactly one of ``radius`` and ``exclusive``.
        MissingExtraError: FastJet is not installed.
    """
    if algorithm not in get_args(Algorithm):
        raise UserError(f"unknown algorithm {algorithm!r}: choose one of {', '.join(get_args(Algorithm))}")
    if (radius is None) == (exclusive is None):
        raise UserError("subjets need either a radius or the number of exclusive subjets")
    if (radius is not None and not radius > 0) or (exclusive is not None and exclusive < 1):
        raise UserError("the radius of subjets must be positive, and their number at least 1")
    if exclusive is not None and algorithm == "antikt":
        raise UserError("anti-kT has no exclusive subjets of physical meaning: use kt or cambridge, or give a radius")
    fastjet = require("fastjet", "jets")
    definition = fastjet.JetDefinition(getattr(fastjet, _NAMES[algorithm]), _NO_BEAM if radius is None else radius)
    parts = [
        _clustered(jets.select(slice(start, start + _BLOCK)), definition, exclusive)
        for start in range(0, len(jets), _BLOCK)
    ]
    width = max([part.momenta.shape[1] for part in parts] + [0 if exclusive is None else exclusive])
    padded = [np.pad(part.momenta, ((0, 0), (0, width - part.momenta.shape[1]), (0, 0))) for part in parts]
    return Subjets(
        np.concatenate([*padded, np.zeros((0, width, 4))]),
        np.concatenate([part.assignment for part in parts] + [np.zeros((0, jets.particles), dtype=np.int16)]),
    )


def _clustered(jets: Jets, definition: object, exclusive: int | None) -> Subjets:
    four, counts = jets.four_momenta(), jets.multiplicity()
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []
    few = np.zeros(len(jets), dtype=bool) if exclusive is None else counts <= exclusive
    many = jets.mask & ~few[:, None]
    if many.any():
        found.append(recombine(four, many, definition, exclusive=exclusive))
    event, slot = np.nonzero(jets.mask & few[:, None])
    offset = int(found[0][2].max()) + 1 if found else 0
    found.append((event, slot, offset + np.arange(len(event))))
    event, slot, group = (np.concatenate([part[k] for part in found]) for k in range(3))
    total = int(group.max(initial=-1)) + 1
    momenta = np.stack([np.bincount(group, weights=four[event, slot, k], minlength=total) for k in range(4)], axis=1)
    owner = np.zeros(total, dtype=np.int64)
    owner[group] = event
    order = np.lexsort((-np.hypot(momenta[:, 0], momenta[:, 1]), owner))
    rank = np.empty(total, dtype=np.int64)
    rank[order] = np.arange(total) - np.searchsorted(owner[order], owner[order])
    out = np.zeros((len(jets), int(rank.max(initial=-1)) + 1, 4))
    out[owner, rank] = momenta
    assignment = np.full(jets.mask.shape, -1, dtype=np.int16)
    assignment[event, slot] = rank[group]
    return Subjets(out, assignment)
