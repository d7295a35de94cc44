"""File formats of showers; :data:`FORMATS` is in the order in which they are tried."""

from __future__ import annotations

from fastsim.data.formats.base import Contents, Format, Rows
from fastsim.data.formats.calochallenge import CaloChallenge

__all__ = ["FORMATS", "Contents", "Format", "Rows"]

#: Format by name.
FORMATS: dict[str, Format] = {one.name: one for one in (CaloChallenge(),)}
