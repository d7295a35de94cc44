"""Layers as pictures: structural similarity (SSIM) of mean showers and of single ones.

SSIM compares brightness, contrast and structure in a sliding Gaussian window (Wang, Bovik, Sheikh and Simoncelli, IEEE
TIP 13, 2004; window of 11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03); 1 for equal pictures.  A pixel is
``log(1 + E / E_0)`` with the threshold ``E_0``, as energies span orders of magnitude; in angle the window is periodic.
Single showers are compared in random pairs of nearly the same incident energy: generated with reference, and each
sample with itself.  Generated showers that resemble each other more than reference showers do are too few different
ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from cathode.comparison.estimate import Estimate, jackknife, random_groups
from cathode.support.seeding import numpy_generator
from fastsim.evaluation.features import zero_level

if TYPE_CHECKING:
    from fastsim.data import Showers

__all__ = ["LayerSimilarity", "image_similarity", "ssim"]

Array = NDArray[np.float64]

_SIGMA, _RADIUS, _K1, _K2 = 1.5, 5, 0.01, 0.03
_GROUPS = 10


@dataclass(frozen=True)
class LayerSimilarity:
    """Structural similarity of one layer.

    Attributes:
        layer: Id of the layer.
        mean_image: SSIM of the mean pictures of both samples; ``expected`` is what halves of the reference give, scaled
            to these sample sizes.
        pairs: Mean SSIM of a generated and a reference shower; ``expected`` is that of two reference showers.
        within_reference, within_generated: Mean SSIM of two showers of one sample; ``expected`` of the latter is the
            former.  NaN if the layer is always empty.
    """

    layer: int
    mean_image: Estimate
    pairs: Estimate
    within_reference: Estimate
    within_generated: Estimate


def image_similarity(
    reference: Showers, generated: Showers, *, threshold: float | None = None, max_pairs: int = 2000, seed: int = 0
) -> tuple[LayerSimilarity, ...]:
    """SSIM of each layer; nothing for detectors of cells, which are no pictures.

    Args:
        reference: Showers of the full simulation.
        generated: Showers to compare with them.
        threshold: ``E_0`` [MeV]; default: the public dataset's, or the smallest voxel energy of the reference.
        max_pairs: Pairs of single showers at most; pairs of two empty layers do not count.
        seed: Of groups and pairs.
    """
    geometry = reference.geometry
    if geometry.kind == "cells":
        return ()
    scale = np.float32(threshold or 10.0 * zero_level(reference))
    samples = (reference, generated)
    incident = [np.asarray(s.incident_energy, dtype=np.float64).ravel() for s in samples]
    order = [_by_energy(e, numpy_generator(seed, "similarity", "order", k)) for k, e in enumerate(incident)]
    pairs = _pairs(incident, order, max_pairs, numpy_generator(seed, "similarity", "pairs"))
    sides = [
        random_groups(len(s), min(_GROUPS, len(s)), numpy_generator(seed, "similarity", "groups", k))
        for k, s in enumerate(samples)
    ]
    result = []
    for identifier, part, slow, fast in zip(
        geometry.layer_ids, geometry.slices, geometry.n_alpha, geometry.n_r, strict=True
    ):
        pictures = [np.log1p(s.energies[:, part] / scale).reshape(-1, slow, fast) for s in samples]
        polar = geometry.kind == "polar"
        single = [_single(pictures[a], pictures[b], rows, polar, float(pictures[0].max())) for a, b, rows in pairs]
        cross, within_reference, within_generated = single
        result.append(
            LayerSimilarity(
                identifier,
                _mean_image(
                    [[p[rows].mean(axis=0) for rows in g] for p, g in zip(pictures, sides, strict=True)], polar
                ),
                Estimate(cross.value, cross.error, within_reference.value),
                within_reference,
                Estimate(within_generated.value, within_generated.error, within_reference.value),
            )
        )
    return tuple(result)


def ssim(first: Array, second: Array, *, data_range: float, periodic: bool = False) -> Array:
    """Mean structural similarity of pictures ``(N, H, W)``, pair by pair: ``(N,)``.

    Args:
        first: Pictures.
        second: As many, of the same size.
        data_range: Largest minus smallest value that a pixel can have.
        periodic: Whether the first axis of a picture is an angle.
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)

    def blurred(z: Array) -> Array:
        for axis, mode in ((1, "wrap" if periodic else "reflect"), (2, "reflect")):
            if z.shape[axis] > 1:
                z = gaussian_filter1d(z, _SIGMA, axis=axis, mode=mode, radius=_RADIUS)
        return z

    mean_x, mean_y = blurred(x), blurred(y)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    covariance = blurred(x * y) - mean_x * mean_y
    spread = blurred(x * x) - mean_x**2 + blurred(y * y) - mean_y**2
    value = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (value / ((mean_x**2 + mean_y**2 + c1) * (spread + c2))).mean(axis=(1, 2))


_Pairing = tuple[int, int, tuple[NDArray[np.int64], NDArray[np.int64]]]


def _by_energy(incident: Array, generator: np.random.Generator) -> NDArray[np.int64]:
    """Rows in order of incident energy, equal energies in random order."""
    shuffled = generator.permutation(len(incident))
    return shuffled[np.argsort(incident[shuffled], kind="stable")]


def _pairs(
    incident: list[Array], order: list[NDArray[np.int64]], most: int, generator: np.random.Generator
) -> list[_Pairing]:
    """Rows of pairs: reference with generated of the nearest energy, reference and generated with their own."""
    drawn = np.sort(generator.permutation(len(order[1]))[:most])
    energies = incident[0][order[0]]
    near = np.searchsorted(energies, incident[1][drawn])
    last = np.searchsorted(energies, incident[1][drawn], side="right")
    # Any of the showers of the same energy, or the next one in a continuous spectrum.
    partner = np.minimum(
        near + (generator.random(len(drawn)) * np.maximum(last - near, 1)).astype(np.int64), len(energies) - 1
    )
    own = []
    for rows in order:
        two = rows[: len(rows) // 2 * 2].reshape(-1, 2)
        two = two[np.sort(generator.permutation(len(two))[:most])]
        own.append((two[:, 0], two[:, 1]))
    return [(0, 1, (order[0][partner], drawn)), (0, 0, own[0]), (1, 1, own[1])]


def _single(
    first: Array, second: Array, rows: tuple[NDArray[np.int64], NDArray[np.int64]], polar: bool, brightest: float
) -> Estimate:
    a, b = first[rows[0]], second[rows[1]]
    seen = (a > 0).any(axis=(1, 2)) | (b > 0).any(axis=(1, 2))
    if seen.sum() < 2 or brightest == 0:
        return Estimate(float("nan"), float("nan"), float("nan"))
    values = ssim(a[seen], b[seen], data_range=brightest, periodic=polar)
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))), float("nan"))


def _mean_image(means: list[list[Array]], polar: bool) -> Estimate:
    """SSIM of the mean pictures from the mean pictures of groups of showers."""
    first, second = (np.array(m, dtype=np.float64) for m in means)
    brightest = float(first.mean(axis=0).max())
    if brightest == 0 or min(len(first), len(second)) < 4:
        return Estimate(float("nan"), float("nan"), float("nan"))

    def similarity(a: Array, b: Array) -> float:
        return float(ssim(a.mean(axis=0)[None], b.mean(axis=0)[None], data_range=brightest, periodic=polar)[0])

    groups = min(len(first), len(second))
    without = np.array([similarity(np.delete(first, g, axis=0), np.delete(second, g, axis=0)) for g in range(groups)])
    half = len(first) // 2
    # Noise of the difference: halves of n reference showers 4 / n, both samples 2 / n for equal sizes.
    expected = 1.0 - 0.5 * (1.0 - similarity(first[:half], first[half:]))
    value, error = jackknife(similarity(first, second), without)
    return Estimate(value, error, expected)
