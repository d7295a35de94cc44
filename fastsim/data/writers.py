"""Showers to files: at once, or piece by piece, to be continued after a kill.  Files appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py

from cathode.support.errors import UserError
from cathode.support.files import TEMPORARY, atomic_write, write_json
from fastsim.data.formats import FORMATS
from fastsim.data.formats.calochallenge import allocate, append
from fastsim.data.showers import Showers
from fastsim.geometry import Geometry

__all__ = ["ShowerWriter", "check_output", "write_showers"]

# A piece on disk is about this large: often enough not to lose much, rarely enough not to make thousands of files.
_PIECE_BYTES = 32 << 20
_DESCRIPTION = "description.json"
# Attribute of a finished file: hash of what made it.
_IDENTITY = "identity"


def write_showers(path: str | Path, showers: Showers, *, format: str = "calochallenge", compression: int = 4) -> None:
    """Write showers in one of the formats of :data:`fastsim.data.formats.FORMATS`.

    Args:
        path: File to write; replaced when it exists.
        showers: The showers.
        format: Name of the format.
        compression: Level of gzip, 0 to 9.

    Raises:
        UserError: Unknown format, a geometry or conditions that the format has no room for, or an unwritable file.
    """
    if format not in FORMATS:
        raise UserError(f"unknown format {format!r}; expected one of {', '.join(FORMATS)}")
    with _writing(Path(path)) as temporary:
        FORMATS[format].create(temporary, showers, compression=compression)


def check_output(
    path: Path, *, overwrite: bool, resume: bool = False, identity: Mapping[str, Any] | None = None
) -> bool:
    """Refuse to replace a file unasked, before anything is computed.

    Args:
        path: File that is going to be written.
        overwrite: Replace whatever is there.
        resume: A finished file of the same ``identity`` is welcome.
        identity: As of :class:`ShowerWriter`.

    Returns:
        Whether the file is finished already.

    Raises:
        UserError: The file is there and may not be replaced, or is a folder.
    """
    if path.is_dir():
        raise UserError(f"output {path} is a folder; give the name of a file")
    if not path.exists() or overwrite:
        return False
    if not resume:
        raise UserError(f"output {path} exists: add --overwrite or choose another --output")
    made_of = None
    if h5py.is_hdf5(path):
        with h5py.File(path, "r") as stream:
            made_of = stream.attrs.get(_IDENTITY)
    if made_of != _hash(identity):
        raise UserError(f"output {path} holds something else: add --overwrite or choose another --output")
    return True


class ShowerWriter:
    """A CaloChallenge file that grows.

    Pieces are written into a hidden folder beside ``path``, each atomically; :meth:`close` joins them into ``path``,
    which appears only then.  A process that is killed loses at most the rows since the last piece; the same call with
    ``resume=True`` continues after the rows that are safe (``len(writer)`` says how many).

    Args:
        path: File to write.
        geometry: Geometry of the showers.
        condition_names: Names of their conditions.
        resume: Continue what an earlier process left; else that is deleted.
        identity: What makes these showers (model, seed, settings: plain data).  Work is continued only with the same.
        piece_rows: Rows of a piece; default about 32 MB.
        compression: Level of gzip of the final file.

    Used as a context manager it closes at the end; after an exception it keeps the pieces for ``resume``, if there
    are any.

    Raises:
        UserError: The folder cannot be written to, or ``resume`` finds work of another identity.
    """

    def __init__(
        self,
        path: str | Path,
        geometry: Geometry,
        *,
        condition_names: tuple[str, ...] = (),
        resume: bool = False,
        identity: Mapping[str, Any] | None = None,
        piece_rows: int | None = None,
        compression: int = 4,
    ) -> None:
        self.path = Path(path)
        self.geometry = geometry
        self.condition_names = tuple(condition_names)
        #: Attributes of the finished file: numbers and text, may be changed until it is closed.
        self.attributes: dict[str, Any] = {}
        #: Sums of what came with the showers, over all of them, also those of an earlier process.
        self.counts: dict[str, float] = {}
        self._compression = compression
        self._piece_rows = piece_rows or max(1, _PIECE_BYTES // (4 * geometry.n_voxels))
        self._folder = self.path.with_name(f"{TEMPORARY}{self.path.name}.pieces")
        self._identity = _hash(identity)
        description = {
            "geometry": geometry.digest,
            "condition_names": list(self.condition_names),
            "identity": json.loads(json.dumps(dict(identity or {}), allow_nan=False)),
        }
        if not resume:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._pieces = self._continue(description)
        for path, _ in self._pieces:
            self._count(_read_counts(path))
        self._pending: dict[str, float] = {}
        self._buffer: list[Showers] = []
        self._buffered = 0
        self._stored = sum(rows for _, rows in self._pieces)
        self._closed = False

    def __len__(self) -> int:
        """Showers so far, in pieces on disk and in memory."""
        return self._stored + self._buffered

    def append(self, showers: Showers, counts: Mapping[str, float] | None = None) -> None:
        """Add showers.

        Args:
            showers: Of the writer's geometry and conditions.
            counts: Numbers about these showers, to be added up in :attr:`counts`.

        Raises:
            UserError: Another geometry or other conditions, a closed writer, or the disk is full.
        """
        if self._closed:
            raise UserError(f"{self.path}: the writer is closed")
        if showers.geometry != self.geometry or showers.condition_names != self.condition_names:
            raise UserError(
                f"{self.path}: showers of {showers.geometry!r} with conditions {list(showers.condition_names)} do not "
                f"go into a file of {self.geometry!r} with {list(self.condition_names)}"
            )
        if not len(showers):
            return
        for name, value in (counts or {}).items():
            self._pending[name] = self._pending.get(name, 0.0) + value
        self._count(counts or {})
        self._buffer.append(showers)
        self._buffered += len(showers)
        if self._buffered >= self._piece_rows:
            self.flush()

    def flush(self) -> None:
        """Bring what is in memory to disk, as one piece."""
        if not self._buffered:
            return
        piece = Showers.concatenate(self._buffer)
        path = self._folder / f"{len(self._pieces):06d}-{len(piece)}.hdf5"
        with _writing(path) as temporary:
            _write_piece(temporary, piece, self._pending)
        self._pieces.append((path, len(piece)))
        self._stored += len(piece)
        self._buffer, self._buffered, self._pending = [], 0, {}

    def _count(self, counts: Mapping[str, float]) -> None:
        for name, value in counts.items():
            self.counts[name] = self.counts.get(name, 0.0) + value

    def close(self) -> None:
        """Write the file and remove the pieces."""
        if self._closed:
            return
        self.flush()
        with _writing(self.path) as temporary, h5py.File(temporary, "w") as stream:
            allocate(stream, self.geometry, self.condition_names, compression=self._compression)
            for path, _ in self._pieces:
                append(stream, _read_piece(path, self.geometry, self.condition_names))
            stream.attrs.update(self.attributes)
            stream.attrs[_IDENTITY] = self._identity
        self._closed = True
        shutil.rmtree(self._folder, ignore_errors=True)

    def discard(self) -> None:
        """Remove the pieces without writing the file."""
        self._closed = True
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> ShowerWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif not self._closed:
            self.flush()
            if not self._stored:
                self.discard()

    def _continue(self, description: dict[str, Any]) -> list[tuple[Path, int]]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from error
        note = self._folder / _DESCRIPTION
        if not note.is_file():
            write_json(note, description)
            return []
        if json.loads(note.read_text(encoding="utf-8")) != description:
            raise UserError(
                f"{self._folder} holds unfinished work of other settings; delete it, or start without resuming"
            )
        pieces: list[tuple[Path, int]] = []
        for path in sorted(self._folder.glob("[0-9]*-*.hdf5")):
            number, rows = path.stem.split("-")
            if int(number) != len(pieces):
                break
            pieces.append((path, int(rows)))
        return pieces


def _hash(identity: Mapping[str, Any] | None) -> str:
    text = json.dumps(dict(identity or {}), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """A path at which a new file can be made, which becomes ``path`` when it is whole."""
    try:
        with atomic_write(path) as temporary:
            temporary.unlink()
            yield temporary
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def _write_piece(path: Path, showers: Showers, counts: Mapping[str, float]) -> None:
    with h5py.File(path, "w") as stream:
        stream.attrs["counts"] = json.dumps(dict(counts))
        stream.create_dataset("incident_energies", data=showers.incident_energy)
        stream.create_dataset("showers", data=showers.energies, compression="lzf", shuffle=True)
        if showers.conditions is not None:
            stream.create_dataset("conditions", data=showers.conditions)


def _read_counts(path: Path) -> dict[str, float]:
    with h5py.File(path, "r") as stream:
        return dict(json.loads(stream.attrs["counts"]))


def _read_piece(path: Path, geometry: Geometry, names: tuple[str, ...]) -> Showers:
    with h5py.File(path, "r") as stream:
        conditions = stream["conditions"][:] if names else None
        return Showers.unchecked(stream["incident_energies"][:], stream["showers"][:], geometry, conditions, names)
