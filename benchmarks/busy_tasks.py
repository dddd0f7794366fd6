"""The tasks of the dispatch benchmark, in a module that the workers of every engine can import."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np


def busy(seconds: float) -> None:
    """Be busy for a time."""
    end = time.perf_counter() + seconds
    while seconds and time.perf_counter() < end:
        pass


def busy_chunk(chunk: Sequence[float]) -> int:
    for seconds in chunk:
        busy(seconds)
    return len(chunk)


def busy_simulation(H: Any, _: Any, specs: dict[str, Any], info: Any = None) -> Any:
    """Be busy, as libEnsemble asks for it."""
    busy(specs["user"]["seconds"])
    return np.zeros(len(H), dtype=[("f", float)])
