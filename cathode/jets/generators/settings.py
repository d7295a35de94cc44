"""Settings of a jet generator: frozen dataclasses whose docstrings are the reference of the configuration file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from cathode.jets.generators.cells import Cells
from cathode.jets.generators.particle_features import ParticleFeatures
from cathode.support.errors import UserError
from cathode.support.settings import Files, at_least, require
from cathode.training.config import FitConfig

__all__ = [
    "AutoregressiveKinematics",
    "ConstituentSettings",
    "EDMPoints",
    "EPiCGANPoints",
    "EPiCSettings",
    "FlowMatchingPoints",
    "Frame",
    "JetDataSettings",
    "JetGeneratorSettings",
    "KinematicsSettings",
    "MixedPoints",
    "SequencePoints",
    "SetTransformerSettings",
]


@dataclass(frozen=True)
class JetDataSettings:
    """What to learn from.

    Args:
        jets: Files of jets or of events with constituents, or ``sample:NAME`` for a shipped sample.
        format: Of the files, one of :data:`cathode.jets.readers.FORMATS`; ``auto``: look inside.
        rows: First row and the one after the last, of all files together; rows are jets, or events in files of events;
            null: all.
        exclude_mass: Leave out events of this dijet mass [TeV], that of all stored constituents: the signal region of a
            search that the model will serve.  For files of events only; rows count events before they are left out.
        particles: Leading constituents that are kept; null: all that are stored.
        axis: ``constituents``: a jet is the sum of the constituents that are kept, and complete; ``file``: the axis
            of the file, of which the constituents are a part.
        types: Whether the type of a jet is a condition.
        validation: Fraction of the jets that is held out for the validation loss.
        cells: Lattice on which some of the constituents sit; null: none.
        extras: Particle types, charges and displacements of the constituents that are learned too, by the model
            ``mixed-matching``; null: momenta alone.
    """

    jets: Files = ("sample:lhco_constituents",)
    format: str = "auto"
    rows: tuple[int, int] | None = None
    exclude_mass: tuple[float, float] | None = None
    particles: int | None = 30
    axis: Literal["constituents", "file"] = "constituents"
    types: bool = False
    validation: float = 0.05
    cells: Cells | None = None
    extras: ParticleFeatures | None = None

    def __post_init__(self) -> None:
        require("data.jets", len(self.jets) > 0, "at least one file", list(self.jets))
        require("data.validation", 0 < self.validation < 1, "between 0 and 1", self.validation)
        if self.particles is not None:
            at_least("data", self, 1, "particles")
        if self.extras is not None and self.cells is not None:
            raise UserError("data.extras: is not learned together with data.cells: set one of them to null")
        if self.exclude_mass is not None:
            low, high = self.exclude_mass
            require("data.exclude_mass", 0 <= low < high, "two masses in TeV, low < high", [low, high])
        if self.rows is not None:
            require("data.rows", 0 <= self.rows[0] < self.rows[1], "first < stop", list(self.rows))


@dataclass(frozen=True)
class AutoregressiveKinematics:
    """pT, eta, mass, number of constituents and phi of a jet, one after the other, each as a mixture.

    Args:
        components: Mixture components of each conditional.
        hidden: Width of the network.
        layers: Its hidden layers.
        knots: Quantiles by which each feature is first made Gaussian.
    """

    kind: Literal["autoregressive"] = "autoregressive"
    components: int = 8
    hidden: int = 96
    layers: int = 2
    knots: int = 17

    def __post_init__(self) -> None:
        at_least("kinematics.model", self, 1, "components", "hidden", "layers")
        at_least("kinematics.model", self, 4, "knots")


@dataclass(frozen=True)
class Frame:
    """Coordinates in which constituents are learned.

    Args:
        ordered: Constituents by falling pT have a place each: they are standardised place by place, and networks know
            the place.  Otherwise they are a set.  After 35 s of processor time on 38,000 jets (flow matching with the
            default transformer; 5,000 jets compared, where truth differs from truth by 2.3, 0.3, 2.2, 2.0) the
            Wasserstein distances of mass, pT, eta and phi are, in units of 1e-3, 7.2, 0.6, 11.7, 10.6 with places and
            6.7, 0.9, 6.7, 7.6 as a set: places help pT, a set learns directions sooner.
        scale: Distances to the axis well below it are seen linearly, above it logarithmically (arcsinh).
        mirror: Whether jets are equally likely mirrored in eta and in phi: training then uses all four images.
    """

    ordered: bool = True
    scale: float = 0.05
    mirror: bool = True

    def __post_init__(self) -> None:
        require("constituents.model.frame.scale", self.scale > 0, "positive", self.scale)


@dataclass(frozen=True)
class EPiCSettings:
    """EPiC network: layers whose points talk through a global vector, at a cost linear in their number.

    Args:
        width: Size of the vectors of the points.
        global_width: Size of the global vector.
        layers: Number of layers.
        activation: ``leaky_relu`` as in the paper, ``silu``, ``gelu_tanh`` …
    """

    kind: Literal["epic"] = "epic"
    width: int = 96
    global_width: int = 16
    layers: int = 4
    activation: str = "leaky_relu"

    def __post_init__(self) -> None:
        at_least("constituents.model.network", self, 1, "width", "global_width", "layers")


@dataclass(frozen=True)
class SetTransformerSettings:
    """Set transformer: attention between all points.

    Args:
        width: Size of the vectors of the points, a multiple of ``heads``.
        heads: Attention heads.
        blocks: Number of blocks.
        expansion: Hidden size of the feed-forward part over ``width``.
        activation: ``gelu_tanh``, ``silu`` …
    """

    kind: Literal["set-transformer"] = "set-transformer"
    width: int = 64
    heads: int = 4
    blocks: int = 2
    expansion: int = 2
    activation: str = "gelu_tanh"

    def __post_init__(self) -> None:
        at_least("constituents.model.network", self, 1, "width", "heads", "blocks", "expansion")
        if self.width % self.heads:
            raise UserError(f"constituents.model.network.width: {self.width} is no multiple of heads ({self.heads})")


Network = Annotated[EPiCSettings | SetTransformerSettings, Field(discriminator="kind")]


@dataclass(frozen=True)
class FlowMatchingPoints:
    """Flow matching of the constituents (EPiC-FM, arXiv 2310.00049, with the network ``epic``).

    Args:
        network: Of the velocity.
        frame: Coordinates.
        solver: Fixed-step method: ``euler``, ``midpoint``, ``heun`` or ``rk4``.
        steps: Its steps.
        time_sampling: ``uniform``, or ``logit_normal``, which trains the middle of the path more.  In the comparison of
            :class:`Frame`, ``uniform`` gives 12.6, 1.5, 9.0, 8.1 for sets (there on a lattice of 0.02, not 0.1).
    """

    kind: Literal["flow-matching"] = "flow-matching"
    network: Network = field(default_factory=SetTransformerSettings)
    frame: Frame = field(default_factory=Frame)
    solver: Literal["euler", "midpoint", "heun", "rk4"] = "midpoint"
    steps: int = 8
    time_sampling: Literal["uniform", "logit_normal"] = "logit_normal"

    def __post_init__(self) -> None:
        at_least("constituents.model", self, 1, "steps")


@dataclass(frozen=True)
class MixedPoints:
    """Flow matching of momenta and displacements, on one time axis with jumps of the particle type (arXiv 2402.04997).

    Args:
        network: Of velocities and classes.
        frame: Coordinates.
        solver: ``euler``, or ``heun`` with two evaluations for each step.
        steps: Its steps; types that change in the same step do so independently.
        class_weight: Weight of the cross-entropy of the types.
    """

    kind: Literal["mixed-matching"] = "mixed-matching"
    network: Network = field(default_factory=SetTransformerSettings)
    frame: Frame = field(default_factory=Frame)
    solver: Literal["euler", "heun"] = "heun"
    steps: int = 15
    class_weight: float = 1.0

    def __post_init__(self) -> None:
        at_least("constituents.model", self, 1, "steps")
        require("constituents.model.class_weight", self.class_weight > 0, "positive", self.class_weight)


@dataclass(frozen=True)
class EDMPoints:
    """EDM diffusion of the constituents (PC-Droid, arXiv 2307.06836, with the network ``set-transformer``).

    Args:
        network: Of the denoiser.
        frame: Coordinates.
        solver: Fixed-step method, see :class:`FlowMatchingPoints`.
        steps: Noise levels.
    """

    kind: Literal["edm"] = "edm"
    network: Network = field(default_factory=SetTransformerSettings)
    frame: Frame = field(default_factory=Frame)
    solver: Literal["euler", "midpoint", "heun", "rk4"] = "heun"
    steps: int = 10

    def __post_init__(self) -> None:
        at_least("constituents.model", self, 2, "steps")


@dataclass(frozen=True)
class SequencePoints:
    """Autoregressive transformer over constituents by falling pT, with mixture heads (JetGPT, arXiv 2305.10475).

    Args:
        width: Size of the vectors of the points, a multiple of ``heads``.
        heads: Attention heads.
        blocks: Number of blocks.
        expansion: Hidden size of the feed-forward part over ``width``.
        components: Mixture components of the position of a constituent.
        amount_components: Of its pT.
        head_width: Hidden size between transformer and mixtures.
        scale: Distances to the axis well below it are seen linearly, above it logarithmically.
        near: Leading constituents that later ones may lie close to, at any distance; 0 for none.
        radius: Largest distance of a constituent from the axis, a little above the radius of the jets; the few beyond
            it are taken as just inside.  null: no limit.
        floor: Smallest pT of a constituent [GeV].
        mirror: Whether jets are equally likely mirrored in eta and in phi.
        low_precision: Matrix products in bfloat16 while training.
    """

    kind: Literal["point-sequence"] = "point-sequence"
    width: int = 96
    heads: int = 4
    blocks: int = 3
    expansion: int = 4
    components: int = 16
    amount_components: int = 8
    head_width: int = 128
    scale: float = 0.03
    near: int = 0
    radius: float | None = None
    floor: float = 0.0
    mirror: bool = True
    low_precision: bool = False

    def __post_init__(self) -> None:
        names = ("width", "heads", "blocks", "expansion", "components", "amount_components", "head_width")
        at_least("constituents.model", self, 1, *names)
        if self.width % self.heads:
            raise UserError(f"constituents.model.width: {self.width} is no multiple of heads ({self.heads})")
        require("constituents.model.scale", self.scale > 0, "positive", self.scale)
        at_least("constituents.model", self, 0, "near")
        require("constituents.model.radius", self.radius is None or self.radius > 0, "positive, or null", self.radius)
        require("constituents.model.floor", self.floor >= 0, "0 or a pT in GeV", self.floor)


@dataclass(frozen=True)
class EPiCGANPoints:
    """EPiC-GAN (arXiv 2301.08128): the adversarial baseline.

    Args:
        width: Size of the vectors of the points.
        global_width: Size of the global vector.
        layers: Layers of the generator.
        discriminator_layers: Layers of the discriminator.
        scale: Of the coordinates, see :class:`Frame`; constituents are a set.
        mirror: Whether jets are equally likely mirrored in eta and in phi.
    """

    kind: Literal["epic-gan"] = "epic-gan"
    width: int = 128
    global_width: int = 10
    layers: int = 6
    discriminator_layers: int = 3
    scale: float = 0.05
    mirror: bool = True

    def __post_init__(self) -> None:
        at_least("constituents.model", self, 1, "width", "global_width", "layers", "discriminator_layers")
        require("constituents.model.scale", self.scale > 0, "positive", self.scale)


@dataclass(frozen=True)
class KinematicsSettings:
    """The stage of the jet as a whole."""

    model: AutoregressiveKinematics = field(default_factory=AutoregressiveKinematics)
    training: FitConfig = field(
        default_factory=lambda: FitConfig(
            epochs=30, batch_size=512, learning_rate=2e-3, warmup_epochs=1, validation_batch=4096
        )
    )


@dataclass(frozen=True)
class ConstituentSettings:
    """The stage of the constituents.

    Args:
        model: One of the families; ``mixed-matching`` is for ``data.extras``.
        training: Of it.
    """

    model: Annotated[
        FlowMatchingPoints | EDMPoints | SequencePoints | EPiCGANPoints | MixedPoints, Field(discriminator="kind")
    ] = field(default_factory=FlowMatchingPoints)
    training: FitConfig = field(
        default_factory=lambda: FitConfig(
            epochs=60,
            batch_size=256,
            learning_rate=1e-3,
            warmup_epochs=0.5,
            gradient_clip=1.0,
            ema_halflife_events=200_000.0,
            validation_batch=1024,
        )
    )


@dataclass(frozen=True)
class JetGeneratorSettings:
    """Everything that decides what ``cathode jets train`` makes.

    Args:
        data: What to learn from.
        kinematics: The stage of the jet as a whole.
        constituents: The stage of the constituents.
        conserve: What generated constituents are made to have in common with the jet they belong to: ``none``,
            ``axis`` (pT and direction) or ``momentum`` (the mass too); needs complete jets, see ``data.axis``.
        seed: Of the split, the initial weights and the training.
    """

    data: JetDataSettings = field(default_factory=JetDataSettings)
    kinematics: KinematicsSettings = field(default_factory=KinematicsSettings)
    constituents: ConstituentSettings = field(default_factory=ConstituentSettings)
    conserve: Literal["none", "axis", "momentum"] = "none"
    seed: int = 1

    def __post_init__(self) -> None:
        if (self.data.extras is not None) != isinstance(self.constituents.model, MixedPoints):
            raise UserError(
                f"constituents.model.kind: {self.constituents.model.kind!r} does not fit data.extras: 'mixed-matching'"
                " learns particle types and displacements, and nothing else does"
            )
        if self.conserve != "none" and self.data.axis != "constituents":
            raise UserError(
                f"conserve: {self.conserve!r} needs complete jets: set data.axis to 'constituents', or conserve 'none'"
            )
