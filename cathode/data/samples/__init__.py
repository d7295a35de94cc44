"""The samples that ship with the package; README.md in this folder says how they were made."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from cathode.support.errors import UserError

__all__ = ["SAMPLES", "resolve_sample", "sample_path"]

#: Shipped samples: file name by name.
SAMPLES = {"lhco_background": "lhco_background.h5", "lhco_signal": "lhco_signal.h5"}

_PREFIX = "sample:"


def sample_path(name: str) -> Path:
    """Path of a shipped sample: ``lhco_background`` or ``lhco_signal``.

    Raises:
        UserError: No such sample, or the installation lacks it.
    """
    if name not in SAMPLES:
        raise UserError(f"no sample called {name!r}; there are {', '.join(SAMPLES)}")
    path = Path(str(files(__name__))) / SAMPLES[name]
    if not path.is_file():
        raise UserError(f"the sample {name!r} is missing from this installation ({path}): install the package again")
    return path


def resolve_sample(path: str | Path) -> Path:
    """``sample:NAME`` as the path of that sample; any other path as it is."""
    text = str(path)
    if text.startswith(_PREFIX):
        return sample_path(text.removeprefix(_PREFIX))
    return Path(path)
