r"""Bespoke solvers: a few-step solver whose times and coefficients are learned for one frozen teacher.

A non-stationary solver of n steps (Shaul et al., arXiv 2403.01329, eq. 10) is the most general explicit linear one,

.. math:: x_{i+1} = a_i x_0 + \sum_{j \le i} b_{ij} u_j, \qquad u_j = u(t_j, x_j)

with the times :math:`t_i`, the coefficients :math:`a_i` and :math:`b_{ij}` as its parameters; all Runge-Kutta and
multistep methods, and changes of the path's scale and time, are members.  They are learned by running the solver and
comparing its end with the teacher's own solution of the same noise (eq. 13); the loss is the logarithm of the mean
squared error, the paper's peak signal-to-noise ratio up to sign and constants.  There are ``n (n + 5) / 2`` numbers
to learn and no network, so a few hundred steps are enough; the quality at 4 to 8 evaluations is that of many more,
but a single evaluation remains what it is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cathode.density.base import ConditionalDensity
from cathode.density.diffusion import EDM
from cathode.density.distillation.angles import TeacherFlow
from cathode.density.distillation.student import event_mean, masked, standard_normal
from cathode.density.matching import FlowMatching
from cathode.density.registry import buildable

__all__ = ["BespokeSolver"]


@buildable("bespoke-solver")
class BespokeSolver(ConditionalDensity):
    """A trained flow matching or EDM that decodes in ``evaluations`` steps of a learned solver.

    The solver works in the coordinates of :mod:`cathode.density.distillation.angles`.  It starts as Euler's method,
    or as the two-step Adams-Bashforth method with equal steps, and is trained by plain :func:`cathode.training.fit`:
    the teacher is inside and frozen.

    Arguments:
        teacher: The trained density.
        evaluations: n, network evaluations of ``decode``.
        initial: ``"euler"`` or ``"adams-bashforth"``.
        target_steps: Steps of the teacher's solution that is learned, by rk4 in the angle.

    Raises:
        ValueError: An argument outside its range.
    """

    def __init__(
        self,
        teacher: ConditionalDensity,
        evaluations: int = 4,
        *,
        initial: str = "adams-bashforth",
        target_steps: int = 16,
    ) -> None:
        super().__init__()
        if not isinstance(teacher, (FlowMatching, EDM)):
            raise ValueError(f"a bespoke solver needs a flow-matching or EDM teacher, not {type(teacher).__name__}")
        if evaluations < 1 or target_steps < 1:
            raise ValueError(f"evaluations is {evaluations} and target_steps {target_steps}; give at least 1")
        if initial not in ("euler", "adams-bashforth"):
            raise ValueError(f"unknown initial solver {initial!r}; known: euler, adams-bashforth")
        self.teacher = teacher.requires_grad_(False)
        self.event_shape = teacher.event_shape
        self.context_features = teacher.context_features
        self.evaluations, self.target_steps = evaluations, target_steps
        # Intervals between the times as a softmax, which keeps them ordered; the first n of n + 1 times are used.
        self.intervals = nn.Parameter(torch.zeros(evaluations))
        self.start_weights = nn.Parameter(torch.ones(evaluations))
        angles = TeacherFlow(teacher).angles
        h = (angles.end - angles.start) / evaluations
        slopes = torch.zeros(evaluations, evaluations)
        for i in range(evaluations):
            if i:
                slopes[i] = slopes[i - 1]
            if i and initial == "adams-bashforth":
                slopes[i, i] += 1.5 * h
                slopes[i, i - 1] -= 0.5 * h
            else:
                slopes[i, i] += h
        self.slope_weights = nn.Parameter(slopes)

    def times(self) -> Tensor:
        """The n angles at which the network is evaluated; the first is the start."""
        angles = TeacherFlow(self.teacher).angles
        fractions = torch.cumsum(torch.softmax(self.intervals, 0), 0)
        fractions = torch.cat([fractions.new_zeros(1), fractions[:-1]])
        return angles.start + (angles.end - angles.start) * fractions

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Events from standard normal noise; shape of ``noise``, padded entries 0."""
        flow = TeacherFlow(self.teacher)
        start = flow.angles.first(masked(noise, mask))
        times = self.times().to(noise.dtype)
        y, slopes = start, []
        for i in range(self.evaluations):
            slopes.append(flow.field(y, times[i].expand(len(y)), context, mask))
            y = self.start_weights[i] * start
            for weight, slope in zip(self.slope_weights[i], slopes, strict=False):
                y = y + weight * slope
        return flow.angles.scale * masked(y, mask)

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``ln`` of the mean squared difference to the teacher's solution of fresh noise, ``(B,)``; of ``x`` only the
        shape is used.
        """
        flow = TeacherFlow(self.teacher)
        noise = standard_normal(x, mask, generator)
        angles, n = flow.angles, self.target_steps
        grid = [angles.start + (angles.end - angles.start) * i / n for i in range(n + 1)]
        with torch.no_grad():
            target = angles.scale * flow.path(noise, grid, context, mask, method="rk4")[-1]
        error = event_mean((self.decode(noise, context, mask=mask) - target).square(), mask)
        return torch.log(error + math.exp(-25.0))

    def train(self, mode: bool = True) -> BespokeSolver:
        """The teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self
