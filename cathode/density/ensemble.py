"""Several densities as one mixture: over the best epochs of a fit, over seeds, over bootstraps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cathode.density.base import ConditionalDensity, Tractable
from cathode.density.registry import buildable

__all__ = ["Ensemble", "TractableEnsemble"]


@buildable("ensemble")
class Ensemble(ConditionalDensity):
    r"""The mixture :math:`p(x | c) = \sum_k w_k p_k(x | c)`.

    Sampling stays noise first: the noise of an event has one more channel than a member's, ``(B, D + 1)`` or
    ``(B, P, F + 1)``, which holds a number ``u`` in [0, 1) (for sets the same in each real entry).  The event comes
    from the member in whose interval of the cumulative weights ``u`` falls.  :meth:`noise` draws ``u`` stratified, one
    in each of ``count`` equal intervals in random order, so the members' shares of each drawn chunk are exact to one
    event.

    Calling ``Ensemble(members)`` with members that all are :class:`~cathode.density.base.Tractable` makes a
    :class:`TractableEnsemble`.

    Args:
        members: Densities with the same event shape and the same number of context columns.
        weights: Share of each, positive, normalised here; equal by default.

    Raises:
        ValueError: No members, members that do not fit together, or unusable weights.
    """

    def __new__(cls, members: Sequence[ConditionalDensity] = (), *args: Any, **kwargs: Any) -> Ensemble:
        if cls is Ensemble and len(members) and all(isinstance(member, Tractable) for member in members):
            return super().__new__(TractableEnsemble)
        return super().__new__(cls)

    def __init__(self, members: Sequence[ConditionalDensity], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if not len(members):
            raise ValueError("an ensemble needs at least one member")
        shapes = {(tuple(member.event_shape), member.context_features) for member in members}
        if len(shapes) > 1:
            raise ValueError(f"members differ in (event shape, context columns): {sorted(shapes)}")
        shares = [1.0] * len(members) if weights is None else [float(w) for w in weights]
        if len(shares) != len(members) or not all(math.isfinite(w) and w > 0 for w in shares):
            raise ValueError(f"weights must be {len(members)} positive numbers, got {weights}")
        self.event_shape = tuple(members[0].event_shape)
        self.context_features = members[0].context_features
        self.members = nn.ModuleList(members)
        share = torch.tensor(shares, dtype=torch.float64)
        self.register_buffer("log_weights", (share / share.sum()).log(), persistent=False)
        # Upper edges of all intervals but the last, which ends at 1 whatever the rounding.
        self.register_buffer("edges", (share.cumsum(0) / share.sum())[:-1], persistent=False)
        self.log_weights: Tensor
        self.edges: Tensor

    @property
    def loss_is_nll(self) -> bool:
        """Whether :meth:`loss` is in nats of ``x``: the mean of ``-log p_k(x | c)`` over the members."""
        return all(getattr(member, "loss_is_nll", False) for member in self._each())

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Weighted mean of the members' losses, ``(B,)``: each member is trained as if alone."""
        losses = torch.stack([m.loss(x, context, mask=mask, generator=generator) for m in self._each()])  # type: ignore[operator]
        return (self.log_weights.exp().to(losses.dtype)[:, None] * losses).sum(0)

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Noise of the members with the channel of the choice appended."""
        device = generator.device
        order = torch.randperm(count, generator=generator, device=device)
        offset = torch.rand(count, generator=generator, device=device, dtype=torch.float64)
        u = ((order + offset) / count).to(dtype or torch.get_default_dtype())
        # In float32 the topmost of very many strata may round to 1.
        u = u.clamp(max=1 - torch.finfo(u.dtype).eps)
        chosen = self._chosen(u)
        noise: Tensor | None = None
        for k, member in enumerate(self._each()):
            rows = torch.nonzero(chosen == k).squeeze(1)
            part = member.noise(
                len(rows), mask=None if mask is None else mask[rows], generator=generator, dtype=u.dtype
            )
            if noise is None:
                noise = part.new_zeros((count, *part.shape[1:]))
            if part.shape[1:] != noise.shape[1:]:
                raise ValueError("members with different shapes of noise cannot be one ensemble")
            noise[rows] = part
        assert noise is not None
        channel = u.reshape(count, *(1,) * (noise.ndim - 1)).expand(*noise.shape[:-1], 1)
        if mask is not None:
            channel = channel * mask.unsqueeze(-1)
        return torch.cat([noise, channel], -1)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Events ``(B, *event_shape)`` of noise with the channel of the choice."""
        inner, channel = noise[..., :-1], noise[..., -1]
        if channel.ndim > 1:
            # The largest over real entries: padding holds 0, and must not matter if it does not.
            channel = (channel if mask is None else channel * mask).flatten(1).amax(1)
        chosen = self._chosen(channel)
        events: Tensor | None = None
        for k, member in enumerate(self._each()):
            rows = torch.nonzero(chosen == k).squeeze(1)
            if not len(rows):
                continue
            part = member.decode(
                inner[rows],
                None if context is None else context[rows],
                mask=None if mask is None else mask[rows],
            )
            if events is None:
                events = part.new_empty((len(noise), *part.shape[1:]))
            events[rows] = part
        return noise.new_empty((0, *self.event_shape)) if events is None else events

    def before_evaluation(self, x: Tensor, context: Tensor | None = None) -> None:
        """Let members that store statistics of the training data refresh them."""
        for member in self._each():
            hook = getattr(member, "before_evaluation", None)
            if hook is not None:
                hook(x, context)

    def _chosen(self, u: Tensor) -> Tensor:
        return torch.bucketize(u.double().contiguous(), self.edges.to(u.device), right=True)

    def _each(self) -> list[Any]:
        return list(self.members)


@buildable("tractable-ensemble")
class TractableEnsemble(Ensemble):
    """An ensemble whose members all have a density; made by ``Ensemble(members)``."""

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        r"""``(B,)``: :math:`\log \sum_k w_k p_k(x | c)`."""
        return torch.logsumexp(self._joint(x, context), 0)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Noise that decodes to ``x``: that of the most responsible member, with ``u`` in the middle of its interval.

        Each event has as many pre-images as members, so this is a right inverse: ``decode(encode(x)) == x``, but
        encoded events are not distributed as :meth:`noise`.
        """
        chosen = self._joint(x, context).argmax(0)
        edges = torch.cat([self.edges.new_zeros(1), self.edges, self.edges.new_ones(1)])
        u = ((edges[:-1] + edges[1:]) / 2)[chosen]
        noise: Tensor | None = None
        for k, member in enumerate(self._each()):
            rows = torch.nonzero(chosen == k).squeeze(1)
            if len(rows):
                part = member.encode(x[rows], None if context is None else context[rows])
                if noise is None:
                    noise = part.new_empty((len(x), *part.shape[1:]))
                noise[rows] = part
        if noise is None:
            return x.new_empty((0, *self.event_shape[:-1], self.event_shape[-1] + 1))
        channel = u.to(noise.dtype).reshape(len(x), *(1,) * (noise.ndim - 1)).expand(*noise.shape[:-1], 1)
        return torch.cat([noise, channel], -1)

    def _joint(self, x: Tensor, context: Tensor | None) -> Tensor:
        logs = torch.stack([member.log_prob(x, context) for member in self._each()])
        return logs + self.log_weights.to(logs.dtype)[:, None]
