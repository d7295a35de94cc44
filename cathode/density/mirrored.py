"""Densities that learn from mirror images too."""

from __future__ import annotations

import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity, Starting
from cathode.density.registry import buildable
from cathode.support.errors import UserError

__all__ = ["Mirrored"]


@buildable("mirrored")
class Mirrored(ConditionalDensity):
    """``density`` trained on events each of which is mirrored at random, with its context.

    A symmetry changes the sign of some columns of the event (of each point of a set) and of some of the context.
    Without a generator nothing is mirrored, so that a validation loss without randomness stays one.

    Args:
        density: Any.
        events: For each symmetry the columns of the event that change sign.
        contexts: For each symmetry those of the context.

    Raises:
        UserError: Lists of different lengths, or columns that are not there.
    """

    def __init__(self, density: ConditionalDensity, events: list[list[int]], contexts: list[list[int]]) -> None:
        super().__init__()
        if len(events) != len(contexts):
            raise UserError(f"{len(events)} symmetries of events and {len(contexts)} of contexts: give one for each")
        columns = density.event_shape[-1]
        if any(not 0 <= c < columns for part in events for c in part):
            raise UserError(f"symmetries {events} do not fit events of {columns} columns")
        if any(not 0 <= c < density.context_features for part in contexts for c in part):
            raise UserError(f"symmetries {contexts} do not fit a context of {density.context_features} columns")
        self.density = density
        self.events, self.contexts = [list(part) for part in events], [list(part) for part in contexts]
        self.event_shape, self.context_features = density.event_shape, density.context_features

    @property
    def loss_is_nll(self) -> bool:
        """Whether :meth:`loss` is ``-log p(x | c)``, of the mirrored event."""
        return bool(getattr(self.density, "loss_is_nll", False))

    @property
    def in_order(self) -> bool:
        """Whether the leading points of sets can be drawn alone."""
        return bool(getattr(self.density, "in_order", False))

    def initialise(self, x: Tensor, context: Tensor | None = None) -> None:
        """Choose the start of training from some events."""
        if isinstance(self.density, Starting):
            self.density.initialise(x, context)

    def mirror(
        self, x: Tensor, context: Tensor | None, *, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor | None]:
        """Event and context, each symmetry applied with probability 1/2."""
        if generator is None or not self.events:
            return x, context
        shape = (len(self.events), len(x))
        signs = torch.randint(0, 2, shape, generator=generator, device=generator.device).to(x) * 2.0 - 1.0
        x = x.clone()
        context = None if context is None else context.clone()
        for columns, others, sign in zip(self.events, self.contexts, signs, strict=True):
            x[..., columns] *= sign.view(-1, *[1] * (x.ndim - 1))
            if context is not None:
                context[:, others] *= sign.unsqueeze(1)
        return x, context

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
        x, context = self.mirror(x, context, generator=generator)
        return self.density.loss(x, context, mask=mask, generator=generator)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        return self.density.decode(noise, context, mask=mask)
