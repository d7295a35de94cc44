"""The one training loop: vectors, voxels or sets, densities or adversaries, one process or several."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cathode.density.base import ConditionalDensity, NonFiniteError
from cathode.support.errors import UserError
from cathode.support.progress import progress
from cathode.support.seeding import derive_seed, torch_generator
from cathode.training.checkpoint import Checkpoint, load_optimizers, optimizer_tensors
from cathode.training.config import FitConfig
from cathode.training.data import BatchSource, TrainingData, fingerprint
from cathode.training.distributed import Ranks, process_group
from cathode.training.ema import MovingAverage
from cathode.training.environment import choose_device, float_type, own_threads
from cathode.training.evaluation import evaluate, statistics_rows
from cathode.training.result import FitResult
from cathode.training.schedule import Plateau, learning_rate_factor
from cathode.training.selection import BestEpochs, combine
from cathode.training.steps import LossStep, TrainingStep

__all__ = ["fit"]

logger = logging.getLogger(__name__)

# Steps between two looks at the clock: often enough for any budget, rare enough to cost nothing.
_CLOCK_STEPS = 32
# A handful of broken batches must not end a fit with few batches per epoch.
_TOLERATED_NON_FINITE = 10
_COUNTS = {"events": "int64", "non_finite_batches": "int64"}


def fit(
    density: ConditionalDensity,
    train: TrainingData | BatchSource,
    validation: TrainingData | BatchSource,
    config: FitConfig,
    *,
    seed: int,
    checkpoint_dir: str | Path | None = None,
    step: TrainingStep | None = None,
) -> FitResult:
    """Train a copy of ``density``.

    The loss is the weighted mean over events, ``sum(w l) / sum(w)``, in training and validation.  After each epoch the
    averaged weights are validated (a density with a method ``before_evaluation(x, context)`` is first shown the
    training data, to refresh stored statistics), and the best epochs are kept.  Batches whose loss or gradient is not
    finite are skipped and counted; epochs with a non-finite validation loss are logged and never selected.

    Under ``torchrun`` each process trains on its share of the events, with ``config.batch_size`` events per step over
    all processes; gradients are averaged, and rank 0 writes.  All processes return the same density.

    Args:
        density: Left untouched.
        train: Events in memory (moved to the device once), or a source of batches.
        validation: The same, for the validation loss.
        config: Settings.
        seed: Fixes order, noise and dropout; the initial weights are those of ``density``.
        checkpoint_dir: Folder for checkpoints.  If it holds one of the same fit, that is continued, to the same result
            as an uninterrupted run; a finished fit is returned at once.
        step: For models that need their own step.

    Raises:
        UserError: Unusable data, or a checkpoint of another fit.
        NonFiniteError: Too many non-finite batches, or no epoch with a finite validation loss.
    """
    device = choose_device(config.device)
    cuda = device.type == "cuda"
    with (
        own_threads(),
        process_group(cuda=cuda) as ranks,
        # Dropout draws from the global stream: seeded here for each epoch, and given back as it was.
        torch.random.fork_rng(devices=[device] if cuda else []),
    ):
        run = _Run(density, train, validation, config, seed=seed, step=step, device=device, ranks=ranks)
        checkpoint = None if checkpoint_dir is None else Checkpoint(checkpoint_dir)
        run.start(checkpoint)
        run.train(checkpoint)
        return run.result()


class _Run:
    """One fit under way: the trained module, its average ``shadow``, and everything a checkpoint holds."""

    def __init__(
        self,
        density: ConditionalDensity,
        train: TrainingData | BatchSource,
        validation: TrainingData | BatchSource,
        config: FitConfig,
        *,
        seed: int,
        step: TrainingStep | None,
        device: torch.device,
        ranks: Ranks,
    ) -> None:
        self.config, self.seed, self.device, self.ranks = config, seed, device, ranks
        self.density = copy.deepcopy(density).to(device)
        self.shadow = copy.deepcopy(self.density).eval()
        self.dtype = float_type(self.density)
        self.events = len(train) if isinstance(train, TrainingData) else train.events
        held_out = len(validation) if isinstance(validation, TrainingData) else validation.events
        if self.events < ranks.world or held_out < ranks.world:
            raise UserError(f"{self.events} training and {held_out} validation events are too few; give more events")
        self.identity: dict[str, Any] = {
            "config": config.identity(),
            "seed": seed,
            "processes": ranks.world,
            "train data": fingerprint(train),
            "validation data": fingerprint(validation),
            "weights": [[key, list(value.shape)] for key, value in self.density.state_dict().items()],
        }
        self.train_data = train.to(device, self.dtype) if isinstance(train, TrainingData) else train
        self.validation = validation.to(device, self.dtype) if isinstance(validation, TrainingData) else validation
        self.held_out = held_out
        self.local_batch = max(1, config.batch_size // ranks.world)
        self.step = step if step is not None else LossStep(train.mean_weight)
        # Before setup, which may move what the step holds to another type.
        identity = getattr(self.step, "identity", None)
        if identity is not None:
            self.identity |= identity()
        self.density.train()
        self.optimizers = list(self.step.setup(self.density, config))
        self.peak_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.ema: MovingAverage | None = None
        if config.ema_halflife_events is not None:
            self.ema = MovingAverage(
                self.density, self.shadow, halflife_events=config.ema_halflife_events, batch_size=config.batch_size
            )
        self.history: list[dict[str, Any]] = []
        self.best = BestEpochs(config.best_epochs)
        self.plateau = Plateau()
        self.epoch = 0
        self.lowest = math.inf
        self.waited = 0
        self.non_finite = 0
        self.batches = 0
        self.stopped = ""
        self._statistics: TrainingData | None = None
        self._earlier = (0.0, 0.0)
        self._started = (time.perf_counter(), time.process_time())

    # -- time ------------------------------------------------------------------------------------------------

    def seconds(self) -> tuple[float, float]:
        """Wall and CPU seconds spent, in earlier runs too."""
        wall = self._earlier[0] + time.perf_counter() - self._started[0]
        return wall, self._earlier[1] + time.process_time() - self._started[1]

    def spent(self) -> float:
        """Used fraction of the time budget; the same on all ranks."""
        if self.config.max_seconds is None:
            return 0.0
        used = self.seconds()[0 if self.config.budget == "wall" else 1] / self.config.max_seconds
        return self.ranks.largest(used, device=self.device)[0]

    # -- start, checkpoint -----------------------------------------------------------------------------------

    def start(self, checkpoint: Checkpoint | None) -> None:
        """Continue from the checkpoint, or evaluate the untrained density as epoch 0."""
        if checkpoint is not None and checkpoint.exists():
            self._restore(checkpoint)
        else:
            rows = self._sample_of_training_data()
            self._record({"train_loss": self._evaluate(rows, "train"), "learning_rate": 0.0, "events": 0.0})
        self.ranks.wait()
        if checkpoint is not None and self.ranks.writes:
            checkpoint.forget_strays()

    def _restore(self, checkpoint: Checkpoint) -> None:
        tensors, state, best = checkpoint.load()
        there = state.get("identity", {})
        for name in [*self.identity, *(name for name in there if name not in self.identity)]:
            value = self.identity.get(name)
            if there.get(name) != value:
                if name == "config":
                    old, new = there.get(name, {}), self.identity[name]
                    name = ", ".join(
                        f"{k} ({old.get(k)!r} there, {v!r} now)" for k, v in new.items() if old.get(k) != v
                    )
                raise UserError(
                    f"{checkpoint.folder}: the checkpoint belongs to another fit, it differs in {name}; "
                    f"delete the folder or choose another one"
                )
        for prefix, module in (("weights.", self.density), ("average.", self.shadow)):
            module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        load_optimizers(self.optimizers, tensors, state["optimizers"])
        self.best.entries = best
        self.history = state["history"]
        self.epoch, self.lowest, self.waited = state["epoch"], state["lowest"], state["waited"]
        self.non_finite, self.batches, self.stopped = state["non_finite"], state["batches"], state["stopped"]
        self.plateau = Plateau(**state["plateau"])
        self._earlier = (state["seconds"][0], state["seconds"][1])
        if self.stopped == "time" and self.spent() < 1.0:
            self.stopped = ""  # the budget has been raised since
        if self.ema is not None:
            self.ema.events = state["ema_events"]
        logger.info("%s: continuing after epoch %d", checkpoint.folder, self.epoch)

    def _save(self, checkpoint: Checkpoint) -> None:
        tensors = {f"weights.{k}": v for k, v in self.density.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.shadow.state_dict().items()}
        moments, plain = optimizer_tensors(self.optimizers)
        state = {
            "identity": self.identity,
            "optimizers": plain,
            "history": self.history,
            "epoch": self.epoch,
            "lowest": self.lowest,
            "waited": self.waited,
            "non_finite": self.non_finite,
            "batches": self.batches,
            "stopped": self.stopped,
            "plateau": vars(self.plateau),
            "ema_events": 0 if self.ema is None else self.ema.events,
            "seconds": self.seconds(),
        }
        checkpoint.save(tensors | moments, state, self.best.entries)

    # -- the loop --------------------------------------------------------------------------------------------

    def train(self, checkpoint: Checkpoint | None) -> None:
        """All epochs that are left."""
        if self.stopped:
            return
        per_epoch = self.events - self.events % self.ranks.world
        with progress(description="training", total=self.config.epochs * per_epoch, unit="ev", unit_scale=True) as bar:
            bar.update(self.epoch * per_epoch)
            while True:
                self.epoch += 1
                row = self._train_epoch(bar)
                self._copy_to_shadow()
                self._record(row)
                self.stopped = self._reason_to_stop()
                if checkpoint is not None and (self.stopped or self.epoch % self.config.checkpoint_every == 0):
                    if self.ranks.writes:
                        self._save(checkpoint)
                    self.ranks.wait()
                last = self.history[-1]
                bar.set_description(f"training, epoch {self.epoch}/{self.config.epochs}", refresh=False)
                bar.set_postfix(train=f"{last['train_loss']:.4g}", val=f"{last['validation_loss']:.4g}")
                if self.stopped:
                    break
        logger.info("stopped after epoch %d (%s)", self.epoch, self.stopped)

    def _batches(self) -> tuple[Iterator[TrainingData], int]:
        data, ranks = self.train_data, self.ranks
        if not isinstance(data, TrainingData):
            seed = derive_seed(self.seed, "order")
            steps = data.steps(batch_size=self.local_batch, world=ranks.world)
            source = data.batches(
                self.epoch, batch_size=self.local_batch, seed=seed, rank=ranks.rank, world=ranks.world
            )
            return (batch.to(self.device, self.dtype) for batch in source), steps
        generator = torch_generator(self.seed, "order", self.epoch, device=self.device)
        order = torch.randperm(len(data), generator=generator, device=self.device)
        share = order[ranks.rank :: ranks.world][: len(data) // ranks.world]
        steps = math.ceil(len(share) / self.local_batch)
        return map(data.take, share.tensor_split(steps)), steps

    def _train_epoch(self, bar: Any) -> dict[str, float]:
        config, ranks = self.config, self.ranks
        torch.manual_seed(derive_seed(self.seed, "dropout", self.epoch, ranks.rank))
        generator = torch_generator(self.seed, "noise", self.epoch, ranks.rank, device=self.device)
        self.density.train()
        batches, steps = self._batches()
        sums: dict[str, float] = {}
        seen = skipped = 0
        spent = self.spent()
        began, began_cpu = time.perf_counter(), time.process_time()
        factor = 1.0
        for i, batch in enumerate(batches):
            if config.max_seconds is not None and i % _CLOCK_STEPS == 0:
                spent = self.spent()
                if spent >= 1.0 and i > 0:
                    break
            position = self.epoch - 1 + (i + 1) / steps
            factor = learning_rate_factor(config, position, scale=self.plateau.scale, spent=spent)
            for optimizer, rates in zip(self.optimizers, self.peak_rates, strict=True):
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
            losses = {name: float(value) for name, value in self.step.step(batch, generator).items()}
            count = len(batch)
            self.batches += 1
            if math.isfinite(losses["loss"]):
                seen += count
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + value * count
            else:
                skipped += 1
            if self.ema is not None:
                self.ema.step(count * ranks.world)
            bar.update(count * ranks.world)
        elapsed, elapsed_cpu = time.perf_counter() - began, time.process_time() - began_cpu
        names = sorted(sums)
        total, *means = ranks.sum(float(seen), *(sums[name] for name in names), device=self.device)
        row = {name: value / total for name, value in zip(names, means, strict=True)}
        row["train_loss"] = row.pop("loss", math.nan)
        self._count_non_finite(skipped, all_of_them=seen == 0)
        return {
            **row,
            "learning_rate": config.learning_rate * factor,
            "events": total,
            "non_finite_batches": float(skipped),
            "events_per_second": total / elapsed,
            "events_per_cpu_second": total / max(elapsed_cpu, 1e-9) / ranks.world,
        }

    def _count_non_finite(self, skipped: int, *, all_of_them: bool) -> None:
        if not skipped:
            return
        self.non_finite += skipped
        message = (
            f"epoch {self.epoch}: {skipped} batches with a non-finite loss or gradient, "
            f"{self.non_finite} of {self.batches} so far"
        )
        logger.warning("%s; skipped", message)
        too_many = self.non_finite > max(_TOLERATED_NON_FINITE, self.config.max_non_finite * self.batches)
        if too_many or all_of_them:
            raise NonFiniteError(f"{message}; lower the learning rate, or look for outliers in the data")

    def _copy_to_shadow(self) -> None:
        """Bring ``shadow`` up to date: averaged or plain weights, and the buffers as they are."""
        with torch.no_grad():
            if self.ema is not None:
                self.ema.flush()
            else:
                for average, weight in zip(self.shadow.parameters(), self.density.parameters(), strict=True):
                    average.copy_(weight)
            for target, source in zip(self.shadow.buffers(), self.density.buffers(), strict=True):
                target.copy_(source)

    # -- evaluation ------------------------------------------------------------------------------------------

    def _sample_of_training_data(self) -> TrainingData | BatchSource:
        if not isinstance(self.train_data, TrainingData):
            return statistics_rows(self.train_data, self.local_batch, seed=self.seed).to(self.device, self.dtype)
        if self.held_out >= len(self.train_data):
            return self.train_data
        generator = torch_generator(self.seed, "epoch 0", device=self.device)
        return self.train_data.take(
            torch.randperm(len(self.train_data), generator=generator, device=self.device)[: self.held_out]
        )

    def _refresh_statistics(self, density: ConditionalDensity) -> None:
        hook = getattr(density, "before_evaluation", None)
        if hook is None:
            return
        if self._statistics is None:
            rows = statistics_rows(self.train_data, self.local_batch, seed=derive_seed(self.seed, "statistics"))
            self._statistics = rows.to(self.device, self.dtype)
        rows = self._statistics
        with torch.no_grad():
            hook(rows.x, rows.context)

    def _evaluate(
        self, data: TrainingData | BatchSource, name: str, density: ConditionalDensity | None = None
    ) -> float:
        density = self.shadow if density is None else density
        self._refresh_statistics(density)
        return evaluate(
            density,
            data,
            batch_size=self.config.validation_batch,
            seed=derive_seed(self.seed, name),
            device=self.device,
            dtype=self.dtype,
            ranks=self.ranks,
            loss=getattr(self.step, "validation_loss", None),
        )

    def _record(self, row: dict[str, float]) -> None:
        validation_loss = self._evaluate(self.validation, "validation")
        wall, cpu = self.seconds()
        first = {"epoch": self.epoch, "train_loss": row.pop("train_loss"), "validation_loss": validation_loss}
        self.history.append({**first, **row, "seconds": wall, "cpu_seconds": cpu})
        if not math.isfinite(validation_loss):
            logger.warning("epoch %d: the validation loss is %s; it will not be selected", self.epoch, validation_loss)
        if self.epoch > 0:
            self.best.offer(self.epoch, validation_loss, self.shadow)

    def _reason_to_stop(self) -> str:
        """Why to stop after this epoch; empty to go on."""
        loss = self.history[-1]["validation_loss"]
        self.waited = 0 if loss < self.lowest else self.waited + 1
        self.lowest = min(self.lowest, loss) if math.isfinite(loss) else self.lowest
        self.plateau.update(self.config, loss)
        if self.epoch >= self.config.epochs:
            return "epochs"
        if self.config.patience is not None and self.waited >= self.config.patience:
            return "patience"
        return "time" if self.spent() >= 1.0 else ""

    # -- result ----------------------------------------------------------------------------------------------

    def result(self) -> FitResult:
        """The density made of the best epochs."""
        best = self.best.entries
        if not best:
            raise NonFiniteError(
                f"none of {self.epoch} epochs has a finite validation loss; lower the learning rate, "
                f"or look for outliers in the data"
            )
        density, loss, selection = combine(
            best,
            self.shadow,
            average=self.config.average,
            validate=lambda density: self._evaluate(self.validation, "validation", density),
        )
        wall, cpu = self.seconds()
        return FitResult(
            density=density.eval(),
            history=pd.DataFrame(self.history).fillna({"non_finite_batches": 0}).astype(_COUNTS),
            best_states=best,
            validation_loss=loss,
            selection=selection,
            seconds=wall,
            cpu_seconds=cpu,
            stopped_reason=self.stopped,
            non_finite_batches=self.non_finite,
        )
