r"""Instantaneous change of variables: log-densities of events that flow along an ordinary differential
equation.

Along ``dx/dt = v(t, x)`` the log-density changes as ``d log p(x(t)) / dt = -tr(dv/dx)`` (Chen et al., arXiv
1806.07366, Theorem 1), so :func:`integrate_with_divergence` carries ``l(t) = \int tr(dv/dx) dt`` beside the
event.  The trace is either

* exact: one forward-mode derivative per entry of the event, vectorised over the basis vectors; or
* Hutchinson's estimate ``E[e^T (dv/dx) e]`` (Grathwohl et al., arXiv 1810.01367, eq. 7) with Rademacher
  probes ``e`` that are drawn once and kept along the whole path, so the result is a deterministic function of
  the probes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from cathode.density.solvers import integrate

__all__ = [
    "Trace",
    "draw_probes",
    "entries_per_event",
    "integrate_with_divergence",
    "standard_normal_log_prob",
    "value_and_divergence",
]

_TANGENTS_AT_ONCE = 16
_LARGEST_EXACT = 32


@dataclass(frozen=True)
class Trace:
    """How a density computes the trace of its Jacobian.

    Attributes:
        kind: ``"exact"``, ``"hutchinson"``, or ``"auto"``: exact up to 32 entries per event.
        probes: Number of Hutchinson probes per event; the variance of the estimate falls as 1 / probes.
        seed: Seed of the probes.
    """

    kind: str = "auto"
    probes: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("auto", "exact", "hutchinson"):
            raise ValueError(f"unknown trace {self.kind!r}; known: auto, exact, hutchinson")
        if self.probes < 1:
            raise ValueError(f"trace probes is {self.probes}; give at least 1")

    def draw(self, x: Tensor, event_shape: Sequence[int], *, mask: Tensor | None, seed: int | None) -> Tensor | None:
        """The probes for events ``x``, or None where the trace is exact; ``seed`` overrides the attribute."""
        small = math.prod(event_shape) <= _LARGEST_EXACT
        if self.kind == "exact" or (self.kind == "auto" and small):
            return None
        return draw_probes(x, self.probes, seed=self.seed if seed is None else seed, mask=mask)


def draw_probes(x: Tensor, count: int, *, seed: int, mask: Tensor | None = None) -> Tensor:
    """Rademacher probes ``(count, *x.shape)``, 0 where ``mask`` is False; the same on every device for a
    seed.
    """
    generator = torch.Generator().manual_seed(seed)
    # Entry by entry of the set, so that the probes of the real entries do not depend on the amount of
    # padding.
    rows, entries, *rest = x.shape
    signs = torch.randint(0, 2, (entries, count, rows, *rest), generator=generator, dtype=torch.int8)
    probes = signs.movedim(0, 2).to(device=x.device, dtype=x.dtype) * 2 - 1
    return probes if mask is None else probes * mask.unsqueeze(-1)


def value_and_divergence(
    velocity: Callable[[Tensor], Tensor], x: Tensor, *, probes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``velocity(x)`` and the trace of its Jacobian, event by event.

    Args:
        velocity: Maps ``(B, ...)`` to the same shape; an event must not influence another.
        x: ``(B, ...)``.
        probes: ``(K, B, ...)`` for the Hutchinson estimate, averaged over K; without them the trace is exact.

    Returns:
        The velocity, shaped as ``x``, and the trace ``(B,)``.
    """
    if probes is None:
        size = math.prod(x.shape[1:])
        basis = torch.eye(size, dtype=x.dtype, device=x.device).view(size, 1, *x.shape[1:])
        tangents, scale = basis.expand(size, *x.shape), 1.0
    else:
        tangents, scale = probes, 1.0 / len(probes)

    def directional(tangent: Tensor) -> tuple[Tensor, Tensor]:
        value, derivative = torch.func.jvp(velocity, (x,), (tangent,))  # type: ignore[misc]
        return value, (derivative * tangent).flatten(1).sum(1)

    vectorised: Any = torch.vmap(directional, out_dims=(None, 0))  # type: ignore[arg-type]
    # The fused attention kernels have no forward-mode derivative; the plain one has.
    with sdpa_kernel(SDPBackend.MATH):
        value, traces = vectorised(tangents[:_TANGENTS_AT_ONCE])
        total = traces.sum(0)
        for start in range(_TANGENTS_AT_ONCE, len(tangents), _TANGENTS_AT_ONCE):
            _, traces = vectorised(tangents[start : start + _TANGENTS_AT_ONCE])
            total = total + traces.sum(0)
    return value, total * scale


def integrate_with_divergence(
    velocity: Callable[[float, Tensor], Tensor],
    x: Tensor,
    t0: float,
    t1: float,
    *,
    probes: Tensor | None = None,
    method: str = "rk4",
    steps: int = 20,
    times: Sequence[float] | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-6,
    state_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """The end point of the path from ``x`` and the integrated trace ``(B,)``; arguments as :func:`integrate`.

    With the density known at the end, ``log p_0(x) = log p_1(end) + trace``.
    """

    def field(t: float, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return value_and_divergence(lambda y: velocity(t, y), state[0], probes=probes)

    start = (x, x.new_zeros(len(x)))
    end, trace = integrate(
        field, start, t0, t1, method=method, steps=steps, times=times, rtol=rtol, atol=atol, state_dtype=state_dtype
    )
    return end, trace


def standard_normal_log_prob(x: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """``log N(x; 0, I)`` of each event, ``(B,)``, over the real entries only."""
    squares = x.square() + math.log(2 * math.pi)
    if mask is not None:
        squares = squares * mask.unsqueeze(-1)
    return -0.5 * squares.flatten(1).sum(1)


def entries_per_event(x: Tensor, mask: Tensor | None) -> Tensor:
    """Number of real numbers in each event, ``(B,)``: D, or F times the size of the set."""
    if mask is None:
        return x.new_full((len(x),), math.prod(x.shape[1:]))
    return mask.sum(1).to(x.dtype) * math.prod(x.shape[2:])
