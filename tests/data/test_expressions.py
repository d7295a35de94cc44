from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cathode.data.expressions import FUNCTIONS, near_matches, parse_expression, split_definition
from cathode.support.errors import UserError

COLUMNS = {"a": np.array([0.5, 1.0, 2.0]), "b": np.array([3.0, -1.0, 0.25]), "c_1": np.array([1, 2, 3])}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", COLUMNS["a"]),
        ("a + b * c_1", COLUMNS["a"] + COLUMNS["b"] * COLUMNS["c_1"]),
        ("(a - b) / 2", (COLUMNS["a"] - COLUMNS["b"]) / 2),
        ("-a ** 2", -(COLUMNS["a"] ** 2)),
        ("2 ** -c_1", 2.0 ** -np.array([1.0, 2, 3])),
        ("c_1 ** -1", 1 / COLUMNS["c_1"]),
        ("log(a) + exp(b)", np.log(COLUMNS["a"]) + np.exp(COLUMNS["b"])),
        ("sqrt(abs(b))", np.sqrt(np.abs(COLUMNS["b"]))),
        ("min(a, b)", np.minimum(COLUMNS["a"], COLUMNS["b"])),
        ("max(a, 1)", np.maximum(COLUMNS["a"], 1)),
        ("where(a > b, a, b)", np.maximum(COLUMNS["a"], COLUMNS["b"])),
        ("where(0.6 < a < 1.5 and not b > 0, 1, 0)", [0, 1, 0]),
        ("where(a == 2 or a <= 0.5, pi, 0)", [np.pi, 0, np.pi]),
        ("hypot(3, 4)", [5, 5, 5]),
        ("1e-3 * a", COLUMNS["a"] / 1000),
    ],
)
def test_values(text, expected):
    values = parse_expression(text)(COLUMNS)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, expected, rtol=1e-14)


def test_names_are_collected():
    assert parse_expression("log(mj1 / mjj) + where(tau21 > 0.5, 1, pi)").names == {"mj1", "mjj", "tau21"}


def test_a_constant_is_as_long_as_asked():
    np.testing.assert_array_equal(parse_expression("2 * 3")({}, rows=4), [6, 6, 6, 6])


def test_outside_the_domain_is_not_finite_and_does_not_warn():
    values = parse_expression("log(b)")(COLUMNS)
    assert np.isnan(values[1])
    assert np.isinf(parse_expression("1 / (a - 1)")(COLUMNS)[1])
    assert np.isinf(parse_expression("9 ** 9 ** 9 ** 9")({}, rows=1)[0])


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')", "a.real", "a[0]", "lambda: 1", "[a for a in b]", "'text'", "True", "1j", "a if b else c",
        "(a := 1)", "print(a)", "open(a)", "a @ b", "a & b", "~a", "log(x=a)", "log(*a)", "log.__class__(a)", "{a}",
        "a is b", "a in b", "f'{a}'", "log(a)(b)", "...", "None", "a, b", "", "a +", "import os", "a\nb", "log(", "\0",
    ],
)  # fmt: skip
def test_everything_but_arithmetic_is_refused(text):
    with pytest.raises(UserError):
        parse_expression(text)({**COLUMNS, "x": COLUMNS["a"]})


def test_unknown_names_list_near_matches():
    columns = {"mj1": np.ones(1), "tau21_j1": np.ones(1)}
    with pytest.raises(UserError, match=r"unknown column 'mJ1' in 'log\(mJ1\)'; did you mean 'mj1'"):
        parse_expression("log(mJ1)")(columns)
    with pytest.raises(UserError, match=r"unknown function 'sqr' in .* did you mean 'sqrt'"):
        parse_expression("sqr(a)")
    with pytest.raises(UserError, match=r"takes 2 argument\(s\), not 1"):
        parse_expression("min(a)")
    assert near_matches("nothing_like_it", ["mj1"]) == "; there are mj1"


def test_monsters_are_refused():
    with pytest.raises(UserError, match="too long"):
        parse_expression("+".join(["a"] * 1000))
    with pytest.raises(UserError, match=r"nested too deeply|cannot read"):
        parse_expression("-" * 300 + "a")
    with pytest.raises(UserError, match="too large"):
        parse_expression("1" * 400)


def test_definitions():
    assert split_definition("ratio = mj1 / mjj") == ("ratio", "mj1 / mjj")
    assert split_definition("mj1 / mjj") == ("mj1 / mjj", "mj1 / mjj")
    assert split_definition("where(a == b, 1, 0)") == ("where(a == b, 1, 0)", "where(a == b, 1, 0)")
    assert split_definition("a == b") == ("a == b", "a == b")


numbers = st.floats(0.01, 100).map(lambda value: repr(round(value, 4)))
leaves = st.one_of(numbers, st.sampled_from(["a", "b", "c_1"]))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"),
        st.tuples(st.sampled_from(["abs", "sqrt", "log", "exp"]), inner).map(lambda parts: f"{parts[0]}({parts[1]})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda p: f"{p[0]}({p[1]}, {p[2]})"),
    ),
    max_leaves=8,
)


@given(text=trees)
def test_agrees_with_numpy(text):
    names = {name: function for name, (function, _) in FUNCTIONS.items()}
    floats = {name: np.asarray(values, dtype=np.float64) for name, values in COLUMNS.items()}
    with np.errstate(all="ignore"):
        try:
            expected = eval(text, {"__builtins__": {}}, names | floats)
        except ZeroDivisionError:
            return
    values = parse_expression(text)(COLUMNS)
    np.testing.assert_allclose(values, np.broadcast_to(expected, values.shape), rtol=1e-12)


@given(text=st.text(max_size=40))
def test_any_text_is_an_expression_or_a_user_error(text):
    try:
        expression = parse_expression(text)
    except UserError:
        return
    values = expression({name: np.ones(2) for name in expression.names}, rows=2)
    assert values.shape == (2,)


@given(text=trees, cut=st.integers(1, 2))
def test_pieces_give_the_same_as_the_whole(text, cut):
    expression = parse_expression(text)
    whole = expression(COLUMNS, rows=3)
    pieces = [
        expression({name: values[part] for name, values in COLUMNS.items()}, rows=len(COLUMNS["a"][part]))
        for part in (slice(0, cut), slice(cut, 3))
    ]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
