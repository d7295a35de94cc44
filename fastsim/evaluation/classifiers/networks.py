"""Training of one network that tells two samples apart: reproducible, one thread, the best epoch kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cathode.support.errors import UserError
from cathode.support.progress import progress
from cathode.support.seeding import torch_generator
from cathode.support.threads import threads_setting

__all__ = ["Batches", "Trained", "Training", "initialise", "multilayer_perceptron", "one_thread_per_process", "train"]

# Rows -> what the network takes.
Batches = Callable[[np.ndarray], tuple[Tensor, ...]]

_ROWS = 2000


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Args:
        epochs: Passes over the training showers, at most.
        batch_size: Showers per step.
        learning_rate: Of Adam; with ``anneal`` the largest.
        patience: Stop after so many epochs without a lower validation loss; None: never.
        anneal: Warm up over a tenth of the steps and anneal to zero along a cosine.
        choose_by: Validation number that decides on the epoch that is kept: ``"loss"``, or ``"accuracy"`` as published.
    """

    epochs: int = 50
    batch_size: int = 1000
    learning_rate: float = 2e-4
    patience: int | None = None
    anneal: bool = False
    choose_by: str = "accuracy"


@dataclass(frozen=True)
class Trained:
    """A trained network: ``score(rows)`` gives log-odds ``(len(rows),)``, ``epoch`` is the one that was kept."""

    score: Callable[[np.ndarray], np.ndarray]
    epoch: int


class Dropout(nn.Module):
    """Dropout that draws from its own generator, so that a seed fixes the training."""

    def __init__(self, rate: float, generator: torch.Generator) -> None:
        super().__init__()
        self.rate = rate
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        kept = torch.rand(x.shape, generator=self.generator, dtype=x.dtype) >= self.rate
        return x * kept / (1.0 - self.rate)


def multilayer_perceptron(
    inputs: int, hidden: tuple[int, ...], *, dropout: float, generator: torch.Generator
) -> nn.Sequential:
    """Linear layers with LeakyReLU(0.01) and one output, ``(B, inputs)`` to ``(B, 1)``; not initialised."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.LeakyReLU(0.01)]
        if dropout > 0.0:
            layers.append(Dropout(dropout, generator))
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 1))


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """torch's default initialisation of linear and convolutional layers, drawn from ``generator``."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv3d):
            bound = module.weight[0].numel() ** -0.5
            module.weight.uniform_(-bound, bound, generator=generator)
            if module.bias is not None:
                module.bias.uniform_(-bound, bound, generator=generator)
    return network


@contextmanager
def one_thread_per_process() -> Iterator[None]:
    """torch limited to the package's number of threads within the block: threads that wait for each other spin."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads_setting())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(
    network: nn.Module,
    batches: Batches,
    label: np.ndarray,
    train_rows: np.ndarray,
    validation_rows: np.ndarray,
    *,
    training: Training,
    seed: int,
    description: str,
) -> Trained:
    """Train with binary cross-entropy, both classes counting alike, and keep the best epoch.

    Args:
        network: ``batches(rows)`` to logits ``(B, 1)``, initialised.
        batches: Gives the inputs of the rows, on the fly: nothing is kept.
        label: 1 for reference, 0 for generated, ``(N,)``.
        train_rows: Rows to train on.
        validation_rows: Rows that choose the epoch.
        training: Optimiser and schedule.
        seed: Of the shuffling.
        description: Shown before the progress bar.

    Raises:
        UserError: The loss is not finite.
    """
    dtype = next(network.parameters()).dtype
    target = torch.as_tensor(label, dtype=dtype)
    share = [float((label[train_rows] == k).mean()) for k in (0, 1)]
    weight = torch.as_tensor(np.where(label == 1, 0.5 / share[1], 0.5 / share[0]), dtype=dtype)
    optimiser = torch.optim.Adam(network.parameters(), lr=training.learning_rate)
    steps = -(-len(train_rows) // training.batch_size)
    schedule = None
    if training.anneal:
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, training.learning_rate, total_steps=training.epochs * steps, pct_start=0.1, cycle_momentum=False
        )
    generator = torch_generator(seed, "classifier", "shuffle")
    best, best_epoch, kept, waited = -np.inf, 0, _copy(network), 0
    for epoch in progress(range(1, training.epochs + 1), description=description, unit="epoch"):
        network.train()
        order = train_rows[torch.randperm(len(train_rows), generator=generator).numpy()]
        for start in range(0, len(order), training.batch_size):
            rows = order[start : start + training.batch_size]
            if len(rows) < 2:  # batch normalisation needs two
                continue
            logit = network(*batches(rows)).squeeze(-1)
            loss = functional.binary_cross_entropy_with_logits(logit, target[rows], weight=weight[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            if schedule is not None:
                schedule.step()
        score = _scores(network, batches, validation_rows)
        if not np.isfinite(score).all():
            raise UserError(f"{description}: the network's output is not finite; look for outliers in the showers")
        quality = _quality(score, label[validation_rows], training.choose_by)
        if quality > best:
            best, best_epoch, kept, waited = quality, epoch, _copy(network), 0
        else:
            waited += 1
        if training.patience is not None and waited >= training.patience:
            break
    network.load_state_dict(kept)
    return Trained(lambda rows: _scores(network, batches, rows), best_epoch)


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


@torch.no_grad()
def _scores(network: nn.Module, batches: Batches, rows: np.ndarray) -> np.ndarray:
    network.eval()
    parts = [network(*batches(rows[k : k + _ROWS])).squeeze(-1) for k in range(0, len(rows), _ROWS)]
    return torch.cat(parts).double().numpy()


def _quality(score: np.ndarray, label: np.ndarray, choose_by: str) -> float:
    positive, negative = score[label == 1], score[label == 0]
    if choose_by == "accuracy":
        return 0.5 * float((positive > 0).mean() + (negative <= 0).mean())
    return -0.5 * float(np.logaddexp(0.0, -positive).mean() + np.logaddexp(0.0, negative).mean())
