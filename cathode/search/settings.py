"""Settings of a search: frozen dataclasses whose docstrings are the reference of the configuration file.

Loading, merging and checking YAML is the business of ``cathode.run.config``; the functions of this package take these
objects or plain arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from cathode.search.constituents.settings import ConstituentSettings
from cathode.support.errors import UserError
from cathode.support.settings import Files, require
from cathode.training.config import FitConfig

__all__ = [
    "Autoregressive",
    "ClassifierSettings",
    "DataSettings",
    "DensitySettings",
    "Diffusion",
    "EvaluationSettings",
    "FlowMatching",
    "GateSettings",
    "InjectionSettings",
    "Maf",
    "Mlp",
    "RegionSettings",
    "SearchSettings",
    "SignificanceSettings",
    "SplineFlow",
    "TemplateSettings",
    "Transformer",
    "TransformerTrees",
    "Trees",
]


@dataclass(frozen=True)
class DataSettings:
    """What to search in.

    Args:
        events: Files, or ``sample:NAME`` for a shipped sample.
        mass: Column or expression of the resonant mass.
        features: Columns or expressions the density learns and the classifier sees.
        units: Unit of masses and momenta in the files, ``GeV`` or ``TeV``; ``auto`` where the format declares it; or a
            mapping of columns to units (``"*"`` for the rest), which own column names need.
        where: Expression over the file's columns; rows where it is zero are left out.  It may use a truth column to
            compose pseudo-data from simulation.
        weight: Column with event weights, none if null.
        columns: New names for columns of the file, ``{name: column or expression}``.
    """

    events: Files = ("sample:lhco_background",)
    mass: str = "mjj"
    features: tuple[str, ...] = ("mj1", "dmj", "tau21_j1", "tau21_j2")
    units: Literal["auto", "GeV", "TeV", "MeV"] | dict[str, str] = "auto"
    where: str | None = None
    weight: str | None = None
    columns: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require("data.events", len(self.events) > 0, "at least one file", list(self.events))
        require("data.features", len(self.features) > 0, "at least one feature", list(self.features))


@dataclass(frozen=True)
class InjectionSettings:
    """Signal put into the data, at random by seed; its truth stays apart until scores are final.

    Args:
        signal: Files or samples with signal events; nothing is injected if empty.
        where: As for the data.
        count: Events to inject, over the whole mass range.
        strength: Instead of ``count``: S/sqrt(B) inside the signal region.
    """

    signal: Files = ()
    where: str | None = None
    count: int | None = None
    strength: float | None = None

    def __post_init__(self) -> None:
        if self.signal:
            given = (self.count is not None) + (self.strength is not None)
            require(
                "injection",
                given == 1,
                "given either count or strength",
                {"count": self.count, "strength": self.strength},
            )
            require("injection.count", self.count is None or self.count >= 0, "zero or more", self.count)
            require("injection.strength", self.strength is None or self.strength >= 0, "zero or more", self.strength)


@dataclass(frozen=True)
class RegionSettings:
    """Signal region and sidebands in TeV; borders are excluded.

    Args:
        signal: Mass window that is searched.
        sideband: Outer limits of the sidebands; null for no limit.
    """

    signal: tuple[float, float] = (3.3, 3.7)
    sideband: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True)
class Autoregressive:
    """One masked network with mixture heads: ``cathode.density.autoregressive``."""

    kind: Literal["autoregressive"] = "autoregressive"
    hidden: tuple[int, ...] = (256, 256)
    components: int = 24
    head: Literal["gaussian", "logistic"] = "gaussian"


@dataclass(frozen=True)
class Maf:
    """Affine masked autoregressive flow, as CATHODE used it by default: ``cathode.density.flows``."""

    kind: Literal["maf", "nflows-maf"] = "maf"
    transforms: int = 15
    hidden: tuple[int, ...] = (128, 128)
    batch_norm: bool = True


@dataclass(frozen=True)
class SplineFlow:
    """Rational-quadratic spline flow, autoregressive or coupling, through zuko or nflows."""

    kind: Literal["rqs-autoregressive", "rqs-coupling", "nflows-rqs-autoregressive", "nflows-rqs-coupling"] = (
        "rqs-autoregressive"
    )
    transforms: int = 3
    hidden: tuple[int, ...] = (128, 128)
    bins: int = 8
    bound: float = 6.0


@dataclass(frozen=True)
class FlowMatching:
    """Conditional flow matching with straight paths: ``cathode.density.matching``."""

    kind: Literal["flow-matching"] = "flow-matching"
    hidden: tuple[int, ...] = (128, 128, 128)
    solver: Literal["euler", "midpoint", "heun", "rk4", "dopri5"] = "rk4"
    steps: int = 10


@dataclass(frozen=True)
class Diffusion:
    """EDM diffusion: ``cathode.density.diffusion``."""

    kind: Literal["edm"] = "edm"
    hidden: tuple[int, ...] = (128, 128, 128)
    steps: int = 18


Model = Annotated[Autoregressive | Maf | SplineFlow | FlowMatching | Diffusion, Field(discriminator="kind")]


@dataclass(frozen=True)
class DensitySettings:
    """The background density, fitted on sidebands only.

    Args:
        model: Which family.
        members: Independently seeded fits; the template is their mixture.
        preprocessing: ``logit`` (min-max with a margin, logit, standardise: smooth hard edges away), ``cathode`` (the
            paper's chain without margin: rows at the edges are masked and counted) or ``standardize``.
        margin: Margin of the ``logit`` chain as a fraction of the range.
        validation_fraction: Sideband events kept for choosing epochs.
        test_fraction: Sideband events that each member does not see, for the gate and the closure; the parts of the
            members do not overlap, so four members with a quarter each cover all sideband events.
        training: Settings of the fit.  Batches are made smaller where an epoch would have fewer than a hundred.
    """

    model: Model = field(default_factory=Autoregressive)
    members: int = 4
    preprocessing: Literal["logit", "cathode", "standardize"] = "logit"
    margin: float = 1e-3
    validation_fraction: float = 0.1
    test_fraction: float = 0.25
    training: FitConfig = field(
        default_factory=lambda: FitConfig(
            epochs=12, batch_size=1024, learning_rate=2e-3, weight_decay=1e-4, warmup_epochs=0.5, best_epochs=1
        )
    )

    def __post_init__(self) -> None:
        require("density.members", self.members >= 1, "at least 1", self.members)
        for name in ("validation_fraction", "test_fraction"):
            value = getattr(self, name)
            require(f"density.{name}", 0 < value < 0.5, "between 0 and 0.5", value)


@dataclass(frozen=True)
class TemplateSettings:
    """The background template in the signal region.

    Args:
        mass_model: ``fit`` (dijet function fitted to the sidebands and interpolated) or ``kde`` (Gaussian kernels in
            the logit of the mass, fitted to the signal-region data: the paper's choice, which follows a signal).
        kde_bandwidth: Bandwidth in the logit of the min-max scaled mass.
        oversampling: Template events per signal-region data event.
    """

    mass_model: Literal["fit", "kde"] = "fit"
    kde_bandwidth: float = 0.01
    oversampling: float = 4.0

    def __post_init__(self) -> None:
        require("template.oversampling", self.oversampling > 0, "positive", self.oversampling)
        require("template.kde_bandwidth", self.kde_bandwidth > 0, "positive", self.kde_bandwidth)


@dataclass(frozen=True)
class Trees:
    """Ensemble of histogram-gradient-boosted trees: ``cathode.classifiers.trees``."""

    kind: Literal["trees"] = "trees"
    members: int = 50


@dataclass(frozen=True)
class Mlp:
    """Ensemble of small networks with the CATHODE paper's settings: ``cathode.classifiers.mlp``."""

    kind: Literal["mlp"] = "mlp"
    members: int = 10
    hidden: tuple[int, ...] = (64, 64, 64)
    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 1e-3
    best_epochs: int = 10


@dataclass(frozen=True)
class Transformer:
    """Ensemble of transformers on constituents, for ``inputs: constituents``: ``cathode.classifiers.transformer``.

    Args:
        members: Networks; each is a task of its own.
        width: Columns of a token, a multiple of ``heads``.
        heads: Attention heads.
        blocks: Blocks of the encoder.
        expansion: Width of the feed-forward layers over ``width``.
        dropout: Of the results of attention and feed-forward layers.
        pair_bias: Bias attention by the interaction of each pair of constituents.
        event: ``tokens``: all constituents of an event attend to each other; ``jets``: those of a jet, then the jets.
        mixing: Blocks between jets, if ``event`` is ``jets``.
        epochs: Largest number of epochs.
        batch_size: Events of a step.
        learning_rate: Peak rate.
        weight_decay: Of matrices.
        ema_halflife_events: Half-life of the moving average of the weights; null: none.
        validation_fraction: Events of the training that choose its epochs.
        best_epochs: Epochs whose weights are averaged.
        patience: Epochs without a lower validation loss after which a member stops; null: never.
        pretrained: Folder of a pre-trained encoder, which every member starts from and which decides its shape.
        encoder_rate: With ``pretrained``, learning rate of the encoder's last block over that of the head.
        layer_decay: With ``pretrained``, ratio of the learning rates of successive blocks.
        device: Torch device, or ``auto``.
    """

    kind: Literal["transformer"] = "transformer"
    members: int = 1
    width: int = 64
    heads: int = 4
    blocks: int = 3
    expansion: int = 2
    dropout: float = 0.0
    pair_bias: bool = False
    event: Literal["tokens", "jets"] = "tokens"
    mixing: int = 2
    epochs: int = 15
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    ema_halflife_events: float | None = 10_000.0
    validation_fraction: float = 0.2
    best_epochs: int = 3
    patience: int | None = None
    pretrained: str | None = None
    encoder_rate: float = 0.3
    layer_decay: float = 0.8
    device: str = "cpu"


@dataclass(frozen=True)
class TransformerTrees:
    """Trees on what a pre-trained transformer sees in each jet, for ``inputs: constituents``:
    ``cathode.classifiers.transformer.embedded``.

    Args:
        pretrained: Folder of the pre-trained encoder, which is not trained further.
        members: Of the ensemble of trees.
        variance: Fraction of the variance of the encoder's summaries that the kept principal components have.
        device: Torch device of the encoder.
    """

    kind: Literal["transformer-trees"] = "transformer-trees"
    pretrained: str = ""
    members: int = 50
    variance: float = 0.9
    device: str = "cpu"

    def __post_init__(self) -> None:
        require("classifier.model.pretrained", bool(self.pretrained), "the folder of an encoder", self.pretrained)
        require("classifier.model.variance", 0 < self.variance <= 1, "above 0 and at most 1", self.variance)


@dataclass(frozen=True)
class ClassifierSettings:
    """Data against template, cross-fitted.

    Args:
        model: Which classifier; trees and small networks see features, also where the inputs are constituents.
        folds: k; every signal-region event is scored by models that saw the other k - 1 folds only.
        use_mass: Give the mass to the classifier as well.
    """

    model: Annotated[Trees | Mlp | Transformer | TransformerTrees, Field(discriminator="kind")] = field(
        default_factory=Trees
    )
    folds: int = 5
    use_mass: bool = False

    def __post_init__(self) -> None:
        require("classifier.folds", self.folds >= 2, "at least 2", self.folds)


@dataclass(frozen=True)
class GateSettings:
    """Limits of the template gate: above ``warn`` it warns, above ``fail`` nothing may be claimed.

    The limits on the AUC are on its distance from 0.5, beyond two standard errors.

    Args:
        c2st_sideband: Limits (warn, fail) on the two-sample AUC of held-out sideband data against template.
        c2st_template: The same in the signal region, data against template.  A signal also raises it, so it only warns
            where the sideband test would fail.
        marginal_pull: Limits on the largest |pull| of a feature's mean or width, in sidebands.
        correlation_pull: Limits on the largest |pull| of a correlation coefficient, in sidebands.
        rejected_fraction: Limits on the fraction of template events outside the range of the sideband data.
        max_events: Events per sample in the two-sample tests.
    """

    c2st_sideband: tuple[float, float] = (0.005, 0.02)
    c2st_template: tuple[float, float] = (0.01, 0.05)
    marginal_pull: tuple[float, float] = (4.0, 8.0)
    correlation_pull: tuple[float, float] = (4.0, 8.0)
    rejected_fraction: tuple[float, float] = (0.001, 0.02)
    max_events: int = 40_000


@dataclass(frozen=True)
class SignificanceSettings:
    """Working points and fits.

    Args:
        background_efficiencies: Fractions of the template that pass the cut.
        closure_error: Count the statistical error of the closure in the sidebands as a systematic error: for templates
            that are known to close imperfectly, as of constituents, and few held-out events.  Without it a template is
            held to close as long as the sidebands do not say otherwise.
        fit_parameters: Number of parameters of the dijet function, or ``auto``: an F-test, or three for fewer than
            10,000 events if they describe the sidebands.
        fit_bins: Number of mass bins per signal-region width.
        fit_range: Limits of the mass fits in TeV; a null lower limit is chosen from the sidebands (past the turn-on).
        sqrt_s: Centre-of-mass energy in TeV.
    """

    background_efficiencies: tuple[float, ...] = (1e-2, 1e-3)
    closure_error: bool = False
    fit_parameters: int | Literal["auto"] = "auto"
    fit_bins: int = 4
    fit_range: tuple[float | None, float | None] = (None, None)
    sqrt_s: float = 13.0

    def __post_init__(self) -> None:
        points = self.background_efficiencies
        require(
            "significance.background_efficiencies",
            len(points) > 0 and all(0 < e < 1 for e in points),
            "between 0 and 1",
            list(points),
        )


@dataclass(frozen=True)
class EvaluationSettings:
    """Truth, looked at only after all scores are final.

    Args:
        truth: Name of the truth column in the data files (1 = signal), for data that carry one.
        reserve: Fraction of ``data.events`` kept out of the data; its signal-region part is the labelled background
            test sample and the perfect template of the idealized detector.  Only for simulated background.
        background: Instead of ``reserve``: files or samples of further simulated background, of which the signal region
            is used.
        signal: Files or samples of test signal; events that were injected are left out.
        where: As for the data; for the signal files.
        references: Train the idealized and the supervised classifier too.
    """

    truth: str | None = None
    reserve: float = 0.0
    background: Files = ()
    signal: Files = ()
    where: str | None = None
    references: bool = True

    def __post_init__(self) -> None:
        require("evaluation.reserve", 0 <= self.reserve < 1, "between 0 and 1", self.reserve)
        if self.background:
            require("evaluation.reserve", self.reserve == 0, "0 where evaluation.background is given", self.reserve)


@dataclass(frozen=True)
class SearchSettings:
    """A whole search.

    Args:
        inputs: ``features``: tables of numbers.  ``constituents``: events of two jets with all their constituents,
            with ``data.features`` as the observables of the template's gate, recomputed from constituents.
        constituents: Only for ``inputs: constituents``.
        seed: Seed of everything; the same configuration and seed give the same result.
        workers: Processes; null for one per core.
        executor: ``local`` (processes here), ``serial`` or ``dask`` (the address comes from DASK_SCHEDULER_ADDRESS).
    """

    inputs: Literal["features", "constituents"] = "features"
    data: DataSettings = field(default_factory=DataSettings)
    injection: InjectionSettings = field(default_factory=InjectionSettings)
    regions: RegionSettings = field(default_factory=RegionSettings)
    density: DensitySettings = field(default_factory=DensitySettings)
    template: TemplateSettings = field(default_factory=TemplateSettings)
    classifier: ClassifierSettings = field(default_factory=ClassifierSettings)
    gate: GateSettings = field(default_factory=GateSettings)
    significance: SignificanceSettings = field(default_factory=SignificanceSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    constituents: ConstituentSettings = field(default_factory=ConstituentSettings)
    seed: int = 1
    workers: int | None = None
    executor: Literal["local", "serial", "dask"] = "local"

    def __post_init__(self) -> None:
        if self.inputs == "features" and isinstance(self.classifier.model, Transformer | TransformerTrees):
            raise UserError(
                "classifier.model: a transformer sees constituents; set inputs to constituents, or use trees"
            )
