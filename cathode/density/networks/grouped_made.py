r"""MADE for hundreds of features: groups of features at a time, and one cheap step per group when it is sampled from.

Like :class:`~cathode.density.networks.made.Made` (Germain et al., arXiv 1502.03509, section 4), with two differences.

* **Groups.**  The degree of a feature is the number of its group: outputs of group :math:`g` see the features of the
  groups before :math:`g` and the whole context.  Features of one group are conditionally independent given these, so
  sampling needs as many steps as there are groups.  One feature per group is the ordinary MADE.
* **Steps.**  A hidden unit of degree :math:`d` depends on the groups before :math:`d` alone, so it never changes once
  they are known.  :class:`Stepper` therefore computes each hidden unit once: sampling all groups costs the arithmetic
  of *one* pass, not of one pass per group (fast PixelCNN++ sampling, Ramachandran et al., arXiv 1704.06001, does the
  same for convolutions).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cathode.density.networks.made import MaskedLinear
from cathode.density.registry import buildable

__all__ = ["GroupedMade", "Stepper"]


@buildable("grouped-made")
class GroupedMade(nn.Module):
    """Masked residual network: inputs ``(B, D, I)``, context ``(B, C)`` -> outputs ``(B, D, Q)``.

    Args:
        groups: D group numbers, 0, 1, 2, … without gaps and never falling: features are taken in the order of
            generation.
        inputs: I, numbers that describe one known feature.
        outputs: Q, numbers per feature.
        context_features: C.
        hidden: Width of each hidden layer.
        layers: Number of residual blocks after the first hidden layer.
        context_width: Width of the small network that brings the context to each layer.

    Raises:
        ValueError: Groups with gaps or out of order.
    """

    def __init__(
        self,
        groups: list[int],
        inputs: int,
        outputs: int,
        context_features: int = 0,
        hidden: int = 768,
        layers: int = 2,
        context_width: int = 64,
    ) -> None:
        super().__init__()
        steps = [b - a for a, b in zip([-1, *groups], groups, strict=False)]
        if not groups or steps[0] != 1 or any(s not in (0, 1) for s in steps):
            raise ValueError("groups must count 0, 0, 1, 2, 2, … without gaps and never fall")
        self.features, self.inputs, self.outputs, self.hidden = len(groups), inputs, outputs, hidden
        self.context_features = context_features
        count = groups[-1] + 1
        group = torch.tensor(groups)
        # Evenly spread, rising: units of one degree are neighbours, which makes every step a slice.
        degree = torch.div(torch.arange(hidden) * count, hidden, rounding_mode="floor")
        self.members = [slice(*_span(group, g)) for g in range(count)]
        self.units = [slice(*_span(degree, g)) for g in range(count)]
        self.first = MaskedLinear(degree[:, None] > group.repeat_interleave(inputs))
        self.blocks = nn.ModuleList(MaskedLinear(degree[:, None] >= degree) for _ in range(layers))
        self.head = MaskedLinear(group.repeat_interleave(outputs)[:, None] >= degree)
        self.condition = nn.ModuleList(
            nn.Sequential(nn.Linear(context_features, context_width), nn.SiLU(), nn.Linear(context_width, hidden))
            if context_features
            else nn.Identity()
            for _ in range(layers + 1)
        )

    def shifts(self, context: Tensor | None) -> list[Tensor]:
        """What the context adds to each hidden layer, biases included: ``(B, hidden)`` or ``(hidden,)`` each."""
        biases: list[Tensor] = [self.first.bias, *(block.bias for block in self.blocks)]  # type: ignore[list-item]
        if context is None:
            return biases
        return [bias + net(context) for bias, net in zip(biases, self.condition, strict=True)]

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        shifts = self.shifts(context)
        h = functional.linear(inputs.flatten(1), self.first.weight * self.first.mask) + shifts[0]
        for block, shift in zip(self.blocks, shifts[1:], strict=True):
            h = h + functional.linear(functional.silu(h), block.weight * block.mask) + shift  # type: ignore[operator]
        return self.head(functional.silu(h)).unflatten(1, (self.features, self.outputs))

    def stepper(self, context: Tensor | None, count: int) -> Stepper:
        """Sampling of ``count`` events, group after group."""
        return Stepper(self, context, count)


class Stepper:
    """Walks through the groups: :meth:`outputs` of group g, then :meth:`push` with what its features became."""

    def __init__(self, network: GroupedMade, context: Tensor | None, count: int) -> None:
        self.network = network
        self.shifts = [s.expand(count, -1) for s in network.shifts(context)]
        self.first = (network.first.weight * network.first.mask).unflatten(1, (network.features, network.inputs))
        self.blocks = [b.weight * b.mask for b in network.blocks]  # type: ignore[operator]
        self.head = network.head.weight * network.head.mask
        self.known: Tensor | None = None
        self.active: list[Tensor | None] = [None] * len(self.shifts)

    def outputs(self, group: int) -> Tensor:
        """``(B, n, Q)`` for the n features of ``group``."""
        net = self.network
        units, members = net.units[group], net.members[group]
        if units.stop > units.start:
            h = self.shifts[0][:, units]
            if self.known is not None:
                h = h + self.known @ self.first[units, : members.start].flatten(1).T
            self._activate(0, h)
            for i, block in enumerate(self.blocks):
                active = self.active[i]
                assert active is not None
                h = h + self.shifts[i + 1][:, units] + active @ block[units, : units.stop].T
                self._activate(i + 1, h)
        rows = slice(members.start * net.outputs, members.stop * net.outputs)
        q = net.head.bias[rows].expand(len(self.shifts[0]), -1)
        last = self.active[-1]
        if last is not None:
            q = q + last @ self.head[rows, : units.stop].T
        return q.unflatten(1, (members.stop - members.start, net.outputs))

    def push(self, inputs: Tensor) -> None:
        """Make the features of a group known: ``(B, n, I)``."""
        flat = inputs.flatten(1)
        self.known = flat if self.known is None else torch.cat([self.known, flat], 1)

    def _activate(self, layer: int, h: Tensor) -> None:
        new, old = functional.silu(h), self.active[layer]
        self.active[layer] = new if old is None else torch.cat([old, new], 1)


def _span(numbers: Tensor, value: int) -> tuple[int, int]:
    return int((numbers < value).sum()), int((numbers <= value).sum())
