"""Managers of managers: measured on oversubscribed ranks, and simulated for many.

    mpiexec -n 64 python -m mpi4py benchmarks/managers.py measure </dev/null     tasks that sleep for 1 ms
    mpiexec -n 3 python -m mpi4py benchmarks/managers.py simulate </dev/null     with this machine's costs of a manager

Tasks sleep, so that more ranks than cores tell something of the managers. Rounds are interleaved.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from dispatch import LONG, Manager, simulate
from mpi4py import MPI
from mpi4py.futures import MPICommExecutor

from msvae.dispatch import scheduling
from msvae.dispatch.engines.managers import SECONDS, TURNS, count, dealt, evaluating, pace_of, teams
from msvae.dispatch.scheduling import Pace, dispatch
from msvae.structures.evaluations import Evaluations

LEADERS, ROUNDS = 4, 3
TASKS, SINGLE = 120_000, 6_000  # in chunks, and one by one


def sleep_chunk(chunk: Sequence[float]) -> Evaluations:
    """Sleep for each of these seconds."""
    for seconds in chunk:
        time.sleep(seconds)
    return Evaluations.of([])


def rate(
    executor: Any, work: Callable[[Sequence[float]], Evaluations], n: int, *, width: int, pace: Pace | None = None
) -> float:
    """Return how many of n tasks of 1 ms are done per second."""
    start = time.perf_counter()
    for _ in dispatch(executor, work, [0.001] * n, width=width, pace=pace):
        pass
    return n / (time.perf_counter() - start)


def measured() -> None:
    """Print the rates of one manager, singly and in chunks, and of one with leaders, on the ranks of this job."""
    comm = MPI.COMM_WORLD
    ranks, rates = comm.Get_size(), {"one manager, singly": [], "one manager, in chunks": [], "leaders": []}
    largest = scheduling.LARGEST
    for _ in range(ROUNDS):
        for name in ("one manager, singly", "one manager, in chunks"):
            with MPICommExecutor(comm, root=0) as executor:
                if executor is not None:
                    singly = name.endswith("singly")
                    scheduling.LARGEST = 1 if singly else largest
                    rates[name].append(rate(executor, sleep_chunk, SINGLE if singly else TASKS, width=ranks - 1))
                    scheduling.LARGEST = largest
        with teams(comm, LEADERS) as over_leaders:
            if over_leaders is not None:
                pace = pace_of(evaluating(ranks, LEADERS), LEADERS)
                rates["leaders"].append(
                    rate(over_leaders, partial(dealt, sleep_chunk), TASKS, width=count(ranks, LEADERS), pace=pace)
                )
    if comm.Get_rank() == 0:
        for name, found in rates.items():
            print(f"| {name} | {statistics.median(found):,.0f} tasks/s |", flush=True)


def team_seconds(workers: int, tasks: int, seconds: float, manager: Manager) -> float:
    """Return how long a leader needs for a chunk of tasks: a simulation of its workers, who begin and end together."""
    waiting, free, ends = tasks, 0.0, [0.0] * workers
    pace = Pace(deque([seconds] * 16), 10**9)
    while waiting:
        first = min(range(workers), key=ends.__getitem__)
        size = min(pace.next(waiting, workers), waiting)
        waiting -= size
        free = max(free, ends[first]) + manager.chunk + size * manager.task
        ends[first] = free + manager.latency + size * seconds
    return max(ends)


def simulated_teams(ranks: int, seconds: float, manager: Manager, leaders: int) -> float:
    """Return the efficiency, over all ranks, of a manager with leaders: leaders' time counts as lost."""
    team = (ranks - 1) // leaders - 1
    tasks = max(TURNS * team, round(SECONDS * team / seconds))
    chunk = team_seconds(team, tasks, seconds, manager)
    outer = Manager(manager.chunk + tasks * manager.task, 0.0, manager.latency)
    share = simulate(leaders, chunk, outer, chunks=False) * tasks * seconds / (team * chunk)
    return share * leaders * team / ranks


def simulated() -> None:
    """Print the efficiencies of one manager in chunks, and with leaders, for many ranks."""
    with MPICommExecutor(MPI.COMM_WORLD, root=0) as executor:
        if executor is None:
            return
        list(executor.map(time.sleep, [0.0] * 10))
        manager = Manager.measured(executor)
        print(f"a chunk costs the manager {1e6 * manager.chunk:.0f} us, a task in it {1e9 * manager.task:.0f} ns; a "
              f"worker waits {1e3 * manager.latency:.1f} ms; {LONG:.0f} s of work for every worker")  # fmt: skip
        print("| ranks | task | one manager, in chunks | with leaders | leaders |\n| --- | --- | --- | --- | --- |")
        for ranks in (1_000, 10_000, 100_000):
            leaders = max(2, round(ranks**0.5))
            for seconds in (0.01, 1.0, 60.0):
                alone = simulate(ranks - 1, seconds, manager, chunks=True)
                own = simulated_teams(ranks, seconds, manager, leaders)
                print(f"| {ranks:,} | {seconds:g} s | {alone:.2f} | {own:.2f} | {leaders} |", flush=True)


if __name__ == "__main__":
    measured() if sys.argv[1:] == ["measure"] else simulated()
