r"""Densities of values that are exactly zero below a threshold.

A value recorded as 0 stands for "below the threshold T".  In training it is filled with noise between 0 and T, fresh in
every step; every decoded value below T becomes 0 again.  The filling is random, so it is no bijection: it lives in the
density, whose ``loss`` has the generator, and the bijections behind it see positive numbers only.

With a density ``p`` of the filled event and the distribution ``q`` of the noise,
:math:`-\log P(x) \le E_q[-\log p(x_\mathrm{filled}) + \log q]` (variational dequantisation; Ho et al.,
arXiv:1902.00275, eq. 12), so minimising the loss of the filled event minimises a bound.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity
from cathode.density.registry import buildable
from cathode.support.errors import UserError

__all__ = ["Dequantised"]

_NOISES = ("uniform", "log-uniform")


@buildable("dequantised")
class Dequantised(ConditionalDensity):
    """``density`` of events whose zeros were filled, seen as a density of events with zeros.

    Where the loss of ``density`` is its negative log-density, the loss here is the bound of the module docstring on the
    negative log-probability (density in the values above the threshold, probability of the others).

    Args:
        density: Of filled events, in the unit of ``x``.
        threshold: T; values below it are zeros, in training data and in decoded events.
        noise: ``uniform`` on (0, T), or ``log-uniform`` on (T exp(-depth), T).
        depth: Of the log-uniform noise.
    """

    def __init__(
        self, density: ConditionalDensity, threshold: float, noise: str = "uniform", depth: float = 3.0
    ) -> None:
        super().__init__()
        if not (math.isfinite(threshold) and threshold > 0):
            raise UserError(f"threshold is {threshold}: give a positive number in the unit of the data")
        if noise not in _NOISES:
            raise UserError(f"unknown noise {noise!r}: use one of {', '.join(_NOISES)}")
        if not (math.isfinite(depth) and depth > 0):
            raise UserError(f"depth of the log-uniform noise is {depth}: give a positive number")
        self.density = density
        self.threshold, self.noise_kind, self.depth = threshold, noise, depth
        self.event_shape = density.event_shape
        self.context_features = density.context_features

    @property
    def loss_is_nll(self) -> bool:
        """Whether :meth:`loss` bounds ``-log P(x | c)`` from above."""
        return bool(getattr(self.density, "loss_is_nll", False))

    def fill(self, x: Tensor, *, generator: torch.Generator | None) -> Tensor:
        """``x`` with every value below the threshold replaced by noise between 0 and the threshold."""
        device = x.device if generator is None else generator.device
        u = torch.rand(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
        # Strictly inside (0, T): rand may give exactly 0, and 1 - 2^-24 times T may round to T.
        u = u.clamp(1e-6, 1.0 - 1e-6)
        noise = self.threshold * (u if self.noise_kind == "uniform" else torch.exp(-self.depth * u))
        return torch.where(x < self.threshold, noise, x)

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        return self.density.noise(count, mask=mask, generator=generator, dtype=dtype)

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        filled = self.fill(x, generator=generator)
        losses = self.density.loss(filled, context, mask=mask, generator=generator)
        if not self.loss_is_nll:
            return losses
        zero = x < self.threshold
        if mask is not None:
            zero = zero & mask.unsqueeze(-1)
        log_q = -math.log(self.threshold)
        if self.noise_kind == "log-uniform":
            return losses - torch.where(zero, filled.log() + math.log(self.depth), 0.0).flatten(1).sum(1)
        return losses + log_q * zero.flatten(1).sum(1)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        x = self.density.decode(noise, context, mask=mask)
        return torch.where(x < self.threshold, 0.0, x)

    def before_evaluation(self, x: Tensor, context: Tensor | None = None) -> None:
        """Pass filled training events on to a density that keeps statistics of them; called between epochs."""
        hook = getattr(self.density, "before_evaluation", None)
        if hook is not None:
            hook(self.fill(x, generator=torch.Generator(device=x.device).manual_seed(0)), context)
