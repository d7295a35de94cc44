r"""Autoregressive densities of amounts as loops with one small body, for graphs.

Hundreds of steps, unrolled, make a graph of tens of thousands of operations, which runtimes take minutes to load.  Here
every step is the same function of its own slice of the weights and of a state of fixed size, so that a graph holds it
once.  With the groups' features known one after the other,

* each hidden layer keeps the sum of what the known units contribute, ``(B, H)``; a step reads the entries of its own
  units, which are complete by then, and adds what these units contribute to later ones;
* the last layer's units are collected in one row, from which each step reads the outputs of its features.

All steps together cost one pass through the network.  Groups and units are padded to the size of the largest, with
weights of zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cathode.density.base import ConditionalDensity
from cathode.density.censored import CensoredAutoregressive
from cathode.density.sequence import AmountSequence

__all__ = ["ScannedCensored", "ScannedSequence"]


class ScannedCensored(ConditionalDensity):
    """A :class:`~cathode.density.censored.CensoredAutoregressive` that only decodes, as a loop over its groups.

    Args:
        density: Its weights are copied.
    """

    positions: Tensor
    noise_columns: Tensor

    def __init__(self, density: CensoredAutoregressive) -> None:
        super().__init__()
        self.event_shape, self.context_features = density.event_shape, density.context_features
        network = density.network
        self.members, self.units = list(network.members), list(network.units)
        self.width = max(m.stop - m.start for m in self.members)
        steps, d, hidden, q = len(self.members), density.event_shape[0], network.hidden, network.outputs
        count = max(u.stop - u.start for u in self.units)
        self.layers, self.inputs = 1 + len(network.blocks), network.inputs
        self.looks_back = density.near.shape[1] > 0
        #: Loop by torch's scan, which a graph keeps as a loop, in place of one of Python.
        self.as_scan = False
        # Its head, context and sums are used as they are; the weights of the network are held in slices.
        self.source: Any = density
        full = [(m.weight * m.mask).detach() for m in (network.first, *network.blocks, network.head)]  # type: ignore[operator]
        slices: dict[str, list[Tensor]] = {}

        def put(name: str, value: Tensor) -> None:
            slices.setdefault(name, []).append(value.detach())

        for members, units in zip(self.members, self.units, strict=True):
            n = members.stop - members.start
            put("index", torch.arange(units.start, units.start + count).clamp_max(hidden - 1))
            for i, weight in enumerate(full[1:-1]):
                put(f"layer{i + 1}", _padded(weight[:, units].T, 0, count))
            put("place", _padded(torch.eye(hidden)[units], 0, count))
            head = full[-1][members.start * q : members.stop * q].T
            put("head", _padded(head, 1, self.width * q))
            put("head_bias", _padded(network.head.bias[members.start * q : members.stop * q], 0, self.width * q))
            inputs = slice(members.start * network.inputs, members.stop * network.inputs)
            put("first", _padded(full[0][:, inputs].T, 0, self.width * network.inputs))
            put("members", _padded(torch.arange(members.start, members.stop), 0, self.width))
            put("slot", torch.cat([torch.arange(members.start, members.stop), torch.full((self.width - n,), d)]))
            put("real", torch.arange(self.width) < n)
        self.names = list(slices)
        for name, values in slices.items():
            self.register_buffer(f"step_{name}", torch.stack(values).contiguous())
        # Where each feature is in the padded row of all groups, and back to the order of the events.
        real_positions = torch.cat(
            [s * self.width + torch.arange(m.stop - m.start) for s, m in enumerate(self.members)]
        )
        self.register_buffer("positions", real_positions[torch.as_tensor(self.source.inverse_order)])
        noise_columns = torch.zeros(steps * self.width, dtype=torch.long)
        noise_columns[real_positions] = torch.arange(d)
        self.register_buffer("noise_columns", noise_columns)

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        return self.source.noise(count, mask=mask, generator=generator, dtype=dtype)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Amounts ``(B, D)`` from noise ``(B, 2 D)``, as the density that was given."""
        if mask is not None:
            raise ValueError("a censored autoregressive density is a density of vectors; it takes no mask")
        d, rows, steps = self.event_shape[0], noise.shape[0], len(self.members)
        choice, place = 0.5 + 0.5 * torch.erf(noise[:, :d] * math.sqrt(0.5)), noise[:, d:]
        seen, totals = self.source._context(context)
        state = [shift.expand(rows, -1).clone() for shift in self.source.network.shifts(seen)]
        state.append(torch.zeros_like(state[0]))
        if totals is not None:
            # A copy: what is carried may not be the same tensor as something else that the loop sees.
            state.append(totals.clone())
        if self.looks_back:
            # Descriptions of the features so far, and one more place for what only pads the groups.
            state.append(noise.new_zeros(rows, d + 1, self.inputs))
        inputs = {name: getattr(self, f"step_{name}") for name in self.names}
        for name, values in (("choice", choice), ("draw", place)):
            inputs[name] = values[:, self.noise_columns].T.reshape(steps, self.width, rows)

        def step(carry: list[Tensor], xs: dict[str, Tensor]) -> tuple[list[Tensor], Tensor]:
            return self._step(carry, xs, totals, context)

        drawn = _loop(step, state, inputs, as_scan=self.as_scan)
        return drawn.permute(1, 0, 2).flatten(1)[:, self.positions]

    def _step(
        self, carry: list[Tensor], xs: dict[str, Tensor], totals: Tensor | None, context: Tensor | None
    ) -> tuple[list[Tensor], Tensor]:
        layers, row = list(carry[: self.layers]), carry[self.layers]
        known = carry[-1] if self.looks_back else row.new_zeros(row.shape[0], 0, self.inputs)
        rest: list[Tensor] = []
        index = xs["index"]
        h = layers[0].index_select(1, index)
        for i in range(1, self.layers):
            layers[i] = torch.addmm(layers[i], functional.silu(h), xs[f"layer{i}"])
            h = h + layers[i].index_select(1, index)
        row = torch.addmm(row, functional.silu(h), xs["place"])
        q = torch.addmm(xs["head_bias"], row, xs["head"]).unflatten(1, (self.width, -1))
        # The density's own methods, with indices in place of slices.
        source, members = self.source, xs["members"]
        left = total = None
        if totals is not None:
            owner = source.budgets.block[members]
            left, total = carry[self.layers + 1][:, owner], totals[:, owner]
        mixture = source._mixture(q, known, context, left, total, members)
        x = source._draw(mixture, xs["choice"].T, xs["draw"].T)
        if left is not None:
            x = torch.where(xs["real"], source.budgets.spend(x, left, members), 0.0)
            rest.append(source.budgets.charge(carry[self.layers + 1], x, members))
        described = source._describe(x)
        layers[0] = torch.addmm(layers[0], described.flatten(1), xs["first"])
        if self.looks_back:
            rest.append(known.scatter(1, xs["slot"].unsqueeze(1).expand_as(described), described))
        return [*layers, row, *rest], x


class ScannedSequence(ConditionalDensity):
    """An :class:`~cathode.density.sequence.AmountSequence` that only decodes, as a loop over its blocks.

    Args:
        density: Its cell can be exported.
    """

    def __init__(self, density: AmountSequence) -> None:
        super().__init__()
        self.event_shape, self.context_features = density.event_shape, density.context_features
        self.as_scan = False
        self.source: Any = density
        self.register_buffer("before", torch.arange(density.blocks).clamp_min(1).float().unsqueeze(1))
        self.before: Tensor

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        return self.source.noise(count, mask=mask, generator=generator, dtype=dtype)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Amounts ``(B, S D)``, as the density that was given."""
        if context is None:
            raise ValueError("the sums of the blocks are part of the context")
        source = self.source
        outside, totals = source._surroundings(context)
        width = 2 * source.features
        state = [noise.new_zeros(noise.shape[0], source.window * width), noise.new_zeros(noise.shape[0], width)]
        inputs = {
            "draws": noise.unflatten(1, (source.blocks, -1)).transpose(0, 1).contiguous(),
            "outside": outside.transpose(0, 1).contiguous(),
            "total": totals.T.unsqueeze(2).contiguous(),
            "before": self.before,
        }
        drawn = _loop(self._step, state, inputs, as_scan=self.as_scan)
        return drawn.transpose(0, 1).flatten(1)

    def _step(self, carry: list[Tensor], xs: dict[str, Tensor]) -> tuple[list[Tensor], Tensor]:
        source = self.source
        recent, summed = carry
        past = torch.cat([recent, summed / xs["before"], xs["outside"]], 1)
        told = torch.cat([xs["outside"], source.remember(past), recent, xs["total"]], 1)
        row = source.cell.decode(xs["draws"].unflatten(1, source._noise), told)
        picture = source._pictures(row)
        recent = torch.cat([recent[:, picture.shape[1] :], picture], 1)
        return [recent, summed + picture], row


def _loop(
    step: Callable[[list[Tensor], dict[str, Tensor]], tuple[list[Tensor], Tensor]],
    state: list[Tensor],
    inputs: dict[str, Tensor],
    *,
    as_scan: bool,
) -> Tensor:
    """Outputs of all steps ``(steps, …)``."""
    if as_scan:
        from torch._higher_order_ops.scan import scan  # a prototype of torch, needed for graphs alone

        return scan(step, state, inputs)[1]
    return _plain_loop(step, state, inputs)


def _plain_loop(
    step: Callable[[list[Tensor], dict[str, Tensor]], tuple[list[Tensor], Tensor]],
    state: list[Tensor],
    inputs: dict[str, Tensor],
) -> Tensor:
    outputs = []
    for i in range(next(iter(inputs.values())).shape[0]):
        state, y = step(state, {name: value[i] for name, value in inputs.items()})
        outputs.append(y)
    return torch.stack(outputs)


def _padded(value: Tensor, dim: int, size: int) -> Tensor:
    """``value`` with zeros appended along ``dim`` up to ``size``."""
    missing = size - value.shape[dim]
    if not missing:
        return value
    shape = list(value.shape)
    shape[dim] = missing
    return torch.cat([value, value.new_zeros(shape)], dim)
