from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cathode.page.text import duration, efficiency, measured, number, probability, sigma


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (310.4, 11.19, "310 ± 11"),
        (0.50312, 0.00231, "0.5031 ± 0.0023"),
        (-4.18372, 0.00412, "−4.1837 ± 0.0041"),
        (12345.6, 230.0, "12,346 ± 230"),
        (1.0, 0.0996, "1.00 ± 0.10"),
        (2.2, 0.0, "2.2"),
        (math.nan, 1.0, "–"),
        (3.0, math.nan, "3"),
        (None, None, "–"),
        (math.inf, 1.0, "∞"),
    ],
)
def test_measured(value, error, text):
    assert measured(value, error) == text


def test_numbers():
    assert number(31_427) == "31,427"
    assert number(-0.5) == "−0.5"
    assert number(1.234e-9) == "1.234 × 10⁻⁹"
    assert number(math.nan) == number(None) == "–"
    assert sigma(5.17) == "5.2 σ"
    assert sigma(-0.04) == "0.0 σ"
    assert sigma(-1.26) == "−1.3 σ"
    assert sigma(math.inf) == "∞ σ"
    assert sigma(math.nan) == "–"
    assert probability(1.2e-7) == "1.2 × 10⁻⁷"
    assert probability(0.34) == "0.34"
    assert probability(0.0) == "< 10⁻³⁰⁰"
    assert [efficiency(e) for e in (1e-2, 5e-4, 0.2, math.nan)] == ["10⁻²", "5 × 10⁻⁴", "0.2", "–"]
    assert [duration(s) for s in (0.84, 155.4, 7500, math.nan)] == ["0.8 s", "2 min 35 s", "2 h 05 min", "–"]


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e5))
def test_measured_keeps_the_value_within_a_twentieth_of_the_error(value, error):
    shown, _, _ = measured(value, error).replace(",", "").replace("−", "-").partition(" ")
    assert abs(float(shown) - value) <= max(0.051 * error, 0.5 if error >= 9.5 else 0.0)


@given(st.floats())
def test_every_float_has_a_text(value):
    assert all(f(value) for f in (number, sigma, probability, efficiency, duration, measured))
