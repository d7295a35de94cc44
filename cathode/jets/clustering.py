"""Jets from particles: which particles belong together, and what four-momentum they carry.

Events are padded arrays ``(N, P, 3)`` of massless particles, ``pT`` [GeV], ``eta``, ``phi`` [rad] in the last axis; a
row with ``pT <= 0`` is padding.  Momenta are ``(..., 4)`` arrays ``px, py, pz, E`` in GeV.  Sequential recombination is
done by FastJet [1], all events of a batch in one call; everything else is NumPy.

References:
    [1] M. Cacciari, G. P. Salam, G. Soyez, FastJet user manual, https://arxiv.org/abs/1111.6097
    [2] M. Cacciari, G. P. Salam, G. Soyez, The anti-kt jet clustering algorithm, https://arxiv.org/abs/0802.1189
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cathode.support.errors import UserError, require

__all__ = [
    "LeadingJets",
    "four_momenta",
    "invariant_mass",
    "leading_jets",
    "pseudorapidity",
    "ragged_momenta",
    "recombine",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LeadingJets:
    """The hardest jets of each event.

    Attributes:
        momenta: ``(N, J, 4)``: ``px, py, pz, E`` [GeV], by falling pT; zero where an event has fewer jets.
        assignment: ``(N, P)``: the index in ``0 .. J-1`` of the jet that holds each particle, -1 if none does.
    """

    momenta: Floats
    assignment: NDArray[np.int8]


def four_momenta(particles: Floats) -> Floats:
    """Massless momenta ``(..., 4)`` [GeV] of ``particles (..., 3)``; padding becomes zero."""
    pt = np.where(particles[..., 0] > 0, particles[..., 0], 0.0)
    eta, phi = particles[..., 1], particles[..., 2]
    return np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)], axis=-1)


def invariant_mass(momenta: Floats) -> Floats:
    """Mass [GeV] of ``momenta (..., 4)``; negative, -sqrt(-m^2), where rounding makes m^2 negative, as in FastJet."""
    px, py, pz, energy = np.moveaxis(momenta, -1, 0)
    # (E - pz)(E + pz) loses less than E^2 - pz^2 for forward particles.
    squared = (energy - pz) * (energy + pz) - px * px - py * py
    return np.sign(squared) * np.sqrt(np.abs(squared))


def pseudorapidity(momenta: Floats) -> Floats:
    """Pseudorapidity of ``momenta (..., 4)``; zero for a null momentum."""
    pt = np.hypot(momenta[..., 0], momenta[..., 1])
    return np.arcsinh(np.divide(momenta[..., 2], pt, out=np.zeros_like(pt), where=pt > 0))


def leading_jets(particles: Floats, *, radius: float = 1.0, n_jets: int = 2) -> LeadingJets:
    """The ``n_jets`` hardest anti-kT jets [2] of each event, E-scheme recombination.

    Args:
        particles: ``(N, P, 3)``, padded as described above.
        radius: Jet radius in the (rapidity, phi) plane.
        n_jets: How many jets to keep; between 1 and 127.

    Raises:
        UserError: The array has another shape, or particles that are not finite.
        MissingExtraError: FastJet is not installed.
    """
    _check(particles)
    if not 1 <= n_jets <= 127:
        raise ValueError(f"n_jets must be between 1 and 127, got {n_jets}")
    fastjet = require("fastjet", "jets")
    events, width, _ = particles.shape
    four = four_momenta(particles)
    present = particles[..., 0] > 0
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, radius)
    event, slot, group = recombine(four, present, definition)
    jets = np.zeros((int(group.max(initial=-1)) + 1, 4))
    for component in range(4):
        jets[:, component] = np.bincount(group, weights=four[event, slot, component], minlength=len(jets))
    owner = np.zeros(len(jets), dtype=np.int64)
    owner[group] = event
    pt = np.hypot(jets[:, 0], jets[:, 1])
    order = np.lexsort((-pt, owner))
    first = np.searchsorted(owner[order], np.arange(events))
    rank = np.empty(len(jets), dtype=np.int64)
    rank[order] = np.arange(len(jets)) - first[owner[order]]
    momenta = np.zeros((events, n_jets, 4))
    kept = rank < n_jets
    momenta[owner[kept], rank[kept]] = jets[kept]
    assignment = np.full((events, width), -1, dtype=np.int8)
    particle_rank = rank[group]
    inside = particle_rank < n_jets
    assignment[event[inside], slot[inside]] = particle_rank[inside]
    return LeadingJets(momenta, assignment)


def recombine(
    momenta: Floats, present: NDArray[np.bool_], definition: Any, *, exclusive: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Run one FastJet jet definition over a batch of events.

    Args:
        momenta: ``(N, P, 4)`` [GeV].
        present: ``(N, P)``: which rows are particles.
        definition: ``fastjet.JetDefinition``.
        exclusive: Ask for exactly this many exclusive jets (every event needs at least as many particles);
            None for all inclusive jets.

    Returns:
        For each clustered particle, ``event``, ``slot`` (its column) and ``group`` (the number of its jet, counted
        through the whole batch).
    """
    fastjet = require("fastjet", "jets")
    ak = require("awkward", "jets")
    if not present.any():
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty, empty
    # FastJet's batch interface has no meaning for an event without particles.
    filled = present[present.any(axis=1)]
    offsets = np.concatenate([[0], np.cumsum(filled.sum(axis=1))])
    flat_event, flat_slot = np.nonzero(present)
    array = ragged_momenta(momenta[flat_event, flat_slot], offsets)
    sequence = fastjet.ClusterSequence(array, definition)
    if exclusive is None:
        index = sequence.constituent_index(min_pt=0.0)
    else:
        index = sequence.exclusive_jets_constituent_index(njets=exclusive)
    sizes = ak.to_numpy(ak.flatten(ak.num(index, axis=2)))
    jets_per_event = ak.to_numpy(ak.num(index, axis=1))
    within = ak.to_numpy(ak.flatten(index, axis=None)).astype(np.int64)
    group = np.repeat(np.arange(len(sizes)), sizes)
    position = np.repeat(np.repeat(offsets[:-1], jets_per_event), sizes) + within
    return flat_event[position], flat_slot[position], group


def ragged_momenta(flat: Floats, offsets: NDArray[np.int64]) -> Any:
    """Momenta ``(K, 4)`` as the awkward array of events that FastJet's batch interface takes, split at ``offsets``."""
    ak = require("awkward", "jets")
    record = ak.contents.RecordArray(
        [ak.contents.NumpyArray(np.ascontiguousarray(flat[:, i])) for i in range(4)], ["px", "py", "pz", "E"]
    )
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), record))


def _check(particles: Floats) -> None:
    if particles.ndim != 3 or particles.shape[2] != 3:
        raise UserError(f"particles must have the shape (events, particles, 3: pT, eta, phi), got {particles.shape}")
    bad = ~np.isfinite(particles).all(axis=(1, 2))
    if bad.any():
        raise UserError(
            f"{int(bad.sum())} of {len(particles)} events have particles that are not finite (first: row"
            f" {int(bad.argmax())} of this batch): remove these events from the file"
        )
