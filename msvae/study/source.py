"""The source of a study, so that a message can name the file, the line and the key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from msvae.plugins.keys import dotted

__all__ = ["Source"]


@dataclass(frozen=True)
class Source:
    """The source of a study, for messages."""

    name: str
    text: str

    def at(self, path: Sequence[str | int]) -> str:
        """Return "file line n: key" for the place where a key, or the nearest table around it, stands."""
        key = dotted(path)
        line = _line_of(self.text, [str(p) for p in path if not isinstance(p, int)])
        return f"{self.name}{f' line {line}' if line else ''}: {key or 'the study'}"


def _line_of(text: str, path: Sequence[str]) -> int | None:
    """Return the line (from 1) of the deepest key of a path that a TOML text writes out."""
    table: list[str] = []
    best: tuple[int, int] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[\[?([^\[\]]+)\]\]?\s*(#.*)?$", line)
        key = re.match(r"\s*([A-Za-z0-9_.\"-]+)\s*=", line)
        if header:
            table = [p.strip(' \t"') for p in header[1].split(".")]
        here = [*table, *(p.strip('"') for p in key[1].split("."))] if key and not header else table
        depth = len(here) if here and list(path[: len(here)]) == here else 0
        if depth and (best is None or depth > best[0]):
            best = (depth, number)
    return best[1] if best else None
