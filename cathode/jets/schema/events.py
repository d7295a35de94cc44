"""Events whose features are the constituents of their jets.  Never a truth label."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cathode.data.events import Events
from cathode.jets.clustering import invariant_mass
from cathode.jets.schema.checks import check_canonical, check_rows, presence
from cathode.jets.schema.jets import Jets
from cathode.jets.schema.kinematics import jet_axis, massless_momenta
from cathode.support.errors import UserError

__all__ = ["ConstituentEvents", "event_mass"]

# Events at a time, so that the momenta in double precision stay small.
_BLOCK = 8192


def event_mass(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Invariant mass [TeV] ``(N,)`` of all massless constituents of ``points (N, J, P, 3)`` [GeV]."""
    mass = np.empty(len(points))
    for start in range(0, len(points), _BLOCK):
        total = massless_momenta(points[start : start + _BLOCK]).sum(axis=(1, 2))
        mass[start : start + _BLOCK] = np.maximum(invariant_mass(total), 0.0)
    return mass / 1e3


@dataclass(frozen=True, eq=False)
class ConstituentEvents:
    """``N`` events of ``J`` jets of up to ``P`` constituents.

    Args:
        points: ``(N, J, P, 3)`` float32: pT [GeV], eta, phi in [-pi, pi); constituents by falling pT, padding zero.
        mask: ``(N, J, P)`` boolean.
        mass: ``(N,)`` float64, the resonant mass [TeV]: that of all stored constituents together
            (:meth:`from_points` computes it), so that data and generated events are defined alike.
        event_id: Unique integer ids ``(N,)``.
        weight: ``(N,)`` float64 or None; may be negative, never NaN.

    Raises:
        UserError: Shapes that do not fit, or values that :class:`Jets` or :class:`~cathode.data.events.Events` refuse.
    """

    points: NDArray[np.float32]
    mask: NDArray[np.bool_]
    mass: NDArray[np.float64]
    event_id: NDArray[np.int64]
    weight: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        points = np.asarray(self.points, dtype=np.float32)
        if points.ndim != 4 or points.shape[-1] != 3:
            raise UserError(
                f"constituents of events must have the shape (events, jets, constituents, 3: pT, eta, phi), got"
                f" {points.shape}"
            )
        mask = presence(points, self.mask)
        slots = points.shape[2]
        check_canonical(points.reshape(-1, slots, 3), mask.reshape(-1, slots))
        # Everything but the constituents is held to what any events are held to.
        table = Events(np.zeros((len(points), 0)), (), self.mass, self.event_id, self.weight)
        self.__dict__.update(points=points, mask=mask, mass=table.mass, event_id=table.event_id, weight=table.weight)

    @classmethod
    def from_points(
        cls,
        points: ArrayLike,
        mask: ArrayLike | None = None,
        *,
        event_id: ArrayLike | None = None,
        weight: ArrayLike | None = None,
    ) -> ConstituentEvents:
        """Events from constituents ``(N, J, P, 3)`` in any order; the mass is that of the constituents.

        Args:
            points: pT [GeV], eta, phi.
            mask: ``(N, J, P)``; constituents of positive pT if not given.
            event_id: Ids ``(N,)``; row numbers if not given.
            weight: ``(N,)``.

        Raises:
            UserError: See the class.
        """
        raw = np.asarray(points)
        if raw.ndim != 4:
            raise UserError(
                f"constituents of events must have the shape (events, jets, constituents, 3: pT, eta, phi), got"
                f" {raw.shape}"
            )
        present = presence(raw, mask)
        jets = Jets.from_points(raw.reshape(-1, *raw.shape[2:]), present.reshape(-1, raw.shape[2]))
        return cls.from_jets(jets, raw.shape[1], event_id=event_id, weight=weight)

    @classmethod
    def from_jets(
        cls, jets: Jets, per_event: int = 2, *, event_id: ArrayLike | None = None, weight: ArrayLike | None = None
    ) -> ConstituentEvents:
        """Events from consecutive jets, the inverse of :meth:`flat`; types and further columns are left behind.

        Args:
            jets: ``N * per_event`` jets, those of an event side by side.
            per_event: Jets ``J`` of an event.
            event_id: Ids ``(N,)``; row numbers if not given.
            weight: ``(N,)``.

        Raises:
            UserError: The number of jets is no multiple of ``per_event``.
        """
        if per_event < 1 or len(jets) % per_event:
            raise UserError(f"{len(jets)} jets cannot be events of {per_event} jets each")
        rows = len(jets) // per_event
        points = jets.points.reshape(rows, per_event, jets.particles, 3)
        ids = np.arange(rows) if event_id is None else np.asarray(event_id)
        weights = None if weight is None else np.asarray(weight, dtype=np.float64)
        mask = jets.mask.reshape(rows, per_event, jets.particles)
        return cls(points, mask, event_mass(points), ids, weights)

    @classmethod
    def _unchecked(
        cls,
        points: NDArray[np.float32],
        mask: NDArray[np.bool_],
        mass: NDArray[np.float64],
        event_id: NDArray[np.int64],
        weight: NDArray[np.float64] | None,
    ) -> ConstituentEvents:
        self = object.__new__(cls)
        self.__dict__.update(points=points, mask=mask, mass=mass, event_id=event_id, weight=weight)
        return self

    def __len__(self) -> int:
        return len(self.points)

    @property
    def jets_per_event(self) -> int:
        """Jets ``J`` of an event."""
        return self.points.shape[1]

    @property
    def particles(self) -> int:
        """Slots ``P`` of a jet."""
        return self.points.shape[2]

    def jets(self, index: int) -> Jets:
        """Jet ``index`` (0 is the first) of every event, ``N`` jets with the axes of their constituents.

        Raises:
            UserError: There is no such jet.
        """
        if not 0 <= index < self.jets_per_event:
            raise UserError(f"no jet {index}: these events have {self.jets_per_event} jets, counted from 0")
        points = self.points[:, index]
        return Jets._unchecked(points, self.mask[:, index], _axes(points), {}, None)

    def flat(self) -> Jets:
        """All jets, ``N * J``: those of an event side by side."""
        points = self.points.reshape(-1, self.particles, 3)
        return Jets._unchecked(points, self.mask.reshape(-1, self.particles), _axes(points), {}, None)

    def leading(self, n: int) -> ConstituentEvents:
        """The same events with the ``n`` constituents of largest pT of each jet, and the mass of these.

        Raises:
            UserError: ``n`` is not positive.
        """
        if n < 1:
            raise UserError(f"the number of leading constituents must be at least 1, got {n}")
        points = self.points[:, :, :n]
        return ConstituentEvents._unchecked(points, self.mask[:, :, :n], event_mass(points), self.event_id, self.weight)

    def padded(self, particles: int) -> ConstituentEvents:
        """The same events with at least ``particles`` slots."""
        more = particles - self.particles
        if more <= 0:
            return self
        points = np.pad(self.points, ((0, 0), (0, 0), (0, more), (0, 0)))
        mask = np.pad(self.mask, ((0, 0), (0, 0), (0, more)))
        return ConstituentEvents._unchecked(points, mask, self.mass, self.event_id, self.weight)

    def select(self, rows: ArrayLike | slice) -> ConstituentEvents:
        """The events at these rows: an index array without repetition, a boolean mask ``(N,)`` or a slice.

        Raises:
            UserError: A mask of another length, an index out of range or a repeated one.
        """
        chosen = check_rows(rows, len(self), "events")
        if not isinstance(chosen, slice) and chosen.dtype != bool and len(np.unique(chosen % len(self))) < len(chosen):
            raise UserError("a row is selected more than once: event ids must be unique")
        return ConstituentEvents._unchecked(
            self.points[chosen],
            self.mask[chosen],
            self.mass[chosen],
            self.event_id[chosen],
            None if self.weight is None else self.weight[chosen],
        )

    @staticmethod
    def concatenate(parts: Iterable[ConstituentEvents]) -> ConstituentEvents:
        """All events of the parts, in order, padded to the largest number of slots.

        Raises:
            UserError: No parts, different numbers of jets, weights in only some parts, or ids that occur in two parts.
        """
        parts = list(parts)
        if not parts:
            raise UserError("nothing to concatenate: no events were given")
        if len({part.jets_per_event for part in parts}) > 1:
            raise UserError("cannot concatenate events with different numbers of jets")
        if len({part.weight is None for part in parts}) > 1:
            raise UserError("cannot concatenate weighted with unweighted events: give every part weights or none")
        slots = max(part.particles for part in parts)
        parts = [part.padded(slots) for part in parts]
        weights = [part.weight for part in parts if part.weight is not None]
        return ConstituentEvents(
            np.concatenate([part.points for part in parts]),
            np.concatenate([part.mask for part in parts]),
            np.concatenate([part.mass for part in parts]),
            np.concatenate([part.event_id for part in parts]),
            np.concatenate(weights) if weights else None,
        )


def _axes(points: NDArray[np.float32]) -> NDArray[np.float64]:
    blocks = [jet_axis(points[start : start + _BLOCK]) for start in range(0, len(points), _BLOCK)]
    return np.concatenate(blocks) if blocks else np.zeros((0, 4))
