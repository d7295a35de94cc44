r"""Classifier refinement: what a classifier still tells from full simulation is corrected by weights or by rejection.

A classifier of reference against generated showers, trained with equal class sizes, estimates the density ratio,

.. math:: w(v) = \frac{f(v)}{1 - f(v)} \approx \frac{p_\mathrm{reference}(v \mid c)}{p_\mathrm{generator}(v \mid c)}

(DCTRGAN: Diefenbacher et al., arXiv 2009.03696, Sec. 2, after Andreassen and Nachman, arXiv 1907.08209).  The weights
are of use in two ways: every generated shower gets one, or a shower is kept with probability ``w / w_max`` and drawn
again otherwise.  Both samples must have the same incident energies and conditions, which the classifier sees too; the
ratio is then that of the conditional densities.

Nothing is free, so everything is counted: by how much the weights reduce the effective number of showers, how many
showers are drawn for one that is kept, how often the cap on the weights acts (which is the bias that is left), and what
the correction gains on showers that the classifier did not see.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cathode.classifiers.base import Classifier
from cathode.classifiers.registry import build_classifier, load_classifier
from cathode.comparison.auc import auc_with_error
from cathode.support.errors import UserError
from cathode.support.files import atomic_directory, write_json
from cathode.support.progress import progress
from cathode.support.seeding import derive_seed, numpy_generator
from fastsim.data import Showers
from fastsim.evaluation.features import high_level_features, low_level_features
from fastsim.generators.generate import generate
from fastsim.generators.generator import ShowerGenerator

__all__ = [
    "RefinedShowers",
    "Refinement",
    "RefinementReport",
    "RefinementSettings",
    "WeightAccount",
    "account",
    "fit_refinement",
    "generate_refined",
    "load_refinement",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RefinementSettings:
    """How showers are refined.

    Args:
        classifier: Description for :func:`cathode.classifiers.registry.build_classifier`.
        inputs: What it sees: the CaloChallenge's ``high``-level or ``low``-level vector, or ``both``.
        largest_weight: Cap on the weights; the showers above it are counted.
        held_out: Fraction of both samples that the report is made from and that is not trained on.
        largest_draws: With rejection: draws for one shower before the last one is kept whatever its weight.
    """

    classifier: dict[str, Any] = field(default_factory=lambda: {"kind": "mlp", "members": 3, "epochs": 40})
    inputs: Literal["high", "low", "both"] = "both"
    largest_weight: float = 10.0
    held_out: float = 0.25
    largest_draws: int = 100

    def __post_init__(self) -> None:
        if self.inputs not in ("high", "low", "both"):
            raise UserError(f"refinement setting inputs: must be high, low or both, got {self.inputs!r}")
        if not self.largest_weight > 1.0:
            raise UserError(f"refinement setting largest_weight: must be above 1, got {self.largest_weight}")
        if not 0.0 < self.held_out < 1.0:
            raise UserError(f"refinement setting held_out: must be between 0 and 1, got {self.held_out}")
        if self.largest_draws < 1:
            raise UserError(f"refinement setting largest_draws: must be at least 1, got {self.largest_draws}")


@dataclass(frozen=True)
class WeightAccount:
    """What weights cost.

    Attributes:
        showers: N.
        mean: Mean weight; 1 for a ratio of densities that are both normalised.
        effective: Kish's effective number of showers, ``(sum w)^2 / sum w^2``.
        efficiency: ``effective / N``: showers of the reference that one weighted shower is worth.
        acceptance: Fraction of showers that rejection keeps, ``mean / largest``.
        capped: Fraction of showers whose weight was above the cap.
    """

    showers: int
    mean: float
    effective: float
    efficiency: float
    acceptance: float
    capped: float


@dataclass(frozen=True)
class RefinementReport:
    """The refinement on showers that its classifier did not see.

    Attributes:
        auc: Of the classifier, reference against generated showers: what there is to correct.
        auc_error: Its standard error.
        refined_auc: The same classifier against the weighted showers: what of that is left.
        refined_auc_error: Its standard error.
        weights: Of the held-out generated showers.
        seconds: Time of the training.
    """

    auc: float
    auc_error: float
    refined_auc: float
    refined_auc_error: float
    weights: WeightAccount
    seconds: float


def account(raw: NDArray[np.floating], *, largest: float) -> WeightAccount:
    """The account of uncapped weights ``(N,)`` under the cap ``largest``.

    Raises:
        UserError: No weights, or weights that are negative or not finite.
    """
    weights = np.asarray(raw, dtype=np.float64)
    if not len(weights) or not bool(np.all(np.isfinite(weights) & (weights >= 0))):
        raise UserError("an account of weights needs weights that are finite and not negative")
    used = np.minimum(weights, largest)
    squares = float((used**2).sum())
    effective = float(used.sum() ** 2 / squares) if squares > 0 else 0.0
    return WeightAccount(
        showers=len(used),
        mean=float(used.mean()),
        effective=effective,
        efficiency=effective / len(used),
        acceptance=float(used.mean() / largest),
        capped=float((weights > largest).mean()),
    )


class Refinement:
    """A trained classifier as a weight of showers.

    Args:
        classifier: Trained on reference (1) against generated (0).
        settings: It was made with.
        threshold: Voxels below [MeV] count as empty.
        voxels: Voxels of a shower that it takes.
        report: Of the training; None if it is not known.
    """

    def __init__(
        self,
        classifier: Classifier,
        settings: RefinementSettings,
        *,
        threshold: float,
        voxels: int,
        report: RefinementReport | None = None,
    ) -> None:
        self.classifier, self.settings = classifier, settings
        self.threshold, self.voxels, self.report = threshold, voxels, report

    def raw_weights(self, showers: Showers) -> NDArray[np.float64]:
        """Estimated density ratio of each shower ``(N,)``, without the cap.

        Raises:
            UserError: Showers of another number of voxels.
        """
        if showers.geometry.n_voxels != self.voxels:
            raise UserError(
                f"the refinement was trained on showers of {self.voxels} voxels, these have {showers.geometry.n_voxels}"
            )
        # exp of the largest double that still has a square; the cap is far below.
        score = self.classifier.decision_function(_inputs(showers, self.settings.inputs, self.threshold))
        return np.exp(np.minimum(score, 300.0))

    def weights(self, showers: Showers) -> NDArray[np.float64]:
        """Weight of each shower ``(N,)``, capped."""
        return np.minimum(self.raw_weights(showers), self.settings.largest_weight)

    def save(self, folder: str | Path) -> None:
        """Write ``refinement.json`` and the folder ``classifier``, whole or not at all."""
        with atomic_directory(folder) as inside:
            self.classifier.save(inside / "classifier")
            content = {
                "format": 1,
                "settings": asdict(self.settings),
                "threshold": self.threshold,
                "voxels": self.voxels,
                "report": None if self.report is None else asdict(self.report),
            }
            write_json(inside / "refinement.json", content)


def load_refinement(folder: str | Path) -> Refinement:
    """The refinement in ``folder``.

    Raises:
        UserError: Missing or damaged files.
    """
    path = Path(folder) / "refinement.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        report = content["report"]
        if report is not None:
            report = RefinementReport(**{**report, "weights": WeightAccount(**report["weights"])})
        settings = RefinementSettings(**content["settings"])
        threshold, voxels = float(content["threshold"]), int(content["voxels"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {path}: {error!r}") from error
    classifier = load_classifier(Path(folder) / "classifier")
    return Refinement(classifier, settings, threshold=threshold, voxels=voxels, report=report)


def fit_refinement(
    reference: Showers, generated: Showers, settings: RefinementSettings | None = None, *, threshold: float, seed: int
) -> Refinement:
    """Train the classifier and report on showers that it did not see.

    Args:
        reference: Showers of full simulation, none of which the final evaluation uses.
        generated: Showers of the generator for the same incident energies and conditions, in any order.
        settings: Of the refinement.
        threshold: Voxels below [MeV] count as empty, in both.
        seed: Of the split and the classifier.

    Raises:
        UserError: Samples that do not fit each other, or too few showers.
    """
    settings = settings or RefinementSettings()
    if reference.geometry.n_voxels != generated.geometry.n_voxels:
        raise UserError(
            f"reference showers have {reference.geometry.n_voxels} voxels, generated ones {generated.geometry.n_voxels}"
        )
    if reference.condition_names != generated.condition_names:
        raise UserError(
            f"reference showers have the conditions {list(reference.condition_names)}, "
            f"generated ones {list(generated.condition_names)}"
        )
    _check_same_energies(reference, generated)
    started = time.perf_counter()
    (train_r, test_r), (train_g, test_g) = (
        _split(s, settings.held_out, numpy_generator(seed, "refinement", name))
        for name, s in (("reference", reference), ("generated", generated))
    )
    features = [_inputs(s, settings.inputs, threshold) for s in (train_r, train_g)]
    labels = np.repeat([1, 0], [len(train_r), len(train_g)])
    classifier: Any = build_classifier(settings.classifier)
    classifier.set_params(random_state=derive_seed(seed, "refinement", "classifier"))
    classifier.fit(np.concatenate(features), labels)
    refinement = Refinement(classifier, settings, threshold=threshold, voxels=reference.geometry.n_voxels)
    raw = refinement.raw_weights(test_g)
    scores = [classifier.decision_function(_inputs(s, settings.inputs, threshold)) for s in (test_r, test_g)]
    used = np.minimum(raw, settings.largest_weight)
    auc, error = auc_with_error(scores[0], scores[1])
    refined, refined_error = auc_with_error(scores[0], scores[1], negative_weight=used)
    refinement.report = RefinementReport(
        auc,
        error,
        refined,
        refined_error,
        account(raw, largest=settings.largest_weight),
        time.perf_counter() - started,
    )
    return refinement


@dataclass(frozen=True)
class RefinedShowers:
    """Showers kept by rejection, and what they cost.

    Attributes:
        showers: One for each incident energy.
        drawn: Showers that were generated for them.
        capped: Drawn showers whose weight was above the cap.
        exhausted: Showers that were kept after the largest number of draws, whatever their weight.
        redrawn: Unphysical showers that the generator drew again.
        seconds: In generator and classifier.
    """

    showers: Showers
    drawn: int
    capped: int
    exhausted: int
    redrawn: int
    seconds: float

    @property
    def acceptance(self) -> float:
        """Kept over drawn showers."""
        return len(self.showers) / self.drawn


def generate_refined(
    generator: ShowerGenerator,
    refinement: Refinement,
    incident_energy: NDArray[np.floating],
    conditions: NDArray[np.floating] | None = None,
    *,
    seed: int,
    batch_size: int = 1000,
) -> RefinedShowers:
    """One shower for each incident energy, unweighted: drawn until its weight is accepted.

    A rejected shower is drawn again with the same incident energy and conditions, so these stay as they were asked for.

    Args:
        generator: Trained.
        refinement: Fitted to this generator.
        incident_energy: ``(N,)`` or ``(N, 1)`` [MeV].
        conditions: ``(N, K)``.
        seed: Fixes the showers.
        batch_size: Showers generated at once.

    Raises:
        UserError: Unusable energies or conditions, or a refinement of other showers.
    """
    started = time.perf_counter()
    incident = np.asarray(incident_energy, dtype=np.float32).reshape(-1, 1)
    largest, attempts = refinement.settings.largest_weight, refinement.settings.largest_draws
    waiting = np.arange(len(incident))
    kept = np.zeros((len(incident), generator.geometry.n_voxels), dtype=np.float32)
    drawn = capped = exhausted = redrawn = 0
    chance = numpy_generator(seed, "rejection")
    for attempt in progress(range(attempts), description="refining", total=attempts, unit="round"):
        if not len(waiting):
            break
        given = None if conditions is None else np.asarray(conditions)[waiting]
        part = generate(
            generator, incident[waiting], given, seed=derive_seed(seed, "refined", attempt), batch_size=batch_size
        )
        raw = refinement.raw_weights(part.showers)
        drawn += len(waiting)
        redrawn += part.redrawn
        capped += int((raw > largest).sum())
        accepted = chance.random(len(raw)) * largest < raw
        if attempt == attempts - 1:
            exhausted = int((~accepted).sum())
            accepted[:] = True
        kept[waiting[accepted]] = part.showers.energies[accepted]
        waiting = waiting[~accepted]
    if exhausted:
        logger.warning("%d of %d showers were kept after %d rejections", exhausted, len(incident), attempts)
    showers = Showers.unchecked(
        incident,
        kept,
        generator.geometry,
        None if conditions is None else np.asarray(conditions, dtype=np.float32),
        generator.condition_names,
    )
    return RefinedShowers(showers, drawn, capped, exhausted, redrawn, time.perf_counter() - started)


def _inputs(showers: Showers, inputs: str, threshold: float) -> np.ndarray:
    parts = []
    if inputs in ("high", "both"):
        parts.append(high_level_features(showers, threshold=threshold)[0])
    if inputs in ("low", "both"):
        parts.append(low_level_features(showers, normed=True, threshold=threshold))
    if showers.conditions is not None:
        parts.append(showers.conditions)
    return np.concatenate(parts, axis=1)


def _split(showers: Showers, held_out: float, generator: np.random.Generator) -> tuple[Showers, Showers]:
    order = generator.permutation(len(showers))
    count = round(held_out * len(showers))
    if count < 10 or len(showers) - count < 10:
        raise UserError(f"{len(showers)} showers are too few for a refinement with {held_out:g} of them held out")
    return showers[order[count:]], showers[order[:count]]


def _check_same_energies(reference: Showers, generated: Showers) -> None:
    """The ratio of the showers must not become the ratio of the incident energies."""
    from scipy.stats import ks_2samp

    first, second = reference.incident_energy[:, 0], generated.incident_energy[:, 0]
    p_value = float(ks_2samp(first, second).pvalue)
    if p_value < 1e-6:
        raise UserError(
            f"reference and generated showers have different incident energies (medians {np.median(first):g} and "
            f"{np.median(second):g} MeV): generate with --like the reference"
        )
