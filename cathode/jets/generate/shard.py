"""One shard of generated events: a pure function of its task, written as one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cathode.data.readers.raw import PARTICLES
from cathode.jets.clustering import LeadingJets, invariant_mass, leading_jets, pseudorapidity
from cathode.jets.features import dijet_features
from cathode.jets.generate.detector import detect
from cathode.jets.generate.pythia import Collisions
from cathode.jets.generate.settings import GenerateSettings
from cathode.jets.parts import load_part
from cathode.jets.substructure import jet_constituents
from cathode.support.errors import UserError
from cathode.support.files import atomic_write

__all__ = ["Shard", "ShardTask", "accepted", "read_shard", "write_shard"]

# Collisions per call of Pythia: some tens of MB of particle records.
_BATCH = 200
# A process that has not passed the cuts once in so many collisions is not going to.
_HOPELESS = 20_000


@dataclass(frozen=True)
class ShardTask:
    """What a worker needs to make one shard.

    Attributes:
        path: The file to write.
        settings: The sample.
        events: Accepted events in this shard.
        pythia_seed: Seed of the collisions, 1 to 900,000,000.
        detector_seed: Seed of the detector.
        particles: Keep all particles, for the raw layout.
        constituents: Keep this many constituents of each jet; 0 for none.
    """

    path: Path
    settings: GenerateSettings
    events: int
    pythia_seed: int
    detector_seed: int
    particles: bool = False
    constituents: int = 0


@dataclass(frozen=True)
class Shard:
    """What a shard file holds.

    Attributes:
        features: ``(n, 14)`` [GeV].
        collisions: Collisions that were generated to get them.
        cross_section_pb: Pythia's estimate, before the cuts.
        truncated: Events with more particles than the raw layout has room for.
        particles: ``(n, 700, 3)``, or None.
        constituents: ``(n, 2, C, 3)``, or None.
    """

    features: NDArray[np.float64]
    collisions: int
    cross_section_pb: float
    truncated: int
    particles: NDArray[np.float64] | None
    constituents: NDArray[np.float64] | None


def accepted(jets: LeadingJets, settings: GenerateSettings) -> NDArray[np.bool_]:
    """Which events ``(N,)`` have two jets that pass the cuts of ``settings``."""
    pt = np.hypot(jets.momenta[..., 0], jets.momenta[..., 1])
    central = (np.abs(pseudorapidity(jets.momenta)) < settings.jet_eta_max).all(axis=1)
    mass = invariant_mass(jets.momenta.sum(axis=1))
    return (
        (pt[:, 1] > 0) & (pt[:, 0] > settings.leading_jet_pt_min_gev) & central & (mass > settings.dijet_mass_min_gev)
    )


def write_shard(task: ShardTask) -> None:
    """Generate until ``task.events`` collisions are accepted, and write them.

    Raises:
        UserError: Pythia cannot start, or nothing passes the cuts.
    """
    settings = task.settings
    collisions = Collisions(settings, seed=task.pythia_seed)
    generator = np.random.default_rng(task.detector_seed)
    features, constituents, flat, sizes = [], [], [], []
    found = tried = truncated = 0
    while found < task.events:
        batch = collisions.next_batch(_BATCH)
        if batch.n_events == 0:
            raise UserError(f"Pythia gave up on {_BATCH} {settings.process} collisions in a row: check its settings")
        particles = detect(
            batch.event,
            batch.kind,
            batch.momenta,
            n_events=batch.n_events,
            settings=settings.detector,
            generator=generator,
        )
        jets = leading_jets(particles, radius=settings.radius)
        rows = np.flatnonzero(accepted(jets, settings))[: task.events - found]
        # The last batch counts only up to the event that filled the shard: the accepted fraction stays unbiased.
        tried += int(rows[-1]) + 1 if found + len(rows) == task.events else batch.n_events
        found += len(rows)
        if found == 0 and tried >= _HOPELESS:
            raise UserError(
                f"none of {tried} {settings.process} collisions passed the cuts: lower leading_jet_pt_min_gev or"
                f" dijet_mass_min_gev, or raise the masses or pt_hat_min_gev"
            )
        kept = particles[rows]
        chosen = LeadingJets(jets.momenta[rows], jets.assignment[rows])
        features.append(dijet_features(kept, chosen, axes=settings.axes))
        if task.constituents:
            constituents.append(jet_constituents(kept, chosen.assignment, max_constituents=task.constituents))
        if task.particles:
            truncated += int((kept[:, PARTICLES:, 0] > 0).any(axis=1).sum())
            # By falling pT, so it is the softest that the raw layout has no room for.
            kept = kept[:, :PARTICLES]
            present = kept[..., 0] > 0
            flat.append(kept[present])
            sizes.append(present.sum(axis=1))
    arrays = {"features": np.concatenate(features), "tried": np.array(tried), "truncated": np.array(truncated)}
    arrays["cross_section_pb"] = np.array(collisions.cross_section_pb)
    if task.constituents:
        arrays["constituents"] = np.concatenate(constituents).astype(np.float32)
    if task.particles:
        arrays["particles"], arrays["sizes"] = np.concatenate(flat), np.concatenate(sizes)
    with atomic_write(task.path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


def read_shard(path: Path) -> Shard:
    """The content of a shard file.

    Raises:
        UserError: The file is damaged.
    """
    with load_part(path) as part:
        particles = None
        if "particles" in part:
            sizes = part["sizes"]
            particles = np.zeros((len(sizes), PARTICLES, 3))
            particles[np.arange(PARTICLES) < sizes[:, None]] = part["particles"]
        return Shard(
            features=part["features"],
            collisions=int(part["tried"]),
            cross_section_pb=float(part["cross_section_pb"]),
            truncated=int(part["truncated"]),
            particles=particles,
            constituents=part["constituents"].astype(np.float64) if "constituents" in part else None,
        )
