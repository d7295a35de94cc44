"""Held-out negative log-likelihood of trained densities minus the exact one, on the analytic resonance toy.

Each density is fitted to sideband events alone and judged on fresh background: in the sidebands, and interpolated into
the signal region that it never saw.  Exact and learned log-densities are subtracted event by event, so the mean
difference (an estimate of the Kullback-Leibler divergence) is known far better than either likelihood.

    python tests/benchmarks/bench_toy_density.py [--model maf|flow-matching|autoregressive|all] [--quick]
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from cathode.data.toys import ResonanceToy
from cathode.density import MAF, AutoregressiveMixture, ConditionalDensity, FlowMatching, Preprocessed, log_prob
from cathode.density.bijections import Standardize
from cathode.density.networks import ResNet
from cathode.support.seeding import numpy_generator
from cathode.support.threads import limit_threads
from cathode.training import FitConfig, TrainingData, fit

TRAINING_EVENTS = 400_000
VALIDATION_EVENTS = 20_000


@dataclass(frozen=True)
class Recipe:
    """A family with the training that reaches its target.

    Attributes:
        make: The untrained density of four features and one context column.
        config: Its fit.
        target: Largest NLL minus exact that is accepted, nats per event; None where none is promised.
        test_events: Per region; few where a log-density costs an ODE.
    """

    make: Callable[[], ConditionalDensity]
    config: FitConfig
    target: float | None
    test_events: int


RECIPES = {
    # CATHODE's flow: 15 blocks of MADE 128 x 128 and batch normalisation.  Its published training (batch 256, rate
    # 1e-4, 100 epochs) costs an hour; larger batches, a higher rate that falls to zero and averaged weights a minute.
    "maf": Recipe(
        make=lambda: MAF(4, 1),
        config=FitConfig(
            epochs=3, batch_size=1024, learning_rate=1e-3, warmup_epochs=0.2, ema_halflife_events=20_000
        ),
        target=0.01,
        test_events=100_000,
    ),
    "flow-matching": Recipe(
        make=lambda: FlowMatching(4, 1, network=ResNet(4, 1, width=128, blocks=2)),
        config=FitConfig(
            epochs=20, batch_size=2048, learning_rate=2e-3, warmup_epochs=0.5, ema_halflife_events=200_000
        ),
        target=0.02,
        test_events=10_000,
    ),
    "autoregressive": Recipe(
        make=lambda: AutoregressiveMixture(4, 1),
        config=FitConfig(
            epochs=6, batch_size=1024, learning_rate=2e-3, warmup_epochs=0.2, ema_halflife_events=100_000
        ),
        target=None,
        test_events=100_000,
    ),
}  # fmt: skip


def tensors(x: np.ndarray, m: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.as_tensor(x), torch.as_tensor(m)[:, None]


def train(recipe: Recipe, toy: ResonanceToy, *, events: int, seed: int) -> tuple[Preprocessed, float]:
    """Density in the units of the toy, and the CPU seconds of its fit."""
    x, m = tensors(*toy.sample_background(events + VALIDATION_EVENTS, numpy_generator(seed, "train"), "sideband"))
    scale, context_scale = Standardize(4).fit(x[:events]), Standardize(1).fit(m[:events])
    z, c = scale.forward_and_log_det(x)[0].float(), context_scale.forward_and_log_det(m)[0].float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        density = recipe.make()
    result = fit(
        density,
        TrainingData(z[:events], c[:events]),
        TrainingData(z[events:], c[events:]),
        recipe.config,
        seed=seed,
    )
    return Preprocessed(scale, result.density, context_bijection=context_scale), result.cpu_seconds


def excess(density: Preprocessed, toy: ResonanceToy, region: str, *, events: int, seed: int) -> tuple[float, float]:
    """Mean of ln p(x | m) - ln q(x | m) over background of ``region``, and its standard error, nats."""
    x, m = toy.sample_background(events, numpy_generator(seed, "test", region), region)
    learned = log_prob(density, *(t.float() for t in tensors(x, m))).double().numpy()
    difference = toy.log_prob_background(x, m) - learned
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(events))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[*RECIPES, "all"], default="all")
    parser.add_argument("--k", type=float, nargs="+", default=[0.0, 1.0], help="strength of the mass dependence")
    parser.add_argument("--events", type=int, default=TRAINING_EVENTS, help="sideband events to train on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a tenth of the training: does it run, not is it good")
    arguments = parser.parse_args()
    limit_threads(1)

    names = list(RECIPES) if arguments.model == "all" else [arguments.model]
    events = arguments.events // 10 if arguments.quick else arguments.events
    busy = os.getloadavg()[0]
    print(f"{events} sideband events, seed {arguments.seed}, 1 thread of {platform.processor() or platform.machine()}, "
          f"load average before the start {busy:.1f}")  # fmt: skip
    print(f"{'model':16s} {'k':>3s}  {'sideband':>18s}  {'signal region':>18s}  {'target':>6s}  {'':4s}  "
          f"{'fit CPU s':>9s} {'all wall s':>10s}")  # fmt: skip
    missed = 0
    for name in names:
        recipe = RECIPES[name]
        if arguments.quick:
            recipe = replace(recipe, test_events=recipe.test_events // 10)
        for k in arguments.k:
            toy, start = ResonanceToy(k=k), time.perf_counter()
            density, seconds = train(recipe, toy, events=events, seed=arguments.seed)
            values = [
                excess(density, toy, region, events=recipe.test_events, seed=arguments.seed)
                for region in ("sideband", "signal")
            ]
            good = recipe.target is None or all(value <= recipe.target for value, _ in values)
            missed += not good
            verdict = "" if recipe.target is None else "ok" if good else "MISS"
            target = "" if recipe.target is None else f"{recipe.target:g}"
            numbers = "  ".join(f"{value:8.5f} +- {error:.5f}" for value, error in values)
            print(f"{name:16s} {k:3g}  {numbers}  {target:>6s}  {verdict:4s}  {seconds:9.1f} "
                  f"{time.perf_counter() - start:10.1f}", flush=True)  # fmt: skip
    raise SystemExit(1 if missed and not arguments.quick else 0)


if __name__ == "__main__":
    main()
