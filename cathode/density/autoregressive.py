r"""Autoregressive mixture density: one MADE, a mixture head per feature.

.. math:: \log p(x \mid c) = \sum_i \log \sum_k w_{ik} f_i\bigl((x_i - \mu_{ik}) / s_{ik}\bigr) / s_{ik}

with weights, locations and scales of feature :math:`i` given by a MADE from :math:`x_{<i}` and :math:`c`
(RNADE, Uria et al., arXiv 1306.0186, with the masked network of arXiv 1502.03509).  One network pass evaluates it, D
passes sample from it: the fast default for a handful of features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity
from cathode.density.mixtures import HEADS, MixtureHead
from cathode.density.networks.made import Made
from cathode.density.registry import buildable

__all__ = ["AutoregressiveMixture"]


@buildable("autoregressive")
class AutoregressiveMixture(ConditionalDensity):
    """Conditional density of a few features; expects inputs of about unit scale (see ``Preprocessed``).

    Args:
        features: D.
        context_features: C.
        hidden: Widths of the MADE's hidden layers.
        components: K, mixture components of each feature.
        head: ``"gaussian"``, ``"logistic"`` or ``"discretised"``; one for all features or a list of D.

    Raises:
        ValueError: Unknown head, or a list of heads of the wrong length.
    """

    loss_is_nll = True

    def __init__(
        self,
        features: int,
        context_features: int = 0,
        hidden: list[int] | None = None,
        components: int = 16,
        head: str | list[str] = "gaussian",
    ) -> None:
        super().__init__()
        names = [head] * features if isinstance(head, str) else list(head)
        if len(names) != features:
            raise ValueError(f"{len(names)} heads for {features} features")
        if unknown := sorted(set(names) - set(HEADS)):
            raise ValueError(f"unknown head {unknown[0]!r}; known: {', '.join(sorted(HEADS))}")
        self.event_shape = (features,)
        self.context_features = context_features
        self.components = components
        self.heads: list[MixtureHead] = [HEADS[name]() for name in names]
        self._uniform = len(set(names)) == 1
        self.made = Made(features, context_features, 3 * components, hidden if hidden is not None else [256, 256])
        with torch.no_grad():
            self.made.head.bias.copy_(MixtureHead.initial(components).repeat(features))

    def _refuse_mask(self, mask: Tensor | None) -> None:
        if mask is not None:
            raise ValueError("an autoregressive mixture is a density of vectors; it takes no mask")

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        raw = self.made(x, context)
        if self._uniform:
            return self.heads[0].log_prob(x, raw).sum(-1)
        return torch.stack([h.log_prob(x[:, i], raw[:, i]) for i, h in enumerate(self.heads)], -1).sum(-1)

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Negative log-density, nats; uses no randomness."""
        self._refuse_mask(mask)
        return -self.log_prob(x, context)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Noise ``(B, D)``: standard normal if ``x`` follows this density."""
        raw = self.made(x, context)
        return torch.stack([h.encode(x[:, i], raw[:, i]) for i, h in enumerate(self.heads)], -1)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Events ``(B, D)``, feature after feature; each conditional is inverted in float64."""
        self._refuse_mask(mask)
        x = torch.zeros_like(noise)
        for i, head in enumerate(self.heads):
            raw = self.made(x, context)[:, i]
            column = head.decode(noise[:, i], raw)
            x = torch.cat([x[:, :i], column.unsqueeze(-1), x[:, i + 1 :]], -1)
        return x
