"""CPU time of the default density to reach the sideband likelihood of CATHODE's published flow.

The reference is CATHODE's affine flow with its published training (arXiv 2109.00546: 15 x (MADE 128 + batch norm),
Adam 1e-4, weight decay 1e-6, batch 256, 100 epochs, mixture of the 10 best epochs), run by this package's loop on the
same sideband events.  It takes about an hour of one core and continues where it was killed.

    python tests/benchmarks/bench_density_cost.py BACKGROUND.h5 --work runs/density-cost
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cathode.data.readers import read_events
from cathode.data.regions import Regions
from cathode.density.base import log_prob
from cathode.density.folder import load_density
from cathode.search.background import fit_member, split_sidebands
from cathode.search.settings import DensitySettings, Maf
from cathode.support.threads import limit_threads
from cathode.training import FitConfig

PUBLISHED = FitConfig(
    epochs=100, batch_size=256, learning_rate=1e-4, weight_decay=1e-6, optimizer="adam", schedule="constant",
    gradient_clip=None, ema_halflife_events=None, best_epochs=10, average="mixture",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("background", nargs="?", default="sample:lhco_background", help="features file")
    parser.add_argument("--quick", action="store_true", help="two epochs of the reference: checks the script only")
    parser.add_argument("--work", type=Path, default=Path("runs/density-cost"))
    parser.add_argument("--epochs", type=int, default=100, help="epochs of the reference")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.epochs, arguments.work = 2, arguments.work.with_name("density-cost-quick")
    limit_threads(1)

    ours = DensitySettings(members=1, test_fraction=0.15)
    reference = replace(
        ours, model=Maf(), preprocessing="cathode", training=replace(PUBLISHED, epochs=arguments.epochs)
    )
    events = read_events(arguments.background, features=["mj1", "dmj", "tau21_j1", "tau21_j2"])
    split = split_sidebands(events, Regions(), ours, seed=arguments.seed)[0]
    data = {
        "train_x": split.train.features, "train_mass": split.train.mass, "train_weight": None,
        "validation_x": split.validation.features, "validation_mass": split.validation.mass,
        "validation_weight": None,
    }  # fmt: skip
    rows = {}
    for name, settings in (("published MAF", reference), ("default", ours)):
        folder = arguments.work / name.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "fit.json").exists():
            fit_member(folder, **data, settings=settings, seed=arguments.seed)
        density = load_density(folder / "model")
        x, m = torch.as_tensor(split.test.features).float(), torch.as_tensor(split.test.mass[:, None]).float()
        values = -log_prob(density, x, m).double().numpy()
        inside = np.isfinite(values)
        history = pd.read_csv(folder / "history.csv")
        rows[name] = {
            "test NLL": values[inside].mean(),
            "error": values[inside].std() / np.sqrt(inside.sum()),
            "rejected": int((~inside).sum()),
            "validation NLL": history.validation_loss.min(),
            "CPU s": history.cpu_seconds.iloc[-1],
        }
        rows[name]["_inside"], rows[name]["_values"], rows[name]["_history"] = inside, values, history
    both = rows["published MAF"]["_inside"] & rows["default"]["_inside"]
    difference = (rows["default"]["_values"] - rows["published MAF"]["_values"])[both]
    print(pd.DataFrame({k: {c: v for c, v in r.items() if c[0] != "_"} for k, r in rows.items()}).T.to_string())
    print(f"default - published on {both.sum()} common test events: "
          f"{difference.mean():.5f} +- {difference.std() / np.sqrt(len(difference)):.5f} nats")  # fmt: skip
    target = rows["published MAF"]["validation NLL"]
    history = rows["default"]["_history"]
    reached = history[history.validation_loss <= target]
    if len(reached):
        first = reached.iloc[0]
        ratio = rows["published MAF"]["CPU s"] / first.cpu_seconds
        print(f"default reaches the reference's best validation NLL {target:.5f} in epoch {int(first.epoch)}, after "
              f"{first.cpu_seconds:.1f} CPU s: 1/{ratio:.0f} of the reference's CPU time")  # fmt: skip
    else:
        print(f"default does not reach {target:.5f}: its best is {history.validation_loss.min():.5f}")


if __name__ == "__main__":
    main()
