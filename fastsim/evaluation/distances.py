"""The physics-free comparisons of :mod:`cathode.comparison`, applied to showers as the evaluation mode says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cathode.comparison.amplification import Amplification, amplification
from cathode.comparison.estimate import Estimate
from cathode.comparison.frechet import Protocol, fpd
from cathode.comparison.kernel import kpd
from cathode.comparison.prdc import PRDC, prdc
from cathode.comparison.support import SupportSize, support_size
from cathode.support.errors import UserError
from cathode.support.seeding import numpy_generator
from fastsim.evaluation.energies import energy_groups
from fastsim.evaluation.features import high_level_features, log_voxels, zero_level
from fastsim.evaluation.observables import observables
from fastsim.evaluation.procedure import Mode, checked_mode

if TYPE_CHECKING:
    from fastsim.data import Showers

__all__ = ["amplification_test", "frechet_and_kernel", "precision_recall", "support"]


def frechet_and_kernel(
    reference: Showers, generated: Showers, mode: Mode = "strict", *, threshold: float | None = None, seed: int = 42
) -> tuple[Estimate, Estimate]:
    """FPD and KPD of the high-level vectors; published values are times 1000.

    ``calochallenge`` is the jetnet library with 10,000 to 50,000 showers for FPD and batches of 10,000 for KPD, drawn
    with replacement; ``strict`` is unbiased at any sample size.

    Raises:
        UserError: As :func:`high_level_features`, or too few showers.
    """
    first, second = (high_level_features(s, mode, threshold=threshold)[0] for s in (reference, generated))
    protocol: Protocol = "jetnet" if checked_mode(mode) == "calochallenge" else "strict"
    return fpd(first, second, protocol=protocol, seed=seed), kpd(first, second, protocol=protocol, seed=seed)


def precision_recall(
    reference: Showers,
    generated: Showers,
    mode: Mode = "strict",
    *,
    threshold: float | None = None,
    max_events: int | None = 10_000,
    seed: int = 0,
) -> PRDC:
    """Precision, recall, density and coverage in the logarithms of the voxel energies, with 5 neighbours.

    ``calochallenge`` puts empty voxels at 0.1 MeV and leaves out showers on the surface of a ball; ``strict`` puts them
    at a tenth of the threshold, and counts the surface, so that identical showers are covered.

    Raises:
        UserError: As :func:`log_voxels`, or too few showers.
    """
    zero = zero_level(reference, threshold=threshold)
    samples = [s[_some(len(s), max_events, seed, k)] for k, s in enumerate((reference, generated))]
    first, second = (log_voxels(s, mode, threshold=threshold, zero=zero) for s in samples)
    return prdc(first, second, closed=mode == "strict", max_events=max_events, seed=seed)


def support(
    reference: Showers,
    generated: Showers,
    *,
    threshold: float | None = None,
    max_events: int = 10_000,
    seed: int = 0,
) -> SupportSize:
    """Effective number of different showers, as near neighbours in the logarithms of the voxel energies tell.

    Showers are compared with those of the same incident energy, or of the same of 16 intervals of its logarithm.

    Raises:
        UserError: As :func:`log_voxels`, or too few showers.
    """
    zero = zero_level(reference, threshold=threshold)
    samples = [s[_some(len(s), max_events, seed, k)] for k, s in enumerate((reference, generated))]
    first, second = (log_voxels(s, threshold=threshold, zero=zero) for s in samples)
    groups = energy_groups(samples[0].incident_energy, bins=16)
    strata = [np.full(len(s), -1 - k, dtype=np.int64) for k, s in enumerate(samples)]
    for label, group in enumerate(groups):
        for stratum, s in zip(strata, samples, strict=True):
            stratum[group.rows(s.incident_energy)] = label
    return support_size(first, second, strata=(strata[0], strata[1]), max_events=max_events, seed=seed)


def amplification_test(
    truth: Showers,
    training: Showers,
    generated: Showers,
    *,
    names: Sequence[str] = ("e_tot_over_e_inc", "centre_r", "width_r", "centre_z"),
    quantiles: int = 20,
    threshold: float | None = None,
) -> dict[str, Amplification]:
    """Quantile errors of the training sample, of a fit to it and of the generated sample, observable by observable.

    All samples need the same spectrum of incident energies.

    Args:
        truth: Showers of the full simulation, none of them in ``training`` and many more of them.
        training: Showers that the generator was trained on.
        generated: Generated showers, ideally many more than ``training``.
        names: Observables; those that the geometry does not have are left out.
        quantiles: Number of quantiles of the truth.
        threshold: As for :func:`~fastsim.evaluation.observables.observables`.

    Raises:
        UserError: None of the observables exists, or too few showers.
    """
    values = [observables(s, threshold=threshold) for s in (truth, training, generated)]
    known = [name for name in names if name in values[0]]
    if not known:
        raise UserError(f"none of the observables {', '.join(names)} exists: choose from {', '.join(values[0])}")
    return {name: amplification(*(v[name].values for v in values), quantiles=quantiles) for name in known}


def _some(events: int, most: int | None, seed: int, side: int) -> np.ndarray:
    """At most so many rows, before logarithms of all voxels fill the memory."""
    return np.sort(numpy_generator(seed, "distances", side).permutation(events)[:most])
