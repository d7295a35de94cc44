"""Arithmetic over named columns, as users write it in a config: ``log(mj1 / mjj)``, ``where(mj1 > 0.1, dmj, 0)``.

The text is parsed, every node is checked against a short list of what arithmetic needs, and evaluated on arrays. There
are no attributes, subscripts, strings, assignments or calls of anything but the functions below.
"""

from __future__ import annotations

import ast
import difflib
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cathode.support.errors import UserError

__all__ = ["FUNCTIONS", "Expression", "column_expression", "near_matches", "parse_expression", "split_definition"]

_LONGEST_TEXT = 1000
_DEEPEST_TREE = 60

#: Functions by name with the number of arguments. All work event by event: ``min`` and ``max`` compare columns.
FUNCTIONS: Mapping[str, tuple[Callable[..., Any], int]] = {
    "abs": (np.abs, 1),
    "arctan2": (np.arctan2, 2),
    "cos": (np.cos, 1),
    "cosh": (np.cosh, 1),
    "exp": (np.exp, 1),
    "hypot": (np.hypot, 2),
    "log": (np.log, 1),
    "log10": (np.log10, 1),
    "log1p": (np.log1p, 1),
    "max": (np.maximum, 2),
    "min": (np.minimum, 2),
    "sin": (np.sin, 1),
    "sinh": (np.sinh, 1),
    "sqrt": (np.sqrt, 1),
    "tan": (np.tan, 1),
    "tanh": (np.tanh, 1),
    "where": (np.where, 3),
}
_CONSTANTS = {"pi": np.pi}

_BINARY: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.true_divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
}
_UNARY: dict[type[ast.AST], Callable[..., Any]] = {
    ast.UAdd: np.positive,
    ast.USub: np.negative,
    ast.Not: np.logical_not,
}
_COMPARE: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}
_BOOLEAN: dict[type[ast.AST], Callable[..., Any]] = {ast.And: np.logical_and, ast.Or: np.logical_or}


def near_matches(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'a' or 'b'?`` for names that are close (whatever their case), else the list of names."""
    known = list(dict.fromkeys(known))
    lower: dict[str, str] = {}
    for candidate in known:
        lower.setdefault(candidate.lower().replace("_", ""), candidate)
    close = difflib.get_close_matches(name.lower().replace("_", ""), lower, n=3, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(repr(lower[match]) for match in close)}?"
    shown = ", ".join(known[:30]) + (", ..." if len(known) > 30 else "")
    return f"; there are {shown}" if known else "; there are no columns"


@dataclass(frozen=True)
class Expression:
    """A checked expression. Call it with columns to get values.

    Attributes:
        text: What the user wrote.
        names: Columns it reads.
    """

    text: str
    names: frozenset[str]
    _tree: ast.expr

    def __call__(self, columns: Mapping[str, NDArray[Any]], *, rows: int | None = None) -> NDArray[np.float64]:
        """Values ``(N,)`` for columns ``(N,)``.

        Outside a function's domain the result is NaN or infinite, without a warning: whoever takes the values counts
        them.

        Args:
            columns: Arrays by name.
            rows: Length of the result; needed only when the expression reads no column.

        Raises:
            UserError: A column is missing; near matches are listed.
        """
        for name in sorted(self.names):
            if name not in columns:
                raise UserError(f"unknown column {name!r} in {self.text!r}{near_matches(name, columns)}")
        with np.errstate(all="ignore"):
            values = np.asarray(self._evaluate(self._tree, columns), dtype=np.float64)
        if values.ndim == 0:
            rows = rows if rows is not None else next((len(columns[name]) for name in columns), 1)
            values = np.full(rows, float(values))
        return values

    def _evaluate(self, node: ast.expr, columns: Mapping[str, NDArray[Any]]) -> Any:
        match node:
            case ast.Constant(value=value):
                return np.float64(value)  # type: ignore[arg-type]
            case ast.Name(id=name):
                return _CONSTANTS[name] if name in _CONSTANTS else np.asarray(columns[name], dtype=np.float64)
            case ast.BinOp(left=left, op=op, right=right):
                return _BINARY[type(op)](self._evaluate(left, columns), self._evaluate(right, columns))
            case ast.UnaryOp(op=op, operand=operand):
                return _UNARY[type(op)](self._evaluate(operand, columns))
            case ast.BoolOp(op=op, values=operands):
                result = self._evaluate(operands[0], columns)
                for operand in operands[1:]:
                    result = _BOOLEAN[type(op)](result, self._evaluate(operand, columns))
                return result
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                terms = [self._evaluate(term, columns) for term in (left, *comparators)]
                result = np.True_
                for index, comparison in enumerate(ops):
                    result = np.logical_and(result, _COMPARE[type(comparison)](terms[index], terms[index + 1]))
                return result
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return FUNCTIONS[name][0](*(self._evaluate(argument, columns) for argument in arguments))
        raise UserError(f"cannot evaluate {self.text!r}")


def parse_expression(text: str) -> Expression:
    """Check an arithmetic expression over column names.

    Allowed are numbers, column names, ``pi``, ``+ - * / % **``, comparisons, ``and or not``, parentheses and the
    :data:`FUNCTIONS`.

    Raises:
        UserError: Anything else; the message shows the expression and what is wrong in it.
    """
    if len(text) > _LONGEST_TEXT:
        raise UserError(f"an expression of {len(text)} characters is too long (at most {_LONGEST_TEXT})")
    try:
        with warnings.catch_warnings():
            # Python warns about odd spellings such as "1or 2"; whoever writes them gets an answer, not a warning.
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise UserError(f"cannot read the expression {text!r}: {reason}") from None
    names: set[str] = set()
    _check(tree, text, names, depth=0)
    return Expression(text=text.strip(), names=frozenset(names), _tree=tree)


def column_expression(name: str) -> Expression:
    """The values of one column, whatever its name (``"jet 1 mass"``)."""
    return Expression(text=name, names=frozenset({name}), _tree=ast.Name(id=name, ctx=ast.Load()))


def split_definition(text: str) -> tuple[str, str]:
    """``("name", "expression")`` of ``name = expression``; without ``=`` the text is its own name."""
    name, equals, rest = text.partition("=")
    if equals and name.strip().isidentifier() and not rest.startswith("="):
        return name.strip(), rest.strip()
    return text.strip(), text.strip()


def _check(node: ast.expr, text: str, names: set[str], depth: int) -> None:
    if depth > _DEEPEST_TREE:
        raise UserError(f"the expression {text[:60]!r}... is nested too deeply: split it into several columns")
    children: list[ast.expr] = []
    match node:
        case ast.Constant(value=value):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UserError(f"{value!r} in {text!r} is not a number: only numbers and column names are allowed")
            try:
                float(value)
            except OverflowError:
                raise UserError(f"a number in {text!r} is too large") from None
        case ast.Name(id=name):
            if name not in _CONSTANTS:
                names.add(name)
        case ast.BinOp(left=left, op=op, right=right):
            _check_operator(op, _BINARY, text)
            children = [left, right]
        case ast.UnaryOp(op=op, operand=operand):
            _check_operator(op, _UNARY, text)
            children = [operand]
        case ast.BoolOp(values=operands):
            children = list(operands)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            for comparison in ops:
                _check_operator(comparison, _COMPARE, text)
            children = [left, *comparators]
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            if name not in FUNCTIONS:
                raise UserError(f"unknown function {name!r} in {text!r}{near_matches(name, FUNCTIONS)}")
            if len(arguments) != FUNCTIONS[name][1]:
                raise UserError(f"{name} in {text!r} takes {FUNCTIONS[name][1]} argument(s), not {len(arguments)}")
            children = list(arguments)
        case _:
            raise UserError(
                f"{ast.unparse(node)[:60]!r} is not allowed in the expression {text!r}: "
                f"only arithmetic, comparisons and {', '.join(FUNCTIONS)}"
            )
    for child in children:
        _check(child, text, names, depth + 1)


def _check_operator(op: ast.AST, allowed: Mapping[type[ast.AST], Any], text: str) -> None:
    if type(op) not in allowed:
        raise UserError(f"the operator {type(op).__name__} is not allowed in the expression {text!r}")
