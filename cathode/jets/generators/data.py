"""From the data section of a configuration to what the two stages learn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cathode.jets.generators.context import summary_of
from cathode.jets.generators.settings import JetDataSettings
from cathode.jets.readers import JetFile, read_constituent_events
from cathode.jets.schema import Jets
from cathode.support.errors import UserError
from cathode.support.seeding import derive_seed, numpy_generator
from cathode.training.data import TrainingData

__all__ = ["JetTensors", "LearningJets", "learning_jets", "read_all", "tensors"]

# Fewer jets than this cannot be split and learned from in any sensible way.
_FEWEST = 200


@dataclass(frozen=True)
class JetTensors:
    """Jets as the stages see them.

    Attributes:
        points: ``(N, P, 3)``: pT over that of the jet, distances to its axis in eta and phi; with cells also the flag
            of constituents on the lattice, ``(N, P, 4)``; with extras also their columns.  Padding is 0.
        mask: ``(N, P)``.
        summary: ``(N, 5)``, see :data:`cathode.jets.generators.context.SUMMARY`.
        types: ``(N, K)``, one column for each type, or None.
    """

    points: Tensor
    mask: Tensor
    summary: Tensor
    types: Tensor | None

    def kinematics(self) -> TrainingData:
        """Summaries given the types."""
        return TrainingData(self.summary, self.types)

    def constituents(self) -> TrainingData:
        """Constituents given types and summary."""
        context = self.summary if self.types is None else torch.cat([self.types, self.summary], 1)
        return TrainingData(self.points, context, self.mask)


@dataclass(frozen=True)
class LearningJets:
    """What a generator learns from.

    Attributes:
        train: Jets to train on.
        validation: Jets for the validation losses.
        type_names: The types of the file that became columns, in order; empty without types.
    """

    train: JetTensors
    validation: JetTensors
    type_names: tuple[int, ...]


def read_all(settings: JetDataSettings) -> Jets:
    """The jets of the configuration, complete or with the axis of their file; jets without constituents are left out.

    Raises:
        UserError: Files that cannot be read, rows that are not there, or a mass window for files without events.
    """
    file = JetFile(
        settings.jets, format=settings.format, particles=settings.particles, own_axis=settings.axis == "constituents"
    )
    first, stop = settings.rows or (0, len(file))
    if stop > len(file):
        raise UserError(f"data.rows: {list(settings.rows or ())} of {len(file)} rows; lower the second number")
    jets = file.read(first, stop)
    keep = jets.multiplicity() > 0
    if settings.exclude_mass is not None:
        # Of all that is stored: the mass by which a search decides on the signal region.
        events = read_constituent_events(settings.jets, format=settings.format, start=first, stop=stop)
        low, high = settings.exclude_mass
        keep &= np.repeat(~((events.mass > low) & (events.mass < high)), events.points.shape[1])
    return jets.select(keep)


def learning_jets(settings: JetDataSettings, *, seed: int, type_names: tuple[int, ...] | None = None) -> LearningJets:
    """Read, split at random by ``seed``, and bring into the coordinates of the stages.

    Args:
        settings: What to read.
        seed: Of the split.
        type_names: The types that there are; without them, those of the files.

    Raises:
        UserError: Anything wrong with files, rows or types.
    """
    jets = read_all(settings)
    if len(jets) < _FEWEST:
        raise UserError(f"data: {len(jets)} jets are too few to learn from; give at least {_FEWEST}")
    names: tuple[int, ...] = ()
    if settings.types:
        if jets.type is None:
            raise UserError(f"data.types: {settings.jets[0]} has no types of jets; set data.types to false")
        names = tuple(int(t) for t in np.unique(jets.type)) if type_names is None else type_names
    rows = numpy_generator(derive_seed(seed, "validation")).permutation(len(jets))
    held_out = max(1, round(settings.validation * len(jets)))
    train, validation = (jets.select(np.sort(part)) for part in (rows[held_out:], rows[:held_out]))
    return LearningJets(tensors(train, settings, names), tensors(validation, settings, names), names)


def tensors(jets: Jets, settings: JetDataSettings, type_names: tuple[int, ...]) -> JetTensors:
    """Jets in the coordinates of the stages.

    Raises:
        UserError: Jets of other types, or without a pT.
    """
    if not bool((jets.axis[:, 0] > 0).all()):
        raise UserError(f"{int((jets.axis[:, 0] <= 0).sum())} jets have no pT: remove them")
    points = jets.relative()
    if settings.cells is not None:
        # In absolute coordinates, where the lattice is; those of the file, before they are rounded again.
        on = settings.cells.on_lattice(jets.points[..., 1].astype(float), jets.points[..., 2].astype(float))
        points = np.concatenate([points, (on & jets.mask)[..., None]], -1)
    if settings.extras is not None:
        points = np.concatenate([points, settings.extras.columns(jets)], -1)
    summary = summary_of(jets.axis, jets.multiplicity())
    types = None
    if type_names:
        assert jets.type is not None
        columns = jets.type[:, None] == np.asarray(type_names)
        if not bool(columns.any(1).all()):
            raise UserError(f"jets of types other than {list(type_names)}, which the generator was trained on")
        types = torch.from_numpy(columns.astype(np.float32))
    return JetTensors(
        torch.from_numpy(points.astype(np.float32)), torch.from_numpy(jets.mask), torch.from_numpy(summary), types
    )
