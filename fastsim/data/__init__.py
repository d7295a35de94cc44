"""Showers: the schema, readers and writers, samples that ship."""

from __future__ import annotations

from fastsim.data.files import ShowerFile, read_showers, sniff
from fastsim.data.samples import SAMPLES, resolve_sample, sample_geometry, sample_path
from fastsim.data.showers import Showers
from fastsim.data.writers import ShowerWriter, check_output, write_showers

__all__ = [
    "SAMPLES",
    "ShowerFile",
    "ShowerWriter",
    "check_output",
    "Showers",
    "read_showers",
    "resolve_sample",
    "sample",
    "sample_geometry",
    "sample_path",
    "sniff",
    "write_showers",
]


def sample(name: str) -> Showers:
    """A shipped sample in its own geometry: see :data:`SAMPLES` and README.md beside them.

    Raises:
        UserError: No such sample, or the installation lacks it.
    """
    return read_showers(sample_path(name), sample_geometry(name))
