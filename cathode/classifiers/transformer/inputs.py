"""Sets of points as classifiers see them: padded arrays with a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from cathode.support.errors import UserError

__all__ = ["SetInputs"]


@dataclass(frozen=True)
class SetInputs:
    """Events, each a set of points of which only those in ``mask`` are real.

    The order of the points, and how far the arrays are padded, mean nothing.  What lies in the padding is replaced by
    0, so that equal events are equal arrays.  Rows are selected like those of an array: ``inputs[rows]``.

    Args:
        points: ``(N, P, F)`` features of the points; stored as float32.
        mask: ``(N, P)`` boolean, True = real.
        group: ``(N, P)`` which jet of its event a point belongs to, 0, 1, ...; stored as int8.  None: there is one.
        momenta: ``(N, P, 3)`` or ``(N, P, 4)``: pT, rapidity, phi and mass (absent: massless), pT and mass in one unit,
            for the interaction of pairs; stored as float32.  None where no classifier uses it.
        globals: ``(N, G)`` columns of the whole event; stored as float32.  None: there are none.

    Raises:
        UserError: Shapes that do not fit each other, or values of real points that are not finite.
    """

    points: np.ndarray
    mask: np.ndarray
    group: np.ndarray | None = None
    momenta: np.ndarray | None = None
    globals: np.ndarray | None = None

    def __post_init__(self) -> None:
        points, mask = np.asarray(self.points, dtype=np.float32), np.asarray(self.mask)
        if points.ndim != 3:
            raise UserError(f"points of sets have shape {points.shape}: give (events, points, features)")
        if mask.dtype != np.bool_ or mask.shape != points.shape[:2]:
            raise UserError(
                f"the mask of sets is {mask.dtype} {mask.shape}: give one boolean per point, {points.shape[:2]}"
            )
        replaced: dict[str, Any] = {"points": _clean(points, mask, "points"), "mask": mask}
        if self.group is not None:
            group = np.asarray(self.group)
            if group.shape != mask.shape or group.dtype.kind not in "iu":
                raise UserError(f"group is {group.dtype} {group.shape}: give integers of shape {mask.shape}")
            if mask.any() and not 0 <= int(group[mask].min()) <= int(group[mask].max()) < 128:
                raise UserError("group must number the jets of an event from 0 to 127")
            replaced["group"] = _clean(group.astype(np.int8), mask, "group")
        if self.momenta is not None:
            momenta = np.asarray(self.momenta, dtype=np.float32)
            if momenta.shape[:2] != mask.shape or momenta.ndim != 3 or momenta.shape[2] not in (3, 4):
                raise UserError(
                    f"momenta have shape {momenta.shape}: give {mask.shape} points of pT, rapidity, phi (and mass)"
                )
            replaced["momenta"] = _clean(momenta, mask, "momenta")
        if self.globals is not None:
            columns = np.asarray(self.globals, dtype=np.float32)
            if columns.ndim != 2 or len(columns) != len(points):
                raise UserError(f"globals have shape {columns.shape} for {len(points)} events: give one row per event")
            bad = int((~np.isfinite(columns)).any(axis=1).sum())
            if bad:
                raise UserError(f"globals of {bad} events are NaN or infinite: remove these events first")
            replaced["globals"] = columns
        for name, value in replaced.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, rows: Any) -> SetInputs:
        return self.take(rows)

    def take(self, rows: Any) -> SetInputs:
        """The events selected by indices, a boolean mask or a slice, in that order.

        Raises:
            UserError: A single number, which would select no set of events.
        """
        if np.ndim(rows) != 1 and not isinstance(rows, slice):
            raise UserError("events of sets are selected by a list of rows, a boolean mask or a slice")
        return self._unchecked({name: None if a is None else a[rows] for name, a in self._arrays().items()})

    @property
    def multiplicity(self) -> np.ndarray:
        """Number of real points of each event ``(N,)``."""
        return self.mask.sum(axis=1)

    @property
    def features(self) -> int:
        """F, the number of features of a point."""
        return self.points.shape[2]

    @property
    def global_features(self) -> int:
        """G, the number of columns of an event; 0 without globals."""
        return 0 if self.globals is None else self.globals.shape[1]

    @property
    def groups(self) -> int:
        """Number of jets: one more than the largest number in ``group``, 1 without it."""
        return 1 if self.group is None or not self.group.size else int(self.group.max()) + 1

    @property
    def kind(self) -> str:
        """What an event has, in words; events can be mixed, and a classifier applied, where this is the same."""
        parts = [f"{self.features} features"]
        parts += [] if self.group is None else ["groups"]
        parts += [] if self.momenta is None else [f"{self.momenta.shape[2]} momentum columns"]
        return ", ".join([*parts, f"{self.global_features} globals"])

    @classmethod
    def concatenate(cls, parts: Sequence[SetInputs]) -> SetInputs:
        """All events of ``parts``, one after the other, padded alike.

        Raises:
            UserError: No parts, or parts of different kind.
        """
        if not parts:
            raise UserError("there are no sets to join: give at least one")
        kinds = sorted({part.kind for part in parts})
        if len(kinds) > 1:
            raise UserError(f"sets of different kind cannot be joined: {' / '.join(kinds)}")
        size = max(part.points.shape[1] for part in parts)
        arrays: dict[str, np.ndarray | None] = {}
        for name, first in parts[0]._arrays().items():
            pieces = [getattr(part, name) for part in parts]
            padded = pieces if name == "globals" else [_padded(a, size) for a in pieces if a is not None]
            arrays[name] = None if first is None else np.concatenate(padded)
        return cls._unchecked(arrays)

    def _arrays(self) -> dict[str, np.ndarray | None]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def _unchecked(cls, arrays: dict[str, np.ndarray | None]) -> SetInputs:
        self = object.__new__(cls)
        self.__dict__.update(arrays)
        return self


def _clean(values: np.ndarray, mask: np.ndarray, name: str) -> np.ndarray:
    """``values`` with 0 in the padding."""
    real = mask if values.ndim == 2 else mask[:, :, None]
    with np.errstate(invalid="ignore"):
        occupied = bool(((values != 0) & ~real).any())
    clean = np.where(real, values, np.zeros((), values.dtype)) if occupied else values
    if clean.dtype.kind == "f":
        bad = int((~np.isfinite(clean)).reshape(len(clean), -1).any(axis=1).sum())
        if bad:
            raise UserError(f"{name} of {bad} events are NaN or infinite at real points: remove these events first")
    return clean


def _padded(values: np.ndarray, size: int) -> np.ndarray:
    widths = [(0, 0), (0, size - values.shape[1]), *[(0, 0)] * (values.ndim - 2)]
    return np.pad(values, widths) if size > values.shape[1] else values
