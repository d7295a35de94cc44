"""Trains with checkpoints and writes what came out; killed and started again by the test."""

from __future__ import annotations

import sys
from pathlib import Path

import gaussian_model
from safetensors.torch import save_file

from cathode.training import FitConfig, fit

CONFIG = FitConfig(
    epochs=60,
    batch_size=128,
    learning_rate=0.02,
    weight_decay=1e-4,
    schedule="plateau",
    plateau_patience=3,
    warmup_epochs=1.5,
    ema_halflife_events=1500.0,
    best_epochs=4,
    average="mixture",
    device="cpu",
)


def run(checkpoint_dir):
    return fit(
        gaussian_model.make_density(hidden=64, dropout=0.1, jitter=0.05),
        gaussian_model.make_data(3000, weighted=True),
        gaussian_model.make_data(1000, seed=2, weighted=True),
        CONFIG,
        seed=11,
        checkpoint_dir=checkpoint_dir,
    )


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / "started").touch()
    result = run(folder / "checkpoint")
    save_file(dict(result.density.state_dict()), folder / "weights.safetensors")
    result.history.to_parquet(folder / "history.tmp")
    (folder / "history.tmp").rename(folder / "history.parquet")
