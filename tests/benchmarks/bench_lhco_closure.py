"""Closure of the background template on signal-free events: classifier two-sample tests, sidebands and signal region.

The density is fitted on sideband events; held-out sideband events, and real events of the signal region, are compared
with template events drawn at the same masses (the mass is a column of the test in the sidebands).  The floor compares
two halves of real events.

    python tests/benchmarks/bench_lhco_closure.py BACKGROUND.h5
"""

from __future__ import annotations

import argparse
import tempfile
import time

import numpy as np

from cathode.comparison.c2st import c2st
from cathode.data.readers import read_events
from cathode.data.regions import Regions
from cathode.run.executors import open_executor
from cathode.run.tasks import TaskStore
from cathode.search.background import fit_background, held_out, split_sidebands
from cathode.search.settings import DensitySettings, SignificanceSettings, TemplateSettings
from cathode.search.template import conditional_template, mass_model, sample_template
from cathode.support.threads import limit_threads
from cathode.training import FitConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("background", nargs="?", default="sample:lhco_background")
    parser.add_argument("--events", type=int, default=40_000, help="events per sample in each test")
    parser.add_argument("--seeds", type=int, default=3, help="fits of the density")
    parser.add_argument("--quick", action="store_true", help="one short fit: checks the script only")
    arguments = parser.parse_args()
    limit_threads(1)
    settings = DensitySettings()
    if arguments.quick:
        arguments.seeds, arguments.events = 1, 5000
        settings = DensitySettings(training=FitConfig(epochs=3, learning_rate=2e-3))
    regions = Regions()
    events = read_events(arguments.background, features=["mj1", "dmj", "tau21_j1", "tau21_j2"])
    inside = events.select(regions.in_signal(events.mass))

    def auc(name: str, x: np.ndarray, y: np.ndarray, seed: int) -> None:
        result = c2st(x, y, max_events=arguments.events, seed=seed)
        print(f"  {name:<38} {result.auc:.4f} +- {result.error:.4f}   ({result.events[0]} against {result.events[1]})",
              flush=True)  # fmt: skip

    for seed in range(1, arguments.seeds + 1):
        splits = split_sidebands(events, regions, settings, seed=seed)
        sideband, member = held_out(splits)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder, open_executor("local") as executor:
            background = fit_background(splits, settings, TaskStore(folder, executor), seed=seed)
        print(f"seed {seed}: {background.summary.name}, validation NLL {background.summary.validation_nll:.4f}, "
              f"{time.perf_counter() - start:.0f} s wall, {background.summary.cpu_seconds:.0f} s CPU",
              flush=True)  # fmt: skip
        outside = conditional_template(background, sideband.mass, seed=seed, member=member)
        interpolated = conditional_template(background, inside.mass, seed=seed + 100)
        masses = mass_model(events, regions, TemplateSettings(), SignificanceSettings())
        template = sample_template(background, masses, len(inside), seed=seed + 200)
        columns = np.column_stack
        auc("sidebands (features, mass)", columns([sideband.features, sideband.mass]),
            columns([outside.features, outside.mass]), seed)  # fmt: skip
        auc("signal region (features, mass)", columns([inside.features, inside.mass]),
            columns([interpolated.features, interpolated.mass]), seed)  # fmt: skip
        auc("signal region, fitted masses", inside.features, template.features, seed)
        half = np.random.default_rng(seed).permutation(len(sideband))
        real = columns([sideband.features, sideband.mass])
        auc("floor: real against real", real[half[::2]], real[half[1::2]], seed)


if __name__ == "__main__":
    main()
