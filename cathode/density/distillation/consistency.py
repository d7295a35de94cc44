r"""Consistency models: one network evaluation from any point of a path to its end.

The principle: all points of one solution ``y(phi)`` of the probability flow belong to the same event, so the function
``f(y(phi), phi) = y(end)`` is constant along it.  It is learned by comparing neighbours, ``f(y(phi), phi)`` with
``f(y(phi'), phi')`` for a slightly later ``phi'``, where the second is held fixed, and the boundary condition ``f(y,
end) = y`` is built in (Song et al., arXiv 2303.01469, eqs. 5 and 7).  The neighbour comes from a step along the
teacher's field (consistency distillation, its Algorithm 2) or, without a teacher, from the straight path of the pair
(consistency training, its Algorithm 3).

From the improved techniques (Song and Dhariwal, arXiv 2310.14189) come: no moving average in the second term, which is
the same network held fixed (Sec. 3.2), the pseudo-Huber distance with a constant that grows as ``sqrt(d)`` (Sec. 3.3),
log-normal noise levels in training (Sec. 3.5), and the number of steps that doubles during training (Sec. 3.4).

Deviations.  The coordinates are those of :mod:`cathode.density.distillation.angles`, ``f = cos(end - phi) y + sin(end -
phi) G`` (Lu and Song, arXiv 2410.11081, eq. 3), which a zero ``G`` solves for Gaussian data and where ``G`` may start
as the teacher's network; the steps are equal in the angle, which makes their weights equal too; the angle itself is
drawn continuously instead of from the grid.

How it compares: distilled from one flow of 20 features with 40 s of processor time, this model is at a sliced
Wasserstein distance to the truth of 0.071, 0.047 and 0.069 in 1, 2 and 4 steps, where :class:`~.mean_flow.MeanFlow`
reaches 0.020, 0.017 and 0.015: what is learned must travel along the whole path in small steps, and short trainings
end before.  The paper's constants (the defaults) are the best of those tried there; for 2 features and trainings of
seconds ``finest=64, huber=0.03, log_level_mean=0, log_level_std=1.2`` are better (0.09 against 0.15 in one step).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cathode.density.base import ConditionalDensity
from cathode.density.distillation.angles import Angles, TeacherFlow, wide
from cathode.density.distillation.student import Student, event_mean, masked, standard_normal
from cathode.density.divergence import entries_per_event
from cathode.density.registry import buildable

__all__ = ["ConsistencyModel"]


@buildable("consistency-model")
class ConsistencyModel(Student):
    """Student (or stand-alone model) that decodes in one evaluation, or in a few with fresh noise between them.

    With ``steps = 1`` the noise has the shape of an event; with more it is ``(B, steps, *event_shape)``, and the
    later ones re-noise the event of the step before to the angles between (arXiv 2303.01469, Algorithm 1), which lie
    evenly between start and end.  ``steps`` may be changed after training.

    Arguments:
        event_shape: D, or ``[P, F]`` for sets.
        context_features: C.
        network: Buildable network ``(x, t, context, mask=mask)``; a copy of the teacher's is the best start.
        angles: Coordinates; those of the teacher.
        steps: Network evaluations of ``decode``.
        coarsest: Steps of the whole path at the beginning of training.
        finest: Steps at its end.
        ramp_events: Events over which the number of steps doubles from ``coarsest`` to ``finest``, in equal parts.
        huber: The constant c of the pseudo-Huber distance over ``sqrt(d)``, d the entries of the event.
        log_level_mean: Mean of the logarithm of noise over ``sigma_data`` at the trained points (the paper's -1.1 at
            its
            ``sigma_data = 0.5``).
        log_level_std: Its standard deviation.

    Raises:
        ValueError: An argument outside its range.
    """

    seen: Tensor

    def __init__(
        self,
        event_shape: int | Sequence[int],
        context_features: int = 0,
        *,
        network: nn.Module,
        angles: Angles | None = None,
        steps: int = 1,
        coarsest: int = 10,
        finest: int = 1280,
        ramp_events: int = 500_000,
        huber: float = 0.00054,
        log_level_mean: float = -0.4,
        log_level_std: float = 2.0,
    ) -> None:
        super().__init__()
        self.event_shape = (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
        self.context_features = context_features
        self.network = network
        self.angles = Angles() if angles is None else angles
        if steps < 1:
            raise ValueError(f"steps is {steps}; give at least 1")
        if not 2 <= coarsest <= finest:
            raise ValueError(f"need 2 <= coarsest <= finest, not {coarsest} and {finest}")
        if ramp_events < 1 or huber <= 0.0 or log_level_std <= 0.0:
            raise ValueError("ramp_events, huber and log_level_std must be positive")
        self.steps = steps
        self.coarsest, self.finest, self.ramp_events, self.huber = coarsest, finest, ramp_events, huber
        self.log_level_mean, self.log_level_std = log_level_mean, log_level_std
        # In the state, so that a resumed fit goes on at the same number of steps.
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        """``(count, *event_shape)`` for one step, ``(count, steps, *event_shape)`` for more; padding is 0."""
        if self.steps == 1:
            return super().noise(count, mask=mask, generator=generator, dtype=dtype)
        shape = self.event_shape if mask is None else (mask.shape[1], *self.event_shape[1:])
        noise = torch.randn((count, self.steps, *shape), generator=generator, device=generator.device, dtype=dtype)
        return noise if mask is None else noise * mask[:, None, :, None]

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Events ``(B, *event_shape)`` from the noise of :meth:`noise`; padded entries 0.

        Raises:
            ValueError: Noise of another number of steps.
        """
        several = noise.unsqueeze(1) if noise.dim() == len(self.event_shape) + 1 else noise
        if several.shape[1] != self.steps:
            raise ValueError(f"the noise is for {several.shape[1]} steps, the model decodes in {self.steps}")
        angles, z = self.angles, masked(several[:, 0], mask)
        phi = z.new_full((len(z),), angles.start)
        y = self.jump(angles.first(z), phi, context, mask)
        for i in range(1, self.steps):
            angle = angles.start + (angles.end - angles.start) * i / self.steps
            phi = torch.full_like(phi, angle)
            # y is the event in units of scale, with the share cos(end) of its own noise: little enough to keep it.
            z = masked(several[:, i], mask)
            y = math.sin(angle) * y + math.cos(angle) * z
            y = self.jump(y, phi, context, mask)
        return angles.scale * masked(y, mask)

    def jump(self, y: Tensor, phi: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
        """``f(y, phi)``, the end of the path through ``y`` at the angles ``phi (B,)``."""
        rest = wide(self.angles.end - phi, y)
        return rest.cos() * y + rest.sin() * self.network(y, self.angles.time(phi), context, mask=mask)

    def divisions(self) -> int:
        """Steps of the whole path at the present stage of training (arXiv 2310.14189, eq. in Sec. 3.4)."""
        doublings = math.floor(math.log2(self.finest / self.coarsest)) + 1
        stage = int(self.seen) * doublings // self.ramp_events
        return self.finest if stage >= doublings else min(self.coarsest * 2**stage, self.finest)

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Consistency training: learns from events alone, ``(B,)``."""
        x = masked(x, mask)
        z = standard_normal(x, mask, generator)
        phi, following = self._neighbours(x, generator)
        y, neighbour = self.angles.point(z, x, phi), self.angles.point(z, x, following)
        return self._difference(y, phi, neighbour, following, context, mask)

    def distillation_loss(
        self,
        teacher: ConditionalDensity,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Consistency distillation: the neighbour is one Heun step along the teacher's field, ``(B,)``."""
        flow = TeacherFlow(teacher)
        x = masked(x, mask)
        z = standard_normal(x, mask, generator)
        phi, following = self._neighbours(x, generator)
        y = self.angles.point(z, x, phi)
        with torch.no_grad():
            slope = flow.field(y, phi, context, mask)
            neighbour = flow.heun(y, phi, following - phi, context, mask, slope)
        return self._difference(y, phi, neighbour, following, context, mask)

    def deviation(
        self, noise: Tensor, events: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None
    ) -> Tensor:
        """Of one step, because later steps draw fresh noise that the teacher does not know."""
        start = noise.new_full((len(noise),), self.angles.start)
        made = self.angles.scale * self.jump(self.angles.first(noise), start, context, mask)
        return event_mean((made - events).square(), mask)

    def _neighbours(self, x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        device = x.device if generator is None else generator.device
        count, angles = len(x), self.angles
        offset = torch.rand((), generator=generator, device=device, dtype=x.dtype)
        u = ((offset + torch.arange(count, device=device, dtype=x.dtype) / max(count, 1)) % 1.0).to(x.device)
        normal = torch.special.ndtri(u.clamp(6e-8, 1.0 - 6e-8))
        level = torch.exp(self.log_level_mean + self.log_level_std * normal)
        size = (angles.end - angles.start) / self.divisions()
        phi = torch.atan2(torch.ones_like(level), level).clamp(angles.start, angles.end - size)
        if self.training:
            self.seen += count
        return phi, (phi + size).clamp(max=angles.end)

    def _difference(
        self, y: Tensor, phi: Tensor, neighbour: Tensor, following: Tensor, context: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        with torch.no_grad():
            target = self.jump(neighbour, following, context, mask)
        squares = masked(self.jump(y, phi, context, mask) - target, mask).square().flatten(1).sum(1)
        c = self.huber * entries_per_event(y, mask).clamp(min=1.0).sqrt()
        return (squares + c.square()).sqrt() - c
