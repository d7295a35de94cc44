"""The showers that ship with the package; README.md in this folder says how they were made."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from cathode.support.errors import UserError

__all__ = ["SAMPLES", "resolve_sample", "sample_geometry", "sample_path"]

#: Geometry by name of the shipped samples; the file is NAME.hdf5 in this folder.
SAMPLES = {"ds1-photons": "ds1-photons", "ds2-electrons": "ds2", "images": "image-30x30"}

_PREFIX = "sample:"


def sample_path(name: str) -> Path:
    """Path of a shipped sample.

    Raises:
        UserError: No such sample, or the installation lacks it.
    """
    if name not in SAMPLES:
        raise UserError(f"no sample called {name!r}; there are {', '.join(SAMPLES)}")
    path = Path(str(files(__name__))) / f"{name}.hdf5"
    if not path.is_file():
        raise UserError(f"the sample {name!r} is missing from this installation ({path}): install the package again")
    return path


def sample_geometry(name: str) -> str:
    """Name of the geometry of a shipped sample.

    Raises:
        UserError: No such sample.
    """
    sample_path(name)
    return SAMPLES[name]


def resolve_sample(path: str | Path) -> Path:
    """``sample:NAME`` as the path of that sample; any other path as it is."""
    text = str(path)
    return sample_path(text.removeprefix(_PREFIX)) if text.startswith(_PREFIX) else Path(path)
