"""A stage: evaluations of one kind, made by workers or taken from known results, stored and monitored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msvae.dispatch.engines.managers import dealt, pace_of
from msvae.dispatch.evaluation import known
from msvae.dispatch.known import known_in
from msvae.dispatch.scheduling import Pace, dispatch, run_asynchronously
from msvae.dispatch.tasks import Recipe, Task, lost, work
from msvae.errors import RunError, Stopped, TargetError
from msvae.plugins import registry
from msvae.progress import Report, stage_progress
from msvae.run.journal import FIRST, Watch
from msvae.run.store import EvaluationStore, Writer
from msvae.seeds import seed_of
from msvae.structures import Quantity, Structures
from msvae.structures.evaluations import Evaluations, joined

if TYPE_CHECKING:
    from msvae.stages.context import Context

__all__ = ["Job", "Stage"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """The work of a stage's tasks and their results; by default the solver, for structures or a model's latents.

    quantities: of every evaluation. work: a function that workers call instead of the solver. model: file of the model
    that decodes latents. structures: file of the run with the structures that indices refer to. quiet: failures are
    expected. part: the tasks are part of a stage whose progress is shown elsewhere. hopeful: most of them should
    succeed.
    """

    quantities: tuple[Quantity, ...]
    work: Callable[[Sequence[Task]], Evaluations] | None = None
    model: Path | None = None
    structures: Structures | None = None
    file: str = "structures.h5"
    quiet: bool = False
    part: bool = False
    hopeful: bool = False


@dataclass(frozen=True)
class Stage:
    """The stage of this name in a campaign's run."""

    context: Context
    name: str
    job: Job

    @property
    def store(self) -> EvaluationStore:
        """The store of its evaluations."""
        return self.context.run.store(self.name, self.job.quantities, self.context.origin)

    def evaluations(self, tasks: Sequence[Task], title: str = "") -> Evaluations:
        """Return the evaluations of tasks, taken from the store or made now."""
        store, job = self.store, self.job
        before = _acknowledged(store, tasks, but=self.context.retry)
        have = set(before["index"].tolist())
        missing = [task for task in tasks if task.index not in have]
        if missing:
            watch = Watch(
                self.context.run.journal,
                self.name,
                total=len(tasks),
                before=before,
                width=self.context.width,
                quiet=job.part,
            )
            with _reported(title) as report, self._written(store, watch, share=job.work is None) as writer:
                self._make(missing, writer, watch, report)
        table = _acknowledged(store, tasks)
        return table if job.quiet else _warn(table, self.name)

    def run_asynchronously(
        self,
        ask: Callable[[], Task | None],
        on_answer: Callable[[Evaluations], None],
        *,
        under_way: int,
        total: int,
        enough: Callable[[], bool],
    ) -> None:
        """Keep a number of tasks in progress; see Context.evaluate_asynchronously."""
        context, store = self.context, self.store
        before = store.arrived()
        asked = iter(_replayed(before, ask, on_answer, under_way))
        watch = Watch(context.run.journal, self.name, total=total, before=before, width=context.width)
        recipe = context.recipe(model=self.job.model)
        answers = run_asynchronously(
            context.executor,
            partial(work, recipe),
            lambda: next(asked, None) or ask(),
            under_way=under_way,
            until=lambda: bool(context.limits.reason) or enough(),
            width=context.width,
            roll=context.crew.roll,
            lost=partial(lost, recipe),
        )
        with self._written(store, watch, share=True) as writer:
            for table in answers:
                if table is not None:
                    writer.add(table)
                    on_answer(table)
                self._keep_up(writer, watch)
        context.limits.check()

    @contextmanager
    def _written(self, store: EvaluationStore, watch: Watch, *, share: bool) -> Iterator[Writer]:
        """Yield the writer of a stage; on any exit, write what was added and end the watch."""
        writer = Writer(store, partial(self._acknowledge, watch, share=share))
        try:
            yield writer
        finally:
            writer.write()
            watch.end()

    def _keep_up(self, writer: Writer, watch: Watch) -> None:
        """Do what is due while evaluations arrive: write, show, and end where too many fail or time is over."""
        writer.write_if_due()
        watch.show()
        self._give_up(watch, writer)
        self._leave_behind()

    def _make(self, tasks: Sequence[Task], writer: Writer, watch: Watch, report: Report) -> None:
        """Run the tasks on the workers, and store the results."""
        self.context.limits.check()
        job = self.job
        call, without, pace = job.work, None, Pace()
        duplicates: Mapping[int, list[int]] = {}
        if call is None:
            recipe = self.context.recipe(model=job.model, structures=job.file)
            if job.model is None:
                assert job.structures is not None
                tasks, duplicates = self._for_workers(tasks, job.structures, recipe, writer)
                recipe = replace(recipe, known=())  # what is known has been answered
            call, without = partial(work, recipe), partial(lost, recipe)
            pace = Pace(least=self.context.study.need_solver().together)
        context, width = self.context, self.context.width
        if context.leaders > 1:
            call, width, pace = partial(dealt, call), context.leaders, pace_of(width, context.leaders)
        made = partial(dispatch, context.executor, call, width=width, until=lambda: bool(context.limits.reason),
                       roll=context.crew.roll, lost=without, pace=pace)  # fmt: skip
        parts = [tasks[:FIRST], tasks[FIRST:]] if job.hopeful else [tasks]  # the first are judged before others begin
        for table in chain.from_iterable(made(part) for part in parts):
            if table is not None:
                writer.add(_with_duplicates(table, duplicates))
            report(watch.finished, watch.total, watch.text)
            self._keep_up(writer, watch)
            if job.hopeful and self.context.study.executor.max_failures is None:
                if watch.is_beginning:
                    writer.write()
                watch.check()
        writer.write()
        if job.hopeful and self.context.study.executor.max_failures is None:
            watch.check()
        report(watch.finished, watch.total, watch.text)
        if watch.finished < watch.total:
            self.context.limits.check()

    def _for_workers(
        self, tasks: Sequence[Task], structures: Structures, recipe: Recipe, writer: Writer
    ) -> tuple[list[Task], dict[int, list[int]]]:
        """Return the tasks that need a worker, long ones first, and the duplicates that share another task's result.

        Structures solved before are answered at once.
        """
        solved = known_in(recipe.known)
        first: dict[str, int] = {}
        duplicates: dict[int, list[int]] = {}
        answered, left = [], []
        for task in tasks:
            name = structures.ids[task.index]
            found = solved.find(name)
            if found is not None:
                seed = seed_of(self.context.study.seed, name)
                answered.append(known(structures[task.index], found, index=task.index, seed=seed))
            elif name in first:
                duplicates.setdefault(first[name], []).append(task.index)
            else:
                first[name] = task.index
                left.append(task)
        writer.add(Evaluations.of(answered))
        costs = self.context.study.need_solver().expected_costs(structures) if left else None
        if costs is not None:
            left.sort(key=lambda task: -costs[task.index])
        return left, duplicates

    def _acknowledge(self, watch: Watch, table: Evaluations, *, share: bool) -> None:
        """Count written evaluations, add them to the shared cache, and pass them to observing plugins."""
        watch.count(table)
        if self.context.cache is not None and share:
            self.context.cache.add(table)
        registry().observe(table)

    def _give_up(self, watch: Watch, writer: Writer) -> None:
        most = self.context.study.executor.max_failures
        failed = watch.failed + sum(int((~table.done).sum()) for table in writer.waiting)
        if most is not None and failed > most:
            raise TargetError(
                f"{failed} evaluations of stage '{watch.stage}' failed, over executor.max_failures = {most}; "
                f"what was computed is in the run, and why they failed in '{self.context.run.path / 'log.jsonl'}'"
            )

    def _leave_behind(self) -> None:
        """Raise Stopped if evaluations still running at the campaign's end do not finish in time."""
        if self.context.limits.overdue:
            raise Stopped(
                f"{self.context.limits.reason}: evaluations that still ran were left, go on with --resume", busy=True
            )


def _acknowledged(store: EvaluationStore, tasks: Sequence[Task], *, but: frozenset[str] = frozenset()) -> Evaluations:
    """Return the stored evaluations of tasks, except those with the given statuses."""
    table = store.load()
    kept = np.isin(table["index"], [task.index for task in tasks])
    if but:
        kept &= ~np.isin(table["status"].astype(str), sorted(but))
    return table.where(kept)


@contextmanager
def _reported(title: str) -> Iterator[Report]:
    if not title:
        yield lambda done, total, text: None
        return
    with stage_progress(title) as report:
        yield report


def _replayed(
    before: Evaluations, ask: Callable[[], Task | None], on_answer: Callable[[Evaluations], None], under_way: int
) -> list[Task]:
    """Replay the stored questions and answers; return the tasks that have no answer yet."""
    waiting: dict[int, Task] = {}
    for k, index in enumerate(before["index"].tolist()):
        while len(waiting) < under_way and (task := ask()) is not None:
            waiting[task.index] = task
        if waiting.pop(index, None) is None:
            raise RunError(f"evaluation {index} in the record belongs to no task: start again without --resume")
        on_answer(before.where(np.array([k])))
    return list(waiting.values())


def _with_duplicates(table: Evaluations, duplicates: Mapping[int, list[int]]) -> Evaluations:
    """Return a table with an added row for every duplicate of one of its structures."""
    copies = [(k, copy) for k, index in enumerate(table["index"].tolist()) for copy in duplicates.get(index, ())]
    if not copies:
        return table
    rows, indices = (np.array(column) for column in zip(*copies, strict=True))
    same = table.where(rows)
    columns = {"index": indices, "cost": np.zeros(len(rows)), "cached": np.ones(len(rows), dtype=bool)}
    return joined([table, replace(same, columns={**same.columns, **columns})])


def _warn(table: Evaluations, stage: str) -> Evaluations:
    failed = ~table.done
    if failed.any():
        first = table["message"][failed][0]
        log.warning("%d of %d evaluations of stage '%s' failed; the first: %s", failed.sum(), len(table), stage, first)
    return table
