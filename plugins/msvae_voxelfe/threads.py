"""Threads: how many this process may use, and a loop that uses them; compiled kernels and FFTs release the lock."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Result = TypeVar("Result")


def allowed() -> int:
    """Return the number of threads that OMP_NUM_THREADS grants, or that the machine has."""
    return int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))


def each(function: Callable[[int], Result], n: int, threads: int) -> list[Result]:
    """Return function(0) ... function(n - 1), computed by this many threads, in each of which torch uses no others."""
    if min(n, threads) <= 1:
        return [function(k) for k in range(n)]
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(min(n, threads), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, range(n)))
    finally:
        torch.set_num_threads(before)
