r"""What all normalising flows of the core share: layers between events and standard-normal noise.

.. math:: \log p(x \mid c) = \log N(z; 0, 1) + \sum_l \log |\det J_l|, \qquad z = f_L(\dots f_1(x; c); c)

A backend says how one of its layers runs forward and back; the rest is here.  Splines are inverted in float64: in
float32 the square root of their inverse loses so many digits that some events come out as NaN, and with wide parameters
0.7 % of them are wrong by more than 0.01.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cathode.density.base import ConditionalDensity
from cathode.density.batchnorm import BatchNormFlow

__all__ = ["LayeredFlow"]


class LayeredFlow(ConditionalDensity):
    """Base of the flows: ``layers`` in the order from event to noise.

    Args:
        features: D.
        context_features: C.
        layers: Layers of the backend, and :class:`BatchNormFlow`.
        decode_in_double: Invert in float64, whatever the dtype of the weights; the result has the dtype of the noise.
    """

    loss_is_nll = True
    layers: nn.ModuleList

    def __init__(
        self, features: int, context_features: int, layers: list[nn.Module], *, decode_in_double: bool
    ) -> None:
        super().__init__()
        self.event_shape = (features,)
        self.context_features = context_features
        self.layers = nn.ModuleList(layers)
        self.decode_in_double = decode_in_double

    # What a backend defines.

    def _direct(self, layer: nn.Module, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _inverse(self, layer: nn.Module, y: Tensor, context: Tensor | None) -> Tensor:
        raise NotImplementedError

    # The density.

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``-log p(x | c)``, nats; in training mode batch-normalising layers use the statistics of the batch."""
        self._check(x, context, mask)
        return -self._log_density(x, context, batch_statistics=self.training)

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        self._check(x, context, None)
        return self._log_density(x, context, batch_statistics=False)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        self._check(x, context, None)
        return self._to_noise(x, context, batch_statistics=False)[0]

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        self._check(noise, context, mask)
        if not self.decode_in_double or noise.dtype == self._dtype() == torch.float64:
            return self(noise, context)
        wide = {
            name: value.double()
            for name, value in [*self.named_parameters(), *self.named_buffers()]
            if value.is_floating_point()
        }
        c = None if context is None else context.double()
        return functional_call(self, wide, (noise.double(), c)).to(noise.dtype)

    def forward(self, noise: Tensor, context: Tensor | None = None) -> Tensor:
        """Noise to events in the dtype of the weights; :meth:`decode` without its care for precision."""
        x = noise
        for layer in reversed(self.layers):
            x = layer.inverse(x) if isinstance(layer, BatchNormFlow) else self._inverse(layer, x, context)
        return x

    @torch.no_grad()
    def before_evaluation(self, x: Tensor, context: Tensor | None = None, *, chunk: int = 65536) -> None:
        """Set the stored statistics of batch-normalising layers to those of the training events.

        To be called between the epochs of training and before validation, checkpoints and sampling; does nothing for a
        flow without such layers.  Layer after layer, exact, with memory for one layer's output.

        Args:
            x: ``(N, D)`` training events.
            context: ``(N, C)``.
            chunk: Events that go through a layer at once.
        """
        last = max((i for i, layer in enumerate(self.layers) if isinstance(layer, BatchNormFlow)), default=-1)
        if last < 0:
            return
        self._check(x, context, None)
        parameter = next(self.parameters())
        y = x.to(parameter.device, parameter.dtype)
        c = None if context is None else context.to(parameter.device, parameter.dtype)
        for layer in self.layers[: last + 1]:
            if isinstance(layer, BatchNormFlow):
                layer.refresh(y)
            pieces = []
            for start in range(0, len(y), chunk):
                rows = slice(start, start + chunk)
                pieces.append(self._step(layer, y[rows], None if c is None else c[rows], batch_statistics=False)[0])
            y = torch.cat(pieces)

    def _dtype(self) -> torch.dtype:
        return next(p.dtype for p in self.parameters())

    def _step(
        self, layer: nn.Module, x: Tensor, context: Tensor | None, *, batch_statistics: bool
    ) -> tuple[Tensor, Tensor]:
        if isinstance(layer, BatchNormFlow):
            return layer.direct(x, batch_statistics=batch_statistics)
        return self._direct(layer, x, context)

    def _to_noise(self, x: Tensor, context: Tensor | None, *, batch_statistics: bool) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(len(x))
        for layer in self.layers:
            x, log_det = self._step(layer, x, context, batch_statistics=batch_statistics)
            total = total + log_det
        return x, total

    def _log_density(self, x: Tensor, context: Tensor | None, *, batch_statistics: bool) -> Tensor:
        z, log_det = self._to_noise(x, context, batch_statistics=batch_statistics)
        return log_det - 0.5 * z.square().sum(1) - 0.5 * math.log(2 * math.pi) * z.shape[1]

    def _check(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> None:
        if mask is not None:
            raise ValueError(f"{type(self).__name__} is a density of vectors and takes no mask")
        if x.ndim != 2 or x.shape[1] != self.event_shape[0]:
            raise ValueError(f"x has shape {tuple(x.shape)}, expected (B, {self.event_shape[0]})")
        columns = 0 if context is None else context.shape[-1]
        if columns != self.context_features:
            raise ValueError(f"context has {columns} columns, the density was built for {self.context_features}")
