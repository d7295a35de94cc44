"""LHC Olympics-like search: max SIC of CATHODE against the idealized and supervised classifiers, over full retrainings.

Every seed draws its own half of the background as data (the other half is the idealized detector's template and the
test sample), injects its own signal events at S/sqrt(B) = 2.2 in the signal region, and trains everything anew.

    python tests/benchmarks/bench_lhco_search.py BACKGROUND.h5 SIGNAL.h5 --seeds 5

Without files the shipped sample is used.  Finished seeds are kept in --work and not repeated.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

from cathode.run.config import merge, parse_overrides, settings_from_dict
from cathode.run.search import run_search
from cathode.search.settings import SearchSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("background", nargs="?", default="sample:lhco_background")
    parser.add_argument("signal", nargs="?", default="sample:lhco_signal")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("runs/lhco-search"))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other settings of the search")
    parser.add_argument("--quick", action="store_true", help="one seed with few members: checks the script only")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.work = 1, arguments.work.with_name("lhco-search-quick")
        arguments.set = ["density.training.epochs=5", "classifier.model.members=5", *arguments.set]

    rows = []
    for seed in range(1, arguments.seeds + 1):
        folder = arguments.work / f"seed-{seed}"
        if not (folder / "results.json").exists():
            content = {
                "data": {"events": [arguments.background]},
                "injection": {"signal": [arguments.signal], "strength": 2.2},
                "evaluation": {"reserve": 0.5, "signal": [arguments.signal]},
                "seed": seed,
            }
            settings = settings_from_dict(SearchSettings, merge(content, parse_overrides(arguments.set)))
            run_search(settings, output=folder, resume=folder.exists())
        results = json.loads((folder / "results.json").read_text())
        truth = results["truth"]
        row = {"seed": seed, "search": truth["max_sic"]}
        row |= {name: series["max_sic"] for name, series in truth["references"].items()}
        row["ratio"] = row["search"] / row["idealized"]
        for label in ("1e-2", "1e-3"):
            row[f"SIC {label}"] = truth["sic"][label]["value"]
            row[f"IAD {label}"] = truth["references"]["idealized"]["sic"][label]["value"]
        row["Z 1e-2"] = results["working_points"][0]["significance"]
        row["gate"] = results["gate"]["status"]
        row["search s"] = results["timing"]["search"]
        rows.append(row)
        print(pd.DataFrame(rows[-1:]).round(3).to_string(index=False, header=len(rows) == 1), flush=True)
    table = pd.DataFrame(rows)
    numbers = table.drop(columns=["seed", "gate"])
    print("median", numbers.median().round(3).to_dict())
    print(f"max SIC, search over idealized: median {table.ratio.median():.3f}, "
          f"16-84 % {table.ratio.quantile(0.16):.3f} to {table.ratio.quantile(0.84):.3f} "
          "(target: at least 0.95)")  # fmt: skip


if __name__ == "__main__":
    main()
