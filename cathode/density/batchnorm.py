r"""Batch normalisation as an invertible layer, as in the flows of CATHODE.

.. math:: y = e^{\gamma} \frac{x - m}{\sqrt{v + \epsilon}} + \beta, \qquad
    \log|\det| = \sum_i \gamma_i - \tfrac12 \ln (v_i + \epsilon)

In training ``m, v`` are those of the batch, so that each event's density depends on its batch; otherwise they are the
stored ones.  With ``momentum = 1`` (published CATHODE; RealNVP's layer, arXiv:1605.08803 section 3.7, in the form used
by arXiv:2109.00546) training leaves the stored ones alone and :meth:`BatchNormFlow.refresh` sets them from the whole
training set between epochs.  The density itself (evaluation, sampling) always uses stored statistics: it is a density
only with numbers that do not depend on the events it is asked about.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["BatchNormFlow"]


class BatchNormFlow(nn.Module):
    """Invertible batch normalisation of ``(B, D)`` events.

    Args:
        features: D.
        momentum: Fraction of the stored statistics that survives a training step; 1 leaves them to :meth:`refresh`.
        epsilon: Added to the variance.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, features: int, *, momentum: float = 1.0, epsilon: float = 1e-5) -> None:
        super().__init__()
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"momentum is {momentum}, must be between 0 and 1")
        self.momentum, self.epsilon = momentum, epsilon
        self.log_gain = nn.Parameter(torch.zeros(features))
        self.shift = nn.Parameter(torch.zeros(features))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))

    def direct(self, x: Tensor, *, batch_statistics: bool) -> tuple[Tensor, Tensor]:
        """``y (B, D)`` and log-determinant ``(B,)``."""
        mean, variance = self.mean, self.variance
        if batch_statistics:
            mean, variance = x.mean(0), x.var(0, unbiased=False)
            if self.momentum < 1.0:
                with torch.no_grad():
                    self.mean.lerp_(mean, 1.0 - self.momentum)
                    self.variance.lerp_(variance, 1.0 - self.momentum)
        variance = variance + self.epsilon
        y = (x - mean) * (self.log_gain.exp() * variance.rsqrt()) + self.shift
        return y, (self.log_gain - 0.5 * variance.log()).sum().expand(len(x))

    def inverse(self, y: Tensor) -> Tensor:
        """``x`` for the stored statistics, ``(B, D)``."""
        return (y - self.shift) * ((self.variance + self.epsilon).sqrt() * (-self.log_gain).exp()) + self.mean

    @torch.no_grad()
    def refresh(self, x: Tensor) -> None:
        """Store the statistics of ``x (N, D)``, computed in float64."""
        rows = x.double()
        self.mean.copy_(rows.mean(0))
        self.variance.copy_(rows.var(0, unbiased=False))

    def extra_repr(self) -> str:
        return f"features={len(self.log_gain)}, momentum={self.momentum}"
