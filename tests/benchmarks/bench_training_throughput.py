"""Training throughput of ``cathode.training.fit`` against plain loops, with the same models on the same data.

    python tests/benchmarks/bench_training_throughput.py --events 32768 --repetitions 5

Each repetition trains, one after the other in the same process, with ``fit`` (moving average, gradient clipping,
non-finite checks, history; validation after each epoch is not counted) and with the loop that everybody writes::

    for rows in torch.randperm(n).split(batch):
        optimizer.zero_grad(); loss = model.loss(x[rows], context[rows]).mean(); loss.backward(); optimizer.step()

with ``torch.optim.Adam`` as it comes.  The order alternates between repetitions, and the ratio is the median over
repetitions of the ratios within each.  One thread and CPU time, so a busy machine disturbs both loops alike.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from typing import Any

import torch

from cathode.density.registry import build
from cathode.support.threads import limit_threads
from cathode.training import FitConfig, TrainingData, fit

MODELS = ("maf", "nflows-maf", "rqs-coupling", "nflows-rqs-coupling", "autoregressive")


def plain_loop(model: Any, data: TrainingData, batch: int, epochs: int) -> float:
    """Events per CPU second of the loop in the module's docstring."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    began = time.process_time()
    for _ in range(epochs):
        for rows in torch.randperm(len(data)).split(batch):
            optimizer.zero_grad()
            loss = model.loss(data.x[rows], data.context[rows]).mean()
            loss.backward()
            optimizer.step()
    return epochs * len(data) / (time.process_time() - began)


def ours(model: Any, data: TrainingData, batch: int, epochs: int) -> float:
    """Events per CPU second of ``fit``, validation not counted."""
    config = FitConfig(epochs=epochs, batch_size=batch, learning_rate=1e-4, ema_halflife_events=50_000.0, device="cpu")
    history = fit(model, data, data.take(slice(0, 1024)), config, seed=1).history.iloc[1:]
    return history["events"].sum() / (history["events"] / history["events_per_cpu_second"]).sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS[:4]), choices=MODELS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1024, 4096])
    parser.add_argument("--events", type=int, default=32768)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--features", type=int, default=4)
    arguments = parser.parse_args()
    limit_threads()
    for module in ("flows", "nflows_backend", "autoregressive"):
        importlib.import_module(f"cathode.density.{module}")
    torch.manual_seed(0)
    context = torch.rand(arguments.events, 1)
    data = TrainingData(torch.randn(arguments.events, arguments.features) * (0.5 + context), context)
    print(f"{'model':<22}{'batch':>6}{'fit ev/s':>12}{'plain ev/s':>12}{'ratio':>8}  per repetition")
    for kind in arguments.models:
        model = build({"kind": kind, "features": arguments.features, "context_features": 1})
        for batch in arguments.batches:
            rates: dict[Any, list[float]] = {ours: [], plain_loop: []}
            for loop in (ours, plain_loop):  # the first step pays for allocations and lazy imports
                loop(build_like(model, kind, arguments.features), data.take(slice(0, 2 * batch)), batch, 1)
            for repetition in range(arguments.repetitions):
                for loop in (ours, plain_loop) if repetition % 2 else (plain_loop, ours):
                    rates[loop].append(loop(build_like(model, kind, arguments.features), data, batch, arguments.epochs))
            ratios = [a / b for a, b in zip(rates[ours], rates[plain_loop], strict=True)]
            print(
                f"{kind:<22}{batch:>6}{statistics.median(rates[ours]):>12.0f}{statistics.median(rates[plain_loop]):>12.0f}"
                f"{statistics.median(ratios):>8.2f}  {' '.join(f'{ratio:.2f}' for ratio in ratios)}",
                flush=True,
            )


def build_like(model: Any, kind: str, features: int) -> Any:
    """A fresh model with the weights of ``model``."""
    fresh = build({"kind": kind, "features": features, "context_features": 1})
    fresh.load_state_dict(model.state_dict())
    return fresh


if __name__ == "__main__":
    main()
