r"""Mean flow: learn the average velocity between any two points of a path, and jump along it.

Along a solution ``dy/dphi = F`` the average velocity from ``phi`` to ``psi`` is ``u(y, phi, psi) = (y(psi) - y(phi)) /
(psi - phi)``; with it, any number of jumps ``y(psi) = y(phi) + (psi - phi) u`` decodes.  Two objectives lead to it:

* ``"identity"``: differentiating its definition along the path gives ``u = F + (psi - phi) du/dphi`` with the total
  derivative along the path, ``du/dphi = (du/dy) F + (partial of u)`` (Geng et al., arXiv 2505.13447, eq. 6).  The
  right-hand side, from one Jacobian-vector product, is held fixed; the squared error is weighted adaptively by ``1 /
  (error + c)^p`` (its eq. 22) in training mode.  ``F`` is the teacher's field or, without a teacher, the slope of the
  pair's straight path.
* ``"trajectory"``: noise is drawn and carried to the end along the teacher's field; the student regresses the chords
  between the points of these paths.  This is knowledge distillation (Luhman and Luhman, arXiv 2101.02388) for all pairs
  of points, of which only noise to event is regressed there.  The target is the truth itself, not an extrapolation of
  the student, so there is nothing to bootstrap; each path pays for many chords.  It needs a teacher and no events, only
  their contexts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cathode.density.base import ConditionalDensity
from cathode.density.distillation.angles import Angles, TeacherFlow, wide
from cathode.density.distillation.student import Student, event_mean, masked, standard_normal
from cathode.density.registry import buildable
from cathode.density.solvers import check_method

__all__ = ["MeanFlow"]

_OBJECTIVES = ("identity", "trajectory")


@buildable("mean-flow")
class MeanFlow(Student):
    """Average velocity of a flow: decodes in any number of equal jumps in the angle.

    Arguments:
        event_shape: D, or ``[P, F]`` for sets.
        context_features: C.
        network: Buildable network ``(x, t, context, mask=mask)`` with ``C + 1`` columns of context; the last is the
            length of the jump over ``end - start``.  The teacher's network, :func:`widened <widened>` by one column,
            is the best start: it is right for short jumps.
        angles: Coordinates; those of the teacher.
        steps: Jumps of ``decode``; may be changed after training.
        objective: ``"identity"`` or ``"trajectory"``, see above.
        instantaneous: Share of the trained pairs with ``psi = phi`` in the identity, which are plain flow matching.
        power: p of the adaptive weight.  The paper prefers 1 for images; distilling a flow of 20 features with 40 s of
            processor time, 0.5 gives a sliced Wasserstein distance to the truth of 0.020, 0.017 and 0.015 in 1, 2 and 4
            steps, 1 gives 0.028, 0.018 and 0.016, ``"trajectory"`` 0.024, 0.022 and 0.026; the teacher's best is 0.015.
        constant: c of the adaptive weight.
        path_steps: Steps of the teacher's paths for ``"trajectory"``; choose a multiple of the largest number of
            jumps that is wanted.
        path_method: Solver of these steps.
        chords: Chords that are regressed per path and step of training.
        from_start: Share of the chords that begin at the noise, where all decoding begins.

    Raises:
        ValueError: An argument outside its range.
    """

    def __init__(
        self,
        event_shape: int | Sequence[int],
        context_features: int = 0,
        *,
        network: nn.Module,
        angles: Angles | None = None,
        steps: int = 1,
        objective: str = "identity",
        instantaneous: float = 0.25,
        power: float = 0.5,
        constant: float = 1e-3,
        path_steps: int = 8,
        path_method: str = "heun",
        chords: int = 4,
        from_start: float = 0.5,
    ) -> None:
        super().__init__()
        self.event_shape = (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
        self.context_features = context_features
        if getattr(network, "context_features", context_features + 1) != context_features + 1:
            raise ValueError(
                f"the network takes {network.context_features} context columns, it needs {context_features + 1}: "
                f"those of the context and the length of the jump"
            )
        if objective not in _OBJECTIVES:
            raise ValueError(f"unknown objective {objective!r}; known: {', '.join(_OBJECTIVES)}")
        if not (0.0 <= instantaneous <= 1.0 and 0.0 <= from_start <= 1.0):
            raise ValueError("instantaneous and from_start must be between 0 and 1")
        if steps < 1 or chords < 1:
            raise ValueError(f"steps is {steps} and chords is {chords}; give at least 1")
        if power < 0.0 or constant <= 0.0:
            raise ValueError("power must not be negative, constant must be positive")
        check_method(path_method, steps=path_steps)
        self.network = network
        self.angles = Angles() if angles is None else angles
        self.steps, self.objective = steps, objective
        self.instantaneous, self.power, self.constant = instantaneous, power, constant
        self.path_steps, self.path_method = path_steps, path_method
        self.chords, self.from_start = chords, from_start

    def average_velocity(
        self, y: Tensor, phi: Tensor, psi: Tensor, context: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """``u(y, phi, psi)``, shape of ``y``; the angles are ``(B,)``."""
        length = ((psi - phi) / (self.angles.end - self.angles.start)).unsqueeze(-1)
        columns = length if context is None else torch.cat([context, length], dim=-1)
        return self.network(y, self.angles.time(phi), columns, mask=mask)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Events from standard normal noise in ``steps`` jumps; shape of ``noise``, padded entries 0."""
        angles = self.angles
        y = angles.first(masked(noise, mask))
        jump = (angles.end - angles.start) / self.steps
        for i in range(self.steps):
            phi = y.new_full((len(y),), angles.start + i * jump)
            y = y + jump * self.average_velocity(y, phi, phi + jump, context, mask)
        return angles.scale * masked(y, mask)

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The identity without a teacher, from events alone, ``(B,)``."""
        x = masked(x, mask)
        z = standard_normal(x, mask, generator)
        phi, psi = self._pairs(x, generator)
        return self._identity(self.angles.point(z, x, phi), phi, psi, self.angles.slope(z, x, phi), context, mask)

    def distillation_loss(
        self,
        teacher: ConditionalDensity,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Loss of each event under ``objective``, ``(B,)``; ``"trajectory"`` needs ``x`` only for its shape."""
        flow = TeacherFlow(teacher)
        x = masked(x, mask)
        z = standard_normal(x, mask, generator)
        if self.objective == "trajectory":
            return self._trajectory(flow, z, context, mask, generator)
        phi, psi = self._pairs(x, generator)
        y = self.angles.point(z, x, phi)
        with torch.no_grad():
            slope = flow.field(y, phi, context, mask)
        return self._identity(y, phi, psi, slope, context, mask)

    def _identity(
        self, y: Tensor, phi: Tensor, psi: Tensor, slope: Tensor, context: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        def average(y: Tensor, phi: Tensor) -> Tensor:
            return self.average_velocity(y, phi, psi, context, mask)

        # The fused attention kernels have no forward-mode derivative; the plain one has.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            _, derivative = torch.func.jvp(average, (y, phi), (slope, torch.ones_like(phi)))  # type: ignore[misc]
            target = slope + wide(psi - phi, y) * derivative.detach()
        error = event_mean((average(y, phi) - target).square(), mask)
        if not self.training:
            return error  # the weighted error says little about the fit: at p = 1 it is nearly constant
        return error / (error.detach() + self.constant).pow(self.power)

    def _pairs(self, x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Two angles each, the first the smaller; equal for the share ``instantaneous``."""
        device = x.device if generator is None else generator.device
        u = torch.rand((3, len(x)), generator=generator, device=device, dtype=x.dtype).to(x.device)
        low, high = torch.minimum(u[0], u[1]), torch.maximum(u[0], u[1])
        high = torch.where(u[2] < self.instantaneous, low, high)
        span = self.angles.end - self.angles.start
        return self.angles.start + span * low, self.angles.start + span * high

    def _trajectory(
        self,
        flow: TeacherFlow,
        noise: Tensor,
        context: Tensor | None,
        mask: Tensor | None,
        generator: torch.Generator | None,
    ) -> Tensor:
        angles, count = self.angles, self.path_steps
        grid = [angles.start + (angles.end - angles.start) * i / count for i in range(count + 1)]
        with torch.no_grad():
            path = torch.stack(flow.path(noise, grid, context, mask, method=self.path_method))
        device = noise.device if generator is None else generator.device
        rows = torch.arange(len(noise), device=noise.device)
        total = noise.new_zeros(len(noise))
        times = noise.new_tensor(grid)
        for _ in range(self.chords):
            u = torch.rand((3, len(noise)), generator=generator, device=device, dtype=noise.dtype).to(noise.device)
            # Ordered pairs i < j of the grid, all with the same probability; or i = 0 and any j.
            one = (u[0] * (count + 1)).long().clamp(max=count)
            other = (one + 1 + (u[1] * count).long().clamp(max=count - 1)) % (count + 1)
            first, last = torch.minimum(one, other), torch.maximum(one, other)
            leading = u[2] < self.from_start
            first = torch.where(leading, torch.zeros_like(first), first)
            phi, psi = times[first], times[last]
            start, end = path[first, rows], path[last, rows]
            chord = (end - start) / wide(psi - phi, start)
            # An error of u displaces the end of the jump by the length of the jump.
            error = event_mean((self.average_velocity(start, phi, psi, context, mask) - chord).square(), mask)
            total = total + error * (psi - phi).square()
        return total / self.chords
