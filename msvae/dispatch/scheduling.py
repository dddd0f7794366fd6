"""Scheduling: many small tasks are sent in chunks, so that the manager is not the bottleneck; results stream back.

A chunk holds a fifth of a second of work, or a millisecond for every worker if that is more, because the manager may
need that long to serve the others; it is one task where a task takes longer. Towards the end chunks become small again,
so that all workers finish together. The tasks of a worker without heartbeat go to other workers.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from msvae.dispatch import world
from msvae.dispatch.signs import Errand, Roll, Sign, busy_with
from msvae.errors import RunError

__all__ = ["Lost", "Pace", "dispatch", "run_asynchronously"]

Item = TypeVar("Item")
Result = TypeVar("Result")
Lost = Callable[[Any, Sign], Any]  # makes a result of an item that cannot be done, for its worker was lost with it
AHEAD = 2  # chunks at the executor for each that runs: a worker never waits for the manager, and a resume repeats few
SECONDS = 0.2  # of work in a chunk, at least
SERVICE = 1e-3  # seconds of work in a chunk for each worker: some times what the manager needs for one chunk
LARGEST = 20_000  # tasks in a chunk
PULSE = 0.2  # seconds after which the caller is given control even if nothing has completed


@dataclass
class Pace:
    """Estimates the cost of a task, and sets the number of tasks in a chunk, of which there are enough for all workers.

    least: tasks in a chunk, where a worker does so many together. seconds: of work in a chunk, at least.
    """

    recent: deque[float] = field(default_factory=lambda: deque(maxlen=16))
    size: int = 1
    least: int = 1
    seconds: float = SECONDS

    def forget(self) -> None:
        """Begin with small chunks again."""
        self.recent.clear()
        self.size = 1

    def learn(self, tasks: int, seconds: float) -> None:
        """Record the cost of a chunk."""
        self.recent.append(seconds / max(tasks, 1))

    def next(self, waiting: int, width: int) -> int:
        """Return the size of the next chunk; at most eight times the last, because the first tasks may be atypical."""
        if self.recent:
            worth = max(self.seconds, SERVICE * width) / max(statistics.median(self.recent), 1e-9)
            self.size = int(min(worth, 8 * self.size, LARGEST)) or 1
        shared = max(1, min(self.size, -(-waiting // (2 * width))))
        return min(max(shared, min(self.least, -(-waiting // width))), waiting)


@dataclass
class UnderWay(Generic[Item]):
    """Chunks in flight on an executor, and the workers that evaluate them.

    roll: who lives; None where workers give no signs. width: chunks that can run at once. lost: see `Lost`; without it,
    an item with which two workers were lost ends the campaign.
    """

    executor: Executor
    work: Callable[[Sequence[Item]], Any]
    roll: Roll | None
    width: int
    lost: Lost | None = None
    complete: SimpleQueue[Future[Any]] = field(default_factory=SimpleQueue)
    running: dict[Future[Any], tuple[Errand | None, Sequence[Item]]] = field(default_factory=dict)
    suspects: list[Item] = field(default_factory=list)

    def submit(self, chunk: Sequence[Item]) -> None:
        """Give a chunk to the executor."""
        errand = None if self.roll is None else self.roll.errand()
        try:
            future = self.executor.submit(_timed, errand, self.work, chunk)
        except RuntimeError as error:  # BrokenExecutor is one, and what an executor raises that has been shut down
            raise _worker_lost(error) from error
        self.running[future] = errand, chunk
        future.add_done_callback(self.complete.put)

    def cancel(self) -> None:
        """Cancel the chunks that have not begun."""
        self.running = {future: given for future, given in self.running.items() if not future.cancel()}

    def completed(self) -> tuple[float, int, Any] | None:
        """Return seconds, number of tasks and result of a chunk; None if none completes for a while."""
        try:
            future = self.complete.get(timeout=PULSE)
        except Empty:
            return None
        if future.cancelled() or self.running.pop(future, None) is None:
            return None  # it had been given up, because its worker seemed lost
        try:
            found: tuple[float, int, Any] = future.result()
        except BrokenExecutor as error:
            raise _worker_lost(error) from error
        return found

    def given_back(self) -> tuple[list[Item], list[Any]]:
        """Return the items of lost workers that are to be retried, and the results of those that are not."""
        again: list[Item] = []
        results: list[Any] = []
        if self.roll is None or not self.roll.look():
            return again, results
        for future, (errand, chunk) in list(self.running.items()):
            sign = None if errand is None else self.roll.lost_with(errand.number, begun=future.running())
            if sign is None:
                continue
            del self.running[future]
            self.roll.on_loss(sign)
            for item in chunk:
                result = self._without(item, sign)
                again.append(item) if result is None else results.append(result)
            self.suspects += chunk if len(chunk) == 1 else ()
        return again, results

    def check(self) -> None:
        """Raise RunError where no worker is left, and all of their results have been taken."""
        if self.roll is not None and self.roll.lost_teams >= self.width and self.running and self.complete.empty():
            raise RunError(f"no worker is left: {self.roll.why}; finished evaluations are kept: continue with --resume")

    def _without(self, item: Item, sign: Sign) -> Any:
        """Return the result of an item whose worker was lost; None if it is to be retried."""
        if not sign.trouble and item not in self.suspects:
            return None
        if self.lost is None:
            raise RunError(f"{sign.who} was lost with a task that cannot be tried again: continue with --resume")
        return self.lost(item, sign)


def dispatch(
    executor: Executor,
    work: Callable[[Sequence[Item]], Result],
    items: Sequence[Item],
    *,
    width: int,
    until: Callable[[], bool] = lambda: False,
    roll: Roll | None = None,
    lost: Lost | None = None,
    pace: Pace | None = None,
) -> Iterator[Result | None]:
    """Yield the results of `work` for chunks of items, as they complete; None now and then, to give the caller control.

    width: chunks that can run at once. until: once it is true, no more is started, and what runs is waited for.
    roll, lost: see `UnderWay`. pace: what is known of the cost of items. RunError where no worker is left.
    """
    waiting = deque(items)
    under_way = UnderWay(executor, work, roll, width, lost)
    pace = pace or Pace()
    while waiting or under_way.running:
        stopped = until()
        while waiting and not stopped and len(under_way.running) < AHEAD * width:
            under_way.submit([waiting.popleft() for _ in range(pace.next(len(waiting), width))])
        if stopped:
            waiting.clear()
            under_way.cancel()
        again, results = under_way.given_back()
        if again:
            waiting.extendleft(reversed(again))
            pace.forget()
        yield from results
        under_way.check()
        found = under_way.completed()
        if found is not None:
            pace.learn(found[1], found[0])
        yield None if found is None else found[2]


def run_asynchronously(
    executor: Executor,
    work: Callable[[Sequence[Item]], Result],
    ask: Callable[[], Item | None],
    *,
    under_way: int,
    until: Callable[[], bool] = lambda: False,
    width: int = 1,
    roll: Roll | None = None,
    lost: Lost | None = None,
) -> Iterator[Result | None]:
    """Yield the results of `work` for single items as they complete; ask for another when fewer than `under_way` run.

    ask: called after the caller has dealt with what completed; None is the end. until: once it is true, no more is
    asked for, what has not begun is given up, and what runs is waited for. The rest is as in `dispatch`.
    """
    tasks = UnderWay(executor, work, roll, width, lost)
    again: list[Item] = []
    asking = True
    while asking or again or tasks.running:
        if until():
            asking, again = False, []
            tasks.cancel()
        while (asking or again) and len(tasks.running) < under_way:
            item = again.pop() if again else ask()
            asking = asking and item is not None
            if item is not None:
                tasks.submit([item])
        if not tasks.running:
            return
        more, results = tasks.given_back()
        again += more
        yield from results
        tasks.check()
        found = tasks.completed()
        yield None if found is None else found[2]


def _timed(
    errand: Errand | None, work: Callable[[Sequence[Item]], Result], chunk: Sequence[Item]
) -> tuple[float, int, Result]:
    start = time.perf_counter()
    with busy_with(errand, rank=world.rank()):
        result = work(chunk)
    return time.perf_counter() - start, len(chunk), result


def _worker_lost(error: BaseException) -> RunError:
    why = next(iter(str(error).splitlines()), "no reason given")
    return RunError(
        f"a worker process was lost ({type(error).__name__}: {why}): finished evaluations are kept; set "
        "executor.isolation = 'process', which makes a crash of the solver a failed evaluation, and start again with "
        "--resume"
    )
