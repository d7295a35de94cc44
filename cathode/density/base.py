r"""The contracts of the density core.

Noise first: every family is a deterministic map from noise and context to an event (:meth:`ConditionalDensity.decode`),
plus a per-event loss, plus, if it has one, a density (:class:`Tractable`).  Notation:

* ``x``: events, ``(B, D)`` for vectors and voxels, ``(B, P, F)`` with a boolean ``mask (B, P)`` (True = real) for sets;
* ``context``: ``(B, C)``, the condition;
* ``noise``: same shape as ``x``, standard normal unless the family says otherwise;
* time, where a family has one, runs from ``t = 0`` (noise) to ``t = 1`` (data).

Log-densities are in nats and in the units of ``x``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

__all__ = ["ConditionalDensity", "NonFiniteError", "Starting", "Tractable", "log_prob", "noise_shape", "sample"]


class NonFiniteError(ArithmeticError):
    """A density produced NaN or infinity."""


class ConditionalDensity(nn.Module):
    """Base of every density: an ``nn.Module`` with an event shape, a per-event loss and a decoder.

    Attributes:
        event_shape: Shape of one event: ``(D,)``, or ``(P, F)`` for sets, where P is the padded size used by
            :meth:`noise` when no mask is given.
        context_features: C, the number of context columns; 0 for an unconditional density.
    """

    event_shape: tuple[int, ...]
    context_features: int

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Training loss of each event, ``(B,)``; its mean is minimised.  Randomness comes from ``generator``."""
        raise NotImplementedError

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """The event that ``noise`` stands for, deterministic; same shape as ``noise``."""
        raise NotImplementedError

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Draw ``(count, *event_shape)`` noise for :meth:`decode`, on the device of ``generator``; padding is 0."""
        shape = self.event_shape if mask is None else (mask.shape[1], *self.event_shape[1:])
        noise = torch.randn((count, *shape), generator=generator, device=generator.device, dtype=dtype)
        return noise if mask is None else noise * mask.unsqueeze(-1)


@runtime_checkable
class Tractable(Protocol):
    """A density that can be evaluated."""

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-density of each event, ``(B,)``, nats in the units of ``x``."""

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The noise of an event: the inverse of ``decode``."""


@runtime_checkable
class Starting(Protocol):
    """A density whose initial weights may depend on training events."""

    def initialise(self, x: Tensor, context: Tensor | None = None) -> None:
        """Choose the start of training from some of its events."""


def noise_shape(density: ConditionalDensity) -> tuple[int, ...]:
    """Shape of the noise of one event; families may need more or fewer numbers than an event has."""
    return tuple(density.noise(1, generator=torch.Generator()).shape[1:])


def _device_and_dtype(density: nn.Module) -> tuple[torch.device, torch.dtype]:
    for tensor in [*density.parameters(), *density.buffers()]:
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.get_default_dtype()


def _check_context(density: ConditionalDensity, context: Tensor | None) -> None:
    columns = 0 if context is None else context.shape[-1]
    if columns != density.context_features:
        raise ValueError(f"context has {columns} columns, the density was built for {density.context_features}")


@torch.no_grad()
def sample(
    density: ConditionalDensity,
    context: Tensor | None = None,
    *,
    count: int | None = None,
    mask: Tensor | None = None,
    generator: torch.Generator,
    chunk: int = 16384,
) -> Tensor:
    """Draw one event per context row (or ``count`` events of an unconditional density).

    The noise is drawn chunk by chunk from ``generator``, so a seed fixes the events whatever the device of the density.

    Args:
        density: Any member of the core.
        context: ``(B, C)``, one event is drawn for each row.
        count: Number of events when there is no context.
        mask: ``(B, P)`` for sets.
        generator: Source of all randomness, on the CPU or the density's device.
        chunk: Events decoded at once; bounds the memory.

    Returns:
        ``(B, *event_shape)`` on the device of the density.

    Raises:
        ValueError: The context does not fit the density, or both or neither of ``context`` and ``count`` are given.
        NonFiniteError: Some events are NaN or infinite; the message has their number.
    """
    if (context is None) == (count is None):
        raise ValueError("give either context (one event per row) or count")
    _check_context(density, context)
    total = len(context) if context is not None else int(count or 0)
    device, dtype = _device_and_dtype(density)
    pieces: list[Tensor] = []
    broken = 0
    for start in range(0, total, chunk):
        stop = min(start + chunk, total)
        piece_mask = None if mask is None else mask[start:stop].to(device)
        piece_context = None if context is None else context[start:stop].to(device, dtype)
        noise_mask = None if mask is None else mask[start:stop].to(generator.device)
        noise = density.noise(stop - start, mask=noise_mask, generator=generator, dtype=dtype).to(device)
        events = density.decode(noise, piece_context, mask=piece_mask)
        broken += int((~torch.isfinite(events.flatten(1)).all(1)).sum())
        pieces.append(events)
    if broken:
        raise NonFiniteError(f"{broken} of {total} sampled events are not finite")
    if not pieces:
        return torch.empty((0, *density.event_shape), device=device, dtype=dtype)
    return torch.cat(pieces)


@torch.no_grad()
def log_prob(density: Tractable, x: Tensor, context: Tensor | None = None, *, chunk: int = 16384) -> Tensor:
    """Log-density of many events in chunks: ``(B,)``, nats; arguments as :meth:`Tractable.log_prob`."""
    device, dtype = _device_and_dtype(density)  # type: ignore[arg-type]
    pieces: Sequence[Tensor] = [
        density.log_prob(
            x[i : i + chunk].to(device, dtype), None if context is None else context[i : i + chunk].to(device, dtype)
        )
        for i in range(0, len(x), chunk)
    ]
    return torch.cat(list(pieces)) if pieces else torch.empty(0, device=device, dtype=dtype)
