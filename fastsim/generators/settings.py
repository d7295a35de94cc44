"""Settings of a shower generator: frozen dataclasses whose docstrings are the reference of the configuration file."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from pydantic import Field

from cathode.support.settings import Files, require
from cathode.training.config import FitConfig
from fastsim.generators.points.settings import PointsShape
from fastsim.generators.shape import FramedShape
from fastsim.generators.u_variables import UVariableEnergies

__all__ = [
    "AutoregressiveEnergies",
    "AutoregressiveShape",
    "DataSettings",
    "EnergySettings",
    "GeneratorSettings",
    "ShapeSettings",
]


def _at_least_one(settings: Any, where: str) -> None:
    for one in fields(settings):
        value = getattr(settings, one.name)
        if isinstance(value, int):
            require(f"{where}.{one.name}", value >= 1, "1 or more", value)


@dataclass(frozen=True)
class DataSettings:
    """What to learn from.

    Args:
        showers: Files, or ``sample:NAME`` for a shipped sample.
        geometry: Name of a known geometry or ``FILE.xml:PARTICLE``; null: that of the sample.
        threshold: Voxels below [MeV] are 0, in training and in what is generated.
        rows: First row and the one after the last, of all files together; null: all.
        validation: Fraction of the rows that is held out for the validation loss.
        leave_out_energies: Incident energies [MeV] that are left out, to test interpolation.
        stream: Read batches from the files while training, for data larger than memory.
        memory: Bound on what streaming keeps in memory [MB].
    """

    showers: Files = ("sample:ds1-photons",)
    geometry: str | None = None
    threshold: float = 1.0
    rows: tuple[int, int] | None = None
    validation: float = 0.1
    leave_out_energies: tuple[float, ...] = ()
    stream: bool = False
    memory: float = 2000.0

    def __post_init__(self) -> None:
        require("data.showers", len(self.showers) > 0, "at least one file", list(self.showers))
        require("data.threshold", self.threshold > 0, "a positive energy in MeV", self.threshold)
        require("data.validation", 0 < self.validation < 1, "between 0 and 1", self.validation)
        require("data.memory", self.memory > 0, "positive", self.memory)
        if self.rows is not None:
            require("data.rows", 0 <= self.rows[0] < self.rows[1], "first < stop", list(self.rows))


@dataclass(frozen=True)
class AutoregressiveEnergies:
    """Layer energies: the response E_tot/E_inc as a mixture, then layer after layer with exact zeros and exact sum.

    Args:
        components: Mixture components of each conditional.
        hidden: Width of the networks.
        layers: Residual blocks of the network of the layers.
    """

    kind: Literal["autoregressive"] = "autoregressive"
    components: int = 6
    hidden: int = 256
    layers: int = 2

    def __post_init__(self) -> None:
        _at_least_one(self, "energy.model")


@dataclass(frozen=True)
class AutoregressiveShape:
    """Energies of the rings of each layer, then voxels group after group: exact zeros, thresholds and sums.

    Args:
        structure: ``whole``: one network for all voxels; ``sequence``: one network shared by layers of equal layout,
            each generated given the layers before; ``auto``: a sequence where more than 8 layers share a layout.
        interleave: Steps for each place in the rings: rings this far apart get their voxels in the same step, and leave
            out what they know of each other.
        components: Mixture components of each conditional.
        hidden: Width of the network of the voxels.
        ring_hidden: Width of the network of the rings.
        layers: Residual blocks of both.
        bottleneck: Numbers per voxel between network and head.
        head: Width of the head.
        window: Layers before that a layer of a sequence sees voxel by voxel.
        memory: Width of what it is told about them.
        context_width: Width of the small networks that bring the context to each layer of a network.
        symmetry: Whether showers look the same turned in alpha, and mirrored: training then uses all turns.
    """

    kind: Literal["autoregressive"] = "autoregressive"
    structure: Literal["auto", "whole", "sequence"] = "auto"
    interleave: int = 2
    components: int = 4
    hidden: int = 768
    ring_hidden: int = 384
    layers: int = 2
    bottleneck: int = 16
    head: int = 64
    window: int = 2
    memory: int = 128
    context_width: int = 128
    symmetry: Literal["none", "rotations", "rotations and mirror"] = "none"

    def __post_init__(self) -> None:
        _at_least_one(self, "shape.model")


@dataclass(frozen=True)
class EnergySettings:
    """The energy stage."""

    model: Annotated[AutoregressiveEnergies | UVariableEnergies, Field(discriminator="kind")] = field(
        default_factory=AutoregressiveEnergies
    )
    training: FitConfig = field(
        default_factory=lambda: FitConfig(
            epochs=60, batch_size=512, learning_rate=2e-3, weight_decay=1e-3, warmup_epochs=1, validation_batch=4096
        )
    )


@dataclass(frozen=True)
class ShapeSettings:
    """The shape stage."""

    model: Annotated[AutoregressiveShape | FramedShape | PointsShape, Field(discriminator="kind")] = field(
        default_factory=AutoregressiveShape
    )
    training: FitConfig = field(
        default_factory=lambda: FitConfig(
            epochs=40,
            batch_size=256,
            learning_rate=1e-3,
            weight_decay=1e-2,
            warmup_epochs=1,
            gradient_clip=20.0,
            ema_halflife_events=30_000.0,
            validation_batch=1024,
        )
    )


@dataclass(frozen=True)
class GeneratorSettings:
    """Everything that decides what ``fastsim train`` makes.

    Args:
        data: What to learn from.
        energy: The stage of the layer energies.
        shape: The stage of the voxels.
        seed: Of the split, the initial weights and the training.
    """

    data: DataSettings = field(default_factory=DataSettings)
    energy: EnergySettings = field(default_factory=EnergySettings)
    shape: ShapeSettings = field(default_factory=ShapeSettings)
    seed: int = 1
