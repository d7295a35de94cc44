"""Jets as masked sets of constituents, and events made of such jets."""

from __future__ import annotations

from cathode.jets.schema.events import ConstituentEvents
from cathode.jets.schema.jets import Jets
from cathode.jets.schema.kinematics import jet_axis, wrap_phi

__all__ = ["ConstituentEvents", "Jets", "jet_axis", "wrap_phi"]
