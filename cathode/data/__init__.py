"""Events, how they are read and written, regions, injections, and the samples that ship with the package."""

from __future__ import annotations

from cathode.data.describe import describe_file
from cathode.data.events import Events
from cathode.data.injection import Truth, inject, split
from cathode.data.readers import iterate_raw, read_events, read_truth
from cathode.data.regions import Regions
from cathode.data.samples import sample_path
from cathode.data.writers import convert, write_events, write_truth

__all__ = [
    "Events",
    "Regions",
    "Truth",
    "convert",
    "describe_file",
    "inject",
    "iterate_raw",
    "read_events",
    "read_truth",
    "sample_path",
    "split",
    "write_events",
    "write_truth",
]
