r"""Solvers of ordinary differential equations ``dx/dt = velocity(t, x)``.

One explicit Runge-Kutta step, driven by Butcher tableaux, serves all methods: ``euler`` (order 1),
``midpoint`` and ``heun`` (order 2), ``rk4`` (order 4) with fixed steps, and ``dopri5``, Dormand-Prince 5(4),
with error control. The functions are pure: everything that a solution depends on is an argument, and no
random numbers are drawn.

The state is a tensor ``(B, ...)`` or a tuple of tensors that are integrated together (an event and its
log-density, say). One step size serves the whole batch.  The error norm is the *maximum* over all entries, so
that one difficult event is not averaged away by the others and padded entries of sets, which do not move,
have no influence.

References:
    Hairer, Nørsett, Wanner, *Solving Ordinary Differential Equations I* (1993), Secs. II.1 (tableaux) and
    II.4 (step size). Dormand, Prince, J. Comput. Appl. Math. 6 (1980) 19: the 5(4) pair.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["ADAPTIVE_METHODS", "FIXED_METHODS", "SolverError", "check_method", "integrate"]

State = TypeVar("State", Tensor, tuple[Tensor, ...])
_Tensors = tuple[Tensor, ...]
_Field = Callable[[float, _Tensors], _Tensors]


class SolverError(ArithmeticError):
    """The adaptive solver met a non-finite velocity or needs more steps than allowed."""


@dataclass(frozen=True)
class _Tableau:
    """Butcher tableau: ``k_i = f(t + c_i h, x + h sum_j a_ij k_j)``, ``x' = x + h sum_i b_i k_i``."""

    nodes: tuple[float, ...]
    matrix: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    error: tuple[float, ...] = ()


_TABLEAUX = {
    "euler": _Tableau((0.0,), ((),), (1.0,)),
    "midpoint": _Tableau((0.0, 0.5), ((), (0.5,)), (0.0, 1.0)),
    "heun": _Tableau((0.0, 1.0), ((), (1.0,)), (0.5, 0.5)),
    "rk4": _Tableau((0.0, 0.5, 0.5, 1.0), ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
    # The last stage is evaluated at the new point (first same as last), so its row equals the weights.
    "dopri5": _Tableau(
        (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
        (
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        ),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
        (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    ),
}
FIXED_METHODS = ("euler", "midpoint", "heun", "rk4")
ADAPTIVE_METHODS = ("dopri5",)

_ORDER = 5
_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 5.0


def check_method(method: str, *, steps: int) -> None:
    """Raise ``ValueError`` unless ``method`` is known and ``steps`` is at least 1."""
    if method not in _TABLEAUX:
        raise ValueError(f"unknown solver {method!r}; known: {', '.join(_TABLEAUX)}")
    if steps < 1:
        raise ValueError(f"solver steps is {steps}; give at least 1")


def integrate(
    velocity: Callable[[float, State], State],
    x: State,
    t0: float,
    t1: float,
    *,
    method: str = "heun",
    steps: int = 20,
    times: Sequence[float] | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-6,
    max_steps: int = 10_000,
    state_dtype: torch.dtype | None = None,
) -> State:
    """Solution at ``t1`` of ``dx/dt = velocity(t, x)`` with the value ``x`` at ``t0``; ``t1 < t0`` integrates
    backwards.

    Args:
        velocity: Function of the time (a float) and the state; returns the derivative, shaped as the state.
        x: State at ``t0``: a tensor or a tuple of tensors.
        t0: Start.
        t1: End.
        method: One of :data:`FIXED_METHODS` or :data:`ADAPTIVE_METHODS`.
        steps: Number of equal steps of a fixed-step method; ignored by adaptive ones.
        times: Grid of a fixed-step method instead of equal steps; from ``t0`` to ``t1``, monotonic.
        rtol: Relative tolerance of adaptive methods, per step and entry.
        atol: Absolute tolerance of adaptive methods, per step and entry.
        max_steps: Bound on the steps, accepted or not, of adaptive methods.
        state_dtype: The state is kept and summed in this precision, while ``velocity`` sees and returns the
            precision of ``x``.

    Returns:
        The state at ``t1`` in the precision of ``x``.

    Raises:
        ValueError: Unknown method, ``steps < 1``, or ``times`` that do not run from ``t0`` to ``t1``.
        SolverError: Adaptive methods only: velocity not finite, or more than ``max_steps`` steps needed.
    """
    check_method(method, steps=steps)
    given: Any = x
    single = isinstance(given, Tensor)
    start: _Tensors = (given,) if single else tuple(given)
    field = _as_field(velocity, single=single, state_dtype=state_dtype, dtypes=[s.dtype for s in start])
    state = start if state_dtype is None else tuple(s.to(state_dtype) for s in start)
    if t0 != t1:
        if method in ADAPTIVE_METHODS:
            state = _adaptive(field, state, t0, t1, _TABLEAUX[method], rtol=rtol, atol=atol, max_steps=max_steps)
        else:
            grid = _grid(t0, t1, steps) if times is None else _checked(times, t0, t1)
            for t, following in itertools.pairwise(grid):
                state, _ = _step(field, state, t, following - t, _TABLEAUX[method], None)
    result = tuple(s.to(b.dtype) for s, b in zip(state, start, strict=True))
    return result[0] if single else result  # type: ignore[return-value]


def _as_field(
    velocity: Callable, *, single: bool, state_dtype: torch.dtype | None, dtypes: list[torch.dtype]
) -> _Field:
    def field(t: float, state: _Tensors) -> _Tensors:
        if state_dtype is not None:
            state = tuple(s.to(d) for s, d in zip(state, dtypes, strict=True))
        slope = velocity(t, state[0] if single else state)
        slopes: _Tensors = (slope,) if single else tuple(slope)
        return slopes if state_dtype is None else tuple(s.to(state_dtype) for s in slopes)

    return field


def _grid(t0: float, t1: float, steps: int) -> list[float]:
    return [t0 + (t1 - t0) * i / steps for i in range(steps)] + [t1]


def _checked(times: Sequence[float], t0: float, t1: float) -> list[float]:
    grid = [float(t) for t in times]
    sign = 1.0 if t1 > t0 else -1.0
    if (
        len(grid) < 2
        or grid[0] != t0
        or grid[-1] != t1
        or any((b - a) * sign <= 0 for a, b in itertools.pairwise(grid))
    ):
        raise ValueError(f"times must be monotonic from {t0} to {t1}, with at least two entries")
    return grid


def _combine(state: _Tensors, h: float, slopes: list[_Tensors], weights: tuple[float, ...]) -> _Tensors:
    """``state + h * sum_i weights_i slopes_i``, skipping zero weights."""
    result = list(state)
    for weight, slope in zip(weights, slopes, strict=False):
        if weight != 0.0:
            result = [torch.add(r, s, alpha=h * weight) for r, s in zip(result, slope, strict=True)]
    return tuple(result)


def _step(
    field: _Field, state: _Tensors, t: float, h: float, tableau: _Tableau, first: _Tensors | None
) -> tuple[_Tensors, list[_Tensors]]:
    """One step; ``first`` is the slope at ``t`` where it is known already.  Returns the new state and the
    slopes.
    """
    slopes = [field(t, state) if first is None else first]
    for node, row in zip(tableau.nodes[1:], tableau.matrix[1:], strict=True):
        slopes.append(field(t + node * h, _combine(state, h, slopes, row)))
    return _combine(state, h, slopes, tableau.weights), slopes


def _norm(values: _Tensors, scales: _Tensors) -> float:
    ratios = [float((v.detach() / s).abs().amax()) for v, s in zip(values, scales, strict=True) if v.numel()]
    return max(ratios, default=0.0) if all(map(math.isfinite, ratios)) else math.inf


def _scales(a: _Tensors, b: _Tensors, rtol: float, atol: float) -> _Tensors:
    return tuple(atol + rtol * torch.maximum(p.detach().abs(), q.detach().abs()) for p, q in zip(a, b, strict=True))


def _first_step(
    field: _Field, state: _Tensors, slope: _Tensors, t0: float, span: float, rtol: float, atol: float
) -> float:
    """Size of the first step (Hairer et al., Sec. II.4, "Starting Step Size")."""
    scales = _scales(state, state, rtol, atol)
    d0, d1 = _norm(state, scales), _norm(slope, scales)
    h0 = 1e-6 if d0 < 1e-5 or d1 < 1e-5 else 0.01 * d0 / d1
    h0 = min(h0, abs(span))
    sign = 1.0 if span > 0 else -1.0
    probe = field(t0 + sign * h0, _combine(state, sign * h0, [slope], (1.0,)))
    d2 = _norm(tuple(p - s for p, s in zip(probe, slope, strict=True)), scales) / h0
    h1 = max(1e-6, h0 * 1e-3) if max(d1, d2) <= 1e-15 else (0.01 / max(d1, d2)) ** (1 / _ORDER)
    return min(100 * h0, h1, abs(span))


def _adaptive(
    field: _Field, state: _Tensors, t0: float, t1: float, tableau: _Tableau, *, rtol: float, atol: float, max_steps: int
) -> _Tensors:
    span = t1 - t0
    sign = 1.0 if span > 0 else -1.0
    slope = field(t0, state)
    if not all(bool(torch.isfinite(s).all()) for s in slope):
        raise SolverError(f"the velocity is not finite at t={t0:.6g}")
    size = _first_step(field, state, slope, t0, span, rtol, atol)
    t = t0
    for _ in range(max_steps):
        if not size > 1e-12 * abs(span):
            raise SolverError(
                f"step size {size:.3g} vanished at t={t:.6g}: the velocity is not finite or not smooth there"
            )
        last = size >= (t1 - t) * sign * (1 - 1e-9)
        h = t1 - t if last else sign * size
        proposal, slopes = _step(field, state, t, h, tableau, slope)
        zeros = tuple(torch.zeros_like(s) for s in state)
        error = _norm(_combine(zeros, h, slopes, tableau.error), _scales(state, proposal, rtol, atol))
        if error <= 1.0:
            if last:
                return proposal
            t, state, slope = t + h, proposal, slopes[-1]
        factor = _SAFETY * error ** (-1 / _ORDER) if error > 0 else _GROW
        size = abs(h) * min(_GROW, max(_SHRINK, factor))
    raise SolverError(f"more than {max_steps} steps needed between t={t0:.6g} and t={t1:.6g}; loosen rtol or atol")
