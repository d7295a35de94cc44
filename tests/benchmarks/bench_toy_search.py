"""What a CATHODE search reaches on the analytic resonance toy, against the best that is possible.

Each seed is a full retraining on new events: density in the sidebands, template, cross-fitted classifier.  On the same
data the same classifier is also trained against true background (the idealized detector) and with labels (supervised).
All are judged on the same labelled test events of the signal region, by their significance improvement (SIC) at fixed
background efficiencies, and the supervised classifier against the exact Neyman-Pearson test of the same inputs.

    python tests/benchmarks/bench_toy_search.py [--seeds 5] [--k 1] [--workers 2] [--quick]

The defaults train smaller ensembles than a search does by default (``--members``, ``--epochs``): search and references
alike, so that the ratios stay fair.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory

import numpy as np

from cathode.data.events import Events
from cathode.data.injection import Truth
from cathode.data.toys import FEATURE_NAMES, ResonanceToy, toy_events
from cathode.run.executors import open_executor
from cathode.run.tasks import TaskStore
from cathode.search.composition import SearchInputs
from cathode.search.pipeline import run_pipeline
from cathode.search.results import SearchResult
from cathode.search.settings import ClassifierSettings, DensitySettings, GateSettings, SearchSettings, Trees
from cathode.support.seeding import numpy_generator
from cathode.support.threads import limit_threads

POINTS = {"1e-2": 1e-2, "1e-3": 1e-3}
SEARCH_TARGET = 0.9
SUPERVISED_TARGET = 0.95


@dataclass(frozen=True)
class Size:
    """Numbers of events: data over the full mass range, labelled test events in the signal region."""

    background: int
    test_background: int
    test_signal: int
    members: int
    folds: int
    epochs: int


FULL = Size(background=300_000, test_background=100_000, test_signal=60_000, members=10, folds=3, epochs=8)
QUICK = Size(background=60_000, test_background=20_000, test_signal=6_000, members=4, folds=2, epochs=3)


def settings_of(size: Size, seed: int) -> SearchSettings:
    density = DensitySettings()
    return SearchSettings(
        density=replace(
            density, members=1, preprocessing="standardize", training=replace(density.training, epochs=size.epochs)
        ),
        classifier=ClassifierSettings(model=Trees(members=size.members), folds=size.folds),
        gate=GateSettings(max_events=10_000),
        seed=seed,
    )


def labelled(x: np.ndarray, m: np.ndarray) -> Events:
    return Events(features=x, names=FEATURE_NAMES, mass=m, event_id=np.arange(len(m)))


def inputs_of(toy: ResonanceToy, size: Size, strength: float, seed: int) -> SearchInputs:
    """Data with signal at S/sqrt(B) = ``strength`` in the signal region, and test events that are not in the data."""
    n_signal = round(strength * np.sqrt(size.background * toy.background_fraction("signal")))
    data, is_signal = toy_events(size.background, n_signal, k=toy.k, seed=seed)
    background = toy.sample_background(size.test_background, numpy_generator(seed, "test background"), "signal")
    signal = toy.sample_signal(size.test_signal, numpy_generator(seed, "test signal"), "signal")
    return SearchInputs(
        data=data,
        truth=Truth(event_id=data.event_id, is_signal=is_signal),
        test_background=labelled(*background),
        test_signal=labelled(*signal),
    )


def search(toy: ResonanceToy, size: Size, strength: float, seed: int, executor: Executor) -> SearchResult:
    with TemporaryDirectory(prefix="bench-toy-") as scratch:
        runner = TaskStore(scratch, executor)
        return run_pipeline(inputs_of(toy, size, strength, seed), settings_of(size, seed), runner).result


def sics(result: SearchResult) -> dict[str, dict[str, float]]:
    """Series -> working point -> SIC; NaN where the test events do not say."""
    truth = result.truth
    if truth is None:
        raise RuntimeError("the search was not given its truth")
    series = {"CATHODE": truth.search, **truth.references}
    return {name: {p: np.nan if (v := s.sic[p]["value"]) is None else v for p in POINTS} for name, s in series.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--k", type=float, default=1.0, help="strength of the features' dependence on the mass")
    parser.add_argument("--strength", type=float, default=2.5, help="S/sqrt(B) in the signal region")
    parser.add_argument("--members", type=int, help="boosted classifiers per ensemble")
    parser.add_argument("--epochs", type=int, help="of the density's fit")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="small samples and ensembles: does it run, not is it good")
    arguments = parser.parse_args()
    limit_threads(1)

    size = QUICK if arguments.quick else FULL
    size = replace(size, members=arguments.members or size.members, epochs=arguments.epochs or size.epochs)
    toy = ResonanceToy(k=arguments.k)
    optimum = dict(zip(POINTS, toy.optimum(tuple(POINTS.values())).sic, strict=True))
    print(f"{size}, k = {arguments.k:g}, S/sqrt(B) = {arguments.strength:g}, {arguments.workers} workers, "
          f"load average before the start {os.getloadavg()[0]:.1f}")  # fmt: skip
    print("exact optimum: " + ", ".join(f"SIC {sic:.2f} at {point}" for point, sic in optimum.items()))
    print(f"{'seed':>6s}  {'eps_B':5s} {'CATHODE':>8s} {'idealized':>10s} {'supervised':>11s} "
          f"{'CATHODE/ideal.':>15s} {'superv./optimum':>16s} {'gate':>5s} {'Z':>5s} {'wall s':>7s}")  # fmt: skip
    rows: dict[str, list[list[float]]] = {point: [] for point in POINTS}
    with open_executor("local", workers=arguments.workers) as executor:
        for seed in range(1, arguments.seeds + 1):
            start = time.perf_counter()
            result = search(toy, size, arguments.strength, seed, executor)
            found = sics(result)
            for point, efficiency in POINTS.items():
                values = [found[name][point] for name in ("CATHODE", "idealized", "supervised")]
                row = [*values, values[0] / values[1], values[2] / optimum[point]]
                rows[point].append(row)
                z = next(p.significance for p in result.working_points if p.background_efficiency == efficiency)
                rest = f" {result.gate.status:>5s} {z:5.1f} {time.perf_counter() - start:7.0f}"
                print(_line(f"{seed:6d}", point, row) + rest, flush=True)
    missed = 0
    for point in POINTS:
        median = np.median(rows[point], axis=0)
        good = median[3] >= SEARCH_TARGET, median[4] >= SUPERVISED_TARGET
        missed += 2 - sum(good)
        verdicts = ["ok" if g else "MISS" for g in good]
        print(_line("median", point, median) + f"   targets {SEARCH_TARGET} ({verdicts[0]}), "
              f"{SUPERVISED_TARGET} ({verdicts[1]})")  # fmt: skip
    raise SystemExit(1 if missed and not arguments.quick else 0)


def _line(first: str, point: str, row: np.ndarray | list[float]) -> str:
    return f"{first:>6s}  {point:5s} {row[0]:8.2f} {row[1]:10.2f} {row[2]:11.2f} {row[3]:15.3f} {row[4]:16.3f}"


if __name__ == "__main__":
    main()
