"""Threads: how many this process may use, and a loop that uses them; compiled kernels and FFTs release the lock."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def allowed() -> int:
    """Return the number of threads that OMP_NUM_THREADS grants, or that the machine has."""
    return int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))


def each(function: Callable[[int], Result], n: int, threads: int) -> list[Result]:
    """Return function(0) ... function(n - 1), computed by this many threads."""
    if min(n, threads) <= 1:
        return [function(k) for k in range(n)]
    with ThreadPoolExecutor(min(n, threads)) as pool:
        return list(pool.map(function, range(n)))
