"""Reading files of showers, whole or in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from cathode.support.errors import UserError
from fastsim.data.formats import FORMATS, Contents, Format
from fastsim.data.samples import resolve_sample
from fastsim.data.showers import Showers
from fastsim.geometry import Geometry
from fastsim.geometry import geometry as _geometry

__all__ = ["Paths", "ShowerFile", "read_showers", "sniff"]

Paths = str | Path | Sequence[str | Path]
T = TypeVar("T")


class ShowerFile:
    """Showers in one file, or in several that follow each other, read in pieces.

    Nothing is held open or in memory between reads, so it can be sent to other processes.

    Args:
        path: File, ``sample:NAME`` of a shipped sample, or a sequence of them.
        geometry: The geometry, or a name for :func:`fastsim.geometry.geometry`.
        format: One of :data:`fastsim.data.formats.FORMATS`, or ``auto`` to look.
        condition_names: Names of the conditions, when the file does not tell.

    Raises:
        UserError: A file is missing, truncated, of no known format, or does not fit the geometry.
    """

    def __init__(
        self,
        path: Paths,
        geometry: Geometry | str | Path,
        *,
        format: str = "auto",
        condition_names: Sequence[str] | None = None,
    ) -> None:
        paths = [path] if isinstance(path, (str, Path)) else list(path)
        if not paths:
            raise UserError("no file of showers given")
        self.paths = tuple(resolve_sample(one) for one in paths)
        self.geometry = _geometry(geometry)
        self._formats: list[Format] = []
        self._starts = [0]
        names: list[tuple[str, ...]] = []
        for one in self.paths:
            form, contents = _opened(one, lambda stream: _inspect(stream, self.geometry, format))
            self._formats.append(form)
            self._starts.append(self._starts[-1] + contents.length)
            names.append(contents.condition_names)
        if len(set(names)) > 1:
            raise UserError(f"files with different conditions do not go together: {[list(n) for n in names]}")
        self.condition_names = tuple(condition_names) if condition_names is not None else names[0]
        if len(self.condition_names) != len(names[0]):
            raise UserError(
                f"{self.paths[0]} has {len(names[0])} conditions but {len(self.condition_names)} names are given"
            )

    @property
    def format(self) -> str:
        """Name of the (first) file's format."""
        return self._formats[0].name

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, start: int = 0, stop: int | None = None) -> Showers:
        """Rows ``start`` to ``stop`` (not included; default: the end), validated.

        Raises:
            UserError: Rows that are not there, or values that are unusable; see
                :class:`~fastsim.data.showers.Showers`.
        """
        stop = len(self) if stop is None else stop
        if not 0 <= start <= stop <= len(self):
            raise UserError(f"{self._where()}: rows {start} to {stop} are not within its {len(self)} showers")
        parts: list[Showers] = []
        for index, path in enumerate(self.paths):
            first, last = self._starts[index], self._starts[index + 1]
            begin, end = max(start, first), min(stop, last)
            if begin < end or (start == stop and not parts):
                rows = slice(begin - first, max(end, begin) - first) if begin < end else slice(0, 0)
                parts.append(_opened(path, self._reader(self._formats[index], rows)))
        return parts[0] if len(parts) == 1 else Showers.concatenate(parts)

    def chunks(self, rows: int, *, start: int = 0, stop: int | None = None) -> Iterator[Showers]:
        """Consecutive pieces of at most ``rows`` showers."""
        stop = len(self) if stop is None else stop
        for first in range(start, stop, rows):
            yield self.read(first, min(first + rows, stop))

    def incident_energies(self) -> NDArray[np.float32]:
        """All incident energies [MeV], ``(N, 1)``; showers are not read."""
        pairs = zip(self.paths, self._formats, strict=True)
        return np.concatenate([_opened(path, form.incident_energies) for path, form in pairs])

    def _reader(self, form: Format, rows: slice) -> Callable[[h5py.File], Showers]:
        def read(stream: h5py.File) -> Showers:
            raw = form.read(stream, self.geometry, rows)
            return Showers(raw.incident_energy, raw.energies, self.geometry, raw.conditions, self.condition_names)

        return read

    def _where(self) -> str:
        return str(self.paths[0]) + (f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else "")

    def __repr__(self) -> str:
        return f"ShowerFile({self._where()!r}, {len(self)} showers, {self.format}, {self.geometry!r})"


def read_showers(
    path: Paths,
    geometry: Geometry | str | Path,
    *,
    start: int = 0,
    stop: int | None = None,
    format: str = "auto",
    condition_names: Sequence[str] | None = None,
) -> Showers:
    """Read showers ``start`` to ``stop`` of a file, of several, or of a shipped sample.

    Args:
        path: File, ``sample:NAME``, or a sequence of files that follow each other.
        geometry: The geometry, or a name for :func:`fastsim.geometry.geometry`.
        start: First row.
        stop: Row after the last; default: all.
        format: One of :data:`fastsim.data.formats.FORMATS`, or ``auto`` to look.
        condition_names: Names of the conditions, when the file does not tell.

    Raises:
        UserError: See :class:`ShowerFile` and :class:`~fastsim.data.showers.Showers`.
    """
    return ShowerFile(path, geometry, format=format, condition_names=condition_names).read(start, stop)


def sniff(path: str | Path) -> str:
    """Name of a file's format.

    Raises:
        UserError: The file is missing, unreadable, or of no known format.
    """
    return _opened(resolve_sample(path), lambda stream: _format_of(stream).name)


def _inspect(stream: h5py.File, geometry: Geometry, name: str) -> tuple[Format, Contents]:
    if name != "auto" and name not in FORMATS:
        raise UserError(f"unknown format {name!r}; expected auto or one of {', '.join(FORMATS)}")
    form = _format_of(stream) if name == "auto" else FORMATS[name]
    contents = form.describe(stream, geometry)
    return form, contents


def _format_of(stream: h5py.File) -> Format:
    for form in FORMATS.values():
        if form.matches(stream):
            return form
    raise UserError(
        f"no known format of showers has these datasets: {', '.join(sorted(stream)) or 'none'}; "
        f"known are {', '.join(FORMATS)}"
    )


def _opened(path: Path, use: Callable[[h5py.File], T]) -> T:
    try:
        with _stream(path) as stream:
            return use(stream)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: damaged or truncated HDF5 file: {_first_line(error)}") from error


@contextmanager
def _stream(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise UserError("no such file")
    if not h5py.is_hdf5(path):
        raise UserError("this is not an HDF5 file")
    with h5py.File(path, "r") as stream:
        yield stream


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
