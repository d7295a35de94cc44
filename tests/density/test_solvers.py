"""Solvers: orders of convergence, error control and direction on problems with closed-form solutions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.density.solvers import FIXED_METHODS, SolverError, integrate

START = torch.tensor([[0.5, -1.0], [2.0, 0.1]], dtype=torch.float64)


def growth(t, x):
    """x(t) = x(0) exp(sin t)."""
    return x * math.cos(t)


def logistic(t, x):
    """Nonlinear and autonomous: x(t) = 1 / (1 + (1 / x(0) - 1) exp(-t))."""
    return x * (1 - x)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
def test_order_of_convergence(method, order):
    exact = START * math.exp(math.sin(2.0))
    errors = [
        float((integrate(growth, START, 0.0, 2.0, method=method, steps=steps) - exact).abs().max())
        for steps in (40, 80, 160)
    ]
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert slopes[-1] == pytest.approx(order, abs=0.12), (errors, slopes)
    start = torch.tensor([[0.1, 0.9]], dtype=torch.float64)
    exact = 1 / (1 + (1 / start - 1) * math.exp(-3.0))
    errors = [
        float((integrate(logistic, start, 0.0, 3.0, method=method, steps=n) - exact).abs().max()) for n in (60, 120)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


def test_dopri5_step_is_of_fifth_order():
    # With the tolerance lowered by 2^5 the step halves, so an error proportional to the tolerance shows order
    # 5 per unit step.
    exact = START * math.exp(math.sin(2.0))
    counts, errors = [], []
    for tolerance in (1e-5, 1e-10):
        calls = 0

        def counted(t, x):
            nonlocal calls
            calls += 1
            return growth(t, x)

        solution = integrate(counted, START, 0.0, 2.0, method="dopri5", rtol=tolerance, atol=tolerance)
        errors.append(float((solution - exact).abs().max()))
        counts.append(calls)
    assert errors[0] < 1e-4
    assert errors[1] < 1e-9
    assert counts[1] / counts[0] == pytest.approx(10.0, rel=0.5)


def test_dopri5_agrees_with_torchdiffeq():
    torchdiffeq = pytest.importorskip("torchdiffeq")

    def pendulum(t, x):
        return torch.stack([x[:, 1], -torch.sin(x[:, 0])], dim=1)

    times = torch.tensor([0.0, 5.0], dtype=torch.float64)
    reference = torchdiffeq.odeint(pendulum, START, times, method="dopri5", rtol=1e-10, atol=1e-12)[-1]
    solution = integrate(pendulum, START, 0.0, 5.0, method="dopri5", rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(solution, reference, rtol=1e-8, atol=1e-8)


def test_one_hard_event_is_as_accurate_alone_as_in_a_crowd():
    rates = torch.ones(1000, 1, dtype=torch.float64)
    rates[7] = 30.0
    start = torch.ones_like(rates)
    solution = integrate(lambda t, x: rates * x * math.cos(t), start, 0.0, 2.0, method="dopri5", rtol=1e-8, atol=1e-8)
    exact = torch.exp(rates * math.sin(2.0))
    assert float((solution / exact - 1).abs().max()) < 1e-6


@given(t1=st.floats(-3, 3), method=st.sampled_from([*FIXED_METHODS, "dopri5"]))
@settings(max_examples=25, deadline=None)
def test_backwards_undoes_forwards(t1, method):
    options = {"method": method, "steps": 200, "rtol": 1e-9, "atol": 1e-9}
    there = integrate(growth, START, 0.0, t1, **options)
    back = integrate(growth, there, t1, 0.0, **options)
    torch.testing.assert_close(back, START, rtol=0.0, atol=0.4 if method == "euler" else 2e-3)


@pytest.mark.parametrize("method", [*FIXED_METHODS, "dopri5"])
def test_tuples_are_integrated_together(method):
    def field(t, state):
        x, total = state
        return x * math.cos(t), x.sum(1) + 0 * total

    x, total = integrate(field, (START, START.new_zeros(2)), 0.0, 1.0, method=method, steps=2000)
    alone = integrate(growth, START, 0.0, 1.0, method=method, steps=2000)
    torch.testing.assert_close(x, alone, rtol=1e-4, atol=1e-5)
    grid = torch.linspace(0, 1, 2001, dtype=torch.float64)
    integral = torch.trapezoid(torch.exp(torch.sin(grid)), grid)
    torch.testing.assert_close(total, START.sum(1) * integral, rtol=1e-3, atol=1e-5)


def test_own_time_grid():
    times = [0.0, 0.1, 0.15, 0.7, 1.0]
    expected = START
    for a, b in itertools.pairwise(times):
        expected = expected * (1 + (b - a) * math.cos(a))
    torch.testing.assert_close(integrate(growth, START, 0.0, 1.0, method="euler", times=times), expected)
    for bad in ([0.0, 0.5], [0.0, 0.6, 0.5, 1.0], [0.0]):
        with pytest.raises(ValueError, match=r"times must be monotonic from 0\.0 to 1\.0"):
            integrate(growth, START, 0.0, 1.0, method="euler", times=bad)


def test_float64_state_of_a_float32_field():
    seen = set()

    def field(t, x):
        seen.add(x.dtype)
        return torch.full_like(x, 1e-4)

    start = torch.full((1, 1), 1000.0)
    plain = integrate(field, start, 0.0, 1.0, method="euler", steps=1000)
    precise = integrate(field, start - 1000.0 + 1000.0, 0.0, 1.0, method="euler", steps=1000, state_dtype=torch.float64)
    assert seen == {torch.float32}
    assert precise.dtype == torch.float32
    # 1e-7 per step vanishes below the float32 spacing of 1000, 6e-5; the float64 sum keeps it, and rounds
    # once at the end.
    assert float(plain) == 1000.0
    assert float(precise) == pytest.approx(1000.0001, abs=3.1e-5)
    assert float(precise) > 1000.0


def test_no_time_no_change():
    assert torch.equal(integrate(growth, START, 0.3, 0.3, method="dopri5"), START)


def test_errors():
    with pytest.raises(ValueError, match=r"unknown solver 'leapfrog'; known: euler, midpoint, heun, rk4, dopri5"):
        integrate(growth, START, 0.0, 1.0, method="leapfrog")
    with pytest.raises(ValueError, match="solver steps is 0"):
        integrate(growth, START, 0.0, 1.0, steps=0)
    with pytest.raises(SolverError, match="not finite at t=0"):
        integrate(lambda t, x: x * math.nan, START, 0.0, 1.0, method="dopri5")
    with pytest.raises(SolverError, match="vanished"):
        integrate(lambda t, x: x * (math.nan if t > 0.5 else 1.0), START, 0.0, 1.0, method="dopri5")
    with pytest.raises(SolverError, match="more than 5 steps"):
        integrate(lambda t, x: -1000.0 * x, START, 0.0, 1.0, method="dopri5", max_steps=5)
