"""Putting signal into data, with the truth kept apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cathode.data.events import Events
from cathode.support.errors import UserError
from cathode.support.hashing import mixed_bits

__all__ = ["Truth", "inject", "split"]


@dataclass(frozen=True, eq=False)
class Truth:
    """Which events are signal. Handed to evaluation functions only.

    Args:
        event_id: Unique ids ``(N,)``.
        is_signal: ``(N,)``, true for signal.

    Raises:
        UserError: Shapes differ or ids repeat.
    """

    event_id: NDArray[np.int64]
    is_signal: NDArray[np.bool_]

    def __post_init__(self) -> None:
        ids = np.asarray(self.event_id).astype(np.int64)
        is_signal = np.asarray(self.is_signal).astype(bool)
        if ids.ndim != 1 or ids.shape != is_signal.shape:
            raise UserError(f"truth needs one label per event id: {ids.shape} ids, {is_signal.shape} labels")
        if len(np.unique(ids)) != len(ids):
            raise UserError("event ids repeat in the truth: every event needs its own id")
        object.__setattr__(self, "event_id", ids)
        object.__setattr__(self, "is_signal", is_signal)

    def __len__(self) -> int:
        return len(self.event_id)

    def of(self, events: Events) -> NDArray[np.bool_]:
        """Labels ``(N,)`` of these events, in their order.

        Raises:
            UserError: An event has no label here.
        """
        order = np.argsort(self.event_id, kind="stable")
        place = np.searchsorted(self.event_id, events.event_id, sorter=order)
        found = order[np.minimum(place, len(order) - 1)] if len(order) else np.empty(0, dtype=np.int64)
        known = len(order) > 0 and np.array_equal(self.event_id[found], events.event_id)
        if len(events) and not known:
            missing = int((~np.isin(events.event_id, self.event_id)).sum())
            raise UserError(
                f"{missing} of {len(events)} events have no truth label: read truth from the same files, "
                "in the same order, as the events"
            )
        return self.is_signal[found]


def inject(background: Events, signal: Events, *, count: int, seed: int) -> tuple[Events, Truth]:
    """Data made of all the background and ``count`` signal events.

    Signal events are drawn without replacement and all events are shuffled together; ids are numbered anew in the
    shuffled order, so that neither position nor id betrays an event's origin.

    Args:
        background: Background events, all of which are taken.
        signal: Signal events to draw from, with the same features.
        count: Number of signal events in total, not only inside the signal region.
        seed: The same seed gives the same data.

    Returns:
        The events, and the truth about them, apart.

    Raises:
        UserError: A negative count, more than there are signal events, or different features.
    """
    if count < 0:
        raise UserError(f"cannot inject {count} signal events: the count must not be negative")
    if count > len(signal):
        raise UserError(f"cannot inject {count} signal events: the signal sample has only {len(signal)}")
    if background.names != signal.names:
        raise UserError(
            f"background has features {background.names} and signal {signal.names}: read both with the same features"
        )
    if (background.weight is None) != (signal.weight is None):
        raise UserError("only one of background and signal has weights: give both weights or neither")
    random = np.random.default_rng(seed)
    chosen = random.choice(len(signal), size=count, replace=False, shuffle=False)
    order = random.permutation(len(background) + count)
    weight = None
    if background.weight is not None and signal.weight is not None:
        weight = np.concatenate([background.weight, signal.weight[chosen]])[order]
    ids = np.arange(len(order))
    events = Events(
        features=np.concatenate([background.features, signal.features[chosen]])[order],
        names=background.names,
        mass=np.concatenate([background.mass, signal.mass[chosen]])[order],
        event_id=ids,
        weight=weight,
    )
    return events, Truth(event_id=ids, is_signal=order >= len(background))


def split(events: Events, fractions: Mapping[str, float], *, seed: int) -> dict[str, Events]:
    """Split events into named parts by a hash of their ids.

    An event's part depends on its id, the seed and the fractions only, not on the other events: adding, removing or
    reordering events moves nobody else. Part sizes therefore vary as a multinomial around ``fractions``.

    Args:
        events: Events to split.
        fractions: Size of each part, in (0, 1]; together at most 1 (what is left belongs to no part).
        seed: Another seed gives an independent split.

    Raises:
        UserError: Fractions out of range.
    """
    sizes = np.array(list(fractions.values()), dtype=np.float64)
    if not len(sizes) or not (sizes > 0).all() or sizes.sum() > 1 + 1e-9:
        raise UserError(f"fractions must be positive and add up to at most 1: {dict(fractions)}")
    position = _uniform_of_ids(events.event_id, seed)
    edges = np.concatenate([[0.0], np.cumsum(sizes)])
    # The last edge of a full split must include the largest hash whatever the rounding of the sum.
    edges[-1] = 2.0 if abs(edges[-1] - 1.0) <= 1e-9 else edges[-1]
    return {
        name: events.select((position >= edges[index]) & (position < edges[index + 1]))
        for index, name in enumerate(fractions)
    }


def _uniform_of_ids(ids: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """A uniform number in [0, 1) per id: the finaliser of SplitMix64 (Steele, Lea, Flood 2014) of id and seed."""
    state = np.random.SeedSequence(seed).generate_state(2, np.uint64)
    with np.errstate(over="ignore"):
        mixed = mixed_bits(ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + state[0])
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53
