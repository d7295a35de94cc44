"""Events: named columns, a resonant mass, ids. Never a truth label.

Everything downstream of the readers speaks :class:`Events`.  Truth lives in :class:`cathode.data.injection.Truth`
and is handed only to evaluation functions, so that no label can reach a training array.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cathode.support.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LABEL_NAMES", "RESERVED_NAMES", "Events", "is_label_name"]

#: Column names that mean "this event is signal" in the files of this field (compared in lower case).
LABEL_NAMES = frozenset({"label", "labels", "truth", "is_signal", "issignal", "signal", "y_true"})
#: Names that mean something else in an :class:`Events` table and therefore cannot name a feature.
RESERVED_NAMES = frozenset({"mass", "event_id", "weight"})

# No collider search looks at 100 TeV: a larger median mass is a file in GeV (or MeV).
_LARGEST_MEDIAN_MASS = 100.0


def is_label_name(name: str) -> bool:
    """Whether a column of this name would hold truth."""
    return name.strip().lower() in LABEL_NAMES


@dataclass(frozen=True, eq=False)
class Events:
    """A table of events.

    Args:
        features: Feature values ``(N, D)``, energies in TeV; converted to float64.
        names: ``D`` distinct feature names.
        mass: Resonant mass ``(N,)`` in TeV.
        event_id: Unique integer ids ``(N,)``.
        weight: Optional event weights ``(N,)``; may be negative (as some generators make them), never NaN.

    Raises:
        UserError: Shapes do not fit, values are not finite, ids repeat, a feature is named like a truth label, or the
            mass is plainly not in TeV.
    """

    features: NDArray[np.float64]
    names: tuple[str, ...]
    mass: NDArray[np.float64]
    event_id: NDArray[np.int64]
    weight: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        names = tuple(str(name) for name in self.names)
        mass = _vector(self.mass, "mass", None)
        features = np.asarray(self.features, dtype=np.float64)
        if features.ndim != 2 or features.shape[1] != len(names):
            raise UserError(
                f"features have shape {features.shape} for {len(names)} names: they must be (events, {len(names)})"
            )
        rows = len(features)
        if len(mass) != rows:
            raise UserError(f"{rows} rows of features but {len(mass)} masses: one mass per event is needed")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "features", features)
        object.__setattr__(self, "mass", mass)
        object.__setattr__(self, "event_id", _ids(self.event_id, rows))
        if self.weight is not None:
            object.__setattr__(self, "weight", _vector(self.weight, "weight", rows))
        _check_names(names)
        self._check_finite()
        _check_mass_unit(mass)

    def _check_finite(self) -> None:
        columns = {name: self.features[:, index] for index, name in enumerate(self.names)} | {"mass": self.mass}
        if self.weight is not None:
            columns["weight"] = self.weight
        bad = []
        for name, values in columns.items():
            nan = int(np.isnan(values).sum())
            infinite = int(np.isinf(values).sum())
            if nan or infinite:
                counts = [f"{count} {kind}" for count, kind in ((nan, "NaN"), (infinite, "infinite")) if count]
                bad.append(f"{name!r} ({' and '.join(counts)})")
        if bad:
            raise UserError(
                f"non-finite values among {len(self)} events in {', '.join(bad)}: "
                "remove these events or mend the columns before searching"
            )

    def __len__(self) -> int:
        return len(self.mass)

    def column(self, name: str) -> NDArray[np.float64]:
        """The values ``(N,)`` of one feature, or of ``mass`` or ``weight``.

        Raises:
            UserError: There is no such column.
        """
        if name == "mass":
            return self.mass
        if name == "weight" and self.weight is not None:
            return self.weight
        if name in self.names:
            return self.features[:, self.names.index(name)]
        raise UserError(f"no column {name!r} in these events; they have {', '.join([*self.names, 'mass'])}")

    def select(self, rows: ArrayLike | slice) -> Events:
        """The events at these rows: an index array, a boolean mask ``(N,)`` or a slice.

        Raises:
            UserError: A mask of another length, an index out of range or a repeated one.
        """
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            if rows.dtype == bool and rows.shape != (len(self),):
                raise UserError(f"a mask of shape {rows.shape} cannot select among {len(self)} events")
            if rows.dtype != bool:
                rows = rows.astype(np.int64, casting="same_kind") if rows.size else rows.astype(np.int64)
                if rows.size and (rows.max() >= len(self) or rows.min() < -len(self)):
                    raise UserError(f"row {int(rows.max())} is out of range: there are {len(self)} events")
        return Events(
            features=self.features[rows],
            names=self.names,
            mass=self.mass[rows],
            event_id=self.event_id[rows],
            weight=None if self.weight is None else self.weight[rows],
        )

    def with_features(self, names: Sequence[str]) -> Events:
        """The same events with only these features, in this order."""
        features = np.stack([self.column(name) for name in names], axis=1) if names else self.features[:, :0]
        return Events(features, tuple(names), self.mass, self.event_id, self.weight)

    @staticmethod
    def concatenate(parts: Iterable[Events]) -> Events:
        """All events of the parts, in order.

        Raises:
            UserError: No parts, different features, weights in only some parts, or ids that occur in two parts.
        """
        parts = list(parts)
        if not parts:
            raise UserError("nothing to concatenate: no events were given")
        for part in parts[1:]:
            if part.names != parts[0].names:
                raise UserError(
                    f"cannot concatenate events with features {parts[0].names} and {part.names}: "
                    "read both with the same features"
                )
            if (part.weight is None) != (parts[0].weight is None):
                raise UserError("cannot concatenate weighted with unweighted events: give every part weights or none")
        weights = [part.weight for part in parts if part.weight is not None]
        return Events(
            features=np.concatenate([part.features for part in parts]),
            names=parts[0].names,
            mass=np.concatenate([part.mass for part in parts]),
            event_id=np.concatenate([part.event_id for part in parts]),
            weight=np.concatenate(weights) if weights else None,
        )

    def to_frame(self) -> pd.DataFrame:
        """A pandas frame with columns ``event_id``, ``mass``, the features and, if there are weights, ``weight``."""
        import pandas as pd

        columns: dict[str, Any] = {"event_id": self.event_id, "mass": self.mass}
        columns.update({name: self.features[:, index] for index, name in enumerate(self.names)})
        if self.weight is not None:
            columns["weight"] = self.weight
        return pd.DataFrame(columns)

    @staticmethod
    def from_frame(
        frame: pd.DataFrame,
        *,
        features: Sequence[str] | None = None,
        mass: str = "mass",
        event_id: str = "event_id",
        weight: str | None = "weight",
    ) -> Events:
        """Events from a pandas frame, masses in TeV.

        Args:
            frame: The table.
            features: Columns to take as features; all remaining ones if not given.
            mass: Column of the resonant mass, TeV.
            event_id: Column of ids; row numbers when the frame has no such column.
            weight: Column of weights; no weights when the frame has no such column.

        Raises:
            UserError: A column is missing or unusable; see :class:`Events`.
        """
        if features is None:
            features = [str(name) for name in frame.columns if name not in (mass, event_id, weight)]
        for name in (mass, *features):
            if name not in frame.columns:
                raise UserError(f"no column {name!r} in the frame; it has {', '.join(map(str, frame.columns))}")
        return Events(
            features=frame[list(features)].to_numpy(dtype=np.float64),
            names=tuple(features),
            mass=frame[mass].to_numpy(dtype=np.float64),
            event_id=frame[event_id].to_numpy() if event_id in frame.columns else np.arange(len(frame)),
            weight=frame[weight].to_numpy(dtype=np.float64) if weight in frame.columns else None,
        )

    def require_varying(self) -> Events:
        """These events, unless a feature is the same everywhere.

        Raises:
            UserError: Names the constant features.
        """
        if len(self) > 1:
            constant = np.flatnonzero(self.features.max(axis=0) == self.features.min(axis=0))
            if len(constant):
                named = ", ".join(f"{self.names[index]!r} (= {self.features[0, index]:g})" for index in constant)
                raise UserError(f"constant feature {named}: it carries no information, remove it from the features")
        return self


def _vector(values: ArrayLike, what: str, rows: int | None) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or (rows is not None and len(array) != rows):
        expected = "one-dimensional" if rows is None else f"({rows},)"
        raise UserError(f"{what} has shape {array.shape}: it must be {expected}")
    return array


def _ids(values: ArrayLike, rows: int) -> NDArray[np.int64]:
    raw = np.asarray(values)
    if raw.shape != (rows,):
        raise UserError(f"event_id has shape {raw.shape}: it must be ({rows},)")
    with np.errstate(invalid="ignore"):
        ids = raw.astype(np.int64)
    if raw.dtype.kind == "f" and not np.array_equal(ids, raw):
        raise UserError("event ids must be whole numbers: choose an integer column for event_id")
    distinct = len(np.unique(ids))
    if distinct != rows:
        raise UserError(
            f"{rows - distinct} of {rows} event ids repeat an earlier one: ids must be unique "
            "(event_id: row numbers the rows instead)"
        )
    return ids


def _check_names(names: tuple[str, ...]) -> None:
    for name in names:
        if is_label_name(name):
            raise UserError(
                f"{name!r} looks like a truth label and cannot be a feature: a search that sees it finds what it was "
                "told; remove it from the features and give it to the evaluation as truth"
            )
        if name in RESERVED_NAMES:
            raise UserError(f"a feature cannot be called {name!r}: that name is taken; rename it")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"feature {repeated[0]!r} is listed more than once: list every feature once")


def _check_mass_unit(mass: NDArray[np.float64]) -> None:
    if len(mass) and (median := float(np.median(mass))) > _LARGEST_MEDIAN_MASS:
        raise UserError(
            f"the median mass is {median:.4g} TeV, which looks like GeV: declare the file's units (units: GeV)"
        )
