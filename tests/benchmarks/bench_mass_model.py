"""Which mass model for the template: kernels on the signal-region data, or the sideband fit interpolated?

Both are judged by held-out *background* of the signal region: the mean log-density they give it (nats per event,
relative to the histogram of the held-out events themselves) and the largest distance of the cumulative distributions.
The data they learn from contain a signal of the given strength.

    python tests/benchmarks/bench_mass_model.py BACKGROUND.h5 SIGNAL.h5
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from cathode.data.injection import inject
from cathode.data.readers import read_events
from cathode.data.regions import Regions
from cathode.search.settings import SignificanceSettings, TemplateSettings
from cathode.search.template import mass_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("background", nargs="?", default="sample:lhco_background")
    parser.add_argument("signal", nargs="?", default="sample:lhco_signal")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="two seeds: checks the script only")
    arguments = parser.parse_args()
    seeds = 2 if arguments.quick else arguments.seeds
    regions = Regions()
    background = read_events(arguments.background, features=["mj1"])
    signal = read_events(arguments.signal, features=["mj1"])
    rows = []
    for strength in (0.0, 2.2, 5.0):
        for seed in range(1, seeds + 1):
            random = np.random.default_rng(seed)
            half = random.permutation(len(background))
            data, held_out = background.select(half[::2]), background.select(half[1::2])
            truth = held_out.mass[regions.in_signal(held_out.mass)]
            n_background = regions.in_signal(data.mass).sum()
            count = round(strength * np.sqrt(n_background) / regions.in_signal(signal.mass).mean())
            data, _ = inject(data, signal, count=count, seed=seed)
            row: dict[str, float] = {"S/sqrt(B)": strength}
            for name in ("fit", "kde"):
                model = mass_model(data, regions, TemplateSettings(mass_model=name), SignificanceSettings())
                log_density = model.log_prob(truth)
                # Kernels cannot reach the outermost masses: their -inf would hide everything else.
                row[f"{name} log p"] = float(log_density[np.isfinite(log_density)].mean())
                sampled = model.sample(4 * len(truth), random)
                row[f"{name} KS x 1e3"] = 1e3 * float(ks_2samp(sampled, truth).statistic)
            row["log p: fit - kde"] = row["fit log p"] - row["kde log p"]
            rows.append(row)
    table = pd.DataFrame(rows).groupby("S/sqrt(B)")
    summary = table.mean().round(4)
    summary["error"] = (table["log p: fit - kde"].std() / np.sqrt(seeds)).round(4)
    print(summary.to_string())


if __name__ == "__main__":
    main()
