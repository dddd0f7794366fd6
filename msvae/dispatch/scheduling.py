"""Scheduling: many small tasks travel in chunks, so that the one manager is never the limit; results stream back.

A chunk is worth a fifth of a second of work, or a millisecond for every worker if that is more, for so long the manager
may have to serve the others; or one task where a task takes longer. Towards the end chunks become small again, so that
all workers finish together.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from msvae.errors import RunError

__all__ = ["Pace", "converse", "dispatch"]

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 2  # chunks at the executor for each that runs: a worker never waits for the manager, and a resume repeats few
SECONDS = 0.2  # of work in a chunk, at least
SERVICE = 1e-3  # seconds of work in a chunk for each worker: some times what the manager needs for one chunk
LARGEST = 20_000  # tasks in a chunk
PULSE = 0.2  # seconds after which the caller is given control even if nothing has completed


@dataclass
class Pace:
    """Learns what a task costs, and says how many to send at once."""

    recent: deque[float] = field(default_factory=lambda: deque(maxlen=16))
    size: int = 1

    def learn(self, tasks: int, seconds: float) -> None:
        """Take note of what a chunk cost."""
        self.recent.append(seconds / max(tasks, 1))

    def next(self, waiting: int, width: int) -> int:
        """Return the size of the next chunk; at most eight times the last, for the first tasks may mislead."""
        if self.recent:
            worth = max(SECONDS, SERVICE * width) / max(statistics.median(self.recent), 1e-9)
            self.size = int(min(worth, 8 * self.size, LARGEST)) or 1
        return max(1, min(self.size, -(-waiting // (2 * width))))


def dispatch(
    executor: Executor,
    work: Callable[[Sequence[Item]], Result],
    items: Sequence[Item],
    *,
    width: int,
    until: Callable[[], bool] = lambda: False,
) -> Iterator[Result | None]:
    """Yield what `work` makes of chunks of items, as they complete; None now and then, to give the caller control.

    width: chunks that can run at once. until: once it is true, no more is started, and what runs is waited for.
    """
    waiting = deque(items)
    complete: SimpleQueue[Future[Any]] = SimpleQueue()
    running: set[Future[Any]] = set()
    pace = Pace()
    while waiting or running:
        stopped = until()
        while waiting and not stopped and len(running) < AHEAD * width:
            chunk = [waiting.popleft() for _ in range(pace.next(len(waiting), width))]
            future = _submitted(executor, work, chunk)
            running.add(future)
            future.add_done_callback(complete.put)
        if stopped:
            waiting.clear()
            running = {f for f in running if not f.cancel()}
        try:
            future = complete.get(timeout=PULSE)
        except Empty:
            yield None
            continue
        if future.cancelled():
            continue
        running.discard(future)
        seconds, tasks, result = _result(future)
        pace.learn(tasks, seconds)
        yield result


def converse(
    executor: Executor,
    work: Callable[[Sequence[Item]], Result],
    ask: Callable[[], Item | None],
    *,
    under_way: int,
    until: Callable[[], bool] = lambda: False,
) -> Iterator[Result | None]:
    """Yield what `work` makes of single items as they complete; ask for another whenever fewer than `under_way` run.

    ask: called after the caller has dealt with what completed; None is the end. until: once it is true, no more is
    asked for, what has not begun is given up, and what runs is waited for. None is yielded as `dispatch` does.
    """
    complete: SimpleQueue[Future[Any]] = SimpleQueue()
    running: set[Future[Any]] = set()
    asking = True
    while asking or running:
        if until():
            asking, running = False, {f for f in running if not f.cancel()}
        while asking and len(running) < under_way:
            item = ask()
            asking = item is not None
            if item is not None:
                future = _submitted(executor, work, [item])
                running.add(future)
                future.add_done_callback(complete.put)
        if not running:
            return
        try:
            future = complete.get(timeout=PULSE)
        except Empty:
            yield None
            continue
        if not future.cancelled():
            running.discard(future)
            yield _result(future)[2]


def _submitted(executor: Executor, work: Callable[[Sequence[Item]], Result], chunk: Sequence[Item]) -> Future[Any]:
    try:
        return executor.submit(_timed, work, chunk)
    except RuntimeError as error:  # BrokenExecutor is one, and what an executor raises that has been shut down
        raise _lost(error) from error


def _timed(work: Callable[[Sequence[Item]], Result], chunk: Sequence[Item]) -> tuple[float, int, Result]:
    start = time.perf_counter()
    result = work(chunk)
    return time.perf_counter() - start, len(chunk), result


def _result(future: Future[Any]) -> tuple[float, int, Any]:
    try:
        seconds, tasks, result = future.result()
    except BrokenExecutor as error:
        raise _lost(error) from error
    return seconds, tasks, result


def _lost(error: BaseException) -> RunError:
    why = next(iter(str(error).splitlines()), "no reason given")
    return RunError(
        f"a worker process was lost ({type(error).__name__}: {why}): what is in the run is safe; set "
        "executor.isolation = 'process', which makes a crash of the solver a failed evaluation, and start again with "
        "--resume"
    )
