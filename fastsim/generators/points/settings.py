"""Settings of the shape model ``points``."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from cathode.support.errors import UserError
from cathode.training.config import FitConfig

__all__ = ["PointsShape"]


@dataclass(frozen=True)
class PointsShape:
    """Voxels with energy as points: their number in each layer, then where they are and what they carry.

    As in CaloClouds (Buhmann et al., arXiv 2305.04847 and 2309.05704) the number of points of each layer comes first,
    from a density of its own, and the points are then made to agree with it.  Deviations: points of a shower know of
    each other, through EPiC layers in place of an MLP per point, still in time linear in their number; depths are put
    in order to give each layer its number; energies of the layers come from the energy stage.

    Args:
        model: ``flow-matching`` or ``edm``.
        width: Of the vectors of the points.
        global_width: Of the vector of the shower.
        layers: EPiC layers.
        steps: Solver steps: two evaluations of the network each.
        collisions: Points that want a voxel which another has taken: ``move`` them to the nearest free one of their
            layer, the more energetic staying, or ``add`` their energies.
        symmetry: Whether showers look the same turned in alpha, and mirrored: training then uses all turns.
        counts_hidden: Width of the network of the numbers of points.
        counts_components: Mixture components of each of them.
        counts_training: Of the numbers of points; that of the points is the stage's ``training``.
    """

    kind: Literal["points"] = "points"
    model: Literal["flow-matching", "edm"] = "flow-matching"
    width: int = 64
    global_width: int = 16
    layers: int = 3
    steps: int = 8
    collisions: Literal["move", "add"] = "move"
    symmetry: Literal["none", "rotations", "rotations and mirror"] = "none"
    counts_hidden: int = 256
    counts_components: int = 8
    counts_training: FitConfig = field(
        default_factory=lambda: FitConfig(
            epochs=40, batch_size=256, learning_rate=1e-3, weight_decay=3e-2, warmup_epochs=1, validation_batch=4096
        )
    )

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, int) and value < 1:
                raise UserError(f"shape.model.{one.name}: must be 1 or more, got {value!r}")
        if self.model == "edm" and self.steps < 2:
            raise UserError("shape.model.steps: EDM needs 2 or more")
