"""What the first stage of the background learns: a table of numbers for each event, and back to two jets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri

from cathode.data.events import Events
from cathode.density.multiplicity import capped_spread
from cathode.jets.dijets import KINEMATIC_FEATURES, DijetKinematics
from cathode.jets.schema import ConstituentEvents
from cathode.support.seeding import numpy_generator

__all__ = ["COLUMNS", "KinematicColumns"]

Array = NDArray[np.float64]

#: Columns of the first stage: features of :class:`~cathode.jets.dijets.DijetKinematics` and real-valued multiplicities.
COLUMNS = (*KINEMATIC_FEATURES, "multiplicity1", "multiplicity2")


@dataclass(frozen=True)
class KinematicColumns:
    """Between two jets and :data:`COLUMNS`.

    Multiplicities become real numbers: uniform around the whole number, and beyond the largest one, where jets were
    cut, the tail of a normal distribution (as :class:`~cathode.density.multiplicity.DequantisedCount`), so that the
    density has no atom to learn.

    Args:
        kinematics: Acceptance.
        largest: Slots of a jet.
        spread: Scale of the tail beyond ``largest`` of either jet.
        least: Smallest multiplicity that is generated.
    """

    kinematics: DijetKinematics
    largest: int
    spread: tuple[float, float] = (1.0, 1.0)
    least: int = 2

    @staticmethod
    def fitted(kinematics: DijetKinematics, events: ConstituentEvents) -> KinematicColumns:
        """Columns whose tail continues the multiplicities of ``events``: give the sidebands."""
        counts = events.mask.sum(2)
        spread = [capped_spread(torch.as_tensor(counts[:, j]), events.particles) for j in range(2)]
        return KinematicColumns(kinematics, events.particles, (spread[0], spread[1]))

    def table(self, events: ConstituentEvents, axes: Array, *, seed: int) -> Events:
        """The columns of each event with its mass, id and weight.

        Args:
            events: Two jets each, in order.
            axes: ``(N, 2, 4)`` of the jets, inside the acceptance.
            seed: Of the noise on multiplicities.
        """
        features, _ = self.kinematics.features(axes)
        random = numpy_generator(seed, "multiplicities")
        counts = events.mask.sum(2)
        real = counts + random.uniform(-0.5, 0.5, counts.shape)
        tail = np.abs(ndtri(random.uniform(0.5, 1.0 - 1e-9, counts.shape))) * np.array(self.spread)
        real = np.where(counts >= self.largest, self.largest - 0.5 + tail, real)
        return Events(np.column_stack([features, real]), COLUMNS, events.mass, events.event_id, events.weight)

    def jets(self, table: Array, mass: Array, *, seed: int) -> tuple[Array, NDArray[np.int64]]:
        """Axes ``(N, 2, 4)`` and multiplicities ``(N, 2)`` from columns ``(N, 8)``.

        Args:
            table: Columns.
            mass: ``(N,)`` TeV.
            seed: Of the azimuths and of the side on which the second jet lies, which are uniform.
        """
        random = numpy_generator(seed, "azimuth")
        phi, side = random.uniform(-np.pi, np.pi, len(mass)), random.choice([-1.0, 1.0], len(mass))
        axes = self.kinematics.axes(table[:, : len(KINEMATIC_FEATURES)], mass, phi=phi, side=side)
        counts = np.rint(table[:, len(KINEMATIC_FEATURES) :])
        return axes, np.clip(counts, self.least, self.largest).astype(np.int64)
