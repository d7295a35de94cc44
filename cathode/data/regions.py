"""Signal region and sidebands of a resonance search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cathode.data.events import Events
from cathode.support.errors import UserError

__all__ = ["Regions"]


@dataclass(frozen=True)
class Regions:
    """A signal region and the sidebands around it, in TeV.

    An event is in the signal region when ``signal[0] < m < signal[1]`` (both strict), and in the sidebands when it is
    not in the signal region but inside the outer limits ``sideband[0] < m < sideband[1]`` (strict where given).  An
    event exactly on an edge of the signal region is therefore a sideband event, as in CATHODE (arXiv 2109.00546).

    Args:
        signal: Lower and upper edge of the signal region.
        sideband: Outer limits of the sidebands; ``None`` takes everything on that side.

    Raises:
        UserError: Edges that are not finite or not in order.
    """

    signal: tuple[float, float] = (3.3, 3.7)
    sideband: tuple[float | None, float | None] = (None, None)

    def __post_init__(self) -> None:
        if {len(self.signal), len(self.sideband)} != {2}:
            raise UserError("a region has two edges: give signal as (low, high) and sideband as (low, high)")
        low, high = float(self.signal[0]), float(self.signal[1])
        outer = tuple(None if edge is None else float(edge) for edge in self.sideband)
        given = [edge for edge in (low, high, *outer) if edge is not None]
        if not np.isfinite(given).all():
            raise UserError(f"region edges must be finite: signal {self.signal}, sideband {self.sideband}")
        if low >= high:
            raise UserError(
                f"the signal region ({low:g}, {high:g}) TeV is empty: its low edge must be below its high edge"
            )
        if outer[0] is not None and outer[0] >= low:
            raise UserError(
                f"no sideband below the signal region: its outer limit {outer[0]:g} TeV must be below {low:g} TeV"
            )
        if outer[1] is not None and outer[1] <= high:
            raise UserError(
                f"no sideband above the signal region: its outer limit {outer[1]:g} TeV must be above {high:g} TeV"
            )
        object.__setattr__(self, "signal", (low, high))
        object.__setattr__(self, "sideband", outer)

    @property
    def center(self) -> float:
        """Middle of the signal region, TeV."""
        return 0.5 * (self.signal[0] + self.signal[1])

    def in_signal(self, mass: ArrayLike) -> NDArray[np.bool_]:
        """Mask ``(N,)`` of the signal region for masses ``(N,)`` in TeV."""
        mass = np.asarray(mass, dtype=np.float64)
        return (mass > self.signal[0]) & (mass < self.signal[1])

    def in_range(self, mass: ArrayLike) -> NDArray[np.bool_]:
        """Mask ``(N,)`` of signal region and sidebands together."""
        mass = np.asarray(mass, dtype=np.float64)
        inside = np.isfinite(mass)
        if self.sideband[0] is not None:
            inside &= mass > self.sideband[0]
        if self.sideband[1] is not None:
            inside &= mass < self.sideband[1]
        return inside

    def in_sideband(self, mass: ArrayLike) -> NDArray[np.bool_]:
        """Mask ``(N,)`` of both sidebands."""
        return self.in_range(mass) & ~self.in_signal(mass)

    def in_lower_sideband(self, mass: ArrayLike) -> NDArray[np.bool_]:
        """Mask ``(N,)`` of the sideband below the signal region."""
        return self.in_range(mass) & (np.asarray(mass, dtype=np.float64) <= self.signal[0])

    def in_upper_sideband(self, mass: ArrayLike) -> NDArray[np.bool_]:
        """Mask ``(N,)`` of the sideband above the signal region."""
        return self.in_range(mass) & (np.asarray(mass, dtype=np.float64) >= self.signal[1])

    def split(self, events: Events) -> tuple[Events, Events]:
        """The events of the signal region and of the sidebands."""
        return events.select(self.in_signal(events.mass)), events.select(self.in_sideband(events.mass))

    def counts(self, events: Events) -> dict[str, int]:
        """Number of events in ``signal_region``, ``lower_sideband``, ``upper_sideband`` and ``outside``."""
        mass = events.mass
        counts = {
            "signal_region": int(self.in_signal(mass).sum()),
            "lower_sideband": int(self.in_lower_sideband(mass).sum()),
            "upper_sideband": int(self.in_upper_sideband(mass).sum()),
        }
        return counts | {"outside": len(mass) - sum(counts.values())}

    def check(self, events: Events, *, minimum_signal: int = 100, minimum_sideband: int = 100) -> dict[str, int]:
        """The counts, if there is enough to work with on all three sides.

        Args:
            events: The data.
            minimum_signal: Events needed in the signal region.
            minimum_sideband: Events needed in each sideband.

        Raises:
            UserError: Says which region has how many events, and the range the data have.
        """
        counts = self.counts(events)
        if len(events):
            where = f"the {len(events)} events have masses {events.mass.min():.4g} to {events.mass.max():.4g} TeV"
        else:
            where = "there are no events at all"
        low, high = self.signal
        for key, what, minimum in (
            ("signal_region", f"the signal region ({low:g}, {high:g}) TeV", minimum_signal),
            ("lower_sideband", f"the sideband below {low:g} TeV", minimum_sideband),
            ("upper_sideband", f"the sideband above {high:g} TeV", minimum_sideband),
        ):
            if counts[key] == 0:
                raise UserError(f"no events in {what}: {where}; choose other regions")
            if counts[key] < minimum:
                raise UserError(
                    f"only {counts[key]} events in {what}, at least {minimum} are needed: {where}; "
                    "widen the regions or give more data"
                )
        return counts
