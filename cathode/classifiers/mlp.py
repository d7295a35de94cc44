"""Ensemble of small neural networks, all trained in one pass."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from torch import Tensor
from torch.nn import functional

from cathode.classifiers.base import (
    balanced_weights,
    check_features,
    check_training,
    load_arrays,
    logit,
    save_arrays,
    stratified_split,
)
from cathode.support.errors import UserError
from cathode.support.files import atomic_directory, write_json
from cathode.support.progress import progress as progress_bar
from cathode.support.seeding import numpy_generator, torch_generator

__all__ = ["MLPEnsemble"]

_ROWS = 8192  # of one inference pass; bounds memory at members x rows x width


class MLPEnsemble(ClassifierMixin, BaseEstimator):
    """Classifier of the CATHODE paper (Hallin et al., arXiv:2109.00546, section III), several at once.

    Each member is a multilayer perceptron of three hidden layers of 64 ReLU units and a sigmoid, trained with binary
    cross-entropy and Adam (1e-3) on batches of 128 for 100 epochs, without dropout or logit of the inputs; the
    probabilities at its ten epochs of lowest validation loss are averaged.  Inputs are standardised with mean and
    standard deviation of the data (class 1, weighted); classes are balanced in the training and in the validation
    loss.  Deviations: the losses are means per event, also over a last, smaller batch; each member has its own random
    split into training and validation instead of one for all.

    This class has its own loop instead of :mod:`cathode.training`: members that size leave a processor idle, so the
    weights of all members are stacked and each step is one batched matrix product for all of them.  Every member has
    its own seed, split, initial weights and shuffles, and Adam acts on each weight alone, so a member becomes what it
    would have become alone (up to rounding).

    Args:
        members: Number of networks.
        hidden: Widths of the hidden layers.
        epochs: Largest number of epochs.
        batch_size: Events per step and member.
        learning_rate: Of Adam.
        weight_decay: Of Adam (L2, as in the paper's code: 0).
        validation_fraction: Part of each class held out by each member.
        best_epochs: Number of epochs of lowest validation loss that are averaged.
        patience: A member stops after so many epochs without a lower validation loss; None: never.
        device: Torch device.
        first_member: Number of the first member, for training an ensemble in parts: members ``k`` of two ensembles
            are the same if everything else is.
        random_state: Seed.
    """

    def __init__(
        self,
        members: int = 5,
        *,
        hidden: tuple[int, ...] = (64, 64, 64),
        epochs: int = 100,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        validation_fraction: float = 0.5,
        best_epochs: int = 10,
        patience: int | None = None,
        device: str = "cpu",
        first_member: int = 0,
        random_state: int = 0,
    ) -> None:
        self.members = members
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.validation_fraction = validation_fraction
        self.best_epochs = best_epochs
        self.patience = patience
        self.device = device
        self.first_member = first_member
        self.random_state = random_state

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None, *, progress: bool = False
    ) -> MLPEnsemble:
        """Train all members.

        Args:
            X: Events ``(N, D)``.
            y: Labels ``(N,)``: 1 data, 0 template.
            sample_weight: Non-negative weights ``(N,)``.
            progress: Show a bar over the epochs.

        Raises:
            UserError: Unusable input or settings, or a training loss that is not finite.
        """
        self._check_settings()
        features, labels, weight = check_training(X, y, sample_weight)
        data, data_weight = features[labels == 1], weight[labels == 1]
        self.mean_ = np.average(data, axis=0, weights=data_weight)
        spread = np.sqrt(np.average((data - self.mean_) ** 2, axis=0, weights=data_weight))
        self.scale_ = np.where(spread > 0, spread, 1.0)
        self.classes_, self.n_features_in_ = np.array([0, 1]), features.shape[1]

        device = torch.device(self.device)
        x = torch.as_tensor((features - self.mean_) / self.scale_, dtype=torch.float32, device=device)
        target = torch.as_tensor(labels, dtype=torch.float32, device=device)
        train, train_weight, held, held_weight = self._splits(labels, weight, device)
        generators = [torch_generator(self.random_state, "mlp", k, "shuffle") for k in self._numbers()]
        parameters = self._initial(device)
        optimiser = torch.optim.Adam(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)
        best = _BestEpochs(self.members, self.best_epochs, self.patience)
        history: dict[str, list[np.ndarray]] = {"training_loss": [], "validation_loss": []}

        bar = progress_bar(range(self.epochs), description="classifier", unit="epoch") if progress else None
        for _ in range(self.epochs) if bar is None else bar:
            order = torch.stack([torch.randperm(train.shape[1], generator=g) for g in generators]).to(device)
            rows, row_weight = train.gather(1, order), train_weight.gather(1, order)
            losses = self._epoch(parameters, optimiser, x, target, rows, row_weight)
            held_losses = self._mean_loss(parameters, x, target, held, held_weight)
            if not (np.isfinite(losses).all() and np.isfinite(held_losses).all()):
                raise UserError("a classifier network's loss is not finite: lower learning_rate, or look for outliers")
            active = best.active.copy()
            history["training_loss"].append(np.where(active, losses, np.nan))
            history["validation_loss"].append(np.where(active, held_losses, np.nan))
            best.update(held_losses, parameters)
            if not best.active.any():
                break
        if bar is not None:
            bar.close()
        self.history_ = {name: np.stack(curves, axis=1) for name, curves in history.items()}
        self.snapshots_ = [p.cpu() for p in best.snapshots()]
        return self

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probability of both classes ``(N, 2)``, averaged over members and their best epochs.

        Raises:
            UserError: Unusable input.
        """
        probability = self.member_probabilities(X).mean(axis=0)
        return np.stack([1.0 - probability, probability], axis=1)

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Logarithm of the odds of class 1, ``(N,)``."""
        return logit(self.predict_proba(X)[:, 1])

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The likelier class, ``(N,)``."""
        return (self.predict_proba(X)[:, 1] > 0.5).astype(np.int64)

    @torch.no_grad()
    def member_probabilities(self, X: ArrayLike) -> np.ndarray:
        """Probability of class 1 for each member, averaged over its best epochs, ``(members, N)``."""
        features = (check_features(X, features=self.n_features_in_) - self.mean_) / self.scale_
        x = torch.as_tensor(features, dtype=torch.float32, device=self.device)
        kept = [p.to(self.device) for p in self.snapshots_]
        out = np.empty((self.members, len(x)))
        for start in range(0, len(x), _ROWS):
            rows = x[start : start + _ROWS].expand(self.members, -1, -1)
            of_epochs = [_logits([p[:, k] for p in kept], rows).double().sigmoid() for k in range(kept[0].shape[1])]
            out[:, start : start + _ROWS] = torch.stack(of_epochs).mean(0).cpu().numpy()
        return out

    def save(self, folder: str | Path) -> None:
        """Write ``classifier.json``, ``weights.safetensors`` and ``history.npz`` to ``folder``, atomically.

        Raises:
            UserError: The folder cannot be written to.
        """
        from safetensors.torch import save_file

        with atomic_directory(folder) as inside:
            settings = {k: list(v) if isinstance(v, tuple) else v for k, v in self.get_params().items()}
            write_json(inside / "classifier.json", {"kind": "mlp", "settings": settings})
            tensors = {f"layer.{k}": p.contiguous() for k, p in enumerate(self.snapshots_)}
            tensors |= {"mean": torch.from_numpy(self.mean_), "scale": torch.from_numpy(self.scale_)}
            save_file(tensors, inside / "weights.safetensors")
            save_arrays(inside / "history.npz", self.history_)

    @classmethod
    def load(cls, folder: str | Path) -> MLPEnsemble:
        """The classifier that :meth:`save` wrote.

        Raises:
            UserError: Missing files, or weights that do not fit the settings.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        try:
            settings = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))["settings"]
            model = cls().set_params(**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})
            tensors = load_file(folder / "weights.safetensors")
            model.history_ = load_arrays(folder / "history.npz")
            model.mean_, model.scale_ = tensors.pop("mean").numpy(), tensors.pop("scale").numpy()
            model.classes_, model.n_features_in_ = np.array([0, 1]), len(model.mean_)
            model.snapshots_ = [tensors[f"layer.{k}"] for k in range(len(tensors))]
        except (OSError, KeyError, ValueError, TypeError, BadZipFile, SafetensorError) as error:
            raise UserError(f"cannot load a classifier from {folder}: {error!r}") from error
        found = [tuple(p.shape[:1]) + tuple(p.shape[2:]) for p in model.snapshots_]
        expected = [(model.members, *shape) for shape in model._shapes()]
        if found != expected:
            raise UserError(f"{folder / 'weights.safetensors'} has shapes {found}, its settings need {expected}")
        return model

    def _check_settings(self) -> None:
        for name in ("members", "epochs", "batch_size", "best_epochs"):
            if getattr(self, name) < 1:
                raise UserError(f"MLPEnsemble: {name}={getattr(self, name)} must be at least 1")
        if not 0.0 < self.validation_fraction < 1.0:
            raise UserError(f"MLPEnsemble: validation_fraction={self.validation_fraction} must be between 0 and 1")

    def _splits(
        self, labels: np.ndarray, weight: np.ndarray, device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Per member: rows and balanced weights of its training and of its validation events, ``(members, n)``."""
        columns: tuple[list[np.ndarray], ...] = ([], [], [], [])
        for k in self._numbers():
            generator = numpy_generator(self.random_state, "mlp", k, "split")
            train, held = stratified_split(labels, self.validation_fraction, generator)
            columns[0].append(train)
            columns[1].append(balanced_weights(labels[train], weight[train]))
            columns[2].append(held)
            columns[3].append(balanced_weights(labels[held], weight[held]))
        rows = [torch.as_tensor(np.stack(columns[k]), device=device) for k in (0, 2)]
        weights = [torch.as_tensor(np.stack(columns[k]), dtype=torch.float32, device=device) for k in (1, 3)]
        return rows[0], weights[0], rows[1], weights[1]

    def _numbers(self) -> range:
        return range(self.first_member, self.first_member + self.members)

    def _shapes(self) -> list[tuple[int, ...]]:
        widths = [self.n_features_in_, *self.hidden, 1]
        shapes: list[tuple[int, ...]] = []
        for inputs, outputs in itertools.pairwise(widths):
            shapes += [(inputs, outputs), (1, outputs)]
        return shapes

    def _initial(self, device: torch.device) -> list[Tensor]:
        """Weights and biases ``(members, ...)``, uniform within 1/sqrt(inputs): torch's default for linear layers."""
        generators = [torch_generator(self.random_state, "mlp", k, "initial") for k in self._numbers()]
        parameters, inputs = [], 1
        for index, shape in enumerate(self._shapes()):
            inputs = shape[0] if index % 2 == 0 else inputs
            drawn = torch.stack([torch.rand(shape, generator=g) for g in generators])
            parameters.append(((2 * drawn - 1) / math.sqrt(inputs)).to(device).requires_grad_())
        return parameters

    def _epoch(
        self,
        parameters: list[Tensor],
        optimiser: torch.optim.Optimizer,
        x: Tensor,
        target: Tensor,
        rows: Tensor,
        weight: Tensor,
    ) -> np.ndarray:
        total = torch.zeros(self.members, dtype=torch.float64, device=x.device)
        for start in range(0, rows.shape[1], self.batch_size):
            batch, w = rows[:, start : start + self.batch_size], weight[:, start : start + self.batch_size]
            losses = functional.binary_cross_entropy_with_logits(
                _logits(parameters, x[batch]), target[batch], weight=w, reduction="none"
            )
            optimiser.zero_grad(set_to_none=True)
            losses.mean(1).sum().backward()
            optimiser.step()
            total += losses.detach().sum(1)
        return (total / rows.shape[1]).cpu().numpy()

    @torch.no_grad()
    def _mean_loss(
        self, parameters: list[Tensor], x: Tensor, target: Tensor, rows: Tensor, weight: Tensor
    ) -> np.ndarray:
        total = torch.zeros(self.members, dtype=torch.float64, device=x.device)
        for start in range(0, rows.shape[1], _ROWS):
            batch = rows[:, start : start + _ROWS]
            total += functional.binary_cross_entropy_with_logits(
                _logits(parameters, x[batch]), target[batch], weight=weight[:, start : start + _ROWS], reduction="none"
            ).sum(1)
        return (total / rows.shape[1]).cpu().numpy()


class _BestEpochs:
    """Per member the parameters at the ``keep`` epochs of lowest validation loss, until the member stops."""

    def __init__(self, members: int, keep: int, patience: int | None) -> None:
        self.losses = np.full((members, keep), np.inf)
        self.active = np.ones(members, dtype=bool)
        self._kept: list[Tensor] = []
        self._waited = np.zeros(members, dtype=np.int64)
        self._patience = patience

    def update(self, losses: np.ndarray, parameters: list[Tensor]) -> None:
        if not self._kept:
            keep = self.losses.shape[1]
            self._kept = [p.detach().unsqueeze(1).repeat(1, keep, *[1] * (p.dim() - 1)) for p in parameters]
        self._waited = np.where(losses < self.losses.min(axis=1), 0, self._waited + 1)
        worst = self.losses.argmax(axis=1)
        for member in np.flatnonzero(self.active):
            if losses[member] < self.losses[member, worst[member]]:
                self.losses[member, worst[member]] = losses[member]
                for kept, p in zip(self._kept, parameters, strict=True):
                    kept[member, worst[member]] = p.detach()[member]
        if self._patience is not None:
            self.active &= self._waited < self._patience

    def snapshots(self) -> list[Tensor]:
        """Parameters ``(members, epochs, ...)``; members that stopped early repeat their epochs in turn."""
        for member, losses in enumerate(self.losses):
            filled = np.flatnonzero(np.isfinite(losses))
            source = filled[np.arange(len(losses)) % len(filled)]
            for kept in self._kept:
                kept[member] = kept[member, source].clone()
        return self._kept


def _logits(parameters: list[Tensor], x: Tensor) -> Tensor:
    """Networks with stacked weights on ``x`` ``(members, B, D)``: logits ``(members, B)``."""
    for index in range(0, len(parameters), 2):
        x = torch.baddbmm(parameters[index + 1], x, parameters[index])
        if index + 2 < len(parameters):
            x = x.relu()
    return x.squeeze(-1)
