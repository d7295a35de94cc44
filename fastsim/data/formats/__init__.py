"""File formats of showers; :data:`FORMATS` is in the order in which they are tried."""

from __future__ import annotations

from fastsim.data.formats.base import Contents, Format, Rows
from fastsim.data.formats.calochallenge import CaloChallenge
from fastsim.data.formats.calogan import CaloGAN
from fastsim.data.formats.par04 import Lemurs, Par04, Par04VAE
from fastsim.data.formats.showerdata import ShowerData

__all__ = ["FORMATS", "Contents", "Format", "Rows"]

_ALL: tuple[Format, ...] = (CaloChallenge(), CaloGAN(), Lemurs(), Par04(), ShowerData(), Par04VAE())

#: Format by name.
FORMATS: dict[str, Format] = {one.name: one for one in _ALL}
