"""What a file format of showers must tell, and how HDF5 is read without surprises."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from cathode.support.errors import UserError
from fastsim.data.showers import Showers
from fastsim.geometry import Geometry

__all__ = ["Contents", "Format", "Rows", "dataset", "no_conditions", "rows_of", "same_lengths", "unnamed"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Contents:
    """What is in a file: number of showers and names of the conditions beside the incident energy."""

    length: int
    condition_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rows:
    """Some showers as stored, brought to MeV and to the order of the geometry."""

    incident_energy: Floats
    energies: Floats
    conditions: Floats | None = None


class Format(Protocol):
    """One layout of HDF5 files."""

    @property
    def name(self) -> str: ...

    def matches(self, stream: h5py.File) -> bool:
        """Whether the file looks like this format, from its names and shapes."""
        ...

    def describe(self, stream: h5py.File, geometry: Geometry) -> Contents:
        """Contents, after checking names, lengths and shapes against the geometry (UserError)."""
        ...

    def read(self, stream: h5py.File, geometry: Geometry, rows: slice) -> Rows:
        """The given rows; only these are read."""
        ...

    def incident_energies(self, stream: h5py.File) -> Floats:
        """All incident energies [MeV], ``(N, 1)``."""
        ...

    def create(self, path: Path, showers: Showers, *, compression: int) -> None:
        """Write a new file; ``path`` does not exist (UserError when the format has no room for these showers)."""
        ...


def dataset(stream: h5py.File, name: str) -> Any:
    """A dataset of numbers.

    Raises:
        UserError: It is missing or holds something else.
    """
    found = stream.get(name)
    if not isinstance(found, h5py.Dataset):
        raise UserError(f"no dataset {name!r}; there are {', '.join(sorted(stream)) or 'none'}")
    if found.dtype.kind not in "fiu":
        raise UserError(f"dataset {name!r} holds {found.dtype}, not numbers")
    return found


def rows_of(stream: h5py.File, name: str, rows: slice) -> Floats:
    """Rows of a dataset as float32."""
    return np.asarray(dataset(stream, name)[rows], dtype=np.float32)


def same_lengths(stream: h5py.File, *names: str) -> int:
    """Common length of datasets.

    Raises:
        UserError: They differ.
    """
    lengths = {name: dataset(stream, name).shape[0] if dataset(stream, name).shape else 0 for name in names}
    if len(set(lengths.values())) > 1:
        raise UserError("datasets differ in length: " + ", ".join(f"{name} {n}" for name, n in lengths.items()))
    return next(iter(lengths.values()))


def no_conditions(showers: Showers, name: str) -> None:
    """Refuse conditions that the format has no room for."""
    if showers.condition_names:
        raise UserError(f"the format {name!r} has no room for the conditions {list(showers.condition_names)}")


def unnamed(count: int) -> tuple[str, ...]:
    """What conditions are called when their file does not tell."""
    return tuple(f"condition_{i}" for i in range(count))
