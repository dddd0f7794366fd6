"""Numbers in texts: by a regular expression, by the columns of a table, by a JSON pointer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msvae import Array
from msvae_external.failures import Failure
from msvae_external.readers.rows import taken
from msvae_external.settings import Reading

__all__ = ["columns", "matches", "number", "place_of", "pointed"]

SEPARATOR = re.compile(r"\s*[,;]\s*|\s+")
FORTRAN = re.compile(r"(?<=[\d.])[dD](?=[+-]?\d)")


def number(text: str) -> float:
    """Return the number that a program wrote, Fortran's exponents too; Failure if it is none.

    >>> number("1.5D-03")
    0.0015
    """
    try:
        return float(FORTRAN.sub("e", text))
    except ValueError:
        raise Failure(f"{text[:40]!r} is not a number") from None


def matches(path: Path, reading: Reading, names: Mapping[str, Any]) -> Array:
    """Return the numbers in the groups of a pattern's matches."""
    found = list(re.finditer(reading.pattern, path.read_text(errors="replace"), re.MULTILINE))
    if not found:
        raise Failure(f"nothing matches {reading.pattern!r}")
    rows = np.array([[number(group or "") for group in match.groups()] for match in found])
    return taken(rows, reading.rows or "last")


def columns(path: Path, reading: Reading, names: Mapping[str, Any]) -> Array:
    """Return the numbers in columns of a table; its first line that is not a comment may be their names."""
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
    kept = [SEPARATOR.split(line) for line in lines if line and not line.startswith(("#", "%", "!"))]
    commented = next((SEPARATOR.split(line.lstrip("#%! ")) for line in lines if line.startswith(("#", "%", "!"))), [])
    if not kept:
        raise Failure("it has no rows")
    headed = not _is_number(kept[0][0]) or not _is_number(kept[0][-1])
    heads = [head.strip("\"'") for head in (kept[0] if headed else commented)]
    rows = kept[1:] if headed else kept
    places = [place_of(name, heads, len(kept[0])) for name in reading.column]
    if not rows:
        raise Failure("it has no rows")
    try:
        values = np.array([[number(row[place]) for place in places] for row in rows])
    except IndexError:
        raise Failure("a row is shorter than the others") from None
    return taken(values, reading.rows or "last")


def pointed(path: Path, reading: Reading, names: Mapping[str, Any]) -> Array:
    """Return the numbers that a JSON pointer leads to (RFC 6901)."""
    try:
        value = json.loads(path.read_text(errors="replace"))
    except (ValueError, RecursionError) as error:
        raise Failure(f"it is not JSON ({str(error)[:80]})") from None
    for step in reading.pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        try:
            value = value[int(key) if isinstance(value, list) else key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise Failure(f"pointer '{reading.pointer}' leads to nothing") from None
    try:
        found = np.asarray(value, dtype=float)
    except (ValueError, TypeError):
        raise Failure(f"what pointer '{reading.pointer}' leads to is no array of numbers") from None
    return found if reading.rows is None or not found.ndim else taken(found, reading.rows)


def _is_number(text: str) -> bool:
    try:
        return bool(number(text)) or True
    except Failure:
        return False


def place_of(name: str, heads: Sequence[str], width: int) -> int:
    """Return the number of a column, by its head or its number; Failure if there is none."""
    if name in heads:
        return heads.index(name)
    if name.isdigit() and int(name) < width:
        return int(name)
    raise Failure(f"there is no column '{name}' (there are {', '.join(heads) or width})")
