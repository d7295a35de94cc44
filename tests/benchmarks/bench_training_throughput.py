"""Training throughput of ``cathode.training.fit`` against plain loops, with the same models on the same data.

    python tests/benchmarks/bench_training_throughput.py

Each repetition trains one model twice in the same process from the same weights: with ``fit`` (moving average, gradient
clipping, non-finite checks, history; validation after each epoch is not counted) and with the loop everybody writes::

    for rows in torch.randperm(n).split(batch):
        optimizer.zero_grad()
        loss = -flow(context[rows]).log_prob(x[rows]).mean()
        loss.backward()
        optimizer.step()

with ``torch.optim.Adam`` as it comes.  ``zuko.*`` and ``nflows.*`` are the libraries' own flows, called directly in the
plain loop; the others are the package's, with ``model.loss`` in both.  The order alternates between repetitions and the
ratio is the median over repetitions of the ratios within each.  One thread and CPU time, so a busy machine disturbs
both loops alike.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity
from cathode.density.registry import build
from cathode.support.threads import limit_threads
from cathode.training import FitConfig, TrainingData, fit

OWN = ("maf", "nflows-maf", "rqs-coupling", "nflows-rqs-coupling", "autoregressive")
HIDDEN, BLOCKS = 128, 8


class Library(ConditionalDensity):
    """A library's flow as ``fit`` wants it."""

    def __init__(self, flow: Any, log_prob: Callable[[Any, Tensor, Tensor], Tensor], features: int) -> None:
        super().__init__()
        self.event_shape, self.context_features = (features,), 1
        self.flow, self._call = flow, log_prob

    def loss(self, x: Tensor, context: Tensor | None = None, **_: Any) -> Tensor:
        return -self._call(self.flow, x, context)


def zuko_log_prob(flow: Any, x: Tensor, context: Tensor) -> Tensor:
    return flow(context).log_prob(x)


def nflows_log_prob(flow: Any, x: Tensor, context: Tensor) -> Tensor:
    return flow.log_prob(x, context=context)


def zuko_model(name: str, features: int) -> Library:
    import zuko

    kind = getattr(zuko.flows, name)
    flow = kind(features, 1, transforms=BLOCKS, hidden_features=(HIDDEN, HIDDEN))
    return Library(flow, zuko_log_prob, features)


def nflows_model(name: str, features: int) -> Library:
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow
    from nflows.transforms import (
        CompositeTransform,
        MaskedAffineAutoregressiveTransform,
        MaskedPiecewiseRationalQuadraticAutoregressiveTransform,
        ReversePermutation,
    )

    steps: list[Any] = []
    for _ in range(BLOCKS):
        common = {"context_features": 1, "num_blocks": 2, "use_residual_blocks": False}
        if name == "MAF":
            steps.append(MaskedAffineAutoregressiveTransform(features, HIDDEN, **common))
        else:
            steps.append(
                MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
                    features, HIDDEN, num_bins=8, tails="linear", tail_bound=5.0, **common
                )
            )
        steps.append(ReversePermutation(features))
    return Library(Flow(CompositeTransform(steps), StandardNormal([features])), nflows_log_prob, features)


MODELS: dict[str, Callable[[int], Any]] = {
    "zuko.MAF": lambda d: zuko_model("MAF", d),
    "zuko.NSF": lambda d: zuko_model("NSF", d),
    "nflows.MAF": lambda d: nflows_model("MAF", d),
    "nflows.NSF": lambda d: nflows_model("NSF", d),
    **{kind: lambda d, kind=kind: build({"kind": kind, "features": d, "context_features": 1}) for kind in OWN},
}


def plain_loop(model: Any, data: TrainingData, batch: int, epochs: int) -> float:
    """Events per CPU second of the loop in the module's docstring."""
    model.train()
    x, context = data.x, data.context
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    native = isinstance(model, Library)
    began = time.process_time()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(batch):
            optimizer.zero_grad()
            if native:
                loss = -model._call(model.flow, x[rows], context[rows]).mean()
            else:
                loss = model.loss(x[rows], context[rows]).mean()
            loss.backward()
            optimizer.step()
    return epochs * len(x) / (time.process_time() - began)


def ours(model: Any, data: TrainingData, batch: int, epochs: int) -> float:
    """Events per CPU second of ``fit``, validation not counted."""
    config = FitConfig(epochs=epochs, batch_size=batch, learning_rate=1e-4, ema_halflife_events=50_000.0, device="cpu")
    history = fit(model, data, data.take(slice(0, 1024)), config, seed=1).history.iloc[1:]
    return history["events"].sum() / (history["events"] / history["events_per_cpu_second"]).sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS)[:7], choices=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1024, 4096])
    parser.add_argument("--events", type=int, default=32768)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--features", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="one repetition on few events: checks the script only")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repetitions, arguments.events, arguments.batches = 1, 4096, [1024]
    limit_threads()
    for module in ("flows", "nflows_backend", "autoregressive"):
        importlib.import_module(f"cathode.density.{module}")
    torch.manual_seed(0)
    context = torch.rand(arguments.events, 1)
    data = TrainingData(torch.randn(arguments.events, arguments.features) * (0.5 + context), context)
    print(f"{'model':<20}{'batch':>6}{'fit ev/s':>10}{'plain ev/s':>11}{'ratio':>7}  of each repetition")
    for name in arguments.models:
        state = MODELS[name](arguments.features).state_dict()

        def fresh(name: str = name, state: dict[str, Tensor] = state) -> Any:
            model = MODELS[name](arguments.features)
            model.load_state_dict(state)
            return model

        for batch in arguments.batches:
            rates: dict[Any, list[float]] = {ours: [], plain_loop: []}
            for loop in (ours, plain_loop):  # the first steps pay for allocations and lazy imports
                loop(fresh(), data.take(slice(0, 2 * batch)), batch, 1)
            for repetition in range(arguments.repetitions):
                for loop in (ours, plain_loop) if repetition % 2 else (plain_loop, ours):
                    rates[loop].append(loop(fresh(), data, batch, arguments.epochs))
            ratios = [a / b for a, b in zip(rates[ours], rates[plain_loop], strict=True)]
            fast, plain = statistics.median(rates[ours]), statistics.median(rates[plain_loop])
            print(
                f"{name:<20}{batch:>6}{fast:>10.0f}{plain:>11.0f}{statistics.median(ratios):>7.2f}  "
                + " ".join(f"{ratio:.2f}" for ratio in ratios),
                flush=True,
            )


if __name__ == "__main__":
    main()
