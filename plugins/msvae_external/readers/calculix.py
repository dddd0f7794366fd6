"""Tables in the .dat files of CalculiX, as *NODE PRINT and *EL PRINT write them (CrunchiX user's manual, section 7)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msvae import Array
from msvae_external.failures import Failure
from msvae_external.readers.rows import taken
from msvae_external.readers.text import number, place_of
from msvae_external.settings import Reading

__all__ = ["table"]

HEADING = re.compile(
    r"^ *(?P<what>[a-z][^()\n]*?)\s*(?:\((?P<names>[^)\n]*)\))?\s+for set +(?P<set>\S+) +and time +(?P<time>\S+) *$",
    re.MULTILINE,
)
LABELS = ("elem", "integ.pnt.")  # columns that the heading names; of a node, it does not


def table(path: Path, reading: Reading, names: Mapping[str, Any]) -> Array:
    """Return the columns of a table behind the numbers of nodes, elements and integration points; the rows' mean."""
    text = path.read_text(errors="replace")
    headings = list(HEADING.finditer(text))
    chosen = [
        k
        for k, heading in enumerate(headings)
        if heading["what"].startswith(reading.table) and reading.set.upper() in ("", heading["set"].upper())
    ]
    if not chosen:
        known = sorted({f"{heading['what']} of {heading['set']}" for heading in headings})
        raise Failure(
            f"there is no table '{reading.table}' {reading.set}".rstrip()
            + f" (there are: {', '.join(known) or 'none'})"
        )
    sets = sorted({headings[k]["set"] for k in chosen})
    if len(sets) > 1:
        raise Failure(f"table '{reading.table}' is there of {', '.join(sets)}: name one as set")
    ends = [*(heading.start() for heading in headings[1:]), len(text)]
    kept = chosen if reading.times == "all" else chosen[-1:]
    tables = (_rows(text[headings[k].end() : ends[k]], headings[k], reading.column) for k in kept)
    blocks = [taken(rows, reading.rows or "mean") for rows in tables]
    if len({block.shape for block in blocks}) > 1:
        raise Failure(f"table '{reading.table}' has other rows at other times: choose rows")
    return np.stack(blocks) if reading.times == "all" else blocks[0]


def _rows(text: str, heading: re.Match[str], chosen: Sequence[str]) -> Array:
    """Return the numbers (rows, columns) of a table, of the chosen columns or all, without the names of rows."""
    columns = [name.strip() for name in (heading["names"] or "").split(",") if name.strip()]
    values = [name for name in columns if name not in LABELS]
    parts = text.split()
    width = len(text.strip().split("\n", 1)[0].split())
    if not parts or len(parts) % width or len(parts) // width != sum(1 for line in text.splitlines() if line.strip()):
        raise Failure(f"table '{heading['what']}' has no rows, or rows of several lengths")
    try:
        found = np.array(parts, dtype=np.float64).reshape(-1, width)
    except ValueError:  # Fortran's exponents, or no numbers
        found = np.array([number(part) for part in parts]).reshape(-1, width)
    labels = found.shape[1] - len(values) if values else 1
    if labels < 0 or labels >= found.shape[1]:
        raise Failure(f"table '{heading['what']}' has {found.shape[1]} columns, fewer than its heading names")
    names = values or [str(k) for k in range(found.shape[1] - labels)]
    return np.asarray(found[:, [labels + place_of(column, names, len(names)) for column in chosen or names]])
