"""Do generated images follow impact point and direction as those of the full simulation do?

    python analyses/calochallenge/conditions.py REFERENCE GENERATED [--binning image-30x30] [--start 10000]

Both files have the conditions px, py, pz [MeV] and x, y [mm] of the incident particle, row by row the same.  Along each
axis the centre of energy is fitted with c = a + b x + d tan(theta): d is the mean depth [mm], and what the fit leaves
is how much showers of one condition fluctuate.  Boosted trees then look at energy, centre and width together with all
conditions, which the classifiers of fastsim evaluate do not see.
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fastsim.data import Showers, read_showers

NAMES = ("px", "py", "pz", "x", "y")
Array = NDArray[np.float64]


def centres(showers: Showers) -> Array:
    """Centre of energy along x and y [mm], ``(N, 2)``."""
    energies = showers.energies.astype(np.float64)
    places = np.stack([showers.geometry.x, showers.geometry.y], 1)
    return energies @ places / np.maximum(energies.sum(1, keepdims=True), 1e-9)


def follow(centre: Array, conditions: Array) -> dict[str, float]:
    """Of both axes together: slopes, spread, and correlations with impact point and direction."""
    slopes, spread, impact, direction = [], [], [], []
    for axis in range(2):
        x, tangent = conditions[:, 3 + axis], conditions[:, axis] / conditions[:, 2]
        design = np.stack([np.ones_like(x), x, tangent], 1)
        fit = np.linalg.lstsq(design, centre[:, axis], rcond=None)[0]
        slopes.append(fit[1:])
        spread.append((centre[:, axis] - design @ fit).std())
        impact.append(np.corrcoef(centre[:, axis], x)[0, 1])
        # The impact point varies much more than what the direction adds: without it.
        direction.append(np.corrcoef(centre[:, axis] - fit[1] * x, tangent)[0, 1])
    b, d = np.mean(slopes, axis=0)
    return {
        "centre against impact point, mm per mm": b,
        "centre against tan(theta), mm": d,
        "spread around that, mm": float(np.mean(spread)),
        "correlation with the impact point": float(np.mean(impact)),
        "correlation with tan(theta), impact point subtracted": float(np.mean(direction)),
    }


def separated(reference: Showers, generated: Showers, conditions: Array) -> tuple[float, float]:
    """Cross-fitted AUC of trees on energy, centre and width given the conditions, and its error."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold, cross_val_predict

    rows = []
    for showers in (reference, generated):
        energies, centre = showers.energies.astype(np.float64), centres(showers)
        total = np.maximum(energies.sum(1, keepdims=True), 1e-9)
        places = np.stack([showers.geometry.x, showers.geometry.y], 1)
        width = np.sqrt(np.maximum(energies @ places**2 / total - centre**2, 0.0))
        known = [total / showers.incident_energy, centre - conditions[:, 3:], width, conditions]
        rows.append(np.concatenate(known, 1))
    labels = np.repeat([0, 1], len(reference))
    # Both showers of one condition are in one fold: the conditions alone tell nothing.
    pairs = np.tile(np.arange(len(reference)), 2)
    trees = HistGradientBoostingClassifier(max_iter=60, learning_rate=0.06, max_leaf_nodes=12, random_state=0)
    folds = GroupKFold(n_splits=5)
    scores = cross_val_predict(trees, np.concatenate(rows), labels, groups=pairs, cv=folds, method="predict_proba")
    return float(roc_auc_score(labels, scores[:, 1])), float(1 / np.sqrt(6 * len(reference)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference")
    parser.add_argument("generated")
    parser.add_argument("--binning", default="image-30x30")
    parser.add_argument("--start", type=int, default=0, help="first row of the reference")
    arguments = parser.parse_args()
    generated = read_showers(arguments.generated, arguments.binning, condition_names=NAMES)
    stop = arguments.start + len(generated)
    reference = read_showers(
        arguments.reference, arguments.binning, start=arguments.start, stop=stop, condition_names=NAMES
    )
    conditions = np.asarray(reference.conditions, dtype=np.float64)
    if not np.allclose(conditions, np.asarray(generated.conditions)):
        parser.error("the files have different conditions; generate with --like REFERENCE")
    halves = [follow(centres(reference[rows]), conditions[rows]) for rows in (slice(0, None, 2), slice(1, None, 2))]
    first, second = (follow(centres(s), conditions) for s in (reference, generated))
    shuffled = follow(centres(generated[np.roll(np.arange(len(generated)), 1)]), conditions)
    lines = [
        f"| {len(generated)} showers | full simulation | generated | generated, conditions of another |",
        "|---|---|---|---|",
    ]
    for name, value in first.items():
        error = abs(halves[0][name] - halves[1][name]) / 2
        lines.append(f"| {name} | {value:.3f} ± {error:.3f} | {second[name]:.3f} | {shuffled[name]:.3f} |")
    area, error = separated(reference, generated, conditions)
    lines += ["", f"AUC of trees on energy, centre and width given all conditions: {area:.3f} ± {error:.3f}"]
    edges = np.quantile(reference.incident_energy[:, 0], np.linspace(0, 1, 5))
    lines += ["", "| incident energy, GeV | mean E_tot/E_inc, full | generated | width, full | generated |"]
    lines += ["|---|---|---|---|---|"]
    for low, high in pairwise(edges):
        rows = (reference.incident_energy[:, 0] >= low) & (reference.incident_energy[:, 0] <= high)
        ratio = [s.energies[rows].sum(1, dtype=np.float64) / s.incident_energy[rows, 0] for s in (reference, generated)]
        means = " | ".join(f"{r.mean():.4f} ± {r.std() / np.sqrt(len(r)):.4f}" for r in ratio)
        widths = " | ".join(f"{r.std():.4f} ± {r.std() / np.sqrt(2 * len(r)):.4f}" for r in ratio)
        lines.append(f"| {low / 1e3:.1f} to {high / 1e3:.1f} | {means} | {widths} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
