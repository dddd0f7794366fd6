"""Formulas that join what several runs of a program gave: arithmetic of named arrays, and nothing else of Python."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from msvae import Array
from msvae_external.failures import Failure

__all__ = ["evaluated", "holds"]

LONGEST = 2000  # characters
LARGEST = 1 << 31  # an integer in a formula
BINARY: Mapping[type[ast.operator], Callable[[Array, Array], Array]] = {
    ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide, ast.Pow: np.power,
    ast.MatMult: np.matmul,
}  # fmt: skip
UNARY: Mapping[type[ast.unaryop], Callable[[Array], Array]] = {ast.UAdd: np.positive, ast.USub: np.negative}
REDUCING: Mapping[str, Callable[..., Any]] = {"mean": np.mean, "sum": np.sum, "minimum": np.min, "maximum": np.max}
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "sqrt": np.sqrt, "exp": np.exp, "log": np.log, "log10": np.log10, "abs": np.abs, "sin": np.sin, "cos": np.cos,
    "tan": np.tan, "inverse": np.linalg.inv, "diagonal": np.diagonal, "trace": np.trace, "norm": np.linalg.norm,
    "column": lambda x: np.asarray(x)[:, None], "array": lambda *x: np.stack(x), **REDUCING,
}  # fmt: skip


def holds(text: str) -> bool:
    """Return whether a text is a formula; "" is none, and allowed.

    >>> holds("stress.T / strain"), holds("__import__('os')"), holds("a.b")
    (True, False, False)
    """
    try:
        return not text or _parsed(text) is not None
    except ValueError:
        return False


def evaluated(text: str, names: Mapping[str, Any]) -> Array:
    """Return the value of a formula; Failure where it has none.

    >>> evaluated("(a + 1) @ a.T", {"a": [[1.0, 2.0]]})
    array([[8.]])
    """
    try:
        with np.errstate(all="ignore"):  # what is not finite is said of the output
            return np.asarray(_value(_parsed(text), names), dtype=float)
    except KeyError as error:
        raise Failure(f"formula '{text}': there is no {error}") from None
    except (ValueError, TypeError, IndexError, np.linalg.LinAlgError) as error:
        raise Failure(f"formula '{text}': {error}") from None


@lru_cache(maxsize=256)
def _parsed(text: str) -> ast.expr:
    """Return the tree of a formula; ValueError if it is none."""
    if len(text) > LONGEST:
        raise ValueError("a formula has 2000 characters at most")
    try:
        tree = ast.parse(text, mode="eval").body
        _check(tree)
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"'{text}' is not a formula") from None
    return tree


def _check(node: ast.expr) -> None:
    """Raise ValueError for anything that is not arithmetic."""
    if isinstance(node, ast.Constant):
        allowed = type(node.value) is float or (type(node.value) is int and abs(node.value) < LARGEST)
    elif isinstance(node, ast.Subscript):
        allowed = _is_index(node.slice)
    elif isinstance(node, ast.Attribute):
        allowed = node.attr == "T"
    elif isinstance(node, ast.Call):
        allowed = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and not node.keywords
    elif isinstance(node, ast.BinOp):
        allowed = type(node.op) in BINARY
    else:
        allowed = isinstance(node, ast.Name) or (isinstance(node, ast.UnaryOp) and type(node.op) in UNARY)
    if not allowed:
        raise ValueError(f"a formula has no '{ast.unparse(node)}'")
    for part in _parts(node):
        _check(part)


def _parts(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp):
        return [node.left, node.right]
    if isinstance(node, ast.UnaryOp):
        return [node.operand]
    if isinstance(node, ast.Call):
        return list(node.args)
    return [node.value] if isinstance(node, ast.Subscript | ast.Attribute) else []


def _is_index(node: ast.expr) -> bool:
    if isinstance(node, ast.Tuple):
        return all(_is_index(part) for part in node.elts)
    if isinstance(node, ast.Slice):
        return all(part is None or _is_index(part) for part in (node.lower, node.upper, node.step))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _is_index(node.operand)
    return isinstance(node, ast.Constant) and type(node.value) is int


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return np.float64(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return np.asarray(names[node.id], dtype=float)
    if isinstance(node, ast.BinOp):
        return BINARY[type(node.op)](_value(node.left, names), _value(node.right, names))
    if isinstance(node, ast.UnaryOp):
        return UNARY[type(node.op)](_value(node.operand, names))
    if isinstance(node, ast.Attribute):
        return _value(node.value, names).T
    if isinstance(node, ast.Subscript):
        return _value(node.value, names)[eval(compile(ast.Expression(node.slice), "", "eval"), {"__builtins__": {}})]
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    arguments = [_value(part, names) for part in node.args]
    if node.func.id in REDUCING and len(arguments) == 2:
        return REDUCING[node.func.id](arguments[0], axis=int(arguments[1]))
    return FUNCTIONS[node.func.id](*arguments)
