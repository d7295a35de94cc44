r"""Probability density distillation: an autoregressive teacher taught to a student that decodes in one pass.

An autoregressive flow evaluates densities in one pass and samples in D; read backwards it is an inverse
autoregressive flow, which samples in one pass and needs D for the density of a foreign event.  The first is trained
by likelihood, the second learns from the first (van den Oord et al., arXiv 1711.10433).

The losses are those of CaloFlow II (Krause and Shih, arXiv 2110.11377, Sec. 3.2), whose authors found the
Kullback-Leibler divergence of the original to converge badly:

* in z: noise ``z`` goes through the student to ``x'`` and through the teacher back to ``z'``; ``|z - z'|^2``;
* in x: an event ``x`` goes through the teacher to ``z`` and through the student to ``x'``; ``|x - x'|^2``;

both with the fast directions only.  Where the student has as many layers as the teacher, the coordinates between the
layers are compared as well.  Deviations: the parameters of the splines inside the layers are not compared, and the
weights of the terms are arguments.  The Kullback-Leibler divergence ``E_z[log q(x') - log p(x')]`` can be added.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity, Tractable
from cathode.density.batchnorm import BatchNormFlow
from cathode.density.distillation.student import Student, event_mean, standard_normal
from cathode.density.flows import AutoregressiveSpline
from cathode.density.layered import LayeredFlow
from cathode.density.preprocessed import Preprocessed
from cathode.density.registry import buildable
from cathode.support.errors import UserError

__all__ = ["InverseAutoregressive", "inverse_student_of"]


@buildable("inverse-autoregressive")
class InverseAutoregressive(Student):
    """A flow of the core read backwards: its direction from event to noise decodes.

    With an autoregressive flow inside, :meth:`decode` and :meth:`decode_and_log_prob` take one pass, :meth:`encode` and
    :meth:`log_prob` of foreign events one per feature.

    Arguments:
        flow: The flow; without batch normalisation, whose statistics are of events and not of noise.
        z_weight: Weight of the loss in z.
        x_weight: Weight of the loss in x.
        layer_weight: Weight of the coordinates between the layers, if the teacher has as many layers.
        divergence_weight: Weight of the Kullback-Leibler divergence per entry of the event.
        reverse: Show the features to the flow in reverse: layer k undoes the teacher's layer L - 1 - k, and with an
            even
            number of layers of alternating order only a reversed student meets the teacher's order.

    Raises:
        ValueError: A flow with batch normalisation, or no positive weight.
    """

    def __init__(
        self,
        flow: LayeredFlow,
        *,
        z_weight: float = 1.0,
        x_weight: float = 1.0,
        layer_weight: float = 1.0,
        divergence_weight: float = 0.0,
        reverse: bool = False,
    ) -> None:
        super().__init__()
        if any(isinstance(layer, BatchNormFlow) for layer in flow.layers):
            raise ValueError("the flow of an inverse student must be built without batch normalisation")
        if min(z_weight, x_weight, layer_weight, divergence_weight) < 0.0 or z_weight + x_weight <= 0.0:
            raise ValueError("the weights of the losses must not be negative, and z_weight or x_weight positive")
        self.flow = flow
        self.event_shape = flow.event_shape
        self.context_features = flow.context_features
        self.z_weight, self.x_weight = z_weight, x_weight
        self.evaluations = 1
        self.layer_weight, self.divergence_weight, self.reverse = layer_weight, divergence_weight, reverse

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Events ``(B, D)`` in one pass."""
        self._refuse(mask)
        return self._passes(noise, context)[0][-1]

    def decode_and_log_prob(self, noise: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Events and their log-densities ``(B,)``, nats, in one pass."""
        points, log_det = self._passes(noise, context)
        normal = -0.5 * noise.square().sum(1) - 0.5 * math.log(2 * math.pi) * noise.shape[1]
        return points[-1], normal - log_det

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Noise ``(B, D)``, feature after feature."""
        return self._turned(self.flow.decode(self._turned(x), context))

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-density of foreign events ``(B,)``, nats, feature after feature."""
        return self.decode_and_log_prob(self.encode(x, context), context)[1]

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``-log p(x | c)``, nats: exact, but slow, which is why there is a teacher."""
        self._refuse(mask)
        return -self.log_prob(x, context)

    loss_is_nll = True

    def distillation_loss(
        self,
        teacher: ConditionalDensity,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Weighted sum of the losses, per entry of the event, ``(B,)``.

        Raises:
            UserError: The teacher has no density.
        """
        self._refuse(mask)
        check_tractable(teacher)
        total = x.new_zeros(len(x))
        layers = self.layer_weight if _matching(self.flow, teacher) else 0.0
        if self.z_weight or self.divergence_weight:
            z = standard_normal(x, None, generator)
            mine, log_det = self._passes(z, context)
            if layers:
                assert isinstance(teacher, LayeredFlow)
                theirs, _ = _passes(teacher, mine[-1], context)
                total = total + self.z_weight * layers * _between(mine, theirs)
                back = theirs[-1]
            else:
                back = teacher.encode(mine[-1], context)  # type: ignore[operator]
            total = total + self.z_weight * event_mean((back - z).square(), None)
            if self.divergence_weight:
                # log q up to the noise's own density, which is no function of the weights.
                excess = -log_det - teacher.log_prob(mine[-1], context)  # type: ignore[operator]
                total = total + self.divergence_weight * excess / x.shape[1]
        if self.x_weight:
            with torch.no_grad():
                if layers:
                    assert isinstance(teacher, LayeredFlow)
                    theirs, _ = _passes(teacher, x, context)
                else:
                    theirs = [x, teacher.encode(x, context)]  # type: ignore[operator]
            mine, _ = self._passes(theirs[-1], context)
            total = total + self.x_weight * event_mean((mine[-1] - x).square(), None)
            if layers:
                total = total + self.x_weight * layers * _between(mine, theirs)
        return total

    def reference(
        self,
        teacher: ConditionalDensity,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The events themselves and the teacher's noise of them: its fast direction."""
        check_tractable(teacher)
        return teacher.encode(x, context), x  # type: ignore[operator]

    def _turned(self, x: Tensor) -> Tensor:
        return x.flip(1) if self.reverse else x

    def _passes(self, noise: Tensor, context: Tensor | None) -> tuple[list[Tensor], Tensor]:
        points, log_det = _passes(self.flow, self._turned(noise), context)
        return [self._turned(point) for point in points], log_det

    def _refuse(self, mask: Tensor | None) -> None:
        if mask is not None:
            raise ValueError("InverseAutoregressive is a density of vectors and takes no mask")


def inverse_student_of(
    teacher: ConditionalDensity,
    *,
    transforms: int | None = None,
    hidden: list[int] | None = None,
    activation: str = "relu",
    bins: int = 8,
    bound: float = 8.0,
    **weights: Any,
) -> ConditionalDensity:
    """An untrained :class:`InverseAutoregressive` of splines for a tractable teacher.

    Args:
        teacher: The density, alone or inside :class:`Preprocessed`, whose bijections are copied.
        transforms: Layers; as many as an :class:`AutoregressiveSpline` teacher has, else 6.
        hidden: Widths of the hidden layers.
        activation: Name of the activation.
        bins: Bins of each spline.
        bound: Half-width of the splines' domain.
        weights: Of the losses, see :class:`InverseAutoregressive`.

    Raises:
        UserError: The teacher has no density.
    """
    if isinstance(teacher, Preprocessed):
        inner = inverse_student_of(
            teacher.density,
            transforms=transforms,
            hidden=hidden,
            activation=activation,
            bins=bins,
            bound=bound,
            **weights,
        )
        return Preprocessed(copy.deepcopy(teacher.bijection), inner, copy.deepcopy(teacher.context_bijection))
    check_tractable(teacher)
    if transforms is None:
        transforms = len(teacher.layers) if isinstance(teacher, AutoregressiveSpline) else 6
    flow = AutoregressiveSpline(
        teacher.event_shape[0], teacher.context_features, transforms, hidden, activation, bins, bound
    )
    opposite = isinstance(teacher, AutoregressiveSpline) and transforms % 2 == 0
    return InverseAutoregressive(flow, reverse=opposite, **weights)


def check_tractable(teacher: ConditionalDensity) -> None:
    """Raise ``UserError`` unless the teacher encodes."""
    if not isinstance(teacher, Tractable):
        raise UserError(f"{type(teacher).__name__} has no density and cannot teach an inverse autoregressive flow")


def _passes(flow: LayeredFlow, x: Tensor, context: Tensor | None) -> tuple[list[Tensor], Tensor]:
    """The coordinates before, between and after the layers in the fast direction, and the log-determinant ``(B,)``."""
    points, total = [x], x.new_zeros(len(x))
    for layer in flow.layers:
        y, log_det = flow._step(layer, points[-1], context, batch_statistics=False)
        points.append(y)
        total = total + log_det
    return points, total


def _matching(flow: LayeredFlow, teacher: ConditionalDensity) -> bool:
    return isinstance(teacher, LayeredFlow) and len(teacher.layers) == len(flow.layers)


def _between(mine: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """Mean squared difference of the inner coordinates, of which one list runs opposite to the other, ``(B,)``."""
    pairs = list(zip(mine[1:-1], theirs[-2:0:-1], strict=True))
    if not pairs:
        return mine[0].new_zeros(len(mine[0]))
    return torch.stack([event_mean((a - b).square(), None) for a, b in pairs]).mean(0)
