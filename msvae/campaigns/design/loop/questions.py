"""Proposals and evaluations: a search asks, workers evaluate, it is told; in rounds or asynchronously."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from msvae.campaigns.design.campaign import InverseDesign
from msvae.campaigns.design.loop.pace import Clock
from msvae.dispatch.tasks import Task
from msvae.errors import TargetError
from msvae.progress import Report
from msvae.run.journal import FIRST, check_failures
from msvae.sampling.search.problem import AskTell
from msvae.stages.context import Context
from msvae.structures import Array
from msvae.structures.evaluations import Evaluations, joined

__all__ = ["Conversation"]


@dataclass(eq=False)
class Conversation:
    """One search: its proposals, until the budget is spent or the search is over.

    calls: that may be made, but for plain candidates, which a searcher returns beside what it is asked for. model: file
    of the one that decodes. on_answer: called with each answer, to tell the searcher. enough: ends the search.
    text: how far it is, in words. conditions: (k,) under which latents are decoded.
    """

    context: Context
    design: InverseDesign
    stage: str
    searcher: AskTell
    calls: int
    model: Path
    on_answer: Callable[[Evaluations], None]
    enough: Callable[[], bool] = lambda: False
    text: Callable[[], str] = lambda: ""
    conditions: Array = field(default_factory=lambda: np.zeros(0))
    tables: list[Evaluations] = field(default_factory=list)
    asked: int = 0
    proposed: int = 0
    plain: list[Task] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)
    before: int = 0

    def __post_init__(self) -> None:
        self.clock = Clock.of(self.context.run, self.stage)

    def held(self) -> Evaluations:
        """Return the evaluations of the whole search, in the order in which the searcher was told of them.

        TargetError if the budget does not suffice for one.
        """
        self.before = len(self.context.run.store(self.stage).load())
        self._pass()
        with self.context.run.journal.progress(self.stage) as report:
            (self._as_workers_become_free if self.design.asynchronous else self._in_rounds)(report)
        if sum(map(len, self.tables)) > self.before:  # a search that had ended before takes no time
            self.clock.take(end=True)
        if not self.tables:
            raise TargetError(f"stage '{self.stage}' proposed no design: its budget was spent before the first")
        return joined(self.tables)

    def _in_rounds(self, report: Report) -> None:
        while not self._over:
            self.context.limits.check()
            tasks = self._ask(min(self.design.batch, self._most - self.proposed))
            self._take(self.context.evaluate(self.stage, tasks, model=self.model, part=True), report)

    def _as_workers_become_free(self, report: Report) -> None:
        self.context.evaluate_asynchronously(
            self.stage,
            self._next,
            lambda table: self._take(table, report),
            model=self.model,
            under_way=self.design.batch,
            total=self._most,
            enough=self.enough,
        )

    def _next(self) -> Task | None:
        """Return the next task: of the current proposal if it has more, or of a new one."""
        if not self.plain and not self._over:
            self.plain = self._ask(1)
        return self.plain.pop(0) if self.plain and not self.enough() else None

    def _ask(self, n: int) -> list[Task]:
        latents = self.searcher.ask(n)
        first, self.asked, self.proposed = self.asked, self.asked + len(latents), self.proposed + n
        conditions = self.conditions if len(self.conditions) else None
        return [Task(first + k, z, conditions) for k, z in enumerate(latents)]

    def _take(self, table: Evaluations, report: Report) -> None:
        self.tables.append(table)
        self.on_answer(table)
        self._pass()
        self._check_failures()
        report(sum(map(len, self.tables)), max(self._most, self.asked), self.text())

    def _check_failures(self) -> None:
        """Raise TargetError where most designs failed, so that the budget is not spent in vain."""
        made = sum(map(len, self.tables))
        if made >= FIRST and self.context.study.executor.max_failures is None:
            reasons = [str(message) for t in self.tables for message in t["message"][~t.done]]
            check_failures(self.stage, made, reasons)

    def _pass(self) -> None:
        """Start the clock, once the searcher has been told all stored evaluations again."""
        if self.clock.last is not None:
            self.clock.take()
        elif sum(map(len, self.tables)) >= self.before:
            self.clock.start()

    @property
    def _most(self) -> int:
        """Number of designs that may be proposed."""
        return max(1, self.calls // self.searcher.price)

    @property
    def _over(self) -> bool:
        """Whether no more may be proposed: calls, core-hours or time are spent, or the search is over."""
        study, design = self.context.study, self.design
        cores = study.ranks_per_solver * study.executor.threads
        hours = sum(float(t["cost"].sum()) for t in self.tables) * cores / 3600
        late = design.wall_time is not None and time.monotonic() - self.start > design.wall_time
        dear = design.core_hours is not None and hours >= design.core_hours
        return self.proposed >= self._most or late or dear or self.enough()
