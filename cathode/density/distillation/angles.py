r"""One set of coordinates for every teacher: flow matching and diffusion are the same equation on a quarter circle.

A pair of noise ``z`` and event ``x`` of spread ``sigma_data`` is joined by ``y(phi) = cos(phi) z + sin(phi) x /
sigma_data``, from noise at ``phi = 0`` to the event at ``phi = pi / 2``.  With the preconditioning of
:class:`~cathode.density.matching.FlowMatching` or of :class:`~cathode.density.diffusion.EDM` the trained network *is*
the velocity of these coordinates, ``dy/dphi = F`` (Lu and Song, arXiv 2410.11081, Sec. 3, there with the angle ``pi /
2 - phi``).  The two families differ only in what number they tell the network as the time (the *clock*) and in how
much of the quarter circle they use.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cathode.density.base import ConditionalDensity
from cathode.density.diffusion import EDM
from cathode.density.matching import FlowMatching
from cathode.density.registry import buildable
from cathode.density.solvers import integrate
from cathode.support.errors import UserError

__all__ = ["Angles", "TeacherFlow", "wide"]

_CLOCKS = ("flow", "noise")


def wide(values: Tensor, like: Tensor) -> Tensor:
    """``values (B,)`` reshaped to multiply ``like (B, ...)``."""
    return values.view(-1, *[1] * (like.dim() - 1))


@buildable("angles")
class Angles(nn.Module):
    """The quarter circle of a family: where it starts and ends, its clock and its scale.

    Attributes:
        start: Angle of the noise; 0 for flow matching, ``arctan(sigma_data / sigma_max)`` for diffusion.
        end: Angle of the events; ``pi / 2``, or a little less where the family blurs its events by ``sigma_min``.
        scale: Events are ``scale * y(end)``.

    Args:
        clock: ``"flow"``, the network is told the time ``t`` of flow matching, or ``"noise"``, it is told EDM's
            ``ln(sigma) / 4``.
        sigma_data: Standard deviation of the data.
        sigma_min: Blur of the events: of flow matching, or the smallest noise level of EDM.
        sigma_max: Largest noise level; only for the clock ``"noise"``.

    Raises:
        ValueError: An argument outside its range.
    """

    def __init__(
        self, clock: str = "flow", sigma_data: float = 1.0, sigma_min: float = 0.0, sigma_max: float = 80.0
    ) -> None:
        super().__init__()
        if clock not in _CLOCKS:
            raise ValueError(f"unknown clock {clock!r}; known: {', '.join(_CLOCKS)}")
        if sigma_data <= 0.0:
            raise ValueError(f"sigma_data is {sigma_data}; give a positive value")
        if clock == "flow" and not 0.0 <= sigma_min < 1.0:
            raise ValueError(f"sigma_min is {sigma_min}; give a value in [0, 1)")
        if clock == "noise" and not 0.0 < sigma_min < sigma_max:
            raise ValueError(f"need 0 < sigma_min < sigma_max, not {sigma_min} and {sigma_max}")
        self.clock, self.sigma_data, self.sigma_min, self.sigma_max = clock, sigma_data, sigma_min, sigma_max
        self.start = 0.0 if clock == "flow" else math.atan2(sigma_data, sigma_max)
        self.end = math.atan2(sigma_data, sigma_min)
        self.scale = math.hypot(sigma_data, sigma_min)

    @classmethod
    def of(cls, density: FlowMatching | EDM) -> Angles:
        """The coordinates of a trained density."""
        if isinstance(density, EDM):
            return cls("noise", float(density.sigma_data), density.sigma_min, density.sigma_max)
        return cls("flow", density.sigma_data, density.sigma_min)

    def time(self, phi: Tensor) -> Tensor:
        """What the network is told at the angles ``phi``."""
        phi = phi.clamp(self.start, self.end)
        sin, cos = phi.sin(), phi.cos()
        if self.clock == "flow":
            return sin / (self.sigma_data * cos + (1.0 - self.sigma_min) * sin)
        return 0.25 * torch.log(self.sigma_data * cos / sin)

    def first(self, noise: Tensor) -> Tensor:
        """``y(start)`` of standard normal noise."""
        return noise if self.start == 0.0 else noise * math.cos(self.start)

    def point(self, noise: Tensor, x: Tensor, phi: Tensor) -> Tensor:
        """``y`` at the angles ``phi (B,)`` on the paths of pairs."""
        phi = wide(phi, x)
        return phi.cos() * noise + phi.sin() * x / self.sigma_data

    def slope(self, noise: Tensor, x: Tensor, phi: Tensor) -> Tensor:
        """``dy/dphi`` on the paths of pairs."""
        phi = wide(phi, x)
        return phi.cos() * x / self.sigma_data - phi.sin() * noise


class TeacherFlow:
    """The velocity ``dy/dphi`` of a trained density, and its solutions.

    Args:
        density: A :class:`FlowMatching` or an :class:`EDM`; used as it is, in its own mode and on its own device.

    Raises:
        UserError: Another family.
    """

    def __init__(self, density: ConditionalDensity) -> None:
        if not isinstance(density, (FlowMatching, EDM)):
            raise UserError(
                f"few-step students need a flow-matching or EDM teacher, not {type(density).__name__}; "
                f"autoregressive teachers are distilled by InverseAutoregressive"
            )
        self.density = density
        self.angles = Angles.of(density)

    def field(self, y: Tensor, phi: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
        """``dy/dphi`` at ``y`` and angles ``phi (B,)``."""
        density, angles = self.density, self.angles
        if isinstance(density, EDM) or density.preconditioning:
            return density.network(y, angles.time(phi), context, mask=mask)
        # The network is dx/dt: with x = r y and dphi/dt = sigma_data / r^2, what is left of it after the linear part.
        t = wide(angles.time(phi), y)
        slope = 1.0 - angles.sigma_min
        a = 1.0 - slope * t
        r = torch.sqrt(a.square() + (angles.sigma_data * t).square())
        x = r * y
        velocity = density.network(x, t.flatten(), context, mask=mask)
        return (velocity - (angles.sigma_data**2 * t - slope * a) / r.square() * x) * r / angles.sigma_data

    def heun(
        self, y: Tensor, phi: Tensor, step: Tensor, context: Tensor | None, mask: Tensor | None, first: Tensor
    ) -> Tensor:
        """``y(phi + step)`` by one step of Heun's method; ``first`` is the slope at ``phi``."""
        h = wide(step, y)
        second = self.field(y + h * first, phi + step, context, mask)
        return y + 0.5 * h * (first + second)

    def path(
        self, noise: Tensor, grid: Sequence[float], context: Tensor | None, mask: Tensor | None, *, method: str
    ) -> list[Tensor]:
        """``y`` at each angle of ``grid``, whose first must be ``angles.start``; one step of ``method`` between two."""

        def velocity(phi: float, y: Tensor) -> Tensor:
            return self.field(y, y.new_full((len(y),), phi), context, mask)

        points = [self.angles.first(noise)]
        for phi, following in itertools.pairwise(grid):
            points.append(integrate(velocity, points[-1], phi, following, method=method, steps=1))
        return points
