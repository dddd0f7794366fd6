"""Chemical formulas with brackets and decimal amounts, such as "Al0.2CoCrFeMnNi" or "(FeNi)0.9Ti0.1"."""

from __future__ import annotations

import re

from msvae import DataError

__all__ = ["amounts", "formula_of"]

TOKEN = re.compile(r"([A-Z][a-z]?)|([(\[])|([)\]])|(\d+\.?\d*|\.\d+)")


def amounts(formula: str) -> dict[str, float]:
    """Return the amount of each element in a formula, not normalised; DataError if it is none.

    >>> amounts("Al0.2(FeNi)2")
    {'Al': 0.2, 'Fe': 2.0, 'Ni': 2.0}
    """
    stack: list[dict[str, float]] = [{}]
    last: dict[str, float] | None = None
    text, place = formula.replace(" ", ""), 0
    while place < len(text):
        match = TOKEN.match(text, place)
        if match is None:
            raise DataError(f"formula '{formula}': found '{text[place:]}', expected an element, a number or a bracket")
        element, opening, closing, number = match.groups()
        if element:
            _close(stack, last)
            last = {element: 1.0}
        elif opening:
            _close(stack, last)
            stack.append({})
            last = None
        elif closing:
            _close(stack, last)
            if len(stack) == 1:
                raise DataError(f"formula '{formula}': a bracket is closed that was not opened")
            last = stack.pop()
        elif last is None:
            raise DataError(f"formula '{formula}': the number {number} does not follow an element or a bracket")
        else:
            _close(stack, {symbol: float(number) * amount for symbol, amount in last.items()})
            last = None
        place = match.end()
    _close(stack, last)
    if len(stack) > 1:
        raise DataError(f"formula '{formula}': a bracket is not closed")
    found = {symbol: amount for symbol, amount in stack[0].items() if amount > 0}
    if not found:
        raise DataError(f"formula '{formula}' has no element")
    return found


def _close(stack: list[dict[str, float]], group: dict[str, float] | None) -> None:
    """Add the amounts of a group, whose number is known now, to the innermost open bracket."""
    for symbol, amount in (group or {}).items():
        stack[-1][symbol] = stack[-1].get(symbol, 0.0) + amount


def formula_of(symbols: tuple[str, ...], fractions: list[float]) -> str:
    """Return a composition in atomic percent, the largest fraction first, without those below 0.05 %.

    >>> formula_of(("Fe", "Ni"), [0.25, 0.75])
    'Ni75Fe25'
    """
    parts = sorted(zip(fractions, symbols, strict=True), key=lambda part: (-part[0], part[1]))
    return "".join(f"{symbol}{round(100 * x, 1):g}" for x, symbol in parts if x >= 0.0005)
