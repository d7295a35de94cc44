"""What is compared: two samples read, checked against each other and brought to one footing."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cathode.support.errors import UserError
from cathode.support.seeding import numpy_generator
from fastsim.data import ShowerFile, Showers
from fastsim.evaluation.energies import at_energy, check_spectra, energy_groups, is_discrete, matched_rows
from fastsim.evaluation.leaderboard import check_public
from fastsim.evaluation.procedure import dataset_of, voxel_threshold
from fastsim.evaluation.settings import EvaluationSettings
from fastsim.geometry import Geometry

__all__ = ["Pair", "prepare", "read_pair"]

logger = logging.getLogger(__name__)

# Fewer showers of either sample say nothing.
_FEWEST = 100
# Rows looked at for showers that both samples hold.
_HASHED_ROWS = 20_000


@dataclass(frozen=True)
class Pair:
    """Samples ready to be compared: the same energies, the same threshold.

    Attributes:
        reference: Full simulation.
        generated: To be judged.
        all_reference, all_generated: The same before one incident energy was picked out of them.
        threshold: Energy in MeV below which voxels were set to zero.
        counts: What was read, used, left out, and zeroed.
        notes: What a reader must know, in sentences.
    """

    reference: Showers
    generated: Showers
    all_reference: Showers
    all_generated: Showers
    threshold: float
    counts: dict[str, int]
    notes: tuple[str, ...]


def read_pair(
    reference: str | Path, generated: str | Path, geometry: Geometry, settings: EvaluationSettings
) -> tuple[Showers, Showers]:
    """Read both files, at most ``settings.max_showers`` of each, drawn at random where there are more.

    Raises:
        UserError: A file that is missing, truncated, in other units or axes, or does not fit ``geometry``.
    """
    samples = []
    # Both files are opened before either is read: a typing error in the second is not found minutes later.
    files = [ShowerFile(path, geometry) for path in (reference, generated)]
    for side, (path, file) in enumerate(zip((reference, generated), files, strict=True)):
        first, stop = settings.reference_rows if settings.reference_rows is not None and side == 0 else (0, len(file))
        if stop > len(file):
            raise UserError(f"{path} has {len(file)} showers, but rows {first} to {stop} of the reference are wanted")
        if stop - first < _FEWEST:
            raise UserError(f"{path}: {stop - first} showers; an evaluation needs at least {_FEWEST} of each sample")
        showers = file.read(first, stop)
        limit = settings.max_showers
        if limit is not None and len(showers) > limit and settings.leave_out_energy is None:
            generator = numpy_generator(settings.seed, "evaluation", "thin", side)
            showers = showers[np.sort(generator.choice(len(showers), size=limit, replace=False))]
        samples.append(showers)
    return samples[0], samples[1]


def prepare(reference: Showers, generated: Showers, settings: EvaluationSettings) -> Pair:
    """Check the samples against each other and the settings, and bring them to one footing.

    Raises:
        UserError: Different geometries or spectra, a dataset with another binning, an energy that does not occur.
    """
    geometry = reference.geometry
    if generated.geometry != geometry:
        raise UserError(
            f"reference showers are in geometry {geometry.name!r} ({geometry.n_voxels} voxels), generated ones in "
            f"{generated.geometry.name!r} ({generated.geometry.n_voxels} voxels): evaluate both in one binning"
        )
    if settings.dataset is not None and dataset_of(geometry) != settings.dataset:
        raise UserError(
            f"dataset {settings.dataset} has another binning than {geometry.name!r} ({geometry.n_voxels} voxels): "
            "use its own with --binning, or leave --dataset out"
        )
    if settings.dataset is not None:
        # A refusal after an hour of training classifiers would come late.
        check_public(reference, settings.dataset)
    threshold = voxel_threshold(geometry, settings.mode, settings.threshold)
    counts = {"reference_read": len(reference), "generated_read": len(generated)}
    if settings.match_energies:
        rows = matched_rows(reference.incident_energy, generated.incident_energy, seed=settings.seed)
        reference, generated = reference[rows[0]], generated[rows[1]]
    else:
        check_spectra(reference.incident_energy, generated.incident_energy)
    notes = []
    shared = _shared_rows(reference, generated)
    counts["identical"] = shared
    if shared:
        notes.append(
            f"{shared} showers are in both samples, voxel by voxel. Classifiers that were trained on one of the copies "
            "take the other for the same class, so areas below 0.5 are to be expected; compare independent showers."
        )
    below = [_below(s, threshold) for s in (reference, generated)]
    counts["reference_voxels_below_threshold"], counts["generated_voxels_below_threshold"] = below
    if threshold > 0:
        reference, generated = reference.cut(threshold), generated.cut(threshold)
    whole = reference, generated
    if settings.leave_out_energy is not None:
        reference, generated = (
            _at(s, settings, name) for s, name in zip(whole, ("reference", "generated"), strict=True)
        )
        notes.append(
            f"Everything but the energy closure is for showers of {settings.leave_out_energy:g} MeV alone. Whether the "
            "generator was trained without this energy is for you to know; the evaluation cannot tell."
        )
    for name, showers in (("reference", reference), ("generated", generated)):
        if len(showers) < _FEWEST:
            raise UserError(f"{len(showers)} {name} showers are left to compare; an evaluation needs {_FEWEST}")
        counts[name] = len(showers)
    return Pair(reference, generated, *whole, threshold, counts, tuple(notes))


def _at(showers: Showers, settings: EvaluationSettings, name: str) -> Showers:
    energy = settings.leave_out_energy or 0.0
    rows = at_energy(showers.incident_energy, energy)
    if not len(rows):
        values = showers.incident_energy
        if is_discrete(values):
            known = ", ".join(f"{g.energy:g}" for g in energy_groups(values)) + " MeV"
        else:
            known = f"{values.min():g} to {values.max():g} MeV"
        raise UserError(f"no {name} showers of {energy:g} MeV to leave out: incident energies are {known}")
    if settings.max_showers is not None and len(rows) > settings.max_showers:
        generator = numpy_generator(settings.seed, "evaluation", "thin", name)
        rows = np.sort(generator.choice(rows, size=settings.max_showers, replace=False))
    return showers[rows]


def _below(showers: Showers, threshold: float) -> int:
    """Voxels above zero that the threshold takes away."""
    energies, limit = showers.energies, np.float32(threshold)
    return sum(
        int(np.count_nonzero((energies[k : k + 2000] > 0) & (energies[k : k + 2000] < limit)))
        for k in range(0, len(energies), 2000)
    )


def _shared_rows(reference: Showers, generated: Showers) -> int:
    """Showers of ``generated`` that ``reference`` holds too; empty ones do not count."""

    def digests(showers: Showers) -> list[bytes]:
        rows = showers.energies[:_HASHED_ROWS]
        return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows if row.any()]

    known = set(digests(reference))
    return sum(d in known for d in digests(generated))
