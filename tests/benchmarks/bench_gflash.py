"""The parametrised simulator: its speed, and its layer energies and radial profiles beside full simulation.

Full simulation is read from a file; the calibration sees only its first rows, the comparison only others.

    python tests/benchmarks/bench_gflash.py [SHOWERS.hdf5] --geometry ds1-photons --threshold 1
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from cathode.support.threads import limit_threads
from fastsim.data import ShowerFile, Showers
from fastsim.data.gflash import Beam, Calorimeter, calibrate, calorimeter_for, simulate
from fastsim.data.gflash.summaries import energy_bins, radial_groups, summarise
from fastsim.geometry import geometry


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("showers", nargs="?", default="sample:ds1-photons", help="full simulation")
    parser.add_argument("--geometry", default="ds1-photons")
    parser.add_argument("--material", default=None, help="preset to start from")
    parser.add_argument("--threshold", type=float, default=1.0, help="threshold of the showers [MeV]")
    parser.add_argument("--calibration-rows", type=int, default=4000, help="first rows, for the fit")
    parser.add_argument("--rows", type=int, default=4000, help="rows behind those, for the comparison")
    parser.add_argument(
        "--classifier", action="store_true", help="also boosted trees on voxels, simulated against full"
    )
    parser.add_argument("--quick", action="store_true", help="few showers: checks the script only")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.calibration_rows, arguments.rows = 300, 300
    limit_threads(1)
    layout = geometry(arguments.geometry)
    file = ShowerFile(arguments.showers if arguments.showers.startswith("sample:") else Path(arguments.showers), layout)
    training = file.read(0, arguments.calibration_rows)
    other = file.read(arguments.calibration_rows, arguments.calibration_rows + arguments.rows)
    published = calorimeter_for(layout, arguments.material)
    before = time.perf_counter()
    fitted = calibrate(
        training.cut(arguments.threshold), seed=arguments.seed, material=published, threshold=arguments.threshold
    )
    print(f"calibration on {fitted.showers} showers: {time.perf_counter() - before:.0f} s\n{fitted.calorimeter.tuning}")
    print(f"layer edges {np.round(fitted.calorimeter.layer_edges, 3).tolist()} X0")
    print(f"c = {fitted.calorimeter.sampling_fluctuation:.4f}, response {fitted.calorimeter.responses[0]:.4f}")
    for name, calorimeter in (("published constants", published), ("calibrated", fitted.calorimeter)):
        compare(name, calorimeter, other.cut(arguments.threshold), arguments)


def compare(name: str, calorimeter: Calorimeter, full: Showers, arguments: argparse.Namespace) -> None:
    """Print speed, means and widths of layers, and radial fractions of one calorimeter."""
    beam = Beam.of(full)
    before = time.perf_counter()
    made = simulate(
        full.geometry, full.incident_energy, seed=arguments.seed + 1, material=calorimeter,
        threshold=arguments.threshold, beam=beam,
    )  # fmt: skip
    seconds = time.perf_counter() - before
    print(f"\n== {name}: {len(made) / seconds:.0f} showers/s ({1e3 * seconds / len(made):.3f} ms each)")
    bins = energy_bins(full.incident_energy)
    first, second = (summarise(part, bins, None if beam is None else beam.position) for part in (full, made))
    shown = first.layer_mean.mean(0).argsort()[::-1][:5]
    shown.sort()
    print("layers", [full.geometry.layer_ids[index] for index in shown], "E_layer / E_inc in percent, full | simulated")
    for index in range(len(first.total_mean)):
        print(f"{full.incident_energy[bins == index].mean():9.0f} MeV")
        for label, one in (("full", first), ("simulated", second)):
            print(
                f"{label:>10}  mean {percent(one.layer_mean[index][shown])}"
                f"  width {percent(one.layer_width[index][shown])}"
                f"  total {one.total_mean[index]:.4f} ± {one.total_width[index]:.4f}  hit {one.occupancy[index]:.4f}"
            )
    if beam is None:
        heaviest = int(first.layer_mean.mean(0).argmax())
        groups = radial_groups(full.geometry)[full.geometry.slices[heaviest]]
        radii = [full.geometry.r[full.geometry.slices[heaviest]][groups == g].mean() for g in np.unique(groups)]
        print(f"radial fractions in layer {full.geometry.layer_ids[heaviest]}, mean radii {np.round(radii, 1)} mm")
        for label, summary in (("full", first), ("simulated", second)):
            print(f"{label:>10}", summary.radial[:, heaviest].mean(0).round(4)[: len(radii)])
    if arguments.classifier:
        print(f"boosted trees on voxels and layer energies, full against simulated: AUC {auc(full, made):.3f}")


def percent(values: np.ndarray) -> str:
    return " ".join(f"{100 * value:7.3f}" for value in values)


def auc(full: Showers, made: Showers) -> float:
    """Two-fold cross-fitted AUC of boosted trees on E_inc, voxels / E_inc and layer energies / E_inc."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    inputs = np.concatenate(
        [
            np.concatenate(
                [np.log(s.incident_energy), s.energies / s.incident_energy, s.layer_energies() / s.incident_energy],
                axis=1,
            )
            for s in (full, made)
        ]
    )
    labels = np.repeat([1, 0], len(full))
    # Halves hold both members of a pair with equal incident energy.
    half = np.tile(np.arange(len(full)) % 2, 2)
    scores = np.zeros(len(labels))
    for fold in (0, 1):
        model = HistGradientBoostingClassifier(max_iter=150, random_state=1)
        scores[half == fold] = model.fit(inputs[half != fold], labels[half != fold]).predict_proba(
            inputs[half == fold]
        )[:, 1]
    return float(roc_auc_score(labels, scores))


if __name__ == "__main__":
    main()
