"""What is read of the files that a program leaves behind: a reader for every key of a reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from msvae import Array
from msvae_external.failures import Failure
from msvae_external.readers import arrays, calculix, own, text
from msvae_external.settings import OUTPUT, Reading

__all__ = ["read"]

MOST = 1 << 31  # bytes of a file that is read
READERS: Mapping[str, Callable[[Path, Reading, Mapping[str, Any]], Array]] = {
    "pattern": text.matches,
    "column": text.columns,
    "pointer": text.pointed,
    "table": calculix.table,
    "dataset": arrays.dataset,
    "field": arrays.field_average,
    "function": own.called,
}


def read(folder: Path, reading: Reading, names: Mapping[str, Any]) -> Array:
    """Return the numbers of a reading in the program's unit times its factor; Failure where they are not all there."""
    place = folder / reading.file
    if reading.source != "function":
        if not place.is_file():
            raise Failure(f"'{reading.file}' is missing: the program ended without writing it")
        if place.stat().st_size > MOST:
            raise Failure(f"'{reading.file}' has {place.stat().st_size} bytes, expected {MOST} at most")
    where = "the program's output" if reading.file == OUTPUT else f"'{reading.file}'"
    try:
        found = np.asarray(READERS[reading.source](place, reading, names), dtype=float)
    except Failure as error:
        raise Failure(f"'{reading.name}' is not in {where}: {error}", error.status) from None
    if not np.isfinite(found).all():
        raise Failure(f"'{reading.name}' in {where} is not a finite number", "invalid")
    return found * reading.factor
