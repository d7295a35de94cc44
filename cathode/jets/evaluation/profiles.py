"""Histograms, ranks and pictures of two samples of jets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cathode.comparison.wasserstein import wasserstein
from cathode.jets.evaluation.results import Images, PairedHistogram, Ranks
from cathode.jets.observables import OBSERVABLES
from cathode.jets.observables.padded import Floats
from cathode.jets.schema import Jets
from cathode.support.seeding import numpy_generator

__all__ = ["CONSTITUENTS", "constituent_columns", "histograms", "images", "ranks"]

Integers = NDArray[np.int64]

#: Spectra of constituents: label and whether the axis is logarithmic.
CONSTITUENTS = {
    "constituent_pt_rel": ("constituent pT / jet pT", True),
    "constituent_eta_rel": ("constituent η − jet η", False),
    "constituent_phi_rel": ("constituent φ − jet φ", False),
    "constituent_delta_r": ("constituent distance from the axis", False),
}

_BINS = 50
_TAILS = (0.0005, 0.9995)
# Values of constituents that a distance is taken from: more only cost time.
_MOST_VALUES = 200_000
_PIXELS = 48
_REACH = 0.8


def constituent_columns(jets: Jets) -> dict[str, Floats]:
    """Values ``(M,)`` of all constituents for each of :data:`CONSTITUENTS`."""
    pt, eta, phi = jets.relative()[jets.mask].astype(np.float64).T
    return {
        "constituent_pt_rel": pt,
        "constituent_eta_rel": eta,
        "constituent_phi_rel": phi,
        "constituent_delta_r": np.hypot(eta, phi),
    }


def histograms(
    reference: Mapping[str, Floats],
    generated: Mapping[str, Floats],
    floor: tuple[Mapping[str, Floats], Mapping[str, Floats]] | None,
    *,
    owners: tuple[Integers, Integers] | None = None,
    seed: int,
) -> list[PairedHistogram]:
    """Every column of both samples in common bins, with its distance.

    Args:
        reference: Values by name, one per jet or one per constituent.
        generated: The same.
        floor: The same of truth and truth.
        owners: Of constituents, the jet that each belongs to, for both samples.
        seed: Of the distances' groups.
    """
    found = []
    for name, values in reference.items():
        constituent = name in CONSTITUENTS
        label, logarithmic = CONSTITUENTS[name] if constituent else (OBSERVABLES[name].label, False)
        pair = values, generated[name]
        edges = _edges(values, logarithmic)
        counts = [np.histogram(v, edges)[0].astype(np.float64) for v in pair]
        owner = (None, None) if owners is None else owners
        errors = [_errors(v, o, c, edges) for v, o, c in zip(pair, owner, counts, strict=True)]
        outside = [(int((v < edges[0]).sum()), int((v > edges[-1]).sum())) for v in pair]
        found.append(
            PairedHistogram(
                name=name,
                label=label,
                unit="" if constituent else OBSERVABLES[name].unit,
                kind="constituent" if constituent else "jet",
                edges=edges,
                reference=counts[0],
                reference_error=errors[0],
                generated=counts[1],
                generated_error=errors[1],
                outside=(outside[0], outside[1]),
                logarithmic=logarithmic,
                w1=wasserstein(*_thinned([pair[1], pair[0]], seed), seed=seed),
                floor=None
                if floor is None
                else wasserstein(*_thinned([floor[1][name], floor[0][name]], seed), seed=seed).value,
            )
        )
    return found


def ranks(reference: Jets, generated: Jets) -> Ranks:
    """Mean relative pT of every rank, and how many jets have it."""
    width = max(reference.particles, generated.particles)
    columns: list[Floats] = []
    for jets in (reference, generated):
        padded = jets.padded(width)
        pt = padded.relative()[..., 0].astype(np.float64)
        columns += [pt.mean(axis=0), pt.std(axis=0) / np.sqrt(len(pt)), padded.mask.mean(axis=0)]
    first, second = columns[:3], columns[3:]
    return Ranks(first[0], first[1], second[0], second[1], first[2], second[2])


def images(reference: Jets, generated: Jets) -> Images:
    """Mean jet images of both samples."""
    edges = np.linspace(-_REACH, _REACH, _PIXELS + 1)
    drawn = []
    for jets in (reference, generated):
        pt, eta, phi = jets.relative()[jets.mask].astype(np.float64).T
        drawn.append(np.histogram2d(eta, phi, bins=(edges, edges), weights=pt)[0] / len(jets))
    return Images(edges, drawn[0], drawn[1])


def _edges(values: Floats, logarithmic: bool) -> Floats:
    low, high = (float(v) for v in np.quantile(values, _TAILS))
    if not high > low:
        return np.array([low - 0.5, low + 0.5])
    if logarithmic and low > 0:
        return np.geomspace(low, high, _BINS + 1)
    if np.array_equal(values, np.round(values)):
        step = max(1, int(np.ceil((high - low + 1) / _BINS)))
        return np.arange(np.floor(low) - 0.5, np.ceil(high) + 0.5 + step, step)
    return np.linspace(low, high, _BINS + 1)


def _errors(values: Floats, owner: Integers | None, counts: Floats, edges: Floats) -> Floats:
    """Standard errors of the counts ``(bins,)``: from the scatter of the jets, if values belong to jets."""
    if owner is None:
        return np.sqrt(counts)
    bins, jets = len(counts), int(owner.max(initial=-1)) + 1
    place = np.searchsorted(edges, values, side="right") - 1
    inside = (place >= 0) & (place < bins)
    per_jet = np.bincount(owner[inside] * bins + place[inside], minlength=jets * bins).reshape(jets, bins)
    return np.asarray(np.sqrt(jets * per_jet.var(axis=0)))


def _thinned(pair: Sequence[Floats], seed: int) -> list[Floats]:
    thin = []
    for side, values in enumerate(pair):
        if len(values) > _MOST_VALUES:
            generator = numpy_generator(seed, "evaluation", "values", side)
            values = values[generator.choice(len(values), size=_MOST_VALUES, replace=False)]
        thin.append(values)
    return thin
