"""How jets are laid out in a file: which column is what.

Known data sets are values of these classes; other files are described by making one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from cathode.support.errors import UserError

__all__ = ["CARTESIAN", "JaggedLayout", "PaddedLayout", "Units"]

Units = Literal["GeV", "MeV", "TeV"]

CYLINDRICAL = ("pt", "eta", "phi")
CARTESIAN = ("px", "py", "pz", "energy")
RELATIVE = ("ptrel", "etarel", "phirel")
AXIS = ("pt", "eta", "phi")


@dataclass(frozen=True)
class PaddedLayout:
    """Arrays of fixed size in HDF5.

    Args:
        points: Dataset ``(N, P, F)``, or ``(N, J, P, F)`` in files of events.
        columns: Names of its last axis.  Constituents are ``pt, eta, phi``, or ``px, py, pz, energy``, or relative to
            the axis ``ptrel, etarel, phirel`` (pT / pT of the jet, differences); ``mask`` is 1 where there is a
            constituent; ``""`` is left out; any other name becomes a column of :attr:`Jets.extras`.
        mask: Dataset ``(N, P)``, if the mask is one of its own.
        axis: Dataset ``(N, A)`` of the jets; the sum of the constituents if not given.
        axis_columns: Names of its last axis: ``pt, eta, phi, mass`` or ``energy``; ``""`` is left out.  Without
            ``phi``, relative constituents are put around 0.
        type: Dataset ``(N,)`` of whole numbers, or ``(N, classes)`` one-hot.
        units: Unit of pT, momenta, masses and energies.

    Raises:
        UserError: The columns do not say what the constituents are.
    """

    points: str
    columns: tuple[str, ...] = CYLINDRICAL
    mask: str | None = None
    axis: str | None = None
    axis_columns: tuple[str, ...] = ("pt", "eta", "phi", "mass")
    type: str | None = None
    units: Units = "GeV"

    def __post_init__(self) -> None:
        _coordinates(self.columns, "columns", (CYLINDRICAL, CARTESIAN, RELATIVE))
        named = [name for name in self.columns if name]
        if len(set(named)) < len(named):
            raise UserError(f"a column is named twice in {', '.join(named)}: name every column once")
        if self.axis is None and set(RELATIVE) <= set(self.columns):
            raise UserError("relative constituents need the axis of their jet: give the dataset of the jets as axis")
        if self.axis is not None:
            _coordinates(self.axis_columns, "axis_columns", (("pt", "eta", "mass"), ("pt", "eta", "energy")))
        if self.units not in ("GeV", "MeV", "TeV"):
            raise UserError(f"unknown unit {self.units!r}: choose GeV, MeV or TeV")


@dataclass(frozen=True)
class JaggedLayout:
    """Columns of variable length: ROOT branches, Parquet lists, fields of an awkward array.

    Args:
        columns: Column of the file for each coordinate: ``pt, eta, phi``, or ``px, py, pz, energy``.
            ``list.field`` is a field of a list of records.
        axis: Column for each of ``pt, eta, phi`` and ``mass`` or ``energy`` of the jets; the sum of the constituents if
            empty.
        extras: Column of the file for each column of :attr:`Jets.extras`.
        integers: Names among the extras that are whole numbers (kept as int8).
        flags: Columns of which at most one is true for each constituent: they become ``pid``, the number of the column
            counted from 1, 0 for none.
        type: Column of whole numbers, or several columns that are one-hot.
        tree: Name of the tree in a ROOT file; its only one if not given.
        units: Unit of pT, momenta, masses and energies.

    Raises:
        UserError: The columns do not say what the constituents are.
    """

    columns: Mapping[str, str]
    axis: Mapping[str, str] = field(default_factory=dict)
    extras: Mapping[str, str] = field(default_factory=dict)
    integers: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    type: str | tuple[str, ...] | None = None
    tree: str | None = None
    units: Units = "GeV"

    def __post_init__(self) -> None:
        _coordinates(self.columns, "columns", (CYLINDRICAL, CARTESIAN))
        if self.axis:
            _coordinates(self.axis, "axis", ((*AXIS, "mass"), (*AXIS, "energy")))
        if self.units not in ("GeV", "MeV", "TeV"):
            raise UserError(f"unknown unit {self.units!r}: choose GeV, MeV or TeV")

    @property
    def constituent_columns(self) -> tuple[str, ...]:
        """The columns of the file that have one value per constituent."""
        return tuple(dict.fromkeys([*self.columns.values(), *self.extras.values(), *self.flags]))

    @property
    def jet_columns(self) -> tuple[str, ...]:
        """The columns of the file that have one value per jet."""
        types = () if self.type is None else (self.type,) if isinstance(self.type, str) else self.type
        return tuple(dict.fromkeys([*self.axis.values(), *types]))


def _coordinates(names: Mapping[str, str] | tuple[str, ...], what: str, choices: tuple[tuple[str, ...], ...]) -> None:
    if not any(set(choice) <= set(names) for choice in choices):
        wanted = " or ".join(", ".join(choice) for choice in choices)
        raise UserError(f"{what} are {', '.join(names) or 'empty'}: they must have {wanted}")
