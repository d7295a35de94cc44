"""Which format a file has, by its first bytes. The suffix is never trusted."""

from __future__ import annotations

from pathlib import Path

from cathode.data.readers.columnar import open_npz, open_parquet
from cathode.data.readers.hdf5 import open_hdf5_table
from cathode.data.readers.root import open_root
from cathode.data.readers.table import Table, split_location
from cathode.data.readers.text import open_text
from cathode.data.samples import resolve_sample
from cathode.support.errors import UserError

__all__ = ["open_table", "sniff"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
# An HDF5 file may have a user block in front of it, of 512 bytes times a power of two.
_HDF5_OFFSETS = (0, 512, 1024, 2048)
_READERS = "LHC Olympics HDF5, HDF5 with named columns, CSV, Parquet, npz and ROOT files can be read"


def sniff(path: str | Path) -> str:
    """``hdf5``, ``parquet``, ``npz``, ``root`` or ``text``.

    Raises:
        UserError: No such file, empty, or none of these.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(max(_HDF5_OFFSETS) + len(_HDF5))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, not a file of events") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not head:
        raise UserError(f"{path}: the file is empty")
    if any(head[offset : offset + len(_HDF5)] == _HDF5 for offset in _HDF5_OFFSETS):
        return "hdf5"
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"PK\x03\x04"):
        return "npz"
    if head.startswith(b"root"):
        return "root"
    if head.startswith(b"\x93NUMPY"):
        raise UserError(f"{path}: a single npy array has no column names: save named arrays with numpy.savez")
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        raise UserError(f"{path}: a compressed file: unpack it first")
    if head.startswith(b"\x80") and head[1:2] in b"\x02\x03\x04\x05":
        raise UserError(f"{path}: a pickle can run any code and is never opened: convert it to HDF5 or Parquet")
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise UserError(f"{path}: a web page, not data: the download went wrong, fetch the file itself")
    if b"\0" in head:
        raise UserError(f"{path}: not a format known here: {_READERS}")
    return "text"


def open_table(path: str | Path) -> Table:
    """Open a file of any known format as a table of columns.

    Args:
        path: A file; ``file.root:tree`` or ``file.h5:group`` chooses inside it; ``sample:NAME`` is a shipped sample.

    Raises:
        UserError: One line that says what is wrong with the file.
    """
    file, inside = split_location(resolve_sample(path))
    kind = sniff(file)
    if kind == "hdf5":
        return open_hdf5_table(file, inside)
    if kind == "root":
        return open_root(file, inside)
    if inside is not None:
        raise UserError(f"{file}: only HDF5 and ROOT files have something to choose inside, not {inside!r}")
    if kind == "parquet":
        return open_parquet(file)
    if kind == "npz":
        return open_npz(file)
    return open_text(file)
