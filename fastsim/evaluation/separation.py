"""Histograms of every observable in both samples, and their separation powers and Wasserstein distances.

``calochallenge`` normalises what lies inside the bins: showers outside and the exact zeros of empty layers are lost,
so that a wrong fraction of empty layers costs nothing.  ``strict`` uses the same bins and adds three: below, above, and
exactly zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cathode.comparison.estimate import Estimate, random_groups
from cathode.comparison.separation import grouped_separation, separation
from cathode.comparison.wasserstein import wasserstein
from cathode.support.errors import UserError
from cathode.support.seeding import numpy_generator
from fastsim.evaluation.bins import energy_bins, is_logarithmic, observable_edges, response_edges
from fastsim.evaluation.energies import energy_groups
from fastsim.evaluation.observables import Kind, Observables, observables
from fastsim.evaluation.procedure import Dataset, Mode, checked_mode, dataset_of, voxel_threshold

if TYPE_CHECKING:
    from fastsim.data import Showers

__all__ = ["PairedHistogram", "SeparationPower", "mean_separations", "separation_powers", "wasserstein_distances"]

Array = NDArray[np.float64]

# Groups of showers that the voxels' common fluctuations are taken from.
_GROUPS = 40
_NAN = float("nan")


@dataclass(frozen=True, eq=False)
class PairedHistogram:
    """Counts of both samples in the same bins.

    Attributes:
        edges: Bin edges ``(bins + 1,)``.
        logarithmic: Whether they are equally spaced in the logarithm.
        reference, generated: Counts in the bins ``(bins,)``.
        reference_outside, generated_outside: Counts below, above, and exactly zero ``(3,)``; exact zeros are in no bin.
            In mode ``calochallenge`` zeros within the bins are in theirs, and the third count is 0.
    """

    edges: Array
    logarithmic: bool
    reference: Array
    generated: Array
    reference_outside: Array
    generated_outside: Array


@dataclass(frozen=True, eq=False)
class SeparationPower:
    """How well one observable tells the samples apart.

    Attributes:
        name: Name of the observable, with ``_at_ENERGY`` for showers of one incident energy.
        label: In words.
        unit: Of the observable.
        kind: What it measures, the same for all layers.
        layer: Id of its layer; None for the whole shower.
        energy: Incident energy [MeV] if it is about showers of one only (or of one interval around it).
        power: Between 0 and 1; ``expected`` for samples of one distribution; NaN if a histogram is empty.
        histogram: What it was computed from.
    """

    name: str
    label: str
    unit: str
    kind: Kind
    layer: int | None
    energy: float | None
    power: Estimate
    histogram: PairedHistogram


def separation_powers(
    reference: Showers, generated: Showers, mode: Mode = "strict", *, threshold: float | None = None, seed: int = 0
) -> tuple[SeparationPower, ...]:
    """Separation power of every observable, of the voxel energies, and of the total energy at each incident energy.

    Args:
        reference: Showers of the full simulation.
        generated: Showers to compare with them, in the same geometry.
        mode: Evaluation mode; sets bins and what happens outside.
        threshold: Voxels below it [MeV] count as empty; default: that of the public dataset.
        seed: Of the groups of showers that give the error of the voxel spectrum.

    Raises:
        UserError: Different geometries, or as :func:`~fastsim.evaluation.procedure.voxel_threshold`.
    """
    geometry = reference.geometry
    if generated.geometry != geometry:
        raise UserError(f"reference has geometry {geometry.name!r}, generated {generated.geometry.name!r}: use one")
    cut = voxel_threshold(geometry, checked_mode(mode), threshold)
    dataset = dataset_of(geometry)
    both = tuple(observables(showers, mode, threshold=cut) for showers in (reference, generated))
    powers = [_of_observable(both, name, dataset, cut, mode) for name in both[0]]
    powers.insert(1, _of_voxels(reference, generated, cut, mode, seed))
    incident = [np.asarray(s.incident_energy, dtype=np.float64).ravel() for s in (reference, generated)]
    return (*powers, *_per_energy(both, incident, dataset, mode))


def wasserstein_distances(
    reference: Showers, generated: Showers, mode: Mode = "strict", *, threshold: float | None = None, seed: int = 0
) -> dict[str, Estimate]:
    """1-Wasserstein distance of every observable, in standard deviations of the reference.

    Raises:
        UserError: As :func:`~fastsim.evaluation.procedure.voxel_threshold`.
    """
    first, second = (observables(showers, mode, threshold=threshold) for showers in (reference, generated))
    return {name: wasserstein(second[name].values, first[name].values, seed=seed) for name in first}


def mean_separations(powers: Sequence[SeparationPower]) -> dict[Kind, Estimate]:
    """Mean separation power of the layers of each kind, as the CaloChallenge's tables quote it, errors as independent.

    Per-layer kinds leave out the observables of the whole shower, and none counts showers of a single incident energy.
    Layers that are empty in one sample (NaN) are left out.
    """
    result: dict[Kind, Estimate] = {}
    for kind in dict.fromkeys(p.kind for p in powers):
        all_of = [p for p in powers if p.kind == kind and p.energy is None]
        members = [p.power for p in all_of if p.layer is not None] or [p.power for p in all_of]
        usable = [e for e in members if np.isfinite(e.value)]
        if usable:
            error = float(np.sqrt(np.sum([e.error**2 for e in usable]))) / len(usable)
            value, expected = (float(np.mean([getattr(e, part) for e in usable])) for part in ("value", "expected"))
            result[kind] = Estimate(value, error, expected)
    return result


def _of_observable(
    both: tuple[Observables, ...], name: str, dataset: Dataset | None, cut: float, mode: Mode
) -> SeparationPower:
    one = both[0][name]
    histogram = _paired(observable_edges(one, dataset, cut), [o[name].values for o in both], mode)
    return SeparationPower(name, one.label, one.unit, one.kind, one.layer, None, _power(histogram, mode), histogram)


def _per_energy(
    both: tuple[Observables, ...], incident: list[Array], dataset: Dataset | None, mode: Mode
) -> list[SeparationPower]:
    result = []
    one = both[0]["e_tot_over_e_inc"]
    for group in energy_groups(incident[0]):
        values = [o["e_tot_over_e_inc"].values[group.rows(e)] for o, e in zip(both, incident, strict=True)]
        if min(map(len, values)) == 0:
            continue
        histogram = _paired(response_edges(values[0], dataset, group.energy), values, mode)
        result.append(
            SeparationPower(
                f"{one.name}_at_{group.energy:.6g}",
                f"{one.label} at {group.energy:.6g} MeV",
                one.unit,
                one.kind,
                None,
                group.energy,
                _power(histogram, mode),
                histogram,
            )
        )
    return result


def _of_voxels(reference: Showers, generated: Showers, cut: float, mode: Mode, seed: int) -> SeparationPower:
    largest = np.array([reference.energies.max()], dtype=np.float64)
    if cut == 0:
        filled = reference.energies[:2000]
        largest = np.append(largest, filled[filled > 0].min(initial=largest[0] or 1.0))
    edges = energy_bins(largest, cut, 50)
    counts = []
    for side, showers in enumerate((reference, generated)):
        groups = random_groups(len(showers), min(_GROUPS, len(showers)), numpy_generator(seed, "voxels", side))
        counts.append(np.stack([_voxel_counts(showers.energies[rows], edges, cut) for rows in groups]))
    inside = [c[:, :-3] for c in counts]
    histogram = PairedHistogram(
        edges,
        True,
        inside[0].sum(axis=0),
        inside[1].sum(axis=0),
        counts[0][:, -3:].sum(axis=0),
        counts[1][:, -3:].sum(axis=0),
    )
    used = inside if mode == "calochallenge" else counts
    usable = all(len(c) > 1 and c.sum() > 0 for c in used)
    power = grouped_separation(*used) if usable else Estimate(_NAN, _NAN, _NAN)
    return SeparationPower("e_voxel", "voxel energy", "MeV", "energy-voxel", None, None, power, histogram)


def _voxel_counts(energies: np.ndarray, edges: Array, cut: float) -> Array:
    """Counts in the bins, then below, above and empty."""
    filled = energies[(energies > 0) & (energies >= np.float32(cut))].astype(np.float64)
    # Float32 of the threshold may lie a rounding below it.
    below, above = int((filled < edges[0] * (1 - 1e-6)).sum()), int((filled > edges[-1]).sum())
    inside = np.histogram(np.maximum(filled[filled <= edges[-1]], edges[0]), edges)[0].astype(np.float64)
    inside[0] -= below
    return np.concatenate([inside, [below, above, energies.size - len(filled)]])


def _paired(edges: Array, values: list[NDArray[np.float32]], mode: Mode) -> PairedHistogram:
    parts = []
    for one in values:
        x = one.astype(np.float64)
        zeros = 0 if mode == "calochallenge" else int((x == 0).sum())
        x = x if mode == "calochallenge" else x[x != 0]
        inside = np.histogram(x, edges)[0].astype(np.float64)
        outside = np.array([(x < edges[0]).sum(), (x > edges[-1]).sum(), zeros], dtype=np.float64)
        parts.append((inside, outside))
    return PairedHistogram(edges, is_logarithmic(edges), parts[0][0], parts[1][0], parts[0][1], parts[1][1])


def _power(histogram: PairedHistogram, mode: Mode) -> Estimate:
    counts = [histogram.reference, histogram.generated]
    if mode == "strict":
        outside = (histogram.reference_outside, histogram.generated_outside)
        counts = [np.concatenate([c, o]) for c, o in zip(counts, outside, strict=True)]
    if min(c.sum() for c in counts) == 0:
        return Estimate(_NAN, _NAN, _NAN)
    return separation(*counts)
