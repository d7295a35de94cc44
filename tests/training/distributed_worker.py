"""One rank of a fit under torchrun's environment variables."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import gaussian_model
from safetensors.torch import save_file

from cathode.training import FitConfig, fit

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    data = gaussian_model.make_data(2001, weighted=True)
    result = fit(
        gaussian_model.make_density(jitter=0.02),
        data,
        gaussian_model.make_data(501, seed=2),
        FitConfig(
            epochs=4, batch_size=128, learning_rate=5e-3, ema_halflife_events=2000.0, best_epochs=2, device="cpu"
        ),
        seed=3,
        checkpoint_dir=folder / "checkpoint",
    )
    rank = os.environ["RANK"]
    save_file(dict(result.density.state_dict()), folder / f"weights-{rank}.safetensors")
    result.history.to_parquet(folder / f"history-{rank}.parquet")
