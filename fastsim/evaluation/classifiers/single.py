"""What does a classifier see?  The AUC of each voxel and each observable by itself.

These AUCs need no training and say in which direction the generator is wrong.  What they leave over (a classifier that
is much better than the best of them) is in the correlations.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from cathode.comparison.auc import auc_with_error
from cathode.support.progress import progress
from cathode.support.seeding import numpy_generator
from fastsim.evaluation.classifiers.results import SeparatingFeature
from fastsim.geometry import Geometry

__all__ = ["separating_features", "separation_threshold", "voxel_names"]


def separating_features(
    reference: np.ndarray,
    generated: np.ndarray,
    names: tuple[str, ...],
    *,
    kind: str,
    count: int,
    seed: int,
    scale: tuple[np.ndarray, np.ndarray] | None = None,
    max_values: int = 20_000_000,
) -> tuple[SeparatingFeature, ...]:
    """The ``count`` features that separate best, best first.

    Args:
        reference: Features ``(N, D)``.
        generated: Features ``(M, D)``.
        names: Names ``(D,)``.
        kind: ``"voxel"`` or ``"observable"``.
        count: Number to return.
        seed: Of the thinning.
        scale: What each sample's rows are divided by, ``(N, 1)`` and ``(M, 1)``; None: nothing.
        max_values: Showers are thinned at random until a sample has no more values (but at least 2000 showers).
    """
    generator = numpy_generator(seed, "single features", kind)
    kept = max(2000, max_values // max(reference.shape[1], 1))
    scales = (None, None) if scale is None else scale
    first, second = (_thinned(x, s, kept, generator) for x, s in zip((reference, generated), scales, strict=True))
    found = []
    for index in progress(range(len(names)), description=f"AUC of each {kind}", unit=kind):
        a, b = first[:, index].astype(np.float64), second[:, index].astype(np.float64)
        auc, error = auc_with_error(a, b)
        found.append(
            SeparatingFeature(
                name=names[index],
                kind=kind,
                index=index,
                auc=auc,
                error=error,
                reference_mean=float(a.mean()),
                generated_mean=float(b.mean()),
                reference_nonzero=float((a != 0).mean()),
                generated_nonzero=float((b != 0).mean()),
            )
        )
    # Differences that are no evidence come after those that are.
    found.sort(key=lambda f: (-max(f.separation - 2.0 * f.error, 0.0), -f.separation, f.index))
    return tuple(found[:count])


def separation_threshold(features: int, level: float = 0.05) -> float:
    """Standard errors that the most extreme of so many features exceeds with probability ``level`` by chance."""
    return float(norm.isf(0.5 * level / max(features, 1)))


def voxel_names(geometry: Geometry) -> tuple[str, ...]:
    """``voxel 12 (layer 1, r 3 mm, alpha -2.8)``, or x and y where the layers have no angles."""
    ids = np.asarray(geometry.layer_ids)[geometry.layer]
    if geometry.kind == "polar":
        places = [f"r {r:.4g} mm, alpha {alpha:.2f}" for r, alpha in zip(geometry.r, geometry.alpha, strict=True)]
    else:
        places = [f"x {x:.4g} mm, y {y:.4g} mm" for x, y in zip(geometry.x, geometry.y, strict=True)]
    return tuple(f"voxel {k} (layer {i}, {place})" for k, (i, place) in enumerate(zip(ids, places, strict=True)))


def _thinned(x: np.ndarray, scale: np.ndarray | None, count: int, generator: np.random.Generator) -> np.ndarray:
    rows = slice(None) if len(x) <= count else np.sort(generator.choice(len(x), size=count, replace=False))
    return x[rows] if scale is None else x[rows] / scale[rows]
