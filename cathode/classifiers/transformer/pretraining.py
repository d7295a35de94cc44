r"""Pre-training of the encoder on other jets, by what is known of them or by removing noise from them.

Three objectives share one encoder, any of them or all (their losses are added, as in OmniLearn: Mikuni and Nachman,
arXiv 2404.16091):

* ``labels``: cross-entropy of classes, jet types say, from the class token;
* ``targets``: squared error of standardised observables, substructure say, from the class token;
* ``denoise``: the points are mixed with noise, :math:`z = \alpha x + \sigma \epsilon` with :math:`\alpha =
  \cos(\pi t / 2), \sigma = \sin(\pi t / 2)` and t uniform in [0, 1], and the encoder predicts the velocity
  :math:`v = \alpha \epsilon - \sigma x` of each point (Salimans and Ho, arXiv 2202.00512).  Here t = 0 is clean.  What
  is added to the tokens for the time vanishes at t = 0, so the encoder of clean points needs no time.

Deviation from OmniLearn: noisy points are not classified.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from cathode.classifiers.transformer.inputs import SetInputs
from cathode.classifiers.transformer.network import Architecture, SetEncoder
from cathode.classifiers.transformer.packing import Packing, pack
from cathode.classifiers.transformer.pretrained import save_encoder
from cathode.classifiers.transformer.training import LayerwiseStep, SetTensors
from cathode.density.base import ConditionalDensity, NonFiniteError
from cathode.support.errors import UserError
from cathode.support.seeding import derive_seed, numpy_generator
from cathode.training import FitConfig, fit

__all__ = ["Pretraining", "pretrain"]

_FREQUENCIES = 4


class Pretraining(ConditionalDensity):
    """The encoder with a head for each objective, and the sum of their losses.

    The context is the class (if there are classes), then the targets.

    Args:
        architecture: Of the encoder.
        classes: Number of classes; 0: none.
        targets: Number of targets; 0: none.
        denoise: Whether velocities are learned.
    """

    target_mean: Tensor
    target_scale: Tensor

    def __init__(self, architecture: Architecture, *, classes: int = 0, targets: int = 0, denoise: bool = True) -> None:
        super().__init__()
        width = architecture.width
        self.architecture, self.classes, self.targets = architecture, classes, targets
        self.event_shape, self.context_features = (0, architecture.features), int(classes > 0) + targets
        self.tensors = SetTensors(architecture)
        self.encoder = SetEncoder(architecture)
        self.class_head = _head(width, classes) if classes else None
        self.target_head = _head(width, targets) if targets else None
        self.register_buffer("target_mean", torch.zeros(targets))
        self.register_buffer("target_scale", torch.ones(targets))
        self.velocity_head = _head(width, architecture.features) if denoise else None
        # Without biases and of features that are 0 at t = 0, so that the result is.
        self.embed_time = (
            nn.Sequential(
                nn.Linear(1 + 2 * _FREQUENCIES, width, bias=False), nn.GELU(), nn.Linear(width, width, bias=False)
            )
            if denoise
            else None
        )

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Sum of the losses of each set ``(B,)``."""
        assert mask is not None
        arguments = self.tensors.arguments(x, None)
        packing = pack(mask)
        clean = self.encoder.points(packing, arguments["points"])
        total = clean.new_zeros(len(mask))
        if context is not None and (self.class_head is not None or self.target_head is not None):
            biases = self.encoder.biases(packing, arguments["momenta"])
            summary = self.encoder(self.encoder.tokens(packing, clean), packing, biases)
            if self.class_head is not None:
                total = total + functional.cross_entropy(
                    self.class_head(summary), context[:, 0].long(), reduction="none"
                )
            if self.target_head is not None:
                truth = (context[:, context.shape[1] - self.targets :] - self.target_mean) / self.target_scale
                total = total + (self.target_head(summary) - truth).square().mean(1)
        if self.velocity_head is not None:
            total = total + self._denoising_loss(packing, clean, generator)
        return total

    def _denoising_loss(self, packing: Packing, clean: Tensor, generator: torch.Generator | None) -> Tensor:
        """Mean squared error of the velocities of the points of each set ``(B,)``; 0 for an empty set."""
        assert self.velocity_head is not None
        assert self.embed_time is not None
        time = torch.rand((len(packing.order), 1), generator=generator, device=clean.device, dtype=clean.dtype)
        noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
        of_row = packing.per_row(torch.cat([time, self.embed_time(_time_features(time))], dim=1))
        alpha, sigma = (0.5 * math.pi * of_row[:, :1]).cos(), (0.5 * math.pi * of_row[:, :1]).sin()
        noisy, velocity = alpha * clean + sigma * noise, alpha * noise - sigma * clean
        h = self.encoder.tokens(packing, noisy) + of_row[:, 1:]
        # Not biased by the pairs, whose momenta are those of the clean points.
        found = self.velocity_head(self.encoder(h, packing, None, summary=False))
        error = ((found - velocity).square().mean(1, keepdim=True) * packing.real).squeeze(1)
        owner = packing.per_row(torch.arange(len(packing.order), device=clean.device))
        sums = clean.new_zeros(2, len(packing.order)).index_add(
            1, owner, torch.stack([error, packing.real.squeeze(1).to(error.dtype)])
        )
        return sums[0] / sums[1].clamp(min=1.0)


def pretrain(
    inputs: SetInputs,
    folder: str | Path,
    *,
    labels: ArrayLike | None = None,
    targets: ArrayLike | None = None,
    denoise: bool = True,
    sample_weight: ArrayLike | None = None,
    width: int = 64,
    heads: int = 4,
    blocks: int = 3,
    expansion: int = 2,
    dropout: float = 0.0,
    pair_bias: bool = False,
    epochs: int = 15,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.01,
    validation_fraction: float = 0.1,
    device: str = "cpu",
    checkpoint_dir: str | Path | None = None,
    seed: int,
) -> Path:
    """Train an encoder and write it to ``folder``, for ``SetClassifier(pretrained=folder)``.

    Args:
        inputs: N jets, none of the events that are to be searched.  Jets only: the columns of an event and the
            embedding of its jets belong to the classifier, not to the encoder.
        folder: Where the encoder goes; see :mod:`cathode.classifiers.transformer.pretrained`.
        labels: Classes 0, 1, ... ``(N,)``.
        targets: Observables ``(N, K)`` or ``(N,)``, in any unit.
        denoise: Learn to remove noise from the points as well.
        sample_weight: Non-negative weights ``(N,)``.
        width, heads, blocks, expansion, dropout, pair_bias: Of the encoder.
        epochs, batch_size, learning_rate, weight_decay, validation_fraction, device: Of the training.
        checkpoint_dir: Folder for checkpoints, with which a killed training goes on.
        seed: Of weights, split, order and noise.

    Raises:
        UserError: Nothing to learn, or unusable input or settings.
    """
    if inputs.groups > 1:
        raise UserError("pre-training takes jets, these are events of several jets: give each jet as a set of its own")
    if labels is None and targets is None and not denoise:
        raise UserError("there is nothing to pre-train on: give labels or targets, or denoise")
    if pair_bias and inputs.momenta is None:
        raise UserError("pair_bias needs the momenta of the points: give SetInputs with momenta")
    if not 0.0 < validation_fraction < 1.0 or len(inputs) < 2:
        raise UserError(f"validation_fraction={validation_fraction} of {len(inputs)} jets: give one between 0 and 1")
    known, classes = _classes(labels, len(inputs))
    observed = _observables(targets, len(inputs))
    weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weight is not None and (weight.shape != (len(inputs),) or not np.isfinite(weight).all() or (weight < 0).any()):
        raise UserError(f"sample_weight must be {len(inputs)} finite, non-negative numbers")
    architecture = Architecture(
        inputs.features,
        momentum_columns=inputs.momenta.shape[2] if pair_bias and inputs.momenta is not None else 0,
        width=width,
        heads=heads,
        blocks=blocks,
        expansion=expansion,
        dropout=dropout,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "pretraining", "initial"))
        model = Pretraining(architecture, classes=classes, targets=observed.shape[1], denoise=denoise)
    order = numpy_generator(seed, "pretraining", "split").permutation(len(inputs))
    held = min(max(round(validation_fraction * len(order)), 1), len(order) - 1)
    context = np.concatenate([known, observed], axis=1)
    rows = {"train": order[held:], "held": order[:held]}
    data = {
        name: model.tensors.data(inputs[r], context[r], None if weight is None else weight[r])
        for name, r in rows.items()
    }
    arguments = model.tensors.arguments(data["train"].x, None)
    assert data["train"].mask is not None
    model.encoder.standardise(arguments["points"], data["train"].mask, arguments["momenta"])
    if observed.shape[1]:
        truth = torch.from_numpy(observed[rows["train"]])
        model.target_mean.copy_(truth.mean(0))
        model.target_scale.copy_(truth.std(0, correction=0).clamp(min=1e-12))
    config = FitConfig(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        warmup_epochs=min(1.0, 0.1 * epochs),
        gradient_clip=1.0,
        ema_halflife_events=10_000.0,
        validation_batch=512,
        device=device,
    )
    try:
        result = fit(
            model,
            data["train"],
            data["held"],
            config,
            seed=derive_seed(seed, "pretraining", "fit"),
            checkpoint_dir=checkpoint_dir,
            step=LayerwiseStep(data["train"].mean_weight),
        )
    except NonFiniteError as error:
        raise UserError(f"the encoder cannot be pre-trained: {error}") from error
    trained = result.density
    assert isinstance(trained, Pretraining)
    named = {"labels": labels is not None, "targets": targets is not None, "denoise": denoise}
    return save_encoder(
        trained.encoder,
        architecture,
        folder,
        objectives=[name for name, used in named.items() if used],
        history=result.history,
        facts={"seed": seed, "jets": len(inputs), "validation_loss": result.validation_loss, "seconds": result.seconds},
    )


def _classes(labels: ArrayLike | None, events: int) -> tuple[np.ndarray, int]:
    """Labels ``(N, 1)`` and their number; ``(N, 0)`` without."""
    if labels is None:
        return np.zeros((events, 0)), 0
    known = np.asarray(labels)
    if known.shape != (events,) or known.dtype.kind not in "iub" or known.min() < 0:
        raise UserError(f"labels are {known.dtype} {known.shape}: give {events} classes 0, 1, ...")
    if known.max() < 1:
        raise UserError("labels name one class only: give at least two")
    return known[:, None].astype(np.float64), int(known.max()) + 1


def _observables(targets: ArrayLike | None, events: int) -> np.ndarray:
    """Targets ``(N, K)``; K = 0 without."""
    if targets is None:
        return np.zeros((events, 0))
    observed = np.asarray(targets, dtype=np.float64)
    observed = observed[:, None] if observed.ndim == 1 else observed
    if observed.ndim != 2 or len(observed) != events:
        raise UserError(f"targets have shape {observed.shape} for {events} jets: give one row per jet")
    bad = int((~np.isfinite(observed)).any(axis=1).sum())
    if bad:
        raise UserError(f"targets of {bad} jets are NaN or infinite: remove these jets first")
    return observed


def _head(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, outputs))


def _time_features(time: Tensor) -> Tensor:
    """``[t, sin(2 pi f t), 1 - cos(2 pi f t)]`` with f = 1/4, 1/2, 1, ..., all 0 at t = 0."""
    angles = time * (0.5 * math.pi * 2.0 ** torch.arange(_FREQUENCIES, device=time.device, dtype=time.dtype))
    return torch.cat([time, angles.sin(), 1 - angles.cos()], dim=1)
