"""The training step of adversaries: a generator and a discriminator, each with its own optimiser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cathode.density.base import ConditionalDensity
from cathode.density.preprocessed import Preprocessed
from cathode.support.errors import UserError
from cathode.training.config import FitConfig
from cathode.training.data import TrainingData
from cathode.training.steps import descend

__all__ = ["Adversarial", "AdversarialStep"]


@runtime_checkable
class Adversarial(Protocol):
    """A density that is trained against its own discriminator, such as :class:`cathode.density.epic_gan.EPiCGAN`.

    Its ``loss`` must measure how well generated events agree with real ones, since epochs are selected by it.
    """

    def adversaries(self) -> tuple[Sequence[nn.Parameter], Sequence[nn.Parameter]]:
        """Parameters of the generator, and of the discriminator."""
        ...

    def generator_loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """What the generator descends, ``(B,)``."""
        ...

    def discriminator_loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """What the discriminator descends, ``(B,)``."""
        ...


class AdversarialStep:
    """Trains an :class:`Adversarial` density by :func:`cathode.training.fit`.

    Each step updates the discriminator, then the generator, on the same batch, as in EPiC-GAN (arXiv 2301.08128).
    Rates are those of the configuration, times the ratios given here; Adam's first moment decays by ``beta1``.
    The gradient clip of the configuration is applied to each network by itself.  The history has the column
    ``discriminator_loss`` beside ``train_loss``, which is the generator's.

    Epochs are validated by the density's own ``loss`` and never by the adversarial losses, which only say who is
    winning.  Inside :class:`Preprocessed`, the game is played behind the bijections.

    Everything random is drawn from the loop's generator and everything learned is in the density and the optimisers, so
    a fit that was killed ends like one that was not.

    Args:
        mean_weight: Mean weight of all training events, see :class:`~cathode.training.steps.LossStep`.
        generator_rate: Learning rate of the generator over that of the configuration.
        discriminator_rate: The same for the discriminator.
        beta1: 0.5 in the paper.
        beta2: Decay of Adam's second moment.

    Raises:
        UserError: A rate or moment out of range; at setup: a density without adversaries.
    """

    def __init__(
        self,
        mean_weight: float = 1.0,
        *,
        generator_rate: float = 1.0,
        discriminator_rate: float = 1.0,
        beta1: float = 0.5,
        beta2: float = 0.999,
    ) -> None:
        if min(generator_rate, discriminator_rate) <= 0:
            raise UserError("adversarial training: the rates of generator and discriminator must be positive")
        if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
            raise UserError(f"adversarial training: moments must be in [0, 1), got {beta1} and {beta2}")
        self._mean_weight = mean_weight
        self._rates = (generator_rate, discriminator_rate)
        self._betas = (beta1, beta2)

    def identity(self) -> dict[str, str]:
        """The settings of the game, which a continued fit must share."""
        return {"adversarial step": f"rates {self._rates}, moments {self._betas}"}

    def setup(self, density: ConditionalDensity, config: FitConfig) -> Sequence[Optimizer]:
        self._density = density
        self._clip = config.gradient_clip
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        self._parameters = _adversarial(density).adversaries()
        self._optimizers = [
            kind(parameters, lr=config.learning_rate * rate, weight_decay=config.weight_decay, betas=self._betas)
            for parameters, rate in zip(self._parameters, self._rates, strict=True)
        ]
        return self._optimizers

    def step(self, batch: TrainingData, generator: torch.Generator) -> Mapping[str, Tensor | float]:
        x, context = _behind(self._density, batch)
        game = _adversarial(self._density)
        losses = []
        for player, loss in ((1, game.discriminator_loss), (0, game.generator_loss)):
            with _only(self._parameters[player], self._parameters[1 - player]):
                mean = self._mean(loss(x, context, mask=batch.mask, generator=generator), batch.weight)
                losses.append(descend(mean, self._optimizers[player], clip=self._clip, average_gradients=True))
        return {**losses[1]._asdict(), "discriminator_loss": losses[0].loss}

    def validation_loss(
        self, density: ConditionalDensity, batch: TrainingData, *, generator: torch.Generator
    ) -> Tensor:
        """The density's own loss, ``(B,)``, behind the bijections."""
        x, context = _behind(density, batch)
        inner = density.density if isinstance(density, Preprocessed) else density
        return inner.loss(x, context, mask=batch.mask, generator=generator)

    def _mean(self, losses: Tensor, weight: Tensor | None) -> Tensor:
        if weight is None:
            return losses.mean()
        return torch.dot(weight, losses) / (len(losses) * self._mean_weight)


@contextmanager
def _only(learning: Sequence[nn.Parameter], waiting: Sequence[nn.Parameter]) -> Iterator[None]:
    """Gradients for one player only: those of the other would be thrown away."""
    for parameter in waiting:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in waiting:
            parameter.requires_grad_(True)


def _adversarial(density: ConditionalDensity) -> Adversarial:
    inner = density.density if isinstance(density, Preprocessed) else density
    if not isinstance(inner, Adversarial):
        raise UserError(f"{type(inner).__name__} has no adversaries: train it without the adversarial step")
    return inner


def _behind(density: ConditionalDensity, batch: TrainingData) -> tuple[Tensor, Tensor | None]:
    """Events and context in the coordinates of the networks."""
    if not isinstance(density, Preprocessed):
        return batch.x, batch.context
    with torch.no_grad():
        x, _ = density.bijection.forward_and_log_det(batch.x, batch.context, mask=batch.mask)
        return x, density.transform_context(batch.context)
