"""Threads: how many this process may use, and a loop that uses them; compiled kernels and FFTs release the lock.

Threads share structures, load cases, or the pieces of a large grid; an idle thread takes the next one. torch and
BLAS themselves always work with one: their threads wait for each other within every operation, BLAS's by spinning,
which on a processor that is busy with something else costs more than they gain.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Result = TypeVar("Result")
CONTAINER, RUNNING = Path("/sys/fs/cgroup/cpu.max"), Path("/proc/loadavg")
SMALL = 300_000  # voxels times load cases, below which starting threads takes longer than they save


def allowed(work: int | None = None) -> int:
    """Return the number of threads for some work, in voxels times load cases; by default the largest number.

    At most what OMP_NUM_THREADS grants, or else as many processors as are idle.
    """
    if work is not None and work < SMALL:
        return 1
    granted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # the first of nested levels
    return max(int(granted) if granted.isdigit() else _idle(), 1)


def _idle() -> int:
    """Return the number of idle processors available to this process, including its own.

    A batch system may have given it a few of the node's, a container a share of their time. Threads that share a grid
    wait for the slowest of them, so that one beside another busy process costs more than it gains.
    """
    here = os.cpu_count() or 1
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else here
    with suppress(OSError, ValueError):
        quota, period = CONTAINER.read_text().split()
        mine = min(mine, int(quota) // int(period)) if quota != "max" else mine
    if mine < here:
        return mine  # what runs on the other processors is not known
    with suppress(OSError, ValueError, IndexError):
        return mine - (int(RUNNING.read_text().split()[3].partition("/")[0]) - 1)
    return mine


def each(function: Callable[[int], Result], n: int, threads: int) -> list[Result]:
    """Return function(0) ... function(n - 1), computed by this many threads; libraries use one thread meanwhile."""
    with single_threaded_libraries():
        if min(n, threads) <= 1:
            return [function(k) for k in range(n)]
        with ThreadPoolExecutor(min(n, threads), initializer=_alone) as pool:
            return list(pool.map(function, range(n)))


@contextmanager
def single_threaded_libraries() -> Iterator[None]:
    """Limit BLAS, and torch if imported, to one thread inside the block."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 1
    _alone()
    try:
        with _libraries("scipy.linalg" in sys.modules).limit(limits=1, user_api="blas"):
            yield
    finally:
        if torch:
            torch.set_num_threads(before)


@lru_cache(maxsize=2)
def _libraries(scipy: bool) -> ThreadpoolController:
    """Return the libraries with threads of their own; looked up again once scipy has brought its BLAS."""
    return ThreadpoolController()


def _alone() -> None:
    torch = sys.modules.get("torch")
    if torch:
        torch.set_num_threads(1)
