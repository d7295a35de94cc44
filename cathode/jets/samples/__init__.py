"""Samples of constituents that ship with the package; README.md in this folder says how they were made."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from cathode.data.samples import SAMPLES as EVENT_SAMPLES
from cathode.data.samples import resolve_sample as resolve_event_sample
from cathode.support.errors import UserError

__all__ = ["SAMPLES", "resolve_sample"]

#: Shipped samples of constituents: file name by name.
SAMPLES = {
    "lhco_constituents": "lhco_constituents.h5",
    "lhco_constituents_signal": "lhco_constituents_signal.h5",
}

_PREFIX = "sample:"


def resolve_sample(path: str | Path) -> Path:
    """``sample:NAME`` as the path of that sample, here or in :mod:`cathode.data.samples`; any other path as it is.

    Raises:
        UserError: No such sample, or the installation lacks it.
    """
    text = str(path)
    name = text.removeprefix(_PREFIX)
    if not text.startswith(_PREFIX):
        return Path(path)
    if name in EVENT_SAMPLES:
        return resolve_event_sample(path)
    if name not in SAMPLES:
        raise UserError(f"no sample called {name!r}; there are {', '.join(SAMPLES)}")
    file = Path(str(files(__name__))) / SAMPLES[name]
    if not file.is_file():
        raise UserError(f"the sample {name!r} is missing from this installation ({file}): install the package again")
    return file
