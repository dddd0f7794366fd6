"""Scheduling: chunks fit what tasks cost, everything comes back once, and it stops when it is told to."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

import pytest

from msvae import RunError
from msvae.dispatch.executors import SerialExecutor
from msvae.dispatch.scheduling import LARGEST, SECONDS, Pace, dispatch


def same(chunk: Sequence[int]) -> list[int]:
    return list(chunk)


def slow(chunk: Sequence[int]) -> list[int]:
    time.sleep(0.02 * len(chunk))
    return list(chunk)


@pytest.mark.parametrize("n", [0, 1, 7, 5000])
def test_every_item_comes_back_once(n: int) -> None:
    for executor in (SerialExecutor(), ThreadPoolExecutor(3)):
        with executor:
            found = [k for result in dispatch(executor, same, range(n), width=3) for k in result or ()]
        assert sorted(found) == list(range(n))


def test_cheap_tasks_travel_in_chunks_and_expensive_ones_singly() -> None:
    chunks = [len(r) for r in dispatch(SerialExecutor(), same, range(200_000), width=2) if r]
    assert max(chunks) > 1000
    assert chunks[0] == 1
    assert chunks[-1] < max(chunks)
    pace = Pace()
    pace.learn(1, 3 * SECONDS)
    assert pace.next(10_000, 2) == 1
    for _ in range(20):
        pace.learn(10, 10 * SECONDS / 25)
    assert [pace.next(10_000, 2) for _ in range(3)] == [8, 25, 25]
    assert pace.next(40, 2) == 10
    assert [pace.next(10**9, 1000) for _ in range(3)] == [125, 125, 125]  # a second of work
    for _ in range(20):
        pace.learn(10, 0.0)
    assert max(pace.next(10**9, 2) for _ in range(20)) == LARGEST


def test_the_caller_is_given_control_while_nothing_completes() -> None:
    with ThreadPoolExecutor(1) as executor:
        results = list(dispatch(executor, lambda chunk: time.sleep(0.7), [1], width=1))
    assert len(results) >= 3
    assert set(results) == {None}


def enough(found: deque[int]) -> bool:
    return len(found) >= 5


def test_once_told_to_stop_it_starts_nothing_more_and_returns_what_runs() -> None:
    found = deque[int]()
    with ThreadPoolExecutor(2) as executor:
        for result in dispatch(executor, slow, range(10_000), width=2, until=partial(enough, found)):
            found.extend(result or ())
    assert 5 <= len(found) < 100
    assert sorted(found) == list(range(len(found)))


class Broken(Executor):
    """An executor whose workers die."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(BrokenProcessPool("a process was terminated abruptly"))
        return future


def test_a_lost_worker_is_one_sentence_that_names_isolation() -> None:
    with pytest.raises(RunError, match=r"terminated abruptly.*executor\.isolation = 'process'.*--resume"):
        list(dispatch(Broken(), same, [1], width=1))
