"""Ensemble of set transformers with the interface of every classifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin

from cathode.classifiers.base import balanced_weights, check_labels, load_arrays, logit, save_arrays, stratified_split
from cathode.classifiers.transformer.inputs import SetInputs
from cathode.classifiers.transformer.network import Architecture, SetNetwork
from cathode.classifiers.transformer.pretrained import load_encoder, pretrained_architecture
from cathode.classifiers.transformer.training import Labels, LayerwiseStep, SetTensors, network_with_seed
from cathode.density.base import NonFiniteError
from cathode.support.errors import UserError
from cathode.support.files import atomic_directory, write_json
from cathode.support.progress import progress as progress_bar
from cathode.support.seeding import derive_seed, numpy_generator
from cathode.training import FitConfig, fit
from cathode.training.environment import choose_device

__all__ = ["SetClassifier"]

_CHUNK = 512  # events of one inference pass


class SetClassifier(ClassifierMixin, BaseEstimator):
    """Transformer classifier of sets of points; takes :class:`~cathode.classifiers.transformer.inputs.SetInputs`.

    Each member is a network of its own (:mod:`cathode.classifiers.transformer.network`), trained with binary
    cross-entropy and AdamW by :func:`cathode.training.fit` on its own split into training and validation events.
    Classes are balanced in both.  A moving average of the weights is validated after each epoch; the member is the
    mean of the weights of its best epochs, or the best single epoch if that has the lower validation loss.
    Probabilities are averaged over members.

    Args:
        members: Number of networks.
        width: Columns of a token.
        heads: Attention heads.
        blocks: Blocks of the encoder.
        expansion: Width of the feed-forward layers over ``width``.
        dropout: Of the results of attention and feed-forward layers.
        pair_bias: Bias attention by the interaction of each pair of points (arXiv 2202.03772); needs ``momenta``, and
            takes about twice as long.
        event: ``tokens``: all points of an event attend to each other; ``jets``: those of a jet do, then the jets.
        mixing: Blocks between jets, if ``event`` is ``jets``.
        epochs: Largest number of epochs; the learning rate falls to 0 over them as a cosine.
        batch_size: Events of a step.
        learning_rate: Peak rate, after one epoch of linear rise (a tenth of the epochs, if that is less).
        weight_decay: Of matrices.
        ema_halflife_events: Half-life of the moving average of the weights; None: none.
        validation_fraction: Part of each class held out by each member.
        best_epochs: Number of epochs of lowest validation loss whose weights are averaged.
        patience: A member stops after so many epochs without a lower validation loss; None: never.
        pretrained: Folder written by :func:`~cathode.classifiers.transformer.pretraining.pretrain`.  Its encoder is
            the start of every member, and decides width, heads, blocks, expansion and pair_bias; the head is fresh.
        encoder_rate: With ``pretrained``, learning rate of the last block of the encoder over that of the head.
        layer_decay: With ``pretrained``, ratio of the learning rates of successive blocks.
        device: Torch device, or ``auto``.
        checkpoint_dir: Folder for checkpoints, with which a killed training goes on; None: there are none.
        first_member: Number of the first member, for training an ensemble in parts: members ``k`` of two ensembles are
            the same if everything else is.
        random_state: Seed.
    """

    def __init__(
        self,
        members: int = 1,
        *,
        width: int = 64,
        heads: int = 4,
        blocks: int = 3,
        expansion: int = 2,
        dropout: float = 0.0,
        pair_bias: bool = False,
        event: str = "tokens",
        mixing: int = 2,
        epochs: int = 15,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        ema_halflife_events: float | None = 10_000.0,
        validation_fraction: float = 0.2,
        best_epochs: int = 3,
        patience: int | None = None,
        pretrained: str | None = None,
        encoder_rate: float = 0.3,
        layer_decay: float = 0.8,
        device: str = "cpu",
        checkpoint_dir: str | None = None,
        first_member: int = 0,
        random_state: int = 0,
    ) -> None:
        self.members = members
        self.width = width
        self.heads = heads
        self.blocks = blocks
        self.expansion = expansion
        self.dropout = dropout
        self.pair_bias = pair_bias
        self.event = event
        self.mixing = mixing
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.ema_halflife_events = ema_halflife_events
        self.validation_fraction = validation_fraction
        self.best_epochs = best_epochs
        self.patience = patience
        self.pretrained = pretrained
        self.encoder_rate = encoder_rate
        self.layer_decay = layer_decay
        self.device = device
        self.checkpoint_dir = checkpoint_dir
        self.first_member = first_member
        self.random_state = random_state

    def fit(
        self, X: SetInputs, y: ArrayLike, sample_weight: ArrayLike | None = None, *, progress: bool = False
    ) -> SetClassifier:
        """Train all members.

        Args:
            X: N events.
            y: Labels ``(N,)``: 1 data, 0 template.
            sample_weight: Non-negative weights ``(N,)``.
            progress: Show a bar over the members, beside that of each training.

        Raises:
            UserError: Unusable input or settings, or a training loss that is not finite.
        """
        _check_sets(X)
        labels, weight = check_labels(len(X), y, sample_weight)
        config = self._config()
        architecture = self._architecture(X)
        self.classes_, self.input_kind_, self.architecture_ = np.array([0, 1]), X.kind, architecture
        self.networks_: list[SetNetwork] = []
        curves: list[dict[str, np.ndarray]] = []
        numbers = range(self.first_member, self.first_member + self.members)
        for number in progress_bar(numbers, description="members", unit="member") if progress else numbers:
            network, history = self._train(number, X, labels, weight, config)
            self.networks_.append(network)
            curves.append(history)
        longest = max(len(c["training_loss"]) for c in curves)
        self.history_ = {
            name: np.stack([np.pad(c[name], (0, longest - len(c[name])), constant_values=np.nan) for c in curves])
            for name in curves[0]
        }
        return self

    def predict_proba(self, X: SetInputs) -> np.ndarray:
        """Probability of both classes ``(N, 2)``, averaged over members.

        Raises:
            UserError: Unusable input.
        """
        probability = self.member_probabilities(X).mean(axis=0)
        return np.stack([1.0 - probability, probability], axis=1)

    def decision_function(self, X: SetInputs) -> np.ndarray:
        """Logarithm of the odds of class 1, ``(N,)``."""
        return logit(self.predict_proba(X)[:, 1])

    def predict(self, X: SetInputs) -> np.ndarray:
        """The likelier class, ``(N,)``."""
        return (self.predict_proba(X)[:, 1] > 0.5).astype(np.int64)

    @torch.no_grad()
    def member_probabilities(self, X: SetInputs) -> np.ndarray:
        """Probability of class 1 for each member, ``(members, N)``."""
        _check_sets(X)
        if X.kind != self.input_kind_:
            raise UserError(f"sets have {X.kind}, but the classifier was trained on {self.input_kind_}")
        if X.groups > self.architecture_.groups:
            raise UserError(f"events have {X.groups} jets, the classifier was trained on {self.architecture_.groups}")
        tensors, device = SetTensors(self.architecture_), choose_device(self.device)
        networks = [network.to(device).eval() for network in self.networks_]
        out = np.empty((len(networks), len(X)))
        # Events of one size after the other, so that there is little padding in a chunk.
        order = np.argsort(X.multiplicity, kind="stable")
        for rows in np.array_split(order, -(-len(X) // _CHUNK)) if len(X) else []:
            batch = tensors.data(X[rows], np.zeros((len(rows), 1))).to(device, torch.float32)
            arguments = tensors.arguments(batch.x, batch.context)
            for k, network in enumerate(networks):
                logits = network(mask=batch.mask, **arguments).squeeze(1)
                out[k, rows] = logits.double().sigmoid().cpu().numpy()
        return out

    def save(self, folder: str | Path) -> None:
        """Write ``classifier.json``, ``weights.safetensors`` and ``history.npz`` to ``folder``, atomically.

        Raises:
            UserError: The folder cannot be written to.
        """
        from safetensors.torch import save_file

        with atomic_directory(folder) as inside:
            description = {
                "kind": "transformer",
                "settings": self.get_params(),
                "architecture": self.architecture_.as_dict(),
                "input_kind": self.input_kind_,
            }
            write_json(inside / "classifier.json", description)
            tensors = {
                f"{k}.{name}": tensor.detach().cpu().contiguous()
                for k, network in enumerate(self.networks_)
                for name, tensor in network.state_dict().items()
            }
            save_file(tensors, inside / "weights.safetensors")
            save_arrays(inside / "history.npz", self.history_)

    @classmethod
    def load(cls, folder: str | Path) -> SetClassifier:
        """The classifier that :meth:`save` wrote.

        Raises:
            UserError: Missing files, or weights that do not fit the settings.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        try:
            description = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
            model = cls().set_params(**description["settings"])
            model.architecture_ = Architecture(**description["architecture"])
            model.input_kind_ = description["input_kind"]
            model.history_ = load_arrays(folder / "history.npz")
            model.classes_, model.networks_ = np.array([0, 1]), []
            tensors = load_file(folder / "weights.safetensors")
            for k in range(model.members):
                network = SetNetwork(model.architecture_)
                prefix = f"{k}."
                network.load_state_dict({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
                model.networks_.append(network.eval())
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, BadZipFile, SafetensorError) as error:
            raise UserError(f"cannot load a classifier from {folder}: {error!r}") from error
        return model

    def _config(self) -> FitConfig:
        for name in ("members", "epochs", "batch_size", "best_epochs"):
            if getattr(self, name) < 1:
                raise UserError(f"SetClassifier: {name}={getattr(self, name)} must be at least 1")
        if not 0.0 < self.validation_fraction < 1.0:
            raise UserError(f"SetClassifier: validation_fraction={self.validation_fraction} must be between 0 and 1")
        for name in ("encoder_rate", "layer_decay"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"SetClassifier: {name}={getattr(self, name)} must be between 0 and 1")
        return FitConfig(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            warmup_epochs=min(1.0, 0.1 * self.epochs),
            gradient_clip=1.0,
            ema_halflife_events=self.ema_halflife_events,
            patience=self.patience,
            best_epochs=self.best_epochs,
            validation_batch=_CHUNK,
            device=self.device,
        )

    def _architecture(self, X: SetInputs) -> Architecture:
        settings: dict[str, Any] = {
            name: getattr(self, name) for name in ("width", "heads", "blocks", "expansion", "dropout")
        }
        paired = self.pair_bias
        if self.pretrained is not None:
            core = pretrained_architecture(self.pretrained)
            if core.features != X.features:
                raise UserError(
                    f"{self.pretrained}: was trained on points of {core.features} features, these have {X.features}"
                )
            settings |= {name: getattr(core, name) for name in ("width", "heads", "blocks", "expansion")}
            paired = core.momentum_columns > 0
        if paired and X.momenta is None:
            raise UserError("pair_bias needs the momenta of the points: give SetInputs with momenta")
        return Architecture(
            features=X.features,
            global_features=X.global_features,
            groups=X.groups,
            momentum_columns=X.momenta.shape[2] if paired and X.momenta is not None else 0,
            event=self.event,
            mixing=self.mixing,
            **settings,
        )

    def _train(
        self, number: int, X: SetInputs, labels: np.ndarray, weight: np.ndarray, config: FitConfig
    ) -> tuple[SetNetwork, dict[str, np.ndarray]]:
        seed = derive_seed(self.random_state, "transformer", number)
        rows = stratified_split(labels, self.validation_fraction, numpy_generator(seed, "split"))
        tensors = SetTensors(self.architecture_)
        train, held = (tensors.data(X[r], labels[r, None], balanced_weights(labels[r], weight[r])) for r in rows)
        network = network_with_seed(self.architecture_, derive_seed(seed, "initial"))
        arguments = tensors.arguments(train.x, train.context)
        assert train.mask is not None
        network.standardise(
            arguments["points"], train.mask, arguments["momenta"], arguments["columns"], encoder=self.pretrained is None
        )
        rates = {}
        if self.pretrained is not None:
            load_encoder(network.encoder, self.pretrained)
            rates = {"encoder_rate": self.encoder_rate, "layer_decay": self.layer_decay}
        folder = None
        if self.checkpoint_dir is not None:
            folder = Path(self.checkpoint_dir) / f"seed-{self.random_state}-member-{number}"
        try:
            result = fit(
                Labels(network),
                train,
                held,
                config,
                seed=derive_seed(seed, "fit"),
                checkpoint_dir=folder,
                step=LayerwiseStep(train.mean_weight, **rates),
            )
        except NonFiniteError as error:
            raise UserError(f"the classifier cannot be trained: {error}") from error
        trained = result.density
        assert isinstance(trained, Labels)
        epochs = result.history.iloc[1:]
        history = {"training_loss": epochs["train_loss"], "validation_loss": epochs["validation_loss"]}
        return trained.network.cpu(), {name: column.to_numpy(dtype=np.float64) for name, column in history.items()}


def _check_sets(X: Any) -> None:
    if not isinstance(X, SetInputs):
        raise UserError(f"the transformer takes SetInputs, not {type(X).__name__}: make them of points and a mask")
