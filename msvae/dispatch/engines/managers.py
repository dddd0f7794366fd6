"""Managers of managers: leaders are given chunks by the manager and deal them out to workers of their own.

One manager serves some thousand workers a second. With G leaders it serves these, with chunks of many tasks, and each
leader serves its workers; leaders evaluate nothing themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from msvae.dispatch.scheduling import Pace, dispatch
from msvae.structures.evaluations import Evaluations, joined

__all__ = ["count", "dealt", "evaluating", "pace_of", "teams"]

TURNS, SECONDS = 10, 5.0  # tasks for each worker in a leader's chunk, and seconds: its team waits at the end of each
FEWEST = 3  # ranks of a team: its leader, and workers that are more than it


@dataclass(frozen=True)
class _Team:
    """On a leader: the executor over its workers, their number, and what is known of the cost of their tasks."""

    executor: Executor
    workers: int
    pace: Pace


_own: list[_Team] = []


def count(ranks: int, managers: int) -> int:
    """Return the number of teams: as many as asked for, of at least FEWEST ranks; 1 if there are too few ranks."""
    return max(1, min(managers, (ranks - 1) // FEWEST))


def evaluating(ranks: int, managers: int) -> int:
    """Return how many of the ranks evaluate: neither the manager nor leaders do."""
    return ranks - 1 - count(ranks, managers)


def pace_of(workers: int, leaders: int) -> Pace:
    """Return how the manager gives chunks to leaders of so many workers together."""
    return Pace(least=TURNS * -(-workers // leaders), seconds=SECONDS)


def dealt(work: Callable[[Sequence[Any]], Evaluations], chunk: Sequence[Any]) -> Evaluations:
    """Return the evaluations of a chunk, made by the workers of this leader."""
    team = _own[-1]
    return joined(
        [r for r in dispatch(team.executor, work, chunk, width=team.workers, pace=team.pace) if r is not None]
    )


@contextmanager
def teams(comm: Any, managers: int) -> Iterator[Executor | None]:
    """Yield the executor over the leaders on the manager, and None on the other ranks, once their work is over."""
    from mpi4py import MPI, futures

    executor_over: Any = futures.MPICommExecutor

    rank, workers = comm.Get_rank(), comm.Get_size() - 1
    groups = count(workers + 1, managers)
    number = (rank - 1) * groups // workers if rank else MPI.UNDEFINED  # neighbours, which share a node, are a team
    team = comm.Split(number, rank)
    leads = rank > 0 and team.Get_rank() == 0
    tasks = comm.Split(0 if rank == 0 or leads else MPI.UNDEFINED, rank)
    if rank == 0:
        with executor_over(tasks, root=0) as executor:
            yield executor
        return
    with executor_over(team, root=0) as own:
        if own is not None:
            _own.append(_Team(own, team.Get_size() - 1, Pace()))
            with executor_over(tasks, root=0):
                pass  # the manager's chunks have been dealt out when this is entered
            _own.pop()
    yield None
