"""What all students share: how they are compared with their teacher, and how they inherit its network."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from cathode.density.base import ConditionalDensity
from cathode.density.divergence import entries_per_event
from cathode.density.networks.embeddings import ConditionEmbedding
from cathode.density.registry import build, describe

__all__ = ["Student", "event_mean", "masked", "standard_normal", "widened"]


class Student(ConditionalDensity):
    """A density that learns from another one; the coordinates of both must be the same.

    The training step of :mod:`cathode.training.distillation` calls these methods.
    """

    def distillation_loss(
        self,
        teacher: ConditionalDensity,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Loss of each event, ``(B,)``; ``x`` are events, which some students only need for their shape."""
        raise NotImplementedError

    def reference(
        self,
        teacher: ConditionalDensity,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Noise, and the events that the teacher makes of it: what :meth:`deviation` is measured against."""
        noise = standard_normal(x, mask, generator)
        return noise, teacher.decode(noise, context, mask=mask)

    def deviation(
        self, noise: Tensor, events: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None
    ) -> Tensor:
        """Mean squared difference between the student's and the teacher's events of the same noise, ``(B,)``."""
        return event_mean((self.decode(noise, context, mask=mask) - events).square(), mask)


def standard_normal(x: Tensor, mask: Tensor | None, generator: torch.Generator | None) -> Tensor:
    """Noise of the shape of ``x``, 0 in padded entries."""
    device = x.device if generator is None else generator.device
    noise = torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
    return masked(noise, mask)


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """``x`` with padded entries set to 0."""
    return x if mask is None else x.masked_fill(~mask.unsqueeze(-1), 0.0)


def event_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the entries of each event, ``(B,)``; padded entries do not count."""
    if mask is None:
        return values.flatten(1).mean(1)
    return masked(values, mask).flatten(1).sum(1) / entries_per_event(values, mask).clamp(min=1.0)


def widened(network: nn.Module, columns: int) -> nn.Module:
    """``network`` built again with ``columns`` more columns of context, which it ignores at first.

    Weights are copied; a layer that takes the condition takes it last, as everywhere in
    :mod:`cathode.density.networks`, and its weights for the new columns are 0.  A layer that fits in no such way keeps
    its fresh initial weights.

    Raises:
        TypeError: The network cannot be described, or knows no ``context_features``.
    """
    if not columns:
        return copy.deepcopy(network)
    description: dict[str, Any] = describe(network)
    if "context_features" not in description:
        raise TypeError(f"{type(network).__name__} takes no context_features: give the student its network")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        larger = build({**description, "context_features": description["context_features"] + columns})
    embeddings = [m for m in network.modules() if isinstance(m, ConditionEmbedding)]
    kept, width = _kept_columns(embeddings[0], columns) if embeddings else ([], 0)
    old = network.state_dict()
    first = next(network.parameters())
    larger = larger.to(first.device, first.dtype)
    new = larger.state_dict()
    for name, target in new.items():
        source = old.get(name)
        if source is None:
            continue
        if source.shape == target.shape:
            target.copy_(source)
        elif (
            source.dim() == 2
            and len(source) == len(target)
            and kept
            and target.shape[1] - source.shape[1] == (width - len(kept))
        ):
            before = target.shape[1] - width
            target.zero_()
            target[:, [*range(before), *(before + k for k in kept)]] = source
    larger.load_state_dict(new)
    return larger.train(network.training)


def _kept_columns(embedding: ConditionEmbedding, columns: int) -> tuple[list[int], int]:
    """Which features of the wider embedding are those of ``embedding``, and the number of its features."""
    time, count = embedding.time.output_features, embedding.context_features
    frequencies = len(embedding.context.scales)
    total = count + columns
    kept = list(range(time + count))
    for part in range(2 if frequencies else 0):
        begin = time + total + part * total * frequencies
        kept += range(begin, begin + count * frequencies)
    return kept, time + total * (1 + 2 * frequencies)
