"""What the ``cathode data`` commands do. They return what there is to say; the command line prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cathode.data import download as _download
from cathode.data.catalogue import CATALOGUE
from cathode.data.describe import FileDescription, describe_file
from cathode.data.writers import Conversion
from cathode.data.writers import convert as _convert

__all__ = ["convert", "datasets", "download", "info"]


def info(path: str | Path) -> FileDescription:
    """Describe a file; ``str`` of the result is the text to show.

    Raises:
        UserError: The file cannot be read.
    """
    return describe_file(path)


def convert(
    path: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    mass: str = "mjj",
    features: Sequence[str] | None = None,
    units: str | Mapping[str, str] = "auto",
    weight: str | None = None,
    event_id: str | None = None,
    columns: Mapping[str, str] | None = None,
    layout: str = "events",
    truth: str | Path | None = None,
) -> Conversion:
    """Convert files; see :func:`cathode.data.writers.convert`. ``str`` of the result is the text to show.

    Raises:
        UserError: The input cannot be read or the output cannot be written.
    """
    return _convert(
        path,
        output,
        mass=mass,
        features=features,
        units=units,
        weight=weight,
        event_id=event_id,
        columns=columns,
        layout=layout,
        truth=truth,
    )


def download(name: str, folder: str | Path = ".", *, base_url: str = _download.ZENODO, retries: int = 5) -> list[Path]:
    """Download a data set; see :func:`cathode.data.download.download`.

    Raises:
        UserError: Unknown name, no connection, wrong checksum, no space.
    """
    return _download.download(name, folder, base_url=base_url, retries=retries)


def datasets() -> str:
    """The data sets that can be downloaded, one a line."""
    width = max(map(len, CATALOGUE))
    return "\n".join(f"{name:<{width}}  {dataset.description}" for name, dataset in CATALOGUE.items())
