"""Does what experiments do with showers come out the same?  Energy regression and particle identification.

Each is trained on one sample and applied to both: to showers of the same sample that it did not see, and to showers of
the other.  A generator passes if the other sample's numbers agree within errors, in both directions: trained on the
reference (what happens when generated showers meet the experiment's calibration) and trained on generated showers (what
happens when the generator calibrates the experiment).  Every shower is used once, by one of several trainings, so the
two samples are treated alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cathode.comparison.auc import auc_with_error
from cathode.support.errors import UserError
from cathode.support.progress import progress
from cathode.support.seeding import derive_seed, numpy_generator
from cathode.support.threads import threads_setting
from fastsim.data import Showers
from fastsim.evaluation.classifiers.interval import combined
from fastsim.evaluation.classifiers.results import Interval
from fastsim.evaluation.energies import EnergyGroup, check_spectra, energy_groups
from fastsim.evaluation.features import high_level_features
from fastsim.evaluation.response import Spread, spread

__all__ = [
    "Difference",
    "EnergyClosure",
    "EnergyPoint",
    "ParticleClosure",
    "WorkingPoint",
    "energy_regression",
    "particle_identification",
]

Trained = Literal["reference", "generated"]

_FOLDS = 3
_LEAST = 10


@dataclass(frozen=True)
class Difference:
    """A difference with its standard error; ``pull`` is their ratio."""

    value: float
    error: float

    @property
    def pull(self) -> float:
        """Value over error, 0 if both vanish."""
        return self.value / self.error if self.error > 0 else 0.0


@dataclass(frozen=True)
class EnergyPoint:
    """Reconstructed over incident energy, of showers of one energy or one interval.

    Attributes:
        energy: Incident energy [MeV]; see :class:`~fastsim.evaluation.energies.EnergyGroup`.
        showers: Number of reference and generated showers.
        reference: Mean and width of E_reco / E_inc.
        generated: The same of generated showers.
        scale: Generated minus reference mean.
        resolution: Generated minus reference width.
    """

    energy: float
    showers: tuple[int, int]
    reference: Spread
    generated: Spread
    scale: Difference
    resolution: Difference


@dataclass(frozen=True)
class EnergyClosure:
    """Energy regression, trained on one of the samples.

    Attributes:
        trained_on: ``"reference"`` or ``"generated"``.
        points: Per incident energy; groups with fewer than ten showers of either sample are left out.
        empty: Number of reference and of generated showers without any energy, which nothing can be regressed from.
    """

    trained_on: Trained
    points: tuple[EnergyPoint, ...]
    empty: tuple[int, int]


@dataclass(frozen=True)
class WorkingPoint:
    """A cut on the identification score that keeps a fixed fraction of the reference's signal.

    Attributes:
        efficiency: Of the reference signal.
        reference: Fraction of the reference background that passes, with its error.
        generated: The same of the generated background.
        generated_efficiency: Fraction of the generated signal that passes, with its error.
    """

    efficiency: float
    reference: Difference
    generated: Difference
    generated_efficiency: Difference


@dataclass(frozen=True)
class ParticleClosure:
    """Particle identification, trained on one of the samples.

    Attributes:
        trained_on: ``"reference"`` or ``"generated"``.
        particles: Names of signal and background.
        reference: AUC of signal against background in the reference, with its 95 % interval.
        generated: The same of generated showers.
        difference: Generated minus reference AUC.
        working_points: At fixed efficiencies.
    """

    trained_on: Trained
    particles: tuple[str, str]
    reference: Interval
    generated: Interval
    difference: Difference
    working_points: tuple[WorkingPoint, ...]


def energy_regression(
    reference: Showers, generated: Showers, *, seed: int = 0, threshold: float | None = None
) -> tuple[EnergyClosure, EnergyClosure]:
    """Closure of the incident energy reconstructed from the showers, trained on the reference and on generated showers.

    log(E_inc / E_tot) is regressed by ridge regression on the observables and on products with log E_tot: smooth in the
    energy, as a calibration must be; a tree or a large network would learn the list of simulated energies instead.

    Args:
        reference: Full simulation.
        generated: Of the generator, same geometry and same spectrum.
        seed: Of the folds.
        threshold: Voxels below it [MeV] count as empty; default: that of the public dataset, else 0.

    Raises:
        UserError: Different geometries or spectra, or fewer than ten showers per fold and sample.
    """
    _same_geometry([reference, generated])
    check_spectra(reference.incident_energy, generated.incident_energy)
    samples = [_Calibration.of(s, threshold) for s in (reference, generated)]
    _enough([len(s.target) for s in samples])
    folds = [_folds_of(len(s.target), seed, k) for k, s in enumerate(samples)]
    groups = energy_groups(np.concatenate([s.incident for s in samples]))
    found = []
    names: tuple[Trained, Trained] = ("reference", "generated")
    for trained, name in enumerate(names):
        responses = [np.empty(len(s.target)) for s in samples]
        for k in range(_FOLDS):
            rows = folds[trained] != k
            predict = _ridge(samples[trained].features[rows], samples[trained].target[rows])
            for s, fold, response in zip(samples, folds, responses, strict=True):
                unseen = fold == k
                response[unseen] = np.exp(predict(s.features[unseen]) - s.target[unseen])
        points = tuple(_points(groups, samples, responses))
        found.append(EnergyClosure(name, points, (samples[0].empty, samples[1].empty)))
    return found[0], found[1]


def particle_identification(
    reference: tuple[Showers, Showers],
    generated: tuple[Showers, Showers],
    *,
    particles: tuple[str, str] = ("signal", "background"),
    efficiencies: Sequence[float] = (0.9, 0.95, 0.99),
    seed: int = 0,
    threshold: float | None = None,
) -> tuple[ParticleClosure, ParticleClosure]:
    """Closure of particle identification, trained on the reference and on generated showers.

    Boosted trees tell the two particles apart by the observables, without the incident energy.  Cuts are placed per
    fold, by quantile of the reference signal.

    Args:
        reference: Full simulation of both particles, in one geometry and with one spectrum.
        generated: Of the generators, in the same order.
        particles: Names of both.
        efficiencies: Of the reference signal, at which backgrounds are compared.
        seed: Of folds and trees.
        threshold: As for :func:`energy_regression`.

    Raises:
        UserError: Different geometries or spectra, too few showers, or efficiencies outside of (0, 1).
    """
    if not all(0.0 < e < 1.0 for e in efficiencies):
        raise UserError(f"identification efficiencies must lie between 0 and 1, got {list(efficiencies)}")
    _same_geometry([*reference, *generated])
    for other in (reference[1], *generated):
        check_spectra(reference[0].incident_energy, other.incident_energy)
    _enough([len(s) for s in (*reference, *generated)])
    features = [
        [high_level_features(s, threshold=threshold)[0][:, 1:] for s in pair] for pair in (reference, generated)
    ]
    folds = [[_folds_of(len(x), seed, 2 * i + j) for j, x in enumerate(pair)] for i, pair in enumerate(features)]
    found = []
    names: tuple[Trained, Trained] = ("reference", "generated")
    for trained, name in enumerate(names):
        scores = [[np.empty(len(x)) for x in pair] for pair in features]
        for k in progress(range(_FOLDS), description=f"particle identification, trained on {name}", unit="fold"):
            parts = [x[f != k] for x, f in zip(features[trained], folds[trained], strict=True)]
            score = _identification(parts[0], parts[1], derive_seed(seed, "identification", name, k))
            for pair, of_pair, fold in zip(features, scores, folds, strict=True):
                for x, s, f in zip(pair, of_pair, fold, strict=True):
                    s[f == k] = score(x[f == k])
        found.append(_particle_closure(name, particles, scores, folds, efficiencies))
    return found[0], found[1]


@dataclass(frozen=True)
class _Calibration:
    """Showers with energy: inputs of the regression, log(E_inc / E_tot), and the incident energy [MeV]."""

    features: np.ndarray
    target: np.ndarray
    incident: np.ndarray
    empty: int

    @classmethod
    def of(cls, showers: Showers, threshold: float | None) -> _Calibration:
        observables, names = high_level_features(showers, threshold=threshold)
        observables = observables.astype(np.float64)
        log_total = observables[:, names.index("log10_e_tot")]
        filled = log_total > -7.0  # 1e-8 MeV stands for an empty shower
        observables, log_total = observables[filled], log_total[filled, None]
        layers = [k for k, n in enumerate(names) if n.startswith("log10_e_layer")]
        fractions = 10.0 ** (observables[:, layers] - log_total)
        others = [k for k, n in enumerate(names) if not n.startswith("log10")]
        shape = np.concatenate([fractions, np.sqrt(fractions), observables[:, others]], axis=1)
        powers = np.concatenate([log_total**p for p in (1, 2, 3)], axis=1)
        incident = np.asarray(showers.incident_energy, dtype=np.float64)[filled, 0]
        target = np.log(incident) - np.log(10.0) * log_total[:, 0]
        features = np.concatenate([powers, shape, shape * log_total], axis=1)
        return cls(features, target, incident, int((~filled).sum()))


def _ridge(features: np.ndarray, target: np.ndarray, penalty: float = 1e-3) -> Callable[[np.ndarray], np.ndarray]:
    mean, spread_ = features.mean(axis=0), features.std(axis=0)
    scale = np.where(spread_ > 1e-9, spread_, np.inf)
    z = (features - mean) / scale
    weights = np.linalg.solve(z.T @ z + penalty * len(z) * np.eye(z.shape[1]), z.T @ (target - target.mean()))
    return lambda x: np.clip((x - mean) / scale, -10.0, 10.0) @ weights + target.mean()


def _identification(signal: np.ndarray, background: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    trees = HistGradientBoostingClassifier(
        max_iter=200,
        max_leaf_nodes=15,
        l2_regularization=10.0,
        class_weight="balanced",
        early_stopping=True,
        validation_fraction=0.2,
        random_state=seed,
    )
    with threadpool_limits(limits=threads_setting(), user_api="openmp"):
        trees.fit(np.concatenate([signal, background]), np.repeat([1, 0], [len(signal), len(background)]))

    def score(x: np.ndarray) -> np.ndarray:
        with threadpool_limits(limits=threads_setting(), user_api="openmp"):
            return trees.decision_function(x)

    return score


def _points(
    groups: Sequence[EnergyGroup], samples: Sequence[_Calibration], responses: Sequence[np.ndarray]
) -> Iterator[EnergyPoint]:
    for group in groups:
        rows = [group.rows(s.incident) for s in samples]
        if min(map(len, rows)) < _LEAST:
            continue
        first, second = (spread(r[k]) for r, k in zip(responses, rows, strict=True))
        yield EnergyPoint(
            energy=group.energy,
            showers=(len(rows[0]), len(rows[1])),
            reference=first,
            generated=second,
            scale=Difference(second.mean - first.mean, float(np.hypot(first.mean_error, second.mean_error))),
            resolution=Difference(second.width - first.width, float(np.hypot(first.width_error, second.width_error))),
        )


def _particle_closure(
    trained_on: Trained,
    particles: tuple[str, str],
    scores: list[list[np.ndarray]],
    folds: list[list[np.ndarray]],
    efficiencies: Sequence[float],
) -> ParticleClosure:
    areas = []
    for (signal, background), (signal_fold, background_fold) in zip(scores, folds, strict=True):
        per_fold = [auc_with_error(signal[signal_fold == k], background[background_fold == k]) for k in range(_FOLDS)]
        values, errors = zip(*per_fold, strict=True)
        areas.append(combined(values, errors, independent_showers=True, low=0.0, high=1.0))
    points = []
    for efficiency in efficiencies:
        passed = [[0, 0], [0, 0]]
        for k in range(_FOLDS):
            cut = np.quantile(scores[0][0][folds[0][0] == k], 1.0 - efficiency)
            for i in range(2):
                for j in range(2):
                    passed[i][j] += int((scores[i][j][folds[i][j] == k] >= cut).sum())
        points.append(
            WorkingPoint(
                efficiency=efficiency,
                reference=_fraction(passed[0][1], len(scores[0][1])),
                generated=_fraction(passed[1][1], len(scores[1][1])),
                generated_efficiency=_fraction(passed[1][0], len(scores[1][0])),
            )
        )
    difference = Difference(areas[1].value - areas[0].value, float(np.hypot(areas[0].error, areas[1].error)))
    return ParticleClosure(trained_on, particles, areas[0], areas[1], difference, tuple(points))


def _fraction(passed: int, total: int) -> Difference:
    # One event is added to either side, so that none passing does not mean no error.
    p = (passed + 1.0) / (total + 2.0)
    return Difference(passed / total, float(np.sqrt(p * (1.0 - p) / total)))


def _folds_of(showers: int, seed: int, stream: int) -> np.ndarray:
    return numpy_generator(seed, "closure", "folds", stream).permutation(showers) % _FOLDS


def _same_geometry(samples: Sequence[Showers]) -> None:
    for other in samples[1:]:
        if other.geometry != samples[0].geometry:
            raise UserError(
                f"closure tests compare showers of one geometry, got {samples[0].geometry.name!r} and "
                f"{other.geometry.name!r}"
            )


def _enough(counts: Sequence[int]) -> None:
    if min(counts) < _LEAST * _FOLDS:
        raise UserError(
            f"closure tests need at least {_LEAST * _FOLDS} showers with energy in each sample, got {list(counts)}"
        )
