"""Fetching public data sets from Zenodo: resumable, checked, whole or not at all.

A file grows as ``NAME.part`` beside its place and moves there only when its checksum agrees; a stopped download goes
on where it ended.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cathode.data.catalogue import Dataset, find_dataset
from cathode.data.expressions import near_matches
from cathode.support.errors import UserError
from cathode.support.progress import progress

__all__ = ["ZENODO", "RemoteFile", "download", "list_record"]

logger = logging.getLogger(__name__)

ZENODO = "https://zenodo.org"

_BLOCK = 1 << 20
_RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_HASHES = ("md5", "sha1", "sha256", "sha512")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a record, as the record describes it.

    Attributes:
        name: File name.
        size: Bytes.
        algorithm: Hash of the checksum, e.g. ``md5``.
        digest: Hexadecimal checksum.
        url: Where its content is.
    """

    name: str
    size: int
    algorithm: str
    digest: str
    url: str


class _Retry(Exception):
    """Something that may work the next time."""


def download(
    name: str,
    folder: str | Path = ".",
    *,
    base_url: str = ZENODO,
    retries: int = 5,
    timeout: float = 30.0,
    wait: float = 1.0,
) -> list[Path]:
    """Fetch a data set and return the paths of its files.

    Files that are already there with the right checksum are kept. Interrupted downloads resume.

    Args:
        name: Name in the catalogue, ``zenodo:RECORD`` or ``zenodo:RECORD/FILE``.
        folder: Where to put the files.
        base_url: A mirror that answers like Zenodo.
        retries: Further attempts after a failure that may pass.
        timeout: Seconds without an answer that count as a failure.
        wait: Seconds before the first further attempt, doubled each time (at most a minute).

    Raises:
        UserError: Unknown name, no connection, a file the record does not have, no space, an existing file that
            differs, or a checksum that stays wrong.
    """
    dataset = find_dataset(name)
    if urllib.parse.urlsplit(base_url).scheme not in ("http", "https"):
        raise UserError(f"the base URL {base_url!r} must start with http:// or https://")
    settings = _Settings(base_url.rstrip("/"), retries, timeout, wait)
    files = _choose(
        dataset, list_record(dataset.record, base_url=base_url, retries=retries, timeout=timeout, wait=wait)
    )
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from error
    return [_fetch(file, folder, settings) for file in files]


def list_record(
    record: int, *, base_url: str = ZENODO, retries: int = 5, timeout: float = 30.0, wait: float = 1.0
) -> tuple[RemoteFile, ...]:
    """The files of a Zenodo record, with size and checksum, from its record API.

    Raises:
        UserError: No connection, no such record, or an answer that is not a record.
    """
    settings = _Settings(base_url.rstrip("/"), retries, timeout, wait)
    url = f"{settings.base_url}/api/records/{record}"

    def ask() -> bytes:
        with _open(urllib.request.Request(url), settings) as answer:
            return bytes(answer.read())

    text = _with_retries(ask, url, settings)
    try:
        entries = json.loads(text)["files"]
        return tuple(_remote_file(entry, settings) for entry in entries)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{url}: the answer is not a Zenodo record ({error!r}): check the base URL") from error


@dataclass(frozen=True)
class _Settings:
    base_url: str
    retries: int
    timeout: float
    wait: float


def _remote_file(entry: Any, settings: _Settings) -> RemoteFile:
    name = str(entry["key"])
    if not name or Path(name).name != name or name.startswith("."):
        raise ValueError(f"unusable file name {name!r}")
    algorithm, _, digest = str(entry["checksum"]).rpartition(":")
    algorithm = algorithm or "md5"
    if algorithm not in _HASHES:
        raise ValueError(f"unknown checksum {algorithm!r}")
    url = str(entry["links"]["self"])
    # A mirror of the record API may still point at Zenodo itself.
    if url.startswith(ZENODO + "/"):
        url = settings.base_url + url.removeprefix(ZENODO)
    return RemoteFile(name, int(entry["size"]), algorithm, digest.lower(), url)


def _choose(dataset: Dataset, files: tuple[RemoteFile, ...]) -> list[RemoteFile]:
    if not dataset.files:
        return list(files)
    known = {file.name: file for file in files}
    for wanted in dataset.files:
        if wanted not in known:
            raise UserError(f"Zenodo record {dataset.record} has no file {wanted!r}{near_matches(wanted, known)}")
    return [known[wanted] for wanted in dataset.files]


def _open(request: urllib.request.Request, settings: _Settings) -> Any:
    """Open a URL; raises :class:`_Retry` for what may pass and :class:`UserError` for what will not."""
    request.add_header("User-Agent", "cathode-hep")
    try:
        return urllib.request.urlopen(request, timeout=settings.timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _RETRIED_STATUS:
            raise _Retry(f"the server answered {error.code} {error.reason}") from error
        if error.code == 416:
            raise
        raise UserError(f"{request.full_url}: the server answered {error.code} {error.reason}") from error
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise _Retry(f"no connection ({reason})") from error


def _with_retries(action: Any, what: str, settings: _Settings) -> Any:
    for attempt in range(settings.retries + 1):
        try:
            return action()
        except _Retry as error:
            if attempt == settings.retries:
                raise UserError(
                    f"{what}: {error}, after {attempt + 1} attempts: check the network and run the same command again "
                    "to go on where it stopped"
                ) from error
            pause = min(60.0, settings.wait * 2**attempt)
            logger.warning("%s: %s; trying again in %.3g s", what, error, pause)
            time.sleep(pause)
    raise AssertionError("unreachable")


def _fetch(file: RemoteFile, folder: Path, settings: _Settings) -> Path:
    target = folder / file.name
    part = folder / f"{file.name}.part"
    if target.exists():
        if target.is_file() and target.stat().st_size == file.size and _digest(target, file.algorithm) == file.digest:
            logger.info("%s is already there", target)
            return target
        raise UserError(f"{target} exists and is not the published file: move it away or choose another folder")
    held = part.stat().st_size if part.exists() else 0
    free = shutil.disk_usage(folder).free
    if file.size - held > free:
        raise UserError(
            f"{folder}: {file.name} needs {(file.size - held) / 1e9:.2f} GB, only {free / 1e9:.2f} GB are free"
        )
    # A part that was begun from another version of the file shows only in the checksum: then start once from nothing.
    for resumed in (True, False):
        began_with = part.stat().st_size if part.exists() else 0
        _with_retries(lambda: _transfer(file, part, settings), file.url, settings)
        if _digest(part, file.algorithm) == file.digest:
            os.replace(part, target)
            return target
        part.unlink()
        if not (resumed and began_with):
            break
        logger.warning("%s: the earlier part does not fit, starting again", file.name)
    raise UserError(f"{file.url}: the {file.algorithm} checksum is wrong, nothing was kept: try again later")


def _transfer(file: RemoteFile, part: Path, settings: _Settings) -> None:
    """Append what is missing to ``part`` until it has the published size."""
    held = part.stat().st_size if part.exists() else 0
    if held > file.size:
        part.unlink()
        held = 0
    if held == file.size and part.exists():
        return
    request = urllib.request.Request(file.url)
    if held:
        request.add_header("Range", f"bytes={held}-")
    try:
        answer = _open(request, settings)
    except urllib.error.HTTPError as error:
        part.unlink(missing_ok=True)
        raise _Retry("the server refused to resume") from error
    with answer:
        resumed = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {held}-")
        if answer.status == 206 and not resumed and held:
            part.unlink()
            raise _Retry("the server resumed at the wrong place")
        mode = "ab" if resumed else "wb"
        bar = progress(description=file.name, total=file.size, unit="B", unit_scale=True)
        try:
            with part.open(mode) as stream, bar:
                bar.update(held if resumed else 0)
                while block := _read(answer):
                    stream.write(block)
                    bar.update(len(block))
        except OSError as error:
            raise UserError(f"cannot write {part}: {error.strerror or error}") from error
    size = part.stat().st_size
    if size > file.size:
        part.unlink()
        raise _Retry(f"more than the published {file.size} bytes arrived")
    if size < file.size:
        raise _Retry(f"the connection ended after {size} of {file.size} bytes")


def _read(answer: Any) -> bytes:
    try:
        return bytes(answer.read(_BLOCK))
    except http.client.IncompleteRead as error:
        # What did arrive is worth keeping; the next read ends the transfer.
        return bytes(error.partial)
    except (OSError, http.client.HTTPException) as error:
        raise _Retry(f"the connection broke ({error})") from error


def _digest(path: Path, algorithm: str) -> str:
    # A checksum against damage, not a signature.
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
