"""Jets: padded, masked sets of constituents with the axis of each jet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from cathode.data.events import is_label_name
from cathode.jets.schema.checks import (
    canonical_points,
    check_axis,
    check_canonical,
    check_extras,
    check_rows,
    check_types,
    presence,
)
from cathode.jets.schema.kinematics import jet_axis, massless_momenta, momenta_axis, wrap_phi
from cathode.support.errors import UserError

__all__ = ["Jets"]


@dataclass(frozen=True, eq=False)
class Jets:
    """``N`` jets of up to ``P`` constituents.

    The constructor checks and changes nothing but dtypes; :meth:`from_points` sorts, compresses and wraps.

    Args:
        points: ``(N, P, 3)`` float32: pT [GeV], eta, phi in [-pi, pi); by falling pT, padding is zero and comes last.
        mask: ``(N, P)`` boolean, True where there is a constituent.
        axis: ``(N, 4)`` float64: pT [GeV], pseudorapidity, phi, mass [GeV] of the jet; zeros for a jet without
            constituents.
        extras: More columns of the constituents ``(N, P)`` by name, zero in padding: ``pid``, ``charge``, ``d0`` ...
        type: What each jet is ``(N,)``, integer classes of the file, or None.  It is a condition or a truth; it never
            enters :class:`~cathode.jets.schema.ConstituentEvents`.

    Raises:
        UserError: Shapes that do not fit, values that are not finite, constituents without positive pT or out of
            order, padding that is not zero, angles out of range, or a column named like a truth label.
    """

    points: NDArray[np.float32]
    mask: NDArray[np.bool_]
    axis: NDArray[np.float64]
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    type: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        points = np.asarray(self.points, dtype=np.float32)
        mask = presence(points, self.mask)
        check_canonical(points, mask)
        axis = np.asarray(self.axis, dtype=np.float64)
        check_axis(axis, mask)
        extras = check_extras(self.extras, mask)
        for name, values in extras.items():
            if is_label_name(name):
                raise UserError(f"{name!r} looks like a truth label and cannot be a column of constituents: use type")
            if np.any(values[~mask]):
                raise UserError(f"column {name!r} of the constituents is not zero in padding: set it to zero there")
        types = None if self.type is None else check_types(self.type, len(points))
        self.__dict__.update(points=points, mask=mask, axis=axis, extras=extras, type=types)

    @classmethod
    def _unchecked(
        cls,
        points: NDArray[np.float32],
        mask: NDArray[np.bool_],
        axis: NDArray[np.float64],
        extras: Mapping[str, NDArray[Any]],
        type: NDArray[np.int64] | None,
    ) -> Jets:
        self = object.__new__(cls)
        self.__dict__.update(points=points, mask=mask, axis=axis, extras=dict(extras), type=type)
        return self

    @classmethod
    def from_points(
        cls,
        points: ArrayLike,
        mask: ArrayLike | None = None,
        axis: ArrayLike | None = None,
        extras: Mapping[str, NDArray[Any]] | None = None,
        type: ArrayLike | None = None,
    ) -> Jets:
        """Jets from constituents in any order and with padding anywhere.

        Args:
            points: ``(N, P, 3)``: pT [GeV], eta, phi (any turn).  What the mask leaves out is ignored, NaN too.
            mask: ``(N, P)``; constituents of positive pT if not given.
            axis: ``(N, 4)`` pT, eta, phi, mass of the jets; the E-scheme sum of the constituents if not given.
            extras: Columns ``(N, P)``, sorted along.
            type: ``(N,)`` integers.

        Raises:
            UserError: See the class.
        """
        raw = np.asarray(points)
        present = presence(raw, mask)
        columns = check_extras(extras or {}, present)
        ordered, present, order = canonical_points(raw, present)
        columns = {
            name: np.where(present, np.take_along_axis(values, order, axis=1), np.zeros((), values.dtype))
            for name, values in columns.items()
        }
        if axis is None:
            axes = jet_axis(ordered)
        else:
            axes = np.array(axis, dtype=np.float64)
            if axes.ndim == 2 and axes.shape[1] == 4:
                axes[:, 2] = wrap_phi(axes[:, 2])
        return cls(ordered, present, axes, columns, None if type is None else np.asarray(type))

    @classmethod
    def from_relative(
        cls,
        relative: ArrayLike,
        mask: ArrayLike,
        axis: ArrayLike,
        extras: Mapping[str, NDArray[Any]] | None = None,
        type: ArrayLike | None = None,
    ) -> Jets:
        """The inverse of :meth:`relative`: back to the same float32 numbers, up to 1e-15 around eta and phi of 0.

        Args:
            relative: ``(N, P, 3)``: pT / pT of the jet, eta - eta of the jet, phi - phi of the jet; in any order.
            mask: ``(N, P)``.
            axis: ``(N, 4)`` pT, eta, phi, mass of the jets.
            extras: Columns ``(N, P)``, sorted along.
            type: ``(N,)`` integers.

        Raises:
            UserError: See the class.
        """
        values = np.asarray(relative, dtype=np.float64)
        axes = np.asarray(axis, dtype=np.float64)
        present = presence(values, mask)
        if axes.shape != (len(values), 4):
            raise UserError(f"axis has shape {axes.shape}: it must be ({len(values)}, 4: pT, eta, phi, mass)")
        points = np.empty_like(values)
        points[..., 0] = values[..., 0] * axes[:, None, 0]
        points[..., 1:] = values[..., 1:] + axes[:, None, 1:3]
        return cls.from_points(points, present, axes, extras, type)

    @classmethod
    def from_four_momenta(
        cls,
        momenta: ArrayLike,
        mask: ArrayLike | None = None,
        axis: ArrayLike | None = None,
        extras: Mapping[str, NDArray[Any]] | None = None,
        type: ArrayLike | None = None,
    ) -> Jets:
        """Jets from momenta ``(N, P, 4)``: px, py, pz, E [GeV].

        Constituents are kept as pT, pseudorapidity and phi, so masses are lost; the axis, if not given, is that of
        the sum of the given momenta with their masses.

        Raises:
            UserError: See the class.
        """
        four = np.asarray(momenta, dtype=np.float64)
        if four.ndim != 3 or four.shape[2] != 4:
            raise UserError(f"momenta must have the shape (jets, constituents, 4: px, py, pz, E), got {four.shape}")
        points = np.concatenate([momenta_axis(four)[..., :3], four[..., 3:]], axis=-1)[..., :3]
        present = presence(points, mask)
        if axis is None:
            kept = np.where(present[..., None], four, 0.0)
            if not np.isfinite(kept).all():
                raise UserError("momenta of constituents are NaN or infinite: remove these jets")
            axis = momenta_axis(kept.sum(axis=1))
        return cls.from_points(points, present, axis, extras, type)

    def __len__(self) -> int:
        return len(self.points)

    @property
    def particles(self) -> int:
        """Slots ``P`` of a jet."""
        return self.points.shape[1]

    def multiplicity(self) -> NDArray[np.int64]:
        """Number of constituents ``(N,)``."""
        return self.mask.sum(axis=1)

    def relative(self, dtype: DTypeLike = np.float64) -> NDArray[np.floating]:
        """``(N, P, 3)``: pT / pT of the jet, eta - eta of the jet, phi - phi of the jet in [-pi, pi); padding is zero.

        In float64 :meth:`from_relative` gives the same constituents back.
        """
        values = self.points.astype(np.float64)
        pt = self.axis[:, None, 0]
        values[..., 0] = np.divide(values[..., 0], pt, out=np.zeros_like(values[..., 0]), where=pt > 0)
        values[..., 1] -= self.axis[:, None, 1]
        values[..., 2] = wrap_phi(values[..., 2] - self.axis[:, None, 2])
        values[~self.mask] = 0.0
        return values.astype(dtype, copy=False)

    def four_momenta(self) -> NDArray[np.float64]:
        """``(N, P, 4)`` px, py, pz, E [GeV] of massless constituents; padding is zero."""
        return massless_momenta(self.points)

    def total(self) -> NDArray[np.float64]:
        """``(N, 4)`` pT [GeV], pseudorapidity, phi, mass [GeV] of the sum of the constituents."""
        return jet_axis(self.points)

    def select(self, rows: ArrayLike | slice) -> Jets:
        """The jets at these rows: an index array, a boolean mask ``(N,)`` or a slice.

        Raises:
            UserError: A mask of another length or an index out of range.
        """
        rows = check_rows(rows, len(self), "jets")
        return Jets._unchecked(
            self.points[rows],
            self.mask[rows],
            self.axis[rows],
            {name: values[rows] for name, values in self.extras.items()},
            None if self.type is None else self.type[rows],
        )

    def leading(self, n: int) -> Jets:
        """The same jets with their ``n`` constituents of largest pT; the axis stays (see :meth:`with_own_axis`).

        Fewer slots than ``n`` stay as they are.

        Raises:
            UserError: ``n`` is not positive.
        """
        if n < 1:
            raise UserError(f"the number of leading constituents must be at least 1, got {n}")
        extras = {name: values[:, :n] for name, values in self.extras.items()}
        return Jets._unchecked(self.points[:, :n], self.mask[:, :n], self.axis, extras, self.type)

    def padded(self, particles: int) -> Jets:
        """The same jets with at least ``particles`` slots."""
        more = particles - self.particles
        if more <= 0:
            return self
        extras = {name: np.pad(values, ((0, 0), (0, more))) for name, values in self.extras.items()}
        points = np.pad(self.points, ((0, 0), (0, more), (0, 0)))
        return Jets._unchecked(points, np.pad(self.mask, ((0, 0), (0, more))), self.axis, extras, self.type)

    def with_own_axis(self) -> Jets:
        """The same constituents with the axis of their own sum, in place of the one the file gave."""
        return Jets._unchecked(self.points, self.mask, self.total(), self.extras, self.type)

    @staticmethod
    def concatenate(parts: Iterable[Jets]) -> Jets:
        """All jets of the parts, in order, padded to the largest number of slots.

        Raises:
            UserError: No parts, different columns, or types in only some parts.
        """
        parts = list(parts)
        if not parts:
            raise UserError("nothing to concatenate: no jets were given")
        first = parts[0]
        for part in parts[1:]:
            if set(part.extras) != set(first.extras):
                raise UserError(
                    f"cannot concatenate jets with columns {sorted(first.extras)} and {sorted(part.extras)}:"
                    " read both with the same columns"
                )
            if (part.type is None) != (first.type is None):
                raise UserError("cannot concatenate jets with and without types: give every part types or none")
        slots = max(part.particles for part in parts)
        parts = [part.padded(slots) for part in parts]
        types = [part.type for part in parts if part.type is not None]
        return Jets._unchecked(
            np.concatenate([part.points for part in parts]),
            np.concatenate([part.mask for part in parts]),
            np.concatenate([part.axis for part in parts]),
            {name: np.concatenate([part.extras[name] for part in parts]) for name in first.extras},
            np.concatenate(types) if types else None,
        )
