"""From the data section of a configuration to what the two stages learn from, in memory or streamed from files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cathode.support.errors import UserError
from cathode.support.seeding import derive_seed, numpy_generator
from cathode.training.data import BatchSource, TrainingData
from fastsim.data import ShowerFile, sample_geometry
from fastsim.data.streaming import ShowerSource, training_data
from fastsim.generators.settings import DataSettings
from fastsim.geometry import Geometry, geometry

__all__ = ["EnergyData", "LearningData", "ShapeData", "find_geometry", "learning_data"]

# Fewer showers than this cannot be split and learned from in any sensible way.
_FEWEST = 100
# Streamed validation showers are stretches of rows from all over the files, about so many: files may be sorted.
_STRETCHES = 32
# Showers of so many voxels that are kept in memory even when others are streamed; less of larger ones.
_SOME, _SOME_VOXELS, _SOME_LEAST = 4000, 400, 100
# Copies of a piece of a file while its layer energies are summed.
_COPIES = 4


@dataclass(frozen=True)
class EnergyData:
    """What the energy stage learns from: layer energies ``(N, L)`` given the context ``(N, C)`` [MeV].

    Attributes:
        train: Events and context, in memory.
        validation: The same, for the validation loss.
    """

    train: TrainingData
    validation: TrainingData


@dataclass(frozen=True)
class ShapeData:
    """What the shape stage learns from: voxel energies ``(N, V)`` given context and layer energies [MeV].

    Attributes:
        train: Events and context; a source that reads them while training, where they are streamed.
        validation: The same, for the validation loss.
        context: All training contexts ``(N, C + L)``, always in memory: preprocessing is fitted on them.
        some: A few of the training showers, from all over the data, in memory.
    """

    train: TrainingData | BatchSource
    validation: TrainingData | BatchSource
    context: Tensor
    some: TrainingData


@dataclass(frozen=True)
class LearningData:
    """What a generator learns from; all energies are cut at the threshold.

    Attributes:
        geometry: Of the showers.
        condition_names: Of the context columns after the incident energy.
        energy: For the energy stage.
        shape: For the shape stage.
        counts: Number of showers to ``train`` on, for ``validation``, and ``left_out`` for their incident energy.
    """

    geometry: Geometry
    condition_names: tuple[str, ...]
    energy: EnergyData
    shape: ShapeData
    counts: dict[str, int]


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
    return geometry(sample_geometry(first.removeprefix("sample:")))


def learning_data(settings: DataSettings, *, seed: int) -> LearningData:
    """Read, cut, leave out, split.

    In memory the split is random by ``seed``; of streamed files every n-th stretch of rows is held out.

    Raises:
        UserError: Anything wrong with files, rows or energies.
    """
    file = ShowerFile(settings.showers, find_geometry(settings))
    first, stop = settings.rows or (0, len(file))
    if stop > len(file):
        raise UserError(f"data.rows: {list(settings.rows or ())} of {len(file)} showers; lower the second number")
    index = _kept(file, settings, first, stop)
    counts = {"left_out": stop - first - len(index)}
    if len(index) < _FEWEST:
        raise UserError(f"data: {len(index)} showers are too few to learn from; give at least {_FEWEST}")
    split = _stretches if settings.stream else _random
    train, validation = split(len(index), settings.validation, seed)
    counts |= {"train": len(train), "validation": len(validation)}
    make = _streamed if settings.stream else _in_memory
    energy, shape = make(file, settings, index[train], index[validation], derive_seed(seed, "some"))
    return LearningData(file.geometry, file.condition_names, energy, shape, counts)


def _kept(file: ShowerFile, settings: DataSettings, first: int, stop: int) -> NDArray[np.int64]:
    """Rows whose incident energy is not left out."""
    incident = file.incident_energies()[first:stop, 0]
    keep = np.ones(len(incident), dtype=bool)
    for energy in settings.leave_out_energies:
        at = np.isclose(incident, energy, rtol=1e-4)
        if not at.any():
            raise UserError(f"data.leave_out_energies: no shower has the incident energy {energy:g} MeV")
        keep &= ~at
    return first + np.flatnonzero(keep)


def _random(count: int, validation: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows = numpy_generator(derive_seed(seed, "validation")).permutation(count)
    held_out = max(1, round(validation * count))
    return np.sort(rows[held_out:]), np.sort(rows[:held_out])


def _stretches(count: int, validation: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    length = max(1, round(validation * count / _STRETCHES))
    held_out = np.arange(count) % max(length + 1, round(length / validation)) < length
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _in_memory(
    file: ShowerFile, settings: DataSettings, train: NDArray[np.int64], validation: NDArray[np.int64], seed: int
) -> tuple[EnergyData, ShapeData]:
    first = int(min(train[0], validation[0]))
    showers = file.read(first, int(max(train[-1], validation[-1])) + 1).cut(settings.threshold)
    parts = showers[train - first], showers[validation - first]
    energy = EnergyData(*(training_data(part, "energy") for part in parts))
    shape, held_out = (training_data(part, "shape") for part in parts)
    assert shape.context is not None
    some = shape.take(torch.linspace(0, len(shape) - 1, _some(file, len(shape)), dtype=torch.float64).long())
    return energy, ShapeData(shape, held_out, shape.context, some)


def _some(file: ShowerFile, available: int) -> int:
    return min(available, _SOME, max(_SOME * _SOME_VOXELS // file.geometry.n_voxels, _SOME_LEAST))


def _streamed(
    file: ShowerFile, settings: DataSettings, train: NDArray[np.int64], validation: NDArray[np.int64], seed: int
) -> tuple[EnergyData, ShapeData]:
    """Layer energies and conditions are read once and kept, showers are read while training."""
    options = {"threshold": settings.threshold, "memory_mb": settings.memory}
    sources = [ShowerSource(file, "shape", rows=rows, **options) for rows in (train, validation)]  # type: ignore[arg-type]
    rows = max(1, int(settings.memory * 1e6 / _COPIES / 4 / file.geometry.n_voxels))
    first, stop = int(min(train[0], validation[0])), int(max(train[-1], validation[-1])) + 1
    pieces = [
        training_data(piece.cut(settings.threshold), "energy") for piece in file.chunks(rows, start=first, stop=stop)
    ]
    layers = torch.cat([piece.x for piece in pieces])
    context = torch.cat([piece.context for piece in pieces if piece.context is not None])
    energy = [TrainingData(layers[r], context[r]) for r in (torch.from_numpy(r - first) for r in (train, validation))]
    known = energy[0].context
    assert known is not None
    # The first batch is a mixture of blocks from all over the files.
    some = next(sources[0].batches(0, batch_size=_some(file, len(train)), seed=seed))
    return EnergyData(*energy), ShapeData(sources[0], sources[1], torch.cat([known, energy[0].x], 1), some)
