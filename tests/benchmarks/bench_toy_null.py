"""p-values of searches in independent toy data without signal: are they uniform?

Every seed draws new events of the analytic toy (:mod:`cathode.data.toys`, k = 1: features move with the mass) and
trains everything anew: density in the sidebands, template, cross-fitted classifier.

    python tests/benchmarks/bench_toy_null.py [--seeds 20]
"""

from __future__ import annotations

import argparse
import tempfile

import numpy as np
from scipy.stats import kstest

from cathode.data.toys import FEATURE_NAMES, toy_events
from cathode.run.executors import open_executor
from cathode.run.tasks import TaskStore
from cathode.search.composition import SearchInputs
from cathode.search.pipeline import run_pipeline
from cathode.search.settings import (
    Autoregressive,
    ClassifierSettings,
    DataSettings,
    DensitySettings,
    GateSettings,
    RegionSettings,
    SearchSettings,
    SignificanceSettings,
    Trees,
)
from cathode.support.threads import limit_threads
from cathode.training import FitConfig

POINTS = (0.1, 0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--quick", action="store_true", help="two seeds with fewer events: checks the script only")
    arguments = parser.parse_args()
    limit_threads(1)
    seeds, events = (2, 20_000) if arguments.quick else (arguments.seeds, arguments.events)
    found = []
    with open_executor("local") as executor:
        for seed in range(1, seeds + 1):
            settings = SearchSettings(
                data=DataSettings(features=FEATURE_NAMES),
                regions=RegionSettings(sideband=(2.3, 5.0)),
                density=DensitySettings(
                    model=Autoregressive(hidden=(64, 64), components=4),
                    preprocessing="standardize",
                    training=FitConfig(epochs=10, batch_size=512, learning_rate=2e-3, ema_halflife_events=50_000),
                ),
                classifier=ClassifierSettings(model=Trees(members=10)),
                gate=GateSettings(max_events=2000),
                significance=SignificanceSettings(background_efficiencies=POINTS, fit_parameters=3),
                seed=seed,
            )
            data, _ = toy_events(events, 0, k=1.0, seed=1000 + seed)
            with tempfile.TemporaryDirectory() as folder:
                result = run_pipeline(SearchInputs(data), settings, TaskStore(folder, executor)).result
            found.append([point.p_value for point in result.working_points])
            counts = ", ".join(
                f"{p.observed:.0f} for {p.expected:.1f} +- {p.expected_error:.1f} (p = {p.p_value:.3f})"
                for p in result.working_points
            )
            print(f"seed {seed}: {counts}", flush=True)
    for k, point in enumerate(POINTS):
        p = np.array(found)[:, k]
        print(f"eps_B = {point:g}: KS against uniform p = {kstest(p, 'uniform').pvalue:.3f}, median {np.median(p):.2f}")


if __name__ == "__main__":
    main()
