"""From the data section of a configuration to training and validation showers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cathode.support.errors import UserError
from cathode.support.seeding import derive_seed, numpy_generator
from fastsim.data import Showers, read_showers, resolve_sample, sample_geometry
from fastsim.generators.settings import DataSettings
from fastsim.geometry import Geometry, geometry

__all__ = ["TrainingShowers", "find_geometry", "training_showers"]

# Fewer showers than this cannot be split and learned from in any sensible way.
_FEWEST = 100


@dataclass(frozen=True)
class TrainingShowers:
    """What a generator learns from; the split is random by seed.

    Attributes:
        train: Showers to fit on, cut at the threshold.
        validation: Showers for the validation loss.
        left_out: Number of showers left out for their incident energy.
    """

    train: Showers
    validation: Showers
    left_out: int


def find_geometry(settings: DataSettings) -> Geometry:
    """The geometry of the configuration, or that of its sample.

    Raises:
        UserError: Unknown geometry, or files without one.
    """
    if settings.geometry is not None:
        return geometry(settings.geometry)
    first = settings.showers[0]
    if not first.startswith("sample:"):
        raise UserError(f"data.geometry: say which geometry {first} has, for example ds1-photons or FILE.xml:photon")
    return sample_geometry(first.removeprefix("sample:"))


def training_showers(settings: DataSettings, *, seed: int) -> TrainingShowers:
    """Read, cut, leave out, split.

    Raises:
        UserError: Anything wrong with files, rows or energies.
    """
    layout = find_geometry(settings)
    showers = Showers.concatenate([read_showers(resolve_sample(f), layout) for f in settings.showers])
    if settings.rows is not None:
        first, stop = settings.rows
        if stop > len(showers):
            raise UserError(f"data.rows: {list(settings.rows)} of {len(showers)} showers; lower the second number")
        showers = showers[first:stop]
    showers = showers.cut(settings.threshold)
    keep = np.ones(len(showers), dtype=bool)
    incident = showers.incident_energy[:, 0]
    for energy in settings.leave_out_energies:
        at = np.isclose(incident, energy, rtol=1e-4)
        if not at.any():
            raise UserError(f"data.leave_out_energies: no shower has the incident energy {energy:g} MeV")
        keep &= ~at
    left_out = int((~keep).sum())
    showers = showers[keep]
    if len(showers) < _FEWEST:
        raise UserError(f"data: {len(showers)} showers are too few to learn from; give at least {_FEWEST}")
    rows = numpy_generator(derive_seed(seed, "validation")).permutation(len(showers))
    held_out = max(1, round(settings.validation * len(showers)))
    return TrainingShowers(showers[np.sort(rows[held_out:])], showers[np.sort(rows[:held_out])], left_out)
