"""p-values of searches where there is no signal: are they uniform?

The signal-free events are dealt into disjoint parts, a quarter each, and everything is trained anew in each; more seeds
than parts deal them again.  Parts of one deal are independent, different deals are not quite.

    python tests/benchmarks/bench_lhco_null.py BACKGROUND.h5 --seeds 20
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import kstest

from cathode.data.readers import read_events
from cathode.run.config import merge, parse_overrides, settings_from_dict
from cathode.run.search import run_search
from cathode.search.settings import SearchSettings
from cathode.support.files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("background", nargs="?", default="sample:lhco_background")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--parts", type=int, default=4, help="disjoint parts of the events")
    parser.add_argument("--work", type=Path, default=Path("runs/lhco-null"))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other settings of the search")
    parser.add_argument("--quick", action="store_true", help="two seeds with few members: checks the script only")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.work = 2, arguments.work.with_name("lhco-null-quick")
        arguments.set = ["density.training.epochs=5", "classifier.model.members=5", *arguments.set]
    events = read_events(arguments.background, features=["mj1", "dmj", "tau21_j1", "tau21_j2"])
    rows = []
    for seed in range(1, arguments.seeds + 1):
        file = arguments.work / f"seed-{seed}.json"
        if not file.exists():
            settings = settings_from_dict(SearchSettings, merge({"seed": seed}, parse_overrides(arguments.set)))
            deal, part = divmod(seed - 1, arguments.parts)
            dealt = np.random.default_rng(deal).permutation(len(events)) % arguments.parts
            write_json(file, run_search(settings, events.select(dealt == part)).to_json())
        results = json.loads(file.read_text())
        row: dict[str, object] = {"seed": seed}
        for point in results["working_points"]:
            label = f"{point['background_efficiency']:g}"
            row |= {
                f"obs {label}": point["observed"], f"exp {label}": point["expected"],
                f"err {label}": point["expected_error"], f"p {label}": point["p_value"],
                f"fit p {label}": point["sideband_fit"].get("p_value"),
            }  # fmt: skip
        rows.append(row)
        print(pd.DataFrame(rows[-1:]).round(3).to_string(index=False, header=len(rows) == 1), flush=True)
    table = pd.DataFrame(rows)
    for column in [c for c in table if " " in c and c.split()[-2] == "p"]:
        p = table[column].dropna().to_numpy(dtype=float)
        if len(p):
            print(f"{column}: KS against uniform p = {kstest(p, 'uniform').pvalue:.3f}, median {np.median(p):.2f}, "
                  f"smallest {p.min():.3f} of {len(p)}")  # fmt: skip


if __name__ == "__main__":
    main()
