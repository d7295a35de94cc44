"""What the classifier tests give: plain numbers in frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["ClassifierResults", "ClassifierScore", "Interval", "Roc", "SeparatingFeature"]


@dataclass(frozen=True)
class Interval:
    """A number with its two-sided confidence interval, 95 % unless said otherwise.

    Attributes:
        value: Estimate.
        low: Lower end.
        high: Upper end.
        error: Standard error that the interval comes from.
    """

    value: float
    low: float
    high: float
    error: float


@dataclass(frozen=True)
class Roc:
    """ROC curve, averaged over the folds at equal false-positive rates.

    Attributes:
        false_positive: Fraction of generated showers that score above the threshold.
        true_positive: Fraction of reference showers that do.
    """

    false_positive: tuple[float, ...]
    true_positive: tuple[float, ...]


@dataclass(frozen=True)
class ClassifierScore:
    """One classifier's verdict.

    Attributes:
        auc: Area under the ROC curve; 0.5 for samples of one distribution.
        jsd: Jensen-Shannon divergence in units of ln 2, ``1 - BCE / ln 2`` of the calibrated classifier: a lower bound
            in expectation, so it can be slightly negative.
        roc: Curve for plotting.
        fold_aucs: AUC of each fold (``strict``) or of each run (``calochallenge``).
        epochs: Epoch (or number of trees) that each fold or run was stopped at.
        seconds: Processor time of training and scoring, summed over folds or runs.
    """

    auc: Interval
    jsd: Interval
    roc: Roc
    fold_aucs: tuple[float, ...]
    epochs: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class SeparatingFeature:
    """How well one feature alone separates the samples.

    Attributes:
        name: Of the observable, or of the voxel with its place.
        kind: ``"voxel"`` or ``"observable"``.
        index: Number of the voxel or of the observable.
        auc: Probability that a reference shower has the larger value (ties count half): below 0.5 the generator gives
            too much of it, above 0.5 too little.
        error: DeLong's standard error of ``auc``.
        reference_mean: Mean in the reference; voxels in units of the incident energy.
        generated_mean: Mean of the generated showers.
        reference_nonzero: Fraction of reference showers in which it is not zero.
        generated_nonzero: The same of the generated showers.
    """

    name: str
    kind: str
    index: int
    auc: float
    error: float
    reference_mean: float
    generated_mean: float
    reference_nonzero: float
    generated_nonzero: float

    @property
    def separation(self) -> float:
        """Distance of the AUC from 0.5."""
        return abs(self.auc - 0.5)


@dataclass(frozen=True)
class ClassifierResults:
    """Results of :func:`~fastsim.evaluation.classifiers.run.classifier_tests`.

    Attributes:
        mode: ``"strict"`` or ``"calochallenge"``.
        profile: Name of the profile.
        seed: Seed of splits, networks and trees.
        showers: Showers compared, ``(reference, generated)``.
        scores: Name of the classifier (``low_dnn``, ``high_dnn``, ``low_trees``, ``high_trees``; ``low_stacked`` and
            ``high_stacked`` combine both (``strict``); ``low_normed_dnn`` in
            mode ``calochallenge``; ``cnn`` on regular grids) -> its verdict.
        voxels: Voxels that separate best by themselves, best first.
        observables: Observables of the high-level input, best first.
        feature_threshold: Number of standard errors that one of all features exceeds by chance in 5 % of comparisons
            of samples of one distribution (Bonferroni): a feature below it is not evidence.
    """

    mode: str
    profile: str
    seed: int
    showers: tuple[int, int]
    scores: dict[str, ClassifierScore]
    voxels: tuple[SeparatingFeature, ...] = ()
    observables: tuple[SeparatingFeature, ...] = ()
    feature_threshold: float = field(default=0.0)

    @property
    def auc(self) -> dict[str, Interval]:
        """Area under the ROC curve per classifier."""
        return {name: score.auc for name, score in self.scores.items()}

    @property
    def jsd(self) -> dict[str, Interval]:
        """Jensen-Shannon divergence per classifier."""
        return {name: score.jsd for name, score in self.scores.items()}

    @property
    def rocs(self) -> dict[str, Roc]:
        """ROC curve per classifier."""
        return {name: score.roc for name, score in self.scores.items()}
